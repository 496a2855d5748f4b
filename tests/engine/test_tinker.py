"""engine=tinker: the loops over the wire give what they give in one process, whatever happens on the way."""

import itertools
import json
import logging
import shutil
import threading
import time
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tinker
from made import jpeg, until
from servers.tinker import Fault, Serving, connect
from small_runs import metrics, rollouts
from tinker import types

from geospot._version import __version__
from geospot.asking.requests import Asked
from geospot.commands.eval import run as run_eval
from geospot.config import EvalConfig, SftConfig, TrainConfig
from geospot.data.samples import Sample
from geospot.earth.place import Place
from geospot.engine.open import choose, open_engine, settle_engine
from geospot.engine.tinker import rates
from geospot.engine.tinker.checks import Server, check_model
from geospot.errors import EngineError, EngineGone
from geospot.runs.checkpoints import read_checkpoints
from geospot.runs.folder import RunFolder, read_document, read_metrics
from geospot.sft import run as run_sft
from geospot.train import run as run_train
from geospot.training.datums import supervised_datum
from geospot.training.estimate import Work, cost_text

GRPO = {"max_steps": 4, "group_size": 4, "num_substeps": 2, "eval_every": 2, "kl_coef": 0.01, "learning_rate": 1e-3}
WARM = {"max_steps": 12, "batch_size": 12, "learning_rate": 4e-3, "lr_schedule": "constant"}
WARM |= {"save_every": 0, "eval_every": 12}
SHORT = {"checkpoint": "none", "eval_data": "none", "batch_size": 4, "group_size": 4, "num_substeps": 2}


@pytest.fixture(scope="module")
def server(tiny_folder, tmp_path_factory):
    # Which requests share a batch is a matter of time, and runs are compared answer by answer.
    with Serving(tiny_folder, tmp_path_factory.mktemp("served"), batch_invariant=True) as server:
        yield server


@pytest.fixture(autouse=True)
def no_faults(server):
    server.faults.clear()


@pytest.fixture(scope="module")
def served_settings(server, run_settings) -> dict[str, Any]:
    """Settings of a run on the server."""
    settings = {"engine": "tinker", "base_url": server.url, "server_timeout_s": 120.0}
    return run_settings | settings | {"keep_checkpoints": 20}


@pytest.fixture
def over_wire(served_settings, common) -> dict[str, Any]:
    """The same, in a folder of the test's own."""
    return dict(served_settings)


@pytest.fixture(scope="module")
def warm(served_settings, tmp_path_factory) -> str:
    """A run on the server whose answers can be read and still differ."""
    folder = str(tmp_path_factory.mktemp("warm") / "run")
    run_sft(SftConfig(**served_settings | WARM, log_path=folder))
    return folder


@pytest.fixture(scope="module")
def undisturbed(served_settings, warm, tmp_path_factory) -> Path:
    """The folder of GRPO from there in one go, with nothing in its way."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    run_train(TrainConfig(**served_settings | GRPO, checkpoint=warm, log_path=str(folder)))
    return folder


def assert_same(one, other) -> None:
    """Two run folders hold the same metrics (to rounding) and the same answers."""
    for a, b in zip(metrics(one), metrics(other), strict=True):
        assert a.keys() == b.keys()
        for key, value in a.items():
            # None stands for NaN: nothing in the sets to measure it on.
            same = value == b[key] or (
                None not in (value, b[key]) and value == pytest.approx(b[key], rel=1e-3, abs=1e-4)
            )
            assert same, (a["step"], key, value, b[key])
    assert [row["text"] for row in rollouts(one)] == [row["text"] for row in rollouts(other)]


def evaluated(settings: dict[str, Any], run: str) -> dict[str, float]:
    """The metrics of a run's last weights, by a command of its own."""
    shared = ("engine", "base_url", "threads", "device", "max_tokens")
    given = {key: settings[key] for key in shared if key in settings}
    return run_eval(EvalConfig(**given, checkpoint=run, data=settings["eval_data"]))["eval"].summary


