"""What the local engine learns: gradients against plain forward passes, AdamW by hand, clients that do not disturb
each other."""

import numpy as np
import pytest
import torch
from engine_reference import (
    datum,
    forward_inputs,
    load_reference,
    logprobs_of,
    params,
    plain_gradients,
    train_a_little,
)
from made import jpeg
from tinker import types

from geospot.engine.local import head as head_module
from geospot.engine.local.service import LocalOptions, LocalServiceClient

LEARNING_RATE = 1e-3


@pytest.fixture(scope="module")
def prompts(renderer, pictures):
    return [
        renderer.prompt([pictures[0]], "Where?"),
        renderer.prompt([pictures[3], pictures[4]], "Where were these two taken?"),
        renderer.prompt([], "Name a city."),
    ]


@pytest.fixture(scope="module")
def group_data(prompts):
    """Nine answers to three prompts: lengths 1 to 7, sampling logprobs a little off, a token and an answer that weigh
    nothing."""
    rng = np.random.default_rng(0)
    data = []
    for prompt in prompts:
        for length in (7, 4, 1):
            answer = rng.integers(300, 900, length)
            advantages = rng.normal(size=length) * (np.arange(length) != 2)
            data.append((prompt, answer, rng.normal(-7, 1, length), advantages))
    data[4] = (*data[4][:3], np.zeros(4))
    return data


def rl_data(group_data):
    return [datum(p, t, logprobs=q, advantages=a) for p, t, q, a in group_data]


def gradients(training) -> dict[str, torch.Tensor]:
    return {name: w.grad for name, w in training._weights.items() if w.grad is not None}


def weights(training) -> dict[str, torch.Tensor]:
    return {name: w.detach().clone() for name, w in training._weights.items()}


