"""`geospot serve` driven by the real Tinker SDK: what it answers, what it refuses, whom it lets in."""

import asyncio
import os
import signal
import threading
import time
from types import SimpleNamespace

import forks
import httpx
import numpy as np
import pytest
import tinker
import torch
from engine_reference import assert_same_draws, forward_inputs, load_reference
from made import jpeg, until
from servers.tinker import Fault, Serving
from tinker import types

from geospot import __main__ as geospot
from geospot.engine.serve import pending, store
from geospot.training.datums import policy_datum, supervised_datum

ADAM = types.AdamParams(learning_rate=1e-2)


@pytest.fixture(scope="module")
def server(tiny_folder, tmp_path_factory):
    with Serving(tiny_folder, tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture(autouse=True)
def no_faults(server):
    server.faults.clear()


@pytest.fixture
def sdk(server):
    client = tinker.ServiceClient(base_url=server.url, api_key="tml-test")
    yield client
    client.close("success").result(timeout=120)


@pytest.fixture
def prompts(renderer, pictures):
    return [renderer.prompt([picture], "Where?") for picture in pictures]


def params(renderer, **kwargs) -> types.SamplingParams:
    return types.SamplingParams(**{"max_tokens": 6, "seed": 0, "stop": renderer.stop_token_ids} | kwargs)


def train_one(training, data) -> tuple[float, float]:
    forward, step = training.forward_backward(data, "cross_entropy"), training.optim_step(ADAM)
    return forward.result().metrics["loss:sum"], step.result().metrics["grad_norm"]


def test_answers_and_gradients_are_those_of_the_engine_itself(sdk, service, server, renderer, prompts):
    data = [supervised_datum(prompt, renderer.answer_tokens("City: Lyon")) for prompt in prompts]
    over_wire = sdk.create_lora_training_client(server.model_name, rank=4, seed=1, train_unembed=False).result()
    here = service.create_lora_training_client(server.model_name, rank=4, seed=1).result()
    for _ in range(3):
        np.testing.assert_allclose(train_one(over_wire, data), train_one(here, data), rtol=1e-5)
    samplers = [client.save_weights_and_get_sampling_client().result() for client in (over_wire, here)]
    reference = load_reference(server.model_name, here.save_state("trained").result().path)
    for prompt in prompts:
        theirs, ours = (sampler.sample(prompt, 3, params(renderer)).result().sequences for sampler in samplers)
        assert_same_draws(theirs, ours, prompt, params(renderer), reference, renderer.processing, atol=1e-5)
        assert all(a.stop_reason == b.stop_reason for a, b in zip(theirs, ours, strict=True) if a.tokens == b.tokens)
        of_prompt = [sampler.compute_logprobs(prompt).result() for sampler in samplers]
        assert [v is None for v in of_prompt[0]] == [v is None for v in of_prompt[1]]
        known = [[v for v in values if v is not None] for values in of_prompt]
        np.testing.assert_allclose(*known, atol=1e-5)
    group = samplers[1].sample(prompts[0], 4, params(renderer)).result().sequences
    policy = [policy_datum(prompts[0], s.tokens, s.logprobs, a) for s, a in zip(group, (1, -1, 0.5, 0), strict=True)]
    clips = {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2}
    outputs = [client.forward_backward(policy, "ppo", clips).result() for client in (over_wire, here)]
    assert outputs[0].metrics == pytest.approx(outputs[1].metrics, abs=1e-5)
    for a, b in zip(outputs[0].loss_fn_outputs, outputs[1].loss_fn_outputs, strict=True):
        np.testing.assert_allclose(a["logprobs"].to_numpy(), b["logprobs"].to_numpy(), atol=1e-5)


def test_every_loss_and_shape_of_targets_comes_over_the_wire(sdk, service, server, renderer, prompts):
    over_wire = sdk.create_lora_training_client(server.model_name, rank=4, seed=1, train_unembed=False).result()
    here = service.create_lora_training_client(server.model_name, rank=4, seed=1).result()
    one = supervised_datum(prompts[0], renderer.answer_tokens("City: Lyon"))
    target = one.loss_fn_inputs["target_tokens"].to_numpy()
    wide = {"target_tokens": np.stack([target, target], 1), "weights": np.full((len(target), 2), 0.5, np.float32)}
    wide["weights"][: prompts[0].length] = 0
    data = [one, types.Datum(model_input=one.model_input, loss_fn_inputs=wide), one]
    policy = policy_datum(prompts[0], [5, 6, 7], [-1.0, -2.0, -3.0], 1.0)
    mask = (policy.loss_fn_inputs["advantages"].to_numpy() != 0).astype(np.float32)
    sequence = types.Datum(
        model_input=policy.model_input, loss_fn_inputs={**policy.loss_fn_inputs, "sequence_ratio_mask": mask}
    )
    cases = [(data, "cross_entropy", None), ([policy], "dro", {"beta": 0.1}), ([sequence], "gspo", None)]
    for batch, loss, config in cases:
        a, b = (client.forward_backward(batch, loss, config).result() for client in (over_wire, here))
        assert a.metrics["loss:sum"] == pytest.approx(b.metrics["loss:sum"], rel=1e-4)
        for x, y in zip(a.loss_fn_outputs, b.loss_fn_outputs, strict=True):
            assert x["logprobs"].shape == y["logprobs"].shape
            np.testing.assert_allclose(x["logprobs"].to_numpy(), y["logprobs"].to_numpy(), atol=1e-4)


def test_a_loss_of_the_clients_own_gets_every_log_probability_and_has_its_gradient(sdk, service, server):
    """On data without weights the SDK asks for a forward pass with weights of 0."""
    tokens = [9, 30, 31, 32, 33]
    target = {"target_tokens": [*tokens[1:], 34]}
    model_input, seen = types.ModelInput.from_ints(tokens), []

    def squares(data: list[types.Datum], logprobs: list[torch.Tensor]) -> tuple[torch.Tensor, dict[str, float]]:
        seen.append(logprobs[0].detach().numpy())
        loss = (logprobs[0] ** 2).sum()
        return loss, {"squares": loss.item()}

    over_wire = sdk.create_lora_training_client(server.model_name, rank=4, seed=1, train_unembed=False).result()
    here = service.create_lora_training_client(server.model_name, rank=4, seed=1).result()
    plain = types.Datum(model_input=model_input, loss_fn_inputs=target)
    [known] = here.forward([plain], "cross_entropy").result().loss_fn_outputs
    known = known["logprobs"].to_numpy()
    answer = over_wire.forward_backward_custom([plain], squares).result()
    np.testing.assert_allclose(seen[0], known, atol=1e-5)
    assert (seen[0] < 0).all()
    assert answer.metrics["squares"] == pytest.approx((known**2).sum(), rel=1e-5)
    by_hand = types.Datum(model_input=model_input, loss_fn_inputs={**target, "weights": -2 * known})
    here.forward_backward([by_hand], "cross_entropy").result()
    norms = [client.optim_step(ADAM).result().metrics["grad_norm"] for client in (over_wire, here)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_what_is_saved_is_loaded_again_by_another_client(sdk, server, renderer, prompts):
    data = [supervised_datum(prompt, renderer.answer_tokens("City: Lima")) for prompt in prompts]
    training = sdk.create_lora_training_client(server.model_name, rank=2, seed=0, train_unembed=False).result()
    train_one(training, data)
    path = training.save_state("one", ttl_seconds=3600).result().path
    assert path.startswith("tinker://")
    after = train_one(training, data)
    with tinker.ServiceClient(base_url=server.url, api_key="tml-other") as other:
        same = other.create_training_client_from_state_with_optimizer(path).result()
        assert same.get_info().lora_rank == 2
        assert train_one(same, data) == pytest.approx(after, rel=1e-5)
        fresh = other.create_training_client_from_state(path).result()
        assert train_one(fresh, data)[0] == pytest.approx(after[0], rel=1e-5)
        info = tinker.RestClient(base_url=server.url, api_key="tml-x").get_weights_info_by_tinker_path(path).result()
        assert (info.base_model, info.lora_rank, info.train_unembed) == (server.model_name, 2, False)
        weights = training.save_weights_for_sampler("two").result().path
        sampler = other.create_sampling_client(model_path=weights).result()
        assert sampler.get_base_model() == server.model_name
        now = training.save_weights_and_get_sampling_client().result()
        answers = [s.sample(prompts[0], 2, params(renderer)).result().sequences for s in (sampler, now)]
        assert [s.tokens for s in answers[0]] == [s.tokens for s in answers[1]]


def test_checkpoints_expire(sdk, server, monkeypatch):
    training = sdk.create_lora_training_client(server.model_name, rank=2, train_unembed=False).result()
    gone, kept = (training.save_state(name, ttl_seconds=ttl).result().path for name, ttl in (("a", 3600), ("b", 7200)))
    now = time.time()
    monkeypatch.setattr(store, "time", SimpleNamespace(time=lambda: now + 5000))
    assert sdk.create_training_client_from_state(kept).result()
    with pytest.raises(tinker.NotFoundError, match="expired"):
        sdk.create_training_client_from_state(gone).result()


def test_what_cannot_be_done_is_refused_at_the_request_with_its_value(sdk, server, renderer, prompts):
    training = sdk.create_lora_training_client(server.model_name, rank=4, train_unembed=False).result()
    other = sdk.create_lora_training_client(server.model_name, rank=8, train_unembed=False).result()
    path = training.save_state("rank4").result().path
    for ttl in (1, -5, 0, 400 * 365 * 86_400):
        for save in (training.save_state, training.save_weights_for_sampler, training.save_weights_external):
            with pytest.raises(tinker.UnprocessableEntityError, match=f"ttl_seconds={ttl}"):
                save("x", ttl_seconds=ttl).result(timeout=120)
    with pytest.raises(tinker.UnprocessableEntityError, match=r"lora_rank=4 \(the model's is 8\)"):
        other.load_state(path).result(timeout=120)
    sampler = sdk.create_sampling_client(base_model=server.model_name).result()
    long = types.ModelInput.from_ints([5] * 40_000)
    with pytest.raises(tinker.UnprocessableEntityError, match=r"40000 tokens.*context has 32768"):
        sampler.sample(long, 1, params(renderer)).result(timeout=120)
    with pytest.raises(tinker.UnprocessableEntityError, match="40000 tokens"):
        training.forward([supervised_datum(long, [5])], "cross_entropy").result(timeout=120)
    with pytest.raises(tinker.UnprocessableEntityError, match="record_stability_info is not served"):
        sdk.create_sampling_client(base_model=server.model_name, record_stability_info=True).result().sample(
            prompts[0], 1, params(renderer)
        ).result(timeout=120)
    for adam in ({"beta1": 1.5}, {"learning_rate": -1.0}, {"eps": -1.0}):
        with pytest.raises(tinker.TinkerError, match=next(iter(adam))):
            training.optim_step(types.AdamParams(**adam)).result(timeout=120)


def test_the_likeliest_tokens_and_those_that_are_named_have_their_log_probabilities(
    sdk, server, renderer, prompts, tiny_folder
):
    sampler = sdk.create_sampling_client(base_model=server.model_name).result()
    reference, prompt = load_reference(tiny_folder), prompts[0]
    n, targets = prompt.length, np.full((prompt.length - 1, 2), -1)
    targets[-1] = [7, 400]
    targets[-2, 1] = 11
    asked = {
        "topk_prompt_logprobs": 3, "topk_sample_logprobs": 2, "include_prompt_logprobs": True,
        "prompt_logprobs_last_n": 2,
    }  # fmt: skip
    for pack in (types.TensorData.from_numpy, lambda a: types.TensorData.from_torch_sparse(torch.tensor(a), -1)):
        answer = sampler.sample(prompt, 2, params(renderer), target_prompt_logprobs=pack(targets), **asked).result()
        found = answer.target_prompt_logprobs.to_numpy()
        assert not found[targets == -1].any()
    full = types.ModelInput(chunks=[*prompt.chunks, types.EncodedTextChunk(tokens=answer.sequences[0].tokens)])
    ids = forward_inputs(renderer.processing, prompt, answer.sequences[0].tokens)
    logits = reference(**ids, use_cache=False).logits[0]
    logits[:, list(renderer.processing.banned_token_ids)] = -torch.inf
    want = logits.log_softmax(-1).detach()
    assert full.length == len(want)
    np.testing.assert_allclose(found[-1], want[n - 2, [7, 400]], atol=1e-4)
    np.testing.assert_allclose(found[-2, 1], want[n - 3, 11], atol=1e-4)
    topk = answer.topk_prompt_logprobs
    assert len(topk) == n
    assert topk[:-2] == [None] * (n - 2)
    for i in (n - 2, n - 1):
        values, tokens = want[i - 1].topk(3)
        assert [t for t, _ in topk[i]] == tokens.tolist()
        np.testing.assert_allclose([v for _, v in topk[i]], values, atol=1e-4)
    for j, row in enumerate(answer.sequences[0].topk_logprobs):
        values, tokens = want[n - 1 + j].topk(2)
        assert [t for t, _ in row] == tokens.tolist()
        np.testing.assert_allclose([v for _, v in row], values, atol=1e-4)


def test_only_the_last_tokens_of_a_prompt_are_scored_where_that_is_asked(sdk, server, prompts):
    sampler = sdk.create_sampling_client(base_model=server.model_name).result()
    every, last = sampler.compute_logprobs(prompts[0]).result(), sampler.compute_logprobs(prompts[0], 3).result()
    assert last[-3:] == pytest.approx(every[-3:], abs=1e-5)
    assert all(value is None for value in last[:-3])
    with pytest.raises(tinker.TinkerError, match="prompt_logprobs_last_n=99: from 1 to"):
        sampler.compute_logprobs(prompts[0], 99).result(timeout=120)


REFUSED = [
    (lambda t, s, d, p, r: t.forward_backward(d, "reinforce"), "loss_fn='reinforce'"),
    (lambda t, s, d, p, r: t.forward_backward(d, "ppo", {"clip": 1.0}), "'clip' is not one of ppo's"),
    (lambda t, s, d, p, r: t.forward_backward(d, "ppo"), "takes the inputs"),
    (lambda t, s, d, p, r: s.sample(p, 1, params(r, top_p=0.0)), "top_p=0"),
    (lambda t, s, d, p, r: s.sample(p, 1, params(r), topk_prompt_logprobs=999), "topk_prompt_logprobs=999: from 0 to"),
    (lambda t, s, d, p, r: s.sample(p, 1, params(r), prompt_alt_tokens_k=2), "prompt_alt_tokens_k is not served"),
    (lambda t, s, d, p, r: t.save_state("../../etc/passwd"), "checkpoint name"),
    (lambda t, s, d, p, r: s.sample(types.ModelInput(chunks=[]), 1, params(r)), "an empty ModelInput"),
]


@pytest.mark.parametrize(("ask", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_what_the_engine_refuses_comes_back_as_one_clear_error(sdk, server, renderer, prompts, ask, says):
    training = sdk.create_lora_training_client(server.model_name, rank=2, train_unembed=False).result()
    sampler = training.save_weights_and_get_sampling_client().result()
    data = [supervised_datum(prompts[0], renderer.answer_tokens("City: Lima"))]
    with pytest.raises(tinker.TinkerError, match=says):
        ask(training, sampler, data, prompts[0], renderer).result(timeout=120)
    assert train_one(training, data)[0] > 0  # the client goes on


@pytest.mark.parametrize("expected", [3, 5])
def test_a_wrong_number_of_image_tokens_is_refused_in_sampling_and_in_training(sdk, server, renderer, expected):
    image = types.ImageChunk(data=jpeg(0), format="jpeg", expected_tokens=expected)
    prompt = types.ModelInput(chunks=[image, types.EncodedTextChunk(tokens=[9])])
    training = sdk.create_lora_training_client(server.model_name, rank=2, train_unembed=False).result()
    sampler = training.save_weights_and_get_sampling_client().result()
    with pytest.raises(tinker.TinkerError, match=f"expected_tokens={expected}: the picture takes 4"):
        sampler.sample(prompt, 1, params(renderer)).result(timeout=120)
    with pytest.raises(tinker.TinkerError, match=f"expected_tokens={expected}: the picture takes 4"):
        training.forward_backward([supervised_datum(prompt, [9, 10])], "cross_entropy").result(timeout=120)


def test_a_model_or_a_rank_that_is_not_served_is_refused(sdk, server):
    with pytest.raises(tinker.TinkerError, match=r"'Qwen/Qwen3-8B' is not served here"):
        sdk.create_lora_training_client("Qwen/Qwen3-8B").result(timeout=120)
    with pytest.raises(tinker.TinkerError, match="rank 257"):
        sdk.create_lora_training_client(server.model_name, rank=257).result(timeout=120)
    with pytest.raises(tinker.TinkerError, match="checkpoint tinker://no/weights/x is not known here"):
        sdk.create_sampling_client(model_path="tinker://no/weights/x").result(timeout=120)


def test_requests_sent_together_share_a_batch(sdk, server, renderer, prompts):
    sampler = sdk.create_sampling_client(base_model=server.model_name).result()
    sampler.sample(prompts[0], 1, params(renderer)).result()
    scheduler, sizes, join = server.service.scheduler, [], server.service.scheduler._join

    def watched(jobs):
        sizes.append(len(jobs))
        join(jobs)

    scheduler._join = watched
    try:
        scheduler.submit(lambda: until(lambda: len(scheduler._jobs) >= 20))  # busy until all have come
        futures = [sampler.sample(prompt, 2, params(renderer)) for prompt in prompts * 4]
        for future in futures:
            future.result(timeout=600)
    finally:
        scheduler._join = join
    assert [size for size in sizes if size] == [20]


def test_sample_requests_are_held_back_for_a_moment_and_no_longer(monkeypatch):
    now, started, pause = [0.0], [], asyncio.sleep

    async def sleep(seconds: float) -> None:
        now[0] += seconds
        await pause(0)

    async def ask() -> None:
        gatherer = pending.Gatherer(quiet_s=0.03, at_most_s=1.0)

        def add(name: str) -> None:
            gatherer.add(SimpleNamespace(start=lambda: started.append(name)))

        add("a")
        await pause(0)
        add("b")
        assert started == [], "the first waits for others"
        while not started:
            await pause(0)
        assert started == ["a", "b"]
        assert now[0] < 0.1
        began = now[0]
        while len(started) == 2:
            add("c")  # one after the other, without a pause
            await pause(0)
        assert 0.9 < now[0] - began < 1.1

    monkeypatch.setattr(pending, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(pending, "asyncio", SimpleNamespace(sleep=sleep, get_running_loop=asyncio.get_running_loop))
    asyncio.run(ask())


def test_several_clients_at_once_do_not_disturb_each_other(server, renderer, prompts):
    data = [supervised_datum(prompt, renderer.answer_tokens("City: Cairo")) for prompt in prompts]
    losses = {}

    def work(seed: int) -> None:
        with tinker.ServiceClient(base_url=server.url, api_key="tml-test") as sdk:
            training = sdk.create_lora_training_client(server.model_name, rank=2, seed=seed, train_unembed=False)
            losses[len(losses)] = (seed, [train_one(training.result(), data)[0] for _ in range(3)])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (0, 1, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    by_seed = sorted(losses.values())
    assert len(by_seed) == 3
    np.testing.assert_allclose(by_seed[0][1], by_seed[1][1], rtol=1e-5)
    assert by_seed[0][1][2] != pytest.approx(by_seed[2][1][2], rel=1e-5)


@pytest.mark.parametrize("route", ["forward_backward", "optim_step"])
def test_a_request_whose_answer_was_lost_is_not_carried_out_twice(sdk, server, service, renderer, prompts, route):
    """The SDK sends it again: a gradient added twice, or a step taken twice, would change what comes after."""
    data = [supervised_datum(prompt, renderer.answer_tokens("City: Lima")) for prompt in prompts]
    training = sdk.create_lora_training_client(server.model_name, rank=2, seed=0, train_unembed=False).result()
    here = service.create_lora_training_client(server.model_name, rank=2, seed=0).result()
    server.faults.append(Fault(route, "drop"))
    for _ in range(2):
        assert train_one(training, data) == pytest.approx(train_one(here, data), rel=1e-4)
    assert server.faults[0].times == 0


def test_every_snapshot_answers_as_long_as_its_client_lives(sdk, server, renderer, prompts, monkeypatch):
    """A reference policy or a league keeps many: those that do not fit into memory wait on the disk."""
    samplers = server.app.app.state.core.samplers
    monkeypatch.setattr(samplers, "kept", 2)
    data = [supervised_datum(prompt, renderer.answer_tokens("City: Lyon")) for prompt in prompts]
    training = sdk.create_lora_training_client(server.model_name, rank=2, seed=0, train_unembed=False).result()
    snapshots, first = [], []
    for _ in range(6):
        train_one(training, data)
        snapshots.append(training.save_weights_and_get_sampling_client().result())
        first.append(snapshots[-1].compute_logprobs(prompts[0]).result())
    mine = [s for s in samplers if s.session_id == training.model_id.partition(":")[0]]
    assert until(lambda: sum(s.client is not None for s in mine) <= 3) is None
    again = [s.compute_logprobs(prompts[0]).result() for s in snapshots]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_allclose(np.array(a, dtype=float), np.array(b, dtype=float), atol=1e-5)
    assert len({tuple(a) for a in first}) == 6
    assert any(samplers.root.rglob("weights.safetensors"))
    sdk.close("success").result(timeout=120)
    assert not any(samplers.root.rglob("weights.safetensors"))


def test_where_memory_is_short_earlier_snapshots_go_to_the_disk(sdk, server, renderer, prompts, monkeypatch):
    samplers = server.app.app.state.core.samplers
    training = sdk.create_lora_training_client(server.model_name, rank=2, train_unembed=False).result()
    data = [supervised_datum(prompts[0], renderer.answer_tokens("City: Lyon"))]
    first, second = [], []
    for snapshots in (first, second):
        train_one(training, data)
        snapshots.append(training.save_weights_and_get_sampling_client().result())
    before = first[0].compute_logprobs(prompts[0]).result()
    second[0].compute_logprobs(prompts[0]).result()
    mine = [s for s in samplers if s.session_id == training.model_id.partition(":")[0]]
    assert all(s.client is not None for s in mine)
    held = iter([0] * 2)  # none is free, until the first has gone
    monkeypatch.setattr("geospot.engine.serve.samplers.free_bytes", lambda device: next(held, None))
    train_one(training, data)
    training.save_weights_and_get_sampling_client().result(timeout=120)  # the SDK comes again after 429
    until(lambda: mine[0].client is None)
    np.testing.assert_allclose(
        *(np.array(found, dtype=float) for found in (before, first[0].compute_logprobs(prompts[0]).result())), atol=1e-5
    )


def test_a_snapshot_that_cannot_be_kept_is_refused_when_it_is_asked_for(sdk, server, monkeypatch):
    training = sdk.create_lora_training_client(server.model_name, rank=2, train_unembed=False).result()
    monkeypatch.setattr("geospot.engine.serve.samplers.SPARE_BYTES", 1 << 60)
    with pytest.raises(tinker.TinkerError, match="no room for another snapshot"):
        training.save_weights_and_get_sampling_client().result(timeout=120)


def test_a_finished_session_leaves_nothing_behind(server, renderer, prompts):
    sessions = server.app.app.state.core.sessions
    before = len(sessions)
    with tinker.ServiceClient(base_url=server.url, api_key="tml-test") as sdk:
        sdk.create_lora_training_client(server.model_name, rank=2, train_unembed=False).result()
        assert len(sessions) == before + 1
    assert len(sessions) == before


def test_a_cancelled_sample_and_a_closed_session_free_the_engine(server, renderer, prompts):
    turns, long = server.service.turns, params(renderer, max_tokens=30_000, stop=[])
    with tinker.ServiceClient(base_url=server.url, api_key="tml-test") as sdk:
        sampler = sdk.create_sampling_client(base_model=server.model_name).result()
        future = sampler.sample(prompts[0], 4, long)
        until(lambda: turns.depth["sampled"] == 1)
        future.future().cancel()
        until(lambda: turns.depth["sampled"] == 0)
        sampler.sample(prompts[0], 4, long)
        until(lambda: turns.depth["sampled"] == 1)
    until(lambda: turns.depth["sampled"] == 0)


def test_the_work_of_a_client_that_is_gone_is_given_up(server, sdk, monkeypatch):
    """Asked for without the SDK, which would wait for the answer."""
    sampler = sdk.create_sampling_client(base_model=server.model_name).result()
    asked = post(
        server,
        "asample",
        json={
            "sampling_session_id": sampler._sampling_session_id,
            "seq_id": 77,
            "prompt": {"chunks": [{"type": "encoded_text", "tokens": [5]}]},
            "sampling_params": {"max_tokens": 30_000, "stop": []},
            "num_samples": 4,
        },
    )
    assert asked.status_code == 200
    until(lambda: server.service.turns.depth["sampled"] == 1)
    monkeypatch.setattr("geospot.engine.serve.sessions.SILENT_S", -1.0)
    until(lambda: server.service.turns.depth["sampled"] == 0)


def test_a_full_queue_asks_the_client_to_come_again_and_nothing_is_lost(server, sdk, renderer, prompts, monkeypatch):
    sampler = sdk.create_sampling_client(base_model=server.model_name).result()
    monkeypatch.setattr(pending, "MOST_WAITING", 1)
    held = threading.Event()
    server.service.scheduler.submit(held.wait)
    one = sampler.sample(prompts[0], 1, params(renderer))
    until(lambda: len(server.app.app.state.core.pending.waiting) == 1)
    refused = post(
        server,
        "asample",
        json={
            "sampling_session_id": sampler._sampling_session_id,
            "seq_id": 77,
            "prompt": {"chunks": [{"type": "encoded_text", "tokens": [5]}]},
            "sampling_params": {"max_tokens": 1},
        },
    )
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert "the queue is full" in refused.json()["detail"]
    two = sampler.sample(prompts[1], 1, params(renderer))
    held.set()
    assert one.result(timeout=120).sequences
    assert two.result(timeout=120).sequences


def post(server, path: str, **kwargs) -> httpx.Response:
    return httpx.post(f"{server.url}/api/v1/{path}", timeout=120, **kwargs)


def test_answers_are_forgotten_after_they_were_sent_and_not_before(sdk, server, renderer, prompts, monkeypatch):
    sampler = sdk.create_sampling_client(base_model=server.model_name).result()
    held_back = server.app.app.state.core.pending
    for future in [sampler.sample(prompt, 2, params(renderer)) for prompt in prompts]:
        future.result(timeout=120)
    held = len(held_back)
    assert sum(pending.sent_at is not None for pending in held_back._by_id.values()) >= len(prompts), "it may ask again"
    monkeypatch.setattr(pending, "KEEP_SENT_S", 0.0)
    monkeypatch.setattr(pending, "SWEEP_S", 0.0)
    sampler.sample(prompts[0], 1, params(renderer)).result(timeout=120)
    assert len(held_back) <= held - len(prompts) + 1


def test_the_key_is_checked_where_one_is_set(tiny_folder, tmp_path):
    with Serving(tiny_folder, tmp_path, api_key="tml-right") as server:
        assert httpx.get(f"{server.url}/api/v1/healthz").status_code == 200
        with pytest.raises(tinker.AuthenticationError, match="another API key"):
            _ = tinker.ServiceClient(base_url=server.url, api_key="tml-wrong").holder
        with tinker.ServiceClient(base_url=server.url, api_key="tml-right") as sdk:
            assert sdk.create_sampling_client(base_model=tiny_folder).result()


def test_the_command_says_where_it_is_and_stops_on_ctrl_c(tiny_folder, tmp_path):
    words = [f"model_name={tiny_folder}", "port=0", f"checkpoint_dir={tmp_path}", "threads=1", "device=cpu"]
    read, write = os.pipe()
    process = forks.start(lambda: geospot.main(["serve", *words]), stdout=write)
    os.close(write)
    with open(read) as printed:
        lines = []
        while not lines or "Ctrl-C" not in lines[-1]:
            lines.append(printed.readline())
            assert lines[-1], "".join(lines)
        url = next(word for word in " ".join(lines).split() if word.startswith("http://127.0.0.1:"))
        assert f"base_url={url}" in "".join(lines)
        assert httpx.get(f"{url}/api/v1/healthz").json() == {"status": "ok"}
        os.kill(process.pid, signal.SIGINT)
        rest = printed.read()
    process.join()
    assert "stopped; checkpoints are in" in rest
    assert "Traceback" not in rest


@pytest.mark.parametrize(
    ("words", "key", "says"),
    [
        (["host=0.0.0.0"], "", "host='0.0.0.0' can be reached by others: set TINKER_API_KEY"),
        (["port=99999"], "", "port=99999: must be at most 65535"),
        (["base_url=http://127.0.0.1:1"], "", "omit them"),
        ([], "sk-1", "TINKER_API_KEY must start with tml-"),
    ],
)
def test_what_cannot_be_served_is_refused_first(words, key, says, monkeypatch, capsys):
    monkeypatch.setenv("TINKER_API_KEY", key)
    with pytest.raises(SystemExit) as left:
        geospot.main(["serve", *words])
    assert left.value.code == 2
    assert says in capsys.readouterr().err