def test_the_whole_recipe_over_the_wire_equals_the_one_in_this_process(over_wire, common, warm, undisturbed, tmp_path):
    """SFT -> GRPO -> resume -> evaluate."""
    here = common | {"engine": "local", "keep_checkpoints": 20, "batch_invariant": True}
    run_sft(SftConfig(**here | WARM, log_path="sft"))
    run_train(TrainConfig(**here | GRPO, checkpoint="sft", log_path="train"))
    # As if killed after its third step: the rest is done again by the same command.
    resumed = shutil.copytree(undisturbed, tmp_path / "resumed")
    lines = (resumed / "checkpoints.jsonl").read_text().splitlines(keepends=True)
    (resumed / "checkpoints.jsonl").write_text("".join(lines[:3]))
    run_train(TrainConfig(**over_wire | GRPO, checkpoint=warm, log_path=str(resumed)))
    assert_same(warm, "sft")
    assert_same(undisturbed, "train")
    assert_same(resumed, "train")
    found = evaluated(over_wire, str(resumed))
    assert found == pytest.approx(evaluated(here, "train"), rel=1e-3, abs=1e-4, nan_ok=True)
    kept = read_checkpoints(resumed)
    assert all(c.path.startswith("tinker://") for c in kept)
    assert kept[-1].final
    assert kept[-1].step == 4
    rows = read_metrics(resumed)
    assert rows[0]["reward_std_in_group"] > 0.01, "without differences nothing is learned, and everything is equal"


def test_faults_on_the_way_change_nothing(server, over_wire, warm, undisturbed, tmp_path):
    """Not a bit: the server samples each request alone, so that one which comes again is answered as before."""
    server.faults.extend([
        Fault("asample", "500"), Fault("asample", "429"), Fault("asample", "drop"), Fault("forward_backward", "500"),
        Fault("forward_backward", "drop"), Fault("optim_step", "drop"), Fault("save_weights", "500"),
        Fault("retrieve_future", "slow", times=3, seconds=0.5), Fault("retrieve_future", "drop"),
        Fault("save_weights_for_sampler", "drop"), Fault("retrieve_future", "500", times=2),
    ])  # fmt: skip
    run_train(TrainConfig(**over_wire | GRPO, checkpoint=warm, log_path=str(tmp_path / "stormy")))
    assert [f for f in server.faults if f.times] == []
    assert metrics(tmp_path / "stormy") == metrics(undisturbed)
    assert rollouts(tmp_path / "stormy") == rollouts(undisturbed)


def test_a_server_that_restarts_in_mid_step_costs_that_step_and_no_more(server, over_wire, warm, undisturbed, tmp_path):
    broken = tmp_path / "broken"
    config = TrainConfig(**over_wire | GRPO, checkpoint=warm, log_path=str(broken))

    def restart() -> None:
        until(lambda: (broken / "checkpoints.jsonl").exists() and len(read_checkpoints(broken)) >= 2)
        server.restart()

    thread = threading.Thread(target=restart)
    thread.start()
    with pytest.raises(EngineError, match=r"(?s)restarted.*same command goes on"):
        run_train(config)
    thread.join()
    assert 2 <= read_checkpoints(broken)[-1].step < 4
    run_train(config)
    assert_same(broken, undisturbed)


def test_a_dead_server_is_reported_in_time(tiny_folder, tmp_path, renderer):
    with Serving(tiny_folder, tmp_path) as server, connect(server, silent_s=2.0) as service:
        sampler = service.create_sampling_client(base_model=tiny_folder).result()
        training = service.create_lora_training_client(tiny_folder, rank=2).result()
        server.stop()
        started = time.monotonic()
        prompt = renderer.prompt([jpeg(0)], "Where?")
        futures = [
            sampler.sample(prompt, 2, types.SamplingParams(max_tokens=2)),
            training.forward_backward([supervised_datum(prompt, [9, 9])], "cross_entropy"),
        ]
        for future in futures:
            with pytest.raises(EngineGone, match=r"has not answered for 2 s.*same command"):
                future.result(timeout=250)
        assert time.monotonic() - started < 200, "the SDK alone waits for 302 s"
        server.start()


# -- requests that fail -----------------------------------------------------------------------------------------------