def assert_equal(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def step(training, data, loss_fn="cross_entropy", **adam):
    training.forward_backward(data, loss_fn)
    return training.optim_step(types.AdamParams(**{"learning_rate": LEARNING_RATE, **adam})).result().metrics


# -- gradients --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[8, 0], ids=["rank8", "rank0"])
def plain(request, tiny_folder, renderer, group_data, prompts):
    """Rank, weights and plain gradients of a client some steps away from its start."""
    with LocalServiceClient(LocalOptions(threads=1)) as service:
        training = service.create_lora_training_client(tiny_folder, rank=request.param, seed=1).result()
        train_a_little(training, prompts)
        return request.param, weights(training), plain_gradients(tiny_folder, renderer.processing, training, group_data)


@pytest.mark.parametrize("max_batch_tokens", [30, 90, 16_384])
def test_shared_prefixes_and_micro_batches_leave_the_gradient_as_it_is(
    plain, tiny_folder, group_data, max_batch_tokens, monkeypatch
):
    rank, start, expected = plain
    if max_batch_tokens == 90:  # also the head in small pieces whose logits are recomputed
        monkeypatch.setattr(head_module, "CHUNK", 4 * 1682)
        monkeypatch.setattr(head_module, "KEPT", 0)
    with LocalServiceClient(LocalOptions(threads=1, max_batch_tokens=max_batch_tokens)) as service:
        training = service.create_lora_training_client(tiny_folder, rank=rank, seed=1).result()
        for name, value in start.items():
            training._weights[name].data.copy_(value)
        training.forward_backward(rl_data(group_data), "importance_sampling").result()
        got = gradients(training)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        scale = value.abs().max().item()
        torch.testing.assert_close(
            got[name], value, rtol=0, atol=1e-5 * scale + 1e-7, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("rank", [8, 0])
def test_supervised_loss_is_transformers_loss_times_its_tokens(service, tiny_folder, renderer, prompts, rank):
    answer = renderer.answer_tokens("City: Lima\nCountry: Peru")
    training = service.create_lora_training_client(tiny_folder, rank=rank, seed=1).result()
    out = training.forward([datum(p, answer, weights=1.0) for p in prompts], "cross_entropy").result()

    model, total = load_reference(tiny_folder), 0.0
    ban = torch.zeros(model.config.text_config.vocab_size)
    ban[list(renderer.processing.banned_token_ids)] = -torch.inf
    model.lm_head.register_forward_hook(lambda _m, _a, logits: logits + ban)
    for prompt in prompts:
        inputs = forward_inputs(renderer.processing, prompt, answer)
        labels = inputs["input_ids"].clone()
        labels[:, : prompt.length] = -100
        with torch.no_grad():
            total += model(**inputs, labels=labels, use_cache=False).loss.item() * len(answer)
    assert out.metrics["loss:sum"] == pytest.approx(total, rel=1e-5)


def test_weights_scale_each_token(service, tiny_folder, prompts):
    training = service.create_lora_training_client(tiny_folder, rank=4, seed=1).result()
    out = training.forward([datum(prompts[0], [400, 401, 402], weights=[0.5, 0.0, 2.0])], "cross_entropy").result()
    a, unweighted, b = logprobs_of(out, 0, 3)
    assert unweighted < 0
    assert out.metrics["loss:sum"] == pytest.approx(-0.5 * a - 2.0 * b, rel=1e-6)


def test_every_position_has_its_logprob_whatever_it_weighs(make_service, tiny_folder, renderer, prompts):
    """The service documents all N: a custom loss, and a KL over the whole answer, read those that weigh nothing."""
    rng = np.random.default_rng(3)
    data = [(prompt, rng.integers(300, 900, n)) for prompt in prompts for n in (4, 6)]
    shifted = [_all_targets(renderer.processing, prompt, answer) for prompt, answer in data]
    loss_of = {}
    for skip in (False, True):
        training = make_service(skip_unweighted=skip).create_lora_training_client(tiny_folder, rank=4, seed=1).result()
        train_a_little(training, prompts, steps=1)
        forward = training.forward([_with(d, weights=np.zeros(len(t))) for d, t in shifted], "cross_entropy").result()
        half = [np.where(np.arange(len(t)) >= len(t) - 2, 1.0, 0.0) for _, t in shifted]
        quiet = [
            _with(d, advantages=w, logprobs=np.full(len(w), -90.0) * (w == 0))
            for (d, _), w in zip(shifted, half, strict=True)
        ]
        out = training.forward_backward(quiet, "importance_sampling").result()
        loss_of[skip] = out.metrics["loss:sum"], gradients(training)
        for i, (_, targets) in enumerate(shifted):
            known = (targets != 0) & ~np.isin(targets, renderer.processing.banned_token_ids)
            lp = [o.loss_fn_outputs[i]["logprobs"].to_numpy() for o in (forward, out)]
            if skip:
                assert not lp[0].any()
                assert not lp[1][:-2].any()
                continue
            assert (lp[0][known] < 0).all()
            assert not lp[0][np.isin(targets, renderer.processing.banned_token_ids)].any()
            np.testing.assert_allclose(*lp, atol=1e-5)
            sampler = training.save_weights_and_get_sampling_client().result()
            whole = types.ModelInput(chunks=[*data[i][0].chunks, types.EncodedTextChunk(tokens=data[i][1].tolist())])
            want = np.array([np.nan if v is None else v for v in sampler.compute_logprobs(whole).result()])[1:]
            text = known & ~np.isnan(want)
            np.testing.assert_allclose(lp[0][text], want[text], atol=1e-4)
    assert np.isfinite(loss_of[False][0])
    assert loss_of[False][0] == loss_of[True][0]
    assert_equal(loss_of[False][1], loss_of[True][1])


def _all_targets(processing, prompt, answer) -> tuple[types.Datum, np.ndarray]:
    """A datum of prompt and answer in which every position predicts the next token, pictures' included."""
    ids = forward_inputs(processing, prompt, answer)["input_ids"][0].numpy()
    chunks = [*prompt.chunks, types.EncodedTextChunk(tokens=[int(t) for t in answer[:-1]])]
    return types.Datum(model_input=types.ModelInput(chunks=chunks), loss_fn_inputs={"target_tokens": ids[1:]}), ids[1:]


def _with(datum_: types.Datum, **inputs: np.ndarray) -> types.Datum:
    arrays = {name: np.asarray(value, dtype=np.float32) for name, value in inputs.items()}
    return types.Datum(model_input=datum_.model_input, loss_fn_inputs={**datum_.loss_fn_inputs, **arrays})


@pytest.mark.parametrize("loss_fn", ["importance_sampling", "ppo", "cispo"])
def test_each_loss_is_summed_over_all_tokens(service, tiny_folder, group_data, loss_fn):
    training = service.create_lora_training_client(tiny_folder, rank=4, seed=1).result()
    out = training.forward(rl_data(group_data), loss_fn).result()
    total = 0.0
    for i, (_, answer, q, a) in enumerate(group_data):
        lp = logprobs_of(out, i, len(answer)).astype(float)
        ratio = np.exp(lp - q)
        terms = {
            "importance_sampling": ratio * a,
            "ppo": np.minimum(ratio * a, ratio.clip(0.8, 1.2) * a),
            "cispo": ratio.clip(0.0, 4.0) * lp * a,
        }
        total -= terms[loss_fn].sum()
    assert out.metrics["loss:sum"] == pytest.approx(total, rel=1e-4)


def test_several_targets_for_a_position_are_as_many_data(service, tiny_folder, prompts):
    """(N, K) targets and weights, as distillation on the teacher's top k has them."""
    rng = np.random.default_rng(5)
    training = service.create_lora_training_client(tiny_folder, rank=4, seed=1).result()
    prompt, k = prompts[0], 3
    n = prompt.length
    targets, weights = rng.integers(300, 900, (n, k)), rng.random((n, k)) * (np.arange(n) >= n - 2)[:, None]
    both = {"target_tokens": targets, "weights": weights.astype(np.float32)}
    out = training.forward_backward([types.Datum(model_input=prompt, loss_fn_inputs=both)], "cross_entropy").result()
    wide = gradients(training)
    training = service.create_lora_training_client(tiny_folder, rank=4, seed=1).result()
    single = [
        types.Datum(
            model_input=prompt, loss_fn_inputs={name: np.ascontiguousarray(a[:, j]) for name, a in both.items()}
        )
        for j in range(k)
    ]
    apart = training.forward_backward(single, "cross_entropy").result()
    columns = [o["logprobs"].to_numpy() for o in apart.loss_fn_outputs]
    np.testing.assert_allclose(out.loss_fn_outputs[0]["logprobs"].to_numpy(), np.stack(columns, 1), atol=1e-5)
    assert out.metrics["loss:sum"] == pytest.approx(apart.metrics["loss:sum"], rel=1e-5)
    for name, value in gradients(training).items():
        torch.testing.assert_close(wide[name], value, atol=1e-5 * float(value.abs().max()) + 1e-8, rtol=0)


def test_forward_leaves_no_gradient(service, tiny_folder, group_data):
    training = service.create_lora_training_client(tiny_folder, rank=4, seed=1).result()
    training.forward(rl_data(group_data), "ppo").result()
    assert gradients(training) == {}


def test_nothing_to_learn_changes_nothing(service, tiny_folder, prompts):
    training = service.create_lora_training_client(tiny_folder, rank=4, seed=1).result()
    before = weights(training)
    for data in ([], [datum(prompts[0], [400, 401], logprobs=-7.0, advantages=0.0)]):
        out = training.forward_backward(data, "ppo").result()
        assert (out.metrics["loss:sum"], len(out.loss_fn_outputs)) == (0.0, len(data))
        assert training.optim_step(types.AdamParams()).result().metrics == {"grad_norm": 0.0, "skipped": 0.0}
    assert_equal(before, weights(training))


# -- steps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [8, 0])
def test_steps_are_those_of_adamw(service, tiny_folder, group_data, rank):
    training = service.create_lora_training_client(tiny_folder, rank=rank, seed=1).result()
    copies = {name: torch.nn.Parameter(w) for name, w in weights(training).items()}
    adamw = torch.optim.AdamW(copies.values(), lr=2e-3, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.1, foreach=False)
    for _ in range(3):
        training.forward_backward(rl_data(group_data), "ppo").result()
        for name, w in copies.items():
            grad = training._weights[name].grad
            w.grad = None if grad is None else grad.clone()
        adamw.step()
        adam = types.AdamParams(learning_rate=2e-3, beta1=0.8, beta2=0.9, eps=1e-6, weight_decay=0.1)
        training.optim_step(adam).result()
        assert gradients(training) == {}
    for name, w in weights(training).items():
        torch.testing.assert_close(w, copies[name].detach(), rtol=1e-6, atol=1e-8)


def test_the_first_step_by_hand(service, tiny_folder, group_data):
    """After bias correction Adam's first step is lr * g / (|g| + eps)."""
    training = service.create_lora_training_client(tiny_folder, rank=8, seed=1).result()
    before = weights(training)
    training.forward_backward(rl_data(group_data), "ppo").result()
    g = {name: grad.clone() for name, grad in gradients(training).items()}
    training.optim_step(types.AdamParams(learning_rate=0.01, eps=1e-3)).result()
    for name, w in weights(training).items():
        torch.testing.assert_close(w, before[name] - 0.01 * g[name] / (g[name].abs() + 1e-3), rtol=1e-4, atol=1e-7)


def test_clipping_scales_the_gradient_and_reports_its_norm_before(service, tiny_folder, group_data):
    training = service.create_lora_training_client(tiny_folder, rank=8, seed=1).result()
    start = weights(training)
    training.forward_backward(rl_data(group_data), "ppo").result()
    g = {name: grad.clone() for name, grad in gradients(training).items()}
    norm = np.sqrt(sum(float((x.double() ** 2).sum()) for x in g.values()))
    limit = norm / 4
    # A large eps makes Adam's step depend on the gradient's size.
    metrics = training.optim_step(types.AdamParams(learning_rate=0.01, eps=1.0, grad_clip_norm=limit)).result().metrics
    assert metrics == {"grad_norm": pytest.approx(norm, rel=1e-5), "skipped": 0.0}
    for name, w in weights(training).items():
        clipped = g[name] / 4
        torch.testing.assert_close(w, start[name] - 0.01 * clipped / (clipped.abs() + 1.0), rtol=1e-4, atol=1e-6)


def test_two_passes_before_a_step_equal_one_with_both(service, tiny_folder, group_data):
    data = rl_data(group_data)
    one, two = (service.create_lora_training_client(tiny_folder, rank=8, seed=1).result() for _ in range(2))
    one.forward_backward(data, "ppo").result()
    for part in (data[:5], data[5:]):
        two.forward_backward(part, "ppo").result()
    for name, g in gradients(one).items():
        torch.testing.assert_close(gradients(two)[name], g, rtol=1e-4, atol=1e-5 * g.abs().max().item())


def test_a_gradient_that_is_not_finite_is_skipped_and_reported(service, tiny_folder, prompts, group_data):
    training = service.create_lora_training_client(tiny_folder, rank=8, seed=1).result()
    before = weights(training)
    overflow = [datum(prompts[0], [400], logprobs=-200.0, advantages=1.0)]  # ratio exp(193)
    metrics = step(training, overflow, "importance_sampling")
    assert metrics["skipped"] == 1.0
    assert not np.isfinite(metrics["grad_norm"])
    assert_equal(before, weights(training))

    other = service.create_lora_training_client(tiny_folder, rank=8, seed=1).result()
    assert step(training, rl_data(group_data), "ppo") == step(other, rl_data(group_data), "ppo")
    assert_equal(weights(training), weights(other))


def test_training_learns(service, tiny_folder, prompts, renderer):
    training = service.create_lora_training_client(tiny_folder, rank=0).result()
    data = [datum(prompts[0], renderer.answer_tokens("Peru"), weights=1.0)]
    losses = []
    for _ in range(8):
        losses.append(training.forward_backward(data, "cross_entropy").result().metrics["loss:sum"])
        training.optim_step(types.AdamParams(learning_rate=3e-3)).result()
    assert losses[-1] < 0.2 * losses[0]


# -- clients ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [8, 0])
def test_two_clients_of_one_engine_do_not_disturb_each_other(tiny_folder, group_data, rank):
    parts = [rl_data(group_data[:6]), rl_data(group_data[3:])]

    def alone(seed, data):
        with LocalServiceClient(LocalOptions(threads=1)) as service:
            training = service.create_lora_training_client(tiny_folder, rank=rank, seed=seed).result()
            for _ in range(3):
                step(training, data, "ppo", learning_rate=1e-2 / (seed + 1))
            return weights(training)

    with LocalServiceClient(LocalOptions(threads=1)) as service:
        clients = [service.create_lora_training_client(tiny_folder, rank=rank, seed=seed).result() for seed in (0, 1)]
        for _ in range(3):
            for training, data in zip(clients, parts, strict=True):  # both gradients are open at once
                training.forward_backward(data, "ppo").result()
            for seed, training in enumerate(clients):
                training.optim_step(types.AdamParams(learning_rate=1e-2 / (seed + 1))).result()
        together = [weights(training) for training in clients]
    for seed in (0, 1):
        for name, value in alone(seed, parts[seed]).items():
            torch.testing.assert_close(together[seed][name], value, rtol=1e-4, atol=1e-5)


def test_a_seed_fixes_the_adapter_and_nothing_else(service, tiny_folder):
    state = torch.get_rng_state()
    a, b, c, d = (
        weights(service.create_lora_training_client(tiny_folder, rank=8, seed=seed).result())
        for seed in (1, 1, 2, None)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert_equal(a, b)
    name = next(name for name in a if ".lora_A." in name)
    assert not torch.equal(a[name], c[name])
    assert not torch.equal(a[name], d[name])
    assert all(not value.any() for name, value in a.items() if ".lora_B." in name)


@pytest.mark.parametrize(
    ("rank", "flags", "names"),
    [
        (4, {"train_mlp": False}, {"q_proj", "k_proj", "v_proj", "o_proj"}),
        (4, {"train_attn": False}, {"gate_proj", "up_proj", "down_proj"}),
        (4, {"train_attn": False, "train_mlp": False, "train_unembed": True}, {"lm_head"}),
    ],
)
def test_what_the_adapter_trains_can_be_chosen(service, tiny_folder, group_data, rank, flags, names):
    training = service.create_lora_training_client(tiny_folder, rank=rank, seed=0, **flags).result()
    step(training, rl_data(group_data), "ppo")
    moved = {
        name.split(".lora_B.")[0].rsplit(".", 1)[-1]
        for name, w in weights(training).items()
        if w.any() and "_B" in name
    }
    assert moved == names
    assert not any("visual" in name for name in training._weights)
    assert training.n_parameters() == sum(w.numel() for w in weights(training).values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"rank": -1}, "rank=-1"), ({"rank": 0, "train_attn": False, "train_mlp": False}, "nothing to train")],
)
def test_a_client_that_could_train_nothing_is_refused(service, tiny_folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        service.create_lora_training_client(tiny_folder, **arguments)


# -- errors -----------------------------------------------------------------------------------------------------------


def test_bad_data_is_refused_whole_and_later_calls_work(service, tiny_folder, prompts, group_data, renderer, pictures):
    training = service.create_lora_training_client(tiny_folder, rank=4, seed=1).result()
    good = datum(prompts[0], [400, 401], logprobs=-7.0, advantages=1.0)
    cut = types.ModelInput(chunks=[types.ImageChunk(data=pictures[0][:-200], format="jpeg", expected_tokens=4)])
    bad = {
        "stands for pictures": datum(prompts[0], [renderer.processing.image_token_id], logprobs=-7.0, advantages=1.0),
        "outside the vocabulary": datum(prompts[0], [10_000_000], logprobs=-7.0, advantages=1.0),
        "takes the inputs": datum(prompts[0], [400], weights=1.0),
        "has shape": types.Datum(model_input=prompts[0], loss_fn_inputs=dict(good.loss_fn_inputs)),
        "unreadable image": datum(cut, [400], logprobs=-7.0, advantages=1.0),
    }
    for message, datum_ in bad.items():
        with pytest.raises(ValueError, match=message):
            training.forward_backward([good, datum_], "ppo").result()
        assert gradients(training) == {}
    with pytest.raises(ValueError, match="loss_fn='custom'"):
        training.forward_backward([good], "custom")
    training.forward_backward([good], "ppo").result()
    assert gradients(training) != {}


def test_a_pass_that_breaks_down_midway_leaves_no_gradient(tiny_folder, group_data, monkeypatch):
    with LocalServiceClient(LocalOptions(threads=1, max_batch_tokens=30)) as service:
        training = service.create_lora_training_client(tiny_folder, rank=4, seed=1).result()
        other = service.create_lora_training_client(tiny_folder, rank=4, seed=1).result()
        data, calls, real = rl_data(group_data), [], head_module.logprobs_of

        def broken(*args, **kwargs):
            calls.append(1)
            if len(calls) == 3:
                raise RuntimeError("no more")
            return real(*args, **kwargs)

        monkeypatch.setattr(head_module, "logprobs_of", broken)
        with pytest.raises(RuntimeError, match="no more"):
            training.forward_backward(data, "ppo").result()
        monkeypatch.undo()
        assert gradients(training) == {}
        other.forward_backward(data[:2], "ppo").result()
        training.forward_backward(data[:2], "ppo").result()
        assert_equal(gradients(training), gradients(other))


def test_a_pass_too_large_for_the_memory_comes_again_in_halves(tiny_folder, group_data, monkeypatch, capsys):
    with LocalServiceClient(LocalOptions(threads=1, skip_unweighted=True)) as service:
        training, other = (service.create_lora_training_client(tiny_folder, rank=4, seed=1).result() for _ in range(2))
        real, sizes = head_module.logprobs_of, []

        def small_memory(head, hidden, *args):
            sizes.append(len(hidden))
            if len(hidden) > 10:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(head, hidden, *args)

        want = other.forward_backward(rl_data(group_data), "ppo").result()
        monkeypatch.setattr(head_module, "logprobs_of", small_memory)
        got = training.forward_backward(rl_data(group_data), "ppo").result()
        assert max(sizes) > 10
        assert "max_batch_tokens=" in capsys.readouterr().out
        assert got.metrics["loss:sum"] == pytest.approx(want.metrics["loss:sum"], rel=1e-5)
        for name, g in gradients(other).items():
            torch.testing.assert_close(gradients(training)[name], g, rtol=1e-4, atol=1e-5 * g.abs().max().item())
        sizes.clear()
        training.forward_backward(rl_data(group_data), "ppo").result()
        assert sum(size > 10 for size in sizes) <= 1  # the next pass starts with smaller batches
        monkeypatch.setattr(head_module, "logprobs_of", lambda *_: small_memory(None, range(99)))
        with pytest.raises(MemoryError, match="gradient_checkpointing=true"):
            training.forward_backward(rl_data(group_data), "ppo").result()


@pytest.mark.parametrize("rank", [8, 0])
def test_gradient_checkpointing_gives_the_same_gradient(service, tiny_folder, group_data, rank):
    training = service.create_lora_training_client(tiny_folder, rank=rank, seed=1).result()
    training.forward_backward(rl_data(group_data), "ppo").result()
    with LocalServiceClient(LocalOptions(threads=1, gradient_checkpointing=True)) as other:
        again = other.create_lora_training_client(tiny_folder, rank=rank, seed=1).result()
        again.forward_backward(rl_data(group_data), "ppo").result()
        for name, g in gradients(training).items():
            torch.testing.assert_close(gradients(again)[name], g, rtol=1e-4, atol=1e-5 * g.abs().max().item() + 1e-8)


def test_the_caller_may_reuse_its_list_at_once(service, tiny_folder, group_data):
    training = service.create_lora_training_client(tiny_folder, rank=4, seed=1).result()
    data = rl_data(group_data)
    futures = [training.forward_backward(data, "ppo"), training.forward(data, "ppo")]
    data.clear()
    assert [len(f.result().loss_fn_outputs) for f in futures] == [9, 9]


def test_one_batch_of_pictures_of_many_sizes(service, tiny_folder, renderer):
    """More pictures than the tower takes at once, in one call."""
    training = service.create_lora_training_client(tiny_folder, rank=4, seed=1).result()
    service.network(training._spec).pictures.batch = 2
    prompts = [renderer.prompt([jpeg(s, 60 + 20 * s, 100)], "Where?") for s in range(5)]
    data = [datum(p, [400 + i, 500], weights=1.0) for i, p in enumerate(prompts)]
    together = training.forward(data, "cross_entropy").result()
    for i, d in enumerate(data):
        alone = training.forward([d], "cross_entropy").result()
        np.testing.assert_allclose(logprobs_of(together, i, 2), logprobs_of(alone, 0, 2), atol=1e-5)


def test_awaiting_works_in_an_event_loop(service, tiny_folder, prompts, group_data):
    import asyncio

    async def run():
        training = await service.create_lora_training_client(tiny_folder, rank=4, seed=1)
        forward = training.forward_backward(rl_data(group_data), "ppo")
        optim = training.optim_step(types.AdamParams(learning_rate=1e-3))
        sampler = await training.save_weights_and_get_sampling_client()
        answers = await asyncio.gather(*(sampler.sample(p, 2, params(max_tokens=2)) for p in prompts))
        return (await forward).metrics, (await optim).metrics, [len(a.sequences) for a in answers]

    forward, optim, n = asyncio.run(run())
    assert set(forward) == {"loss:sum"}
    assert optim["grad_norm"] > 0
    assert n == [2, 2, 2]