class Sampler:
    """Answers in threads, last asked first; requests of a seed in `failing` fail so many times."""

    def __init__(self, failing: dict[int, int]):
        self.failing, self.asked = dict(failing), []

    def sample(self, prompt, num_samples, sampling_params):
        self.asked.append(sampling_params.seed)
        future, seed = Future(), sampling_params.seed

        def answer() -> None:
            if self.failing.get(seed, 0) > 0:
                self.failing[seed] -= 1
                return future.set_exception(EngineError("the service is out of breath"))
            sequence = types.SampledSequence(
                stop_reason="stop",
                sequence_id="x",
                tokens_np=np.array([seed], dtype=np.int32),
                logprobs_np=np.zeros(1, dtype=np.float32),
            )
            return future.set_result(types.SampleResponse(sequences=[sequence] * num_samples))

        threading.Timer(0.05 - 0.005 * seed, answer).start()
        return type("F", (), {"future": lambda self: future})()


def ask(renderer, sampler, n: int = 5, **how):
    samples = [Sample(f"s{i}", (jpeg(i),), Place(0.0, 1.0)) for i in range(n)]
    asked = Asked(sampler, renderer, samples, "Where?", num_samples=2, seeds=range(n), max_tokens=1)
    return asked.collect(**how)


def test_a_request_that_fails_is_asked_once_more_after_the_others(renderer):
    sampler, progress = Sampler({1: 1}), []
    got = ask(renderer, sampler, on_progress=lambda done, in_flight: progress.append((done, in_flight)))
    assert sampler.asked == [0, 1, 2, 3, 4, 1]
    assert [s.key for s in got.samples] == ["s0", "s1", "s2", "s3", "s4"]
    assert [s.tokens[0] for s in got.sequences] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert (got.requests_retried, got.requests_lost) == (1, 0)
    assert progress[-1] == (5, 0)
    assert [in_flight for _, in_flight in progress] == [4, 3, 2, 1, 0, 0]


def test_a_request_that_fails_twice_is_left_out_and_counted(renderer):
    got = ask(renderer, Sampler({1: 2, 3: 1}), min_share=0.8)
    assert [s.key for s in got.samples] == ["s0", "s2", "s3", "s4"]
    assert len(got.prompts) == 4
    assert len(got.texts) == len(got.answers) == 8
    assert (got.requests_retried, got.requests_lost) == (2, 1)
    assert got.truth(3) is got.samples[1].place


def test_too_few_answers_end_the_step_with_the_reason(renderer):
    with pytest.raises(EngineError, match=r"2 of 5 .*min_group_share=0.8: the service is out of breath"):
        ask(renderer, Sampler({1: 2, 3: 2}), min_share=0.8)
    with pytest.raises(EngineError, match="out of breath"):
        ask(renderer, Sampler({1: 2}))  # where every answer counts


def test_a_run_goes_on_without_a_picture_that_the_server_refuses(server, over_wire, tmp_path):
    server.faults.append(Fault("asample", "422", times=5))  # four pictures once, one of them twice
    settings = over_wire | SHORT | {"max_steps": 1, "min_group_share": 0.7}
    run_train(TrainConfig(**settings, log_path=str(tmp_path / "run")))
    row = read_metrics(tmp_path / "run")[0]
    assert (row["requests_retried"], row["requests_lost"]) == (4, 1)
    assert len(rollouts(tmp_path / "run")) == 3 * 4


# -- what goes over the wire ------------------------------------------------------------------------------------------


def test_pictures_are_sent_once_a_group_and_hardly_grow_on_the_way(server, renderer):
    pictures = [jpeg(i, 640, 480) for i in range(8)]
    with connect(server) as service:
        sampler = service.create_sampling_client(base_model=server.model_name).result()
        samples = [Sample(str(i), (p,), Place(0.0, 1.0)) for i, p in enumerate(pictures)]
        server.app.bytes.clear()
        asked = Asked(sampler, renderer, samples, "Where?", num_samples=16, seeds=range(8), max_tokens=2)
        assert len(asked.collect().sequences) == 8 * 16
        assert server.app.bytes["asample"] < 1.1 * sum(map(len, pictures))
        training = service.create_lora_training_client(server.model_name, rank=2).result()
        data = [supervised_datum(prompt, [9, 9]) for prompt in asked.prompts for _ in range(16)]
        server.app.bytes.clear()
        training.forward_backward(data, "cross_entropy").result()
        assert server.app.bytes["forward_backward"] < 1.1 * sum(map(len, pictures))


def test_large_batches_are_split_and_add_up(server, service):
    """The SDK sends at most 1,024 datums at once."""
    prompts = [types.ModelInput.from_ints([5, 6, 7 + i % 90]) for i in range(1100)]
    data = [supervised_datum(prompt, [8 + i % 90, 9]) for i, prompt in enumerate(prompts)]
    with connect(server) as client:
        over_wire = client.create_lora_training_client(server.model_name, rank=2, seed=0).result()
        here = service.create_lora_training_client(server.model_name, rank=2, seed=0).result()
        server.app.seen.clear()
        theirs, ours = (c.forward_backward(data, "cross_entropy").result() for c in (over_wire, here))
        assert server.app.seen["forward_backward"] == 2
        assert theirs.metrics["loss:sum"] == pytest.approx(ours.metrics["loss:sum"], rel=1e-5)
        for a, b in zip(theirs.loss_fn_outputs, ours.loss_fn_outputs, strict=True):
            np.testing.assert_allclose(a["logprobs"].to_numpy(), b["logprobs"].to_numpy(), atol=1e-4)
        steps = [c.optim_step(types.AdamParams(learning_rate=1e-2)).result().metrics for c in (over_wire, here)]
        assert steps[0]["grad_norm"] == pytest.approx(steps[1]["grad_norm"], rel=1e-4)


def test_asking_ahead_is_one_step_off_policy_and_can_be_resumed(over_wire, warm, tmp_path):
    settings = over_wire | {"checkpoint": warm, "eval_data": "none", "overlap": True, "max_steps": 5, "group_size": 8}
    run_train(TrainConfig(**settings, log_path=str(tmp_path / "run")))
    rows = read_metrics(tmp_path / "run")
    updates = ["mismatch_kl" in row for row in rows]  # a step whose groups all have one reward makes none
    for k, row in enumerate(rows):
        if updates[k]:  # sampled with the weights before the update before
            assert (row["mismatch_kl"] > 1e-6) == (k > 0 and updates[k - 1])
    assert any(one and two for one, two in itertools.pairwise(updates)), "nothing was learned twice in a row"
    first = rollouts(tmp_path / "run")
    keys = [{row["sample_key"] for row in first if row["step"] == step} for step in range(5)]
    lines = (tmp_path / "run" / "checkpoints.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "run" / "checkpoints.jsonl").write_text(lines[0])
    run_train(TrainConfig(**settings, log_path=str(tmp_path / "run")))
    again = rollouts(tmp_path / "run")
    assert [{row["sample_key"] for row in again if row["step"] == step} for step in range(5)] == keys


# -- before any work --------------------------------------------------------------------------------------------------


def test_a_key_that_is_malformed_or_missing_is_refused_without_being_shown(monkeypatch):
    monkeypatch.setenv("TINKER_API_KEY", "sk-secret-1234")
    with pytest.raises(EngineError, match="starts with tml-") as refused:
        Server.find(None)
    assert "secret" not in str(refused.value)
    monkeypatch.delenv("TINKER_API_KEY")
    monkeypatch.setenv("HOME", "/nonexistent")
    with pytest.raises(EngineError, match="set TINKER_API_KEY"):
        Server.find(None)
    assert Server.find("http://127.0.0.1:1").api_key.startswith("tml-")  # this machine's own needs none
    with pytest.raises(EngineError, match=r"base_url='127\.0\.0\.1:1'"):
        Server.find("127.0.0.1:1")


def test_a_model_that_is_not_served_is_refused_with_those_that_are(server, common):
    config = SftConfig(**common | {"model_name": "geospot/tiny", "engine": "tinker", "base_url": server.url})
    with pytest.raises(EngineError, match=f"model_name='geospot/tiny'.*{server.model_name}"):
        settle_engine(config)


def test_the_vision_models_of_a_service_are_named_and_what_the_others_need(monkeypatch):
    class Lists(Server):
        def models(self):
            names = ("Qwen/Qwen3-8B", "Qwen/Qwen3.5-4B", "moonshotai/Kimi-K2.6", "Qwen/Qwen3-VL-30B-A3B-Instruct")
            return [types.SupportedModel(model_name=name) for name in names]

    listed = "Qwen/Qwen3-VL-30B-A3B-Instruct, Qwen/Qwen3.5-4B"
    with pytest.raises(EngineError, match=f"its vision models: {listed}; moonshotai/Kimi-K2.6 needs torchvision"):
        check_model(Lists("https://x"), "Qwen/Qwen2.5-VL-3B-Instruct")
    with pytest.raises(EngineError, match=r"Kimi-K2\.6': it needs torchvision, which is not installed"):
        check_model(Lists("https://x"), "moonshotai/Kimi-K2.6")
    monkeypatch.setattr("geospot.engine.tinker.checks.find_spec", lambda name: name)
    with pytest.raises(EngineError, match=f"its vision models: {listed}, moonshotai/Kimi-K2.6$"):
        check_model(Lists("https://x"), "Qwen/Qwen2.5-VL-3B-Instruct")
    check_model(Lists("https://x"), "moonshotai/Kimi-K2.6")


def test_no_server_is_said_at_once_with_what_to_start(common, monkeypatch):
    monkeypatch.setattr("geospot.engine.tinker.checks.START_S", 600.0)
    config = SftConfig(**common | {"engine": "tinker", "base_url": "http://127.0.0.1:9", "server_timeout_s": 1.0})
    started = time.monotonic()
    with pytest.raises(EngineError, match=r"no server answers at http://127\.0\.0\.1:9 .*geospot serve"):
        open_engine(config)
    assert time.monotonic() - started < 300


def test_all_weights_are_not_trained_by_the_hosted_service(monkeypatch):
    from geospot.engine.tinker.checks import check_lora_rank

    with pytest.raises(EngineError, match="lora_rank=0: the service trains adapters only"):
        check_lora_rank(Server("https://x", "tml-x", hosted=True), 0)
    check_lora_rank(Server("http://127.0.0.1:1", "tml-x"), 0)


def test_parts_that_the_service_cannot_train_are_refused_before_any_work(server, common):
    from tinker import types

    from geospot.engine.tinker.checks import check_parts, check_parts_of

    lora = common | {"lora_rank": 4, "base_url": server.url}
    assert settle_engine(SftConfig(**lora, lora_targets=("attention", "head"))).engine == "tinker"
    for beyond, named in (({"lora_targets": ("mlp", "projector")}, "projector"), ({"train_vision": True}, "vision")):
        with pytest.raises(EngineError, match=f"lora_targets={named}: engine=tinker puts adapters on attention, mlp"):
            settle_engine(SftConfig(**lora, **beyond))
    with pytest.raises(EngineError, match="with lora_rank=0 engine=tinker trains all weights or none"):
        settle_engine(SftConfig(**common, base_url=server.url, train_vision=False))
    check_parts(None, 0)
    theirs = types.WeightsInfoResponse(
        base_model="m", is_lora=True, lora_rank=4, train_attn=True, train_mlp=True, train_unembed=False
    )
    check_parts_of(theirs, ("attention", "mlp"), "tinker://a")
    with pytest.raises(EngineError, match=r"has adapters on attention,mlp, .*set lora_targets=attention,mlp"):
        check_parts_of(theirs, ("attention",), "tinker://a")


def test_auto_takes_the_server_that_is_named_and_else_this_process(server, common, monkeypatch):
    assert settle_engine(SftConfig(**common)).engine == "local"
    assert settle_engine(SftConfig(**common, base_url=server.url)).engine == "tinker"
    monkeypatch.setenv("TINKER_API_KEY", "tml-test")
    monkeypatch.setenv("TINKER_BASE_URL", server.url)
    assert settle_engine(SftConfig(**common)).engine == "local", "a folder is this machine's"
    with pytest.raises(ValueError, match="omit one of them"):
        SftConfig(**common | {"engine": "local"}, base_url=server.url)


def test_auto_takes_the_service_where_it_has_the_model_and_there_is_a_key(tmp_path, monkeypatch, capsys):
    with Serving("owner/model", tmp_path) as service:  # it lists the name; nothing is loaded
        monkeypatch.setenv("TINKER_BASE_URL", service.url)
        assert choose(SftConfig(model_name="owner/model")) == "local", "no key"
        monkeypatch.setenv("TINKER_API_KEY", "tml-test")
        assert choose(SftConfig(model_name="owner/model")) == "tinker"
        assert choose(SftConfig(model_name="geospot/tiny")) == "local"
        assert choose(SftConfig(model_name="owner/other")) == "local"
        assert choose(EvalConfig(model_name="owner/other", checkpoint="tinker://a/weights/b")) == "tinker"
        out = capsys.readouterr().out
        assert "engine=local although TINKER_API_KEY is set" in out
        assert "owner/model" in out


def test_auto_goes_where_the_checkpoint_is(tmp_path, monkeypatch):
    def run_folder(name: str, path: str) -> str:
        with RunFolder.create(tmp_path / name, {}) as run:
            run.add_checkpoint(1, "tinker://older/weights/1" if "://" not in path else tmp_path, {})
            run.add_checkpoint(2, path, {})
        return str(tmp_path / name)

    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "state.json").write_text("{}")
    with Serving("owner/model", tmp_path / "served") as service:
        monkeypatch.setenv("TINKER_BASE_URL", service.url)
        monkeypatch.setenv("TINKER_API_KEY", "tml-test")

        def chosen(checkpoint) -> str:
            return choose(SftConfig(model_name="owner/model", checkpoint=checkpoint))

        assert chosen(run_folder("here", str(tmp_path / "state"))) == "local"
        assert chosen(run_folder("there", "tinker://a/weights/2")) == "tinker"
        assert chosen(str(tmp_path / "state")) == "local"
        monkeypatch.chdir(tmp_path / "state")
        assert chosen("") == chosen(None) == "tinker", "no checkpoint is not the folder one stands in"
    assert choose(SftConfig(model_name="owner/model", checkpoint=str(tmp_path / "there"))) == "tinker"


def test_a_checkpoint_of_the_other_engine_is_refused_with_a_word(server, over_wire, common, tmp_path):
    run_sft(SftConfig(**common | {"eval_data": "none"}, max_steps=1, log_path=str(tmp_path / "here")))
    with pytest.raises(EngineError, match="a checkpoint of the local engine: a server loads only its own"):
        run_sft(SftConfig(**over_wire, max_steps=1, checkpoint=str(tmp_path / "here"), log_path=str(tmp_path / "a")))
    path = "tinker://none/weights/000001"
    with pytest.raises(EngineError, match=f"checkpoint {path} is not known here"):
        run_sft(SftConfig(**over_wire, max_steps=1, checkpoint=path, log_path=str(tmp_path / "b")))


def test_the_key_is_neither_printed_nor_logged_nor_saved(server, over_wire, tmp_path, monkeypatch, caplog, capfd):
    key = "tml-very-secret-123456"
    monkeypatch.setenv("TINKER_API_KEY", key)
    with caplog.at_level(logging.DEBUG):
        run_sft(SftConfig(**over_wire | {"eval_data": "none"}, max_steps=1, log_path=str(tmp_path / "run")))
        with pytest.raises(EngineError):
            run_sft(SftConfig(**over_wire, checkpoint="tinker://no/weights/no", log_path=str(tmp_path / "no")))
    assert len(caplog.records) > 10
    assert "secret" not in caplog.text
    assert "secret" not in "".join(capfd.readouterr())
    for path in (tmp_path / "run").rglob("*"):
        assert not path.is_file() or b"very-secret" not in path.read_bytes(), path
    assert "secret" not in repr(Server.find(server.url))


def test_the_estimate_counts_requests_tokens_and_money(over_wire, tmp_path, capsys):
    settings = over_wire | SHORT | {"max_steps": 2}
    prices = {"price_prefill": 1e6, "price_sample": 1e6}  # a dollar a token
    run_train(TrainConfig(**settings, **prices, log_path=str(tmp_path / "run")))
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("this run"))
    assert "2 steps, 8 sample requests" in line
    prompt = int(line.split(" prompt tokens")[0].split()[-1])
    assert f"up to {2 * 4 * 4 * 16} sampled" in line
    assert line.endswith(f"${prompt + 2 * 4 * 4 * 16:,.2f}")


def test_the_service_is_told_whose_run_it_is_and_others_find_its_weights(server, warm):
    rest = tinker.RestClient(base_url=server.url, api_key="tml-test")
    sessions = [rest.get_session(i).result() for i in rest.list_sessions(limit=1000).result().sessions]
    run_id = read_document(warm)["run_id"]
    [session] = [s for s in sessions if (s.user_metadata or {}).get("run_id") == run_id]
    assert session.display_name == "run"
    about = {"command": "sft", "run_id": run_id, "geospot": __version__}
    assert session.user_metadata == about
    [model_id] = session.training_run_ids
    assert rest.get_training_run(model_id).result().user_metadata == about
    last = json.loads((Path(warm) / "checkpoints.jsonl").read_text().splitlines()[-1])
    assert last["state_path"].startswith(f"tinker://{model_id}/weights/")
    with tinker.ServiceClient(base_url=server.url, api_key="tml-test") as sdk:
        assert sdk.create_sampling_client(model_path=last["sampler_path"]).result()


PRICED = [
    {"tinker_id": "owner/model", "prefill": "$1,000.50", "cached_prefill": "$1", "sample": "$2", "train": "3"},
    {"tinker_id": "owner/half", "prefill": "$1", "sample": "free", "train": "$3"},
    "no object",
]


@pytest.mark.parametrize(
    ("body", "model", "found"),
    [
        (PRICED, "owner/model", rates.Prices(1000.5, 2.0, 3.0)),
        (PRICED, "owner/other", "has no owner/other"),
        (PRICED, "owner/half", "does not say all prices of owner/half"),
        ({"a": 1}, "owner/model", "cannot be read (ValueError)"),
        ("[" * 10_000, "owner/model", "cannot be read"),
        ([{"tinker_id": "x" * (1 << 21)}], "owner/model", "cannot be read (ValueError)"),
        (None, "owner/model", "cannot be read (HTTPStatusError)"),
    ],
)
def test_published_prices(body, model, found, monkeypatch):
    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write((body if isinstance(body, str) else json.dumps(body)).encode())

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as page:
        threading.Thread(target=page.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setattr(rates, "URL", f"http://127.0.0.1:{page.server_port}/models.json")
        answer = rates.published(model)
        page.shutdown()
    assert answer == found or found in answer


def test_a_run_on_the_hosted_service_is_estimated_at_published_prices_unless_others_are_given(monkeypatch):
    monkeypatch.setattr(rates, "published", lambda name: rates.Prices(1.0, 2.0, 3.0))
    work = Work(steps=2, prefilled=1_000_000, sampled=1_000_000, trained=1_000_000)

    def said(**keys) -> str:
        return cost_text(work, SftConfig(model_name="owner/model", **{"engine": "tinker"} | keys))

    monkeypatch.setenv("TINKER_BASE_URL", "https://tinker.thinkingmachines.dev/services/tinker-prod")
    assert said() == "; at published prices at most $12.00"
    assert said(price_train=10.0) == "; at the prices given at most $20.00"
    assert said(base_url="http://127.0.0.1:1") == ""
    assert said(engine="local") == ""
    monkeypatch.setattr(rates, "published", lambda name: "nothing there")
    assert said() == "; no price is known: nothing there; set price_prefill, price_sample, price_train"


def test_the_sdk_is_the_one_that_was_read():
    """What is used of its insides: the hook for compression, the retry settings."""
    assert tinker.__version__.startswith("0.38.")
