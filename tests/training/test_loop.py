"""The two loops end to end on a small model: what they leave behind, how they resume, what they refuse."""

import concurrent.futures
import json
import os
import resource
import shutil
import signal
import threading
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache, partialmethod
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import chz
import forks
import numpy as np
import pytest
from made import jpeg, until
from small_runs import metrics, rollouts
from tinker import types

from geospot import __main__ as geospot
from geospot.asking.requests import Asked
from geospot.config import LOSSES, SftConfig, TrainConfig, default_log_path
from geospot.data.samples import Sample
from geospot.earth.place import Place
from geospot.engine.local.activity import Activity
from geospot.engine.local.state import read_spec
from geospot.engine.local.training import LocalTrainingClient
from geospot.engine.losses import LOSS_CONFIG, check_datum, check_loss
from geospot.errors import DataError, EngineError, RunError
from geospot.runs import control
from geospot.runs.checkpoints import read_checkpoints
from geospot.runs.control import Stopped
from geospot.runs.folder import RunFolder, read_config, read_metrics
from geospot.runs.rollouts import query_rollouts
from geospot.sft import run as run_sft
from geospot.train import run as run_train
from geospot.train import start_checkpoint
from geospot.training.datums import policy_datum
from geospot.training.loop import Loop

Loops = Callable[[Any], Any]  # run_sft or run_train


def test_sft_learns_to_answer(sft_run):
    folder, found = sft_run
    rows = read_metrics(folder)
    assert rows[0]["eval/failure_rate"] == 1.0
    assert rows[-1]["eval/failure_rate"] == 0.0
    assert rows[-1]["eval/median_km"] < 50
    assert rows[-2]["loss"] < rows[0]["loss"] / 10
    assert found["summary"]["median_km"] == rows[-1]["eval/median_km"]
    assert {"City: Lyon", "Country: France"} <= set(found["text"].splitlines())


def test_grpo_logs_the_reward_and_what_it_is_made_of(half_trained, common, tmp_path):
    config = TrainConfig(
        **common | {"learning_rate": 1e-3}, checkpoint=half_trained, max_steps=4, group_size=4, num_substeps=2,
        log_path=str(tmp_path / "train"),
    )  # fmt: skip
    run_train(config)
    rows = read_metrics(tmp_path / "train")
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[0]["tau_km"] == pytest.approx(2000)
    assert rows[3]["tau_km"] == pytest.approx(25)
    assert rows[0]["coord_weight"] < rows[3]["coord_weight"] == pytest.approx(0.7)
    assert abs(rows[0]["mismatch_kl"]) < 1e-6  # sampler and trainer agree before the first update
    wanted = {"reward", "reward_coordinate", "reward_country", "reward_region", "reward_city", "reward_format"}
    wanted |= {"train/median_km", "train/geoguessr_score", "entropy", "kl", "clip_fraction", "grad_norm", "time/sample"}
    assert wanted <= set(rows[0])
    answers = query_rollouts(tmp_path / "train", "SELECT * FROM rollouts WHERE split = 'train' AND step = 0")
    assert len(answers) == 4 * 4
    assert np.mean([a["reward"] for a in answers]) == pytest.approx(rows[0]["reward"])
    one = [a["advantage"] for a in answers if a["group_index"] == 0]
    assert sum(one) == pytest.approx(0, abs=1e-9)


class Sampler:
    """Answers each request at once, with `given` sequences; `log` has what was asked and read, in order."""

    def __init__(self, given: int):
        self.given, self.log = given, []

    def sample(self, prompt, num_samples, sampling_params):
        self.log.append("sample")
        return self

    def future(self):
        self.log.append("result")
        sequence = types.SampledSequence("stop", "0", _tokens_list=[300], _logprobs_list=[-1.0])
        inner = concurrent.futures.Future()
        inner.set_result(types.SampleResponse(sequences=[sequence] * self.given))
        return inner


def test_every_request_is_in_flight_before_the_first_result_is_read(renderer, pictures):
    sampler, samples = Sampler(given=3), [Sample(str(i), (pictures[i],), Place(0.0, 1.0)) for i in range(4)]
    Asked(sampler, renderer, samples, "Where?", num_samples=3, seeds=range(4), max_tokens=4).collect()
    assert sampler.log == ["sample"] * 4 + ["result"] * 4


def test_a_group_that_is_not_whole_is_asked_for_again_and_never_shifts_the_others(renderer, pictures):
    """Answers are told apart by their number: one too few would be scored against the next picture's place."""
    sampler, samples = Sampler(given=2), [Sample("a", (pictures[0],), Place(0.0, 1.0))]
    with pytest.raises(EngineError, match="2 answers where num_samples=3 were asked for"):
        Asked(sampler, renderer, samples, "Where?", num_samples=3, seeds=[0], max_tokens=4).collect()
    assert sampler.log == ["sample", "result"] * 2


def test_the_same_seed_gives_the_same_run(common, half_trained, tmp_path):
    for name in ("a", "b"):
        run_train(TrainConfig(
            **common, checkpoint=half_trained, max_steps=2, group_size=4, log_path=str(tmp_path / name)
        ))  # fmt: skip
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")
    assert rollouts(tmp_path / "a") == rollouts(tmp_path / "b")


def test_kl_to_the_start_holds_the_weights_back(common, half_trained, tmp_path):
    drift = {}
    for coef in (0.0, 0.5):
        run_train(TrainConfig(
            **common | {"eval_data": "none"}, checkpoint=half_trained, max_steps=4, group_size=4,
            log_path=str(tmp_path / str(coef)), kl_coef=coef or 1e-9,
        ))  # fmt: skip
        drift[coef] = read_metrics(tmp_path / str(coef))[3]["kl_reference"]
    assert drift[0.5] < drift[0.0]


@contextmanager
def stopped_in(step: int):
    """Ctrl-C while this step's metrics are written."""
    log = RunFolder.log

    def stop(run, number, values):
        if number == step and not values.keys().isdisjoint({"loss", "reward"}):
            signal.raise_signal(signal.SIGINT)
        return log(run, number, values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "log", stop)
        yield


def test_a_run_that_is_stopped_and_resumed_equals_an_unbroken_one(common, half_trained, tmp_path, capsys):
    settings = {**common, "max_steps": 5, "checkpoint": half_trained}
    settings |= {"group_size": 4, "num_substeps": 2, "kl_coef": 0.01}
    run_train(TrainConfig(**settings, log_path=str(tmp_path / "whole")))
    broken = TrainConfig(**settings, log_path=str(tmp_path / "broken"))
    with stopped_in(step=2), pytest.raises(Stopped) as stopped:
        run_train(broken)
    assert stopped.value.number == signal.SIGINT
    assert "the same command goes on" in capsys.readouterr().out
    assert read_checkpoints(tmp_path / "broken")[-1].step == len(read_metrics(tmp_path / "broken")) == 3
    run_train(broken)
    assert_equal_runs(tmp_path / "broken", tmp_path / "whole")


@pytest.fixture(scope="module")
def unbroken(run_settings, half_trained, tmp_path_factory) -> Callable[[Loops], Path]:
    """The folder of a run of four steps in one go, by its loop."""

    @cache
    def folder_of(run: Loops) -> Path:
        folder = tmp_path_factory.mktemp("unbroken") / "run"
        run(four_steps(run, run_settings, half_trained, str(folder)))
        return folder

    return folder_of


def four_steps(run: Loops, settings: dict[str, Any], start: str, log_path: str, save_every: int = 10) -> Any:
    settings = settings | {"max_steps": 4, "checkpoint": start, "save_every": save_every, "log_path": log_path}
    return TrainConfig(**settings, group_size=4) if run is run_train else SftConfig(**settings)


def assert_equal_runs(one: Path, other: Path) -> None:
    assert metrics(one) == metrics(other)
    assert rollouts(one) == rollouts(other)
    assert read_checkpoints(one)[-1].final


@pytest.mark.parametrize(
    ("run", "part", "step"),
    [
        (run_train, "sampling", 2),
        (run_sft, "way back", 2),
        (run_sft, "evaluation", 3),
        (run_train, "evaluation", 0),
    ],
)
def test_a_stop_in_the_middle_of_long_work_gives_it_up_and_saves_what_was_done(
    common, half_trained, unbroken, monkeypatch, capfd, run, part, step
):
    """The step before is saved and the same command goes on to the same run, to the bit."""
    monkeypatch.setattr(control, "GRACE_S", 0.0)
    whole, config = unbroken(run), four_steps(run, common, half_trained, "broken")
    capfd.readouterr()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):  # noqa: PT012
        stopped_at(part, step, patch)
        run(config)
    out, err = capfd.readouterr()
    assert "Stopping after" in err
    assert out.count("memory, GiB:") == 1
    assert f"stopped within step {step}, which was given up" in out
    assert [c.step for c in read_checkpoints("broken")] == ([step] if step else [])
    run(config)
    assert metrics(Path("broken")) == metrics(whole)


def stopped_at(part: str, step: int, patch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the engine is at this part of the step, which it does not leave before it is asked to."""
    reached, begun, evaluate = Activity.reached, Loop.__post_init__, Loop.evaluate
    loops, evaluating = [], []

    def long_work(activity, what, *place):
        here = "evaluation" if evaluating else what
        if loops and loops[0]._done[0] == step and part in here and not activity.interrupted:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            until(lambda: activity.interrupted)
        return reached(activity, what, *place)

    def opened(loop):
        loops.append(loop)
        begun(loop)

    def evaluated(loop, *args):
        evaluating.append(True)
        found = evaluate(loop, *args)
        evaluating.clear()
        return found

    patch.setattr(Activity, "reached", long_work)
    patch.setattr(Loop, "__post_init__", opened)
    patch.setattr(Loop, "evaluate", evaluated)


def be_killed_behind_step_2(config: SftConfig) -> None:
    log_step = RunFolder.log

    def log(folder: RunFolder, step: int, values: dict[str, Any]) -> None:
        log_step(folder, step, values)
        if step == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    RunFolder.log = log  # in the fork alone
    run_sft(config)


def test_a_run_that_is_killed_and_resumed_equals_an_unbroken_one(common, half_trained, unbroken, tmp_path):
    whole = unbroken(run_sft)
    broken = four_steps(run_sft, common, half_trained, "broken", save_every=1)
    assert forks.run(lambda: be_killed_behind_step_2(broken)) == -signal.SIGKILL
    assert len(read_metrics("broken")) == 3
    assert read_checkpoints("broken")[-1].step == 2, "more than the step in progress was lost"
    run_sft(broken)
    assert_equal_runs(tmp_path / "broken", whole)


def test_a_run_killed_in_its_last_evaluation_is_finished_by_the_same_command(common, tmp_path):
    """The last step was done and saved; the evaluation after it and the final checkpoint were not."""
    folder = tmp_path / "run"
    config = SftConfig(**common, max_steps=2, log_path=str(folder))
    run_sft(config)
    whole = metrics(folder), rollouts(folder)
    lines = (folder / "checkpoints.jsonl").read_text().splitlines(keepends=True)
    assert json.loads(lines[-1])["final"]
    (folder / "checkpoints.jsonl").write_text("".join(lines[:-1]))
    assert run_sft(config)
    assert (metrics(folder), rollouts(folder)) == whole
    assert read_checkpoints(folder)[-1].final


def test_a_run_killed_behind_its_final_checkpoint_is_pruned_by_the_same_command(common, tmp_path):
    """Older checkpoints than those to keep would stay for ever: nothing saves again."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    settings = common | {"eval_data": "none", "keep_checkpoints": 1}
    run_sft(SftConfig(**settings, max_steps=2, log_path=str(whole)))
    run_sft(SftConfig(**settings | {"keep_checkpoints": 9}, max_steps=2, log_path=str(killed)))
    assert run_sft(SftConfig(**settings, max_steps=2, log_path=str(killed))) == []
    for name in ("checkpoints", "positions"):
        assert sorted(p.name for p in (killed / name).iterdir()) == sorted(p.name for p in (whole / name).iterdir())


def test_a_run_whose_checkpoints_are_gone_is_refused_and_not_wiped(common, tmp_path):
    folder = tmp_path / "run"
    config = SftConfig(**common | {"eval_data": "none"}, max_steps=1, log_path=str(folder))
    run_sft(config)
    before = (folder / "metrics.jsonl").read_bytes()
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(RunError, match="checkpoints of this run are gone"):
        run_sft(config)
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_a_reference_left_by_a_start_that_was_killed_is_written_anew(common, half_trained, tmp_path):
    (tmp_path / "run" / "checkpoints" / "reference").mkdir(parents=True)
    run_train(TrainConfig(
        **common, checkpoint=half_trained, max_steps=1, group_size=2, kl_coef=0.1, log_path=str(tmp_path / "run")
    ))  # fmt: skip
    assert abs(read_metrics(tmp_path / "run")[0]["kl_reference"]) < 1e-4


def test_training_on_held_out_shards_is_refused(common, shards, tmp_path):
    with pytest.raises(DataError, match=r"1 of its shards are held out.*eval\.tar"):
        run_sft(SftConfig(**common | {"data": str(shards)}, log_path=str(tmp_path / "run")))
    with pytest.raises(DataError, match=r"eval_data='nowhere\.tar'"):
        run_sft(SftConfig(**common | {"eval_data": "nowhere.tar"}, log_path=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


def test_a_mismatch_that_is_not_a_number_stops_the_run():
    from geospot.training.update import check_mismatch

    check_mismatch(0.0, TrainConfig())
    with pytest.raises(RuntimeError, match="disagree"):
        check_mismatch(float("nan"), TrainConfig())


def test_a_finished_run_is_left_alone(sft_run, tiny_folder, shards, capsys):
    folder, _ = sft_run
    before = (folder / "metrics.jsonl").read_bytes()
    settings = read_config(folder)
    settings |= {"log_path": str(folder)}  # where it was copied to
    config = SftConfig(**{k: v for k, v in settings.items() if k not in ("command", "start_from", "log_to")})
    assert run_sft(config) == []
    assert "complete" in capsys.readouterr().out
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_another_configuration_in_the_same_folder_is_refused_by_key(common, tmp_path, sft_run):
    with pytest.raises(RunError, match="learning_rate"):
        run_sft(SftConfig(**common | {"learning_rate": 1e-5}, log_path=str(sft_run[0]), max_steps=90))


def test_unusable_samples_are_counted_in_the_metrics(common, tmp_path):
    import tarfile

    from data.test_stream import add

    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for i in range(6):
            add(tar, f"{i}.jpg", jpeg(i) if i % 3 else b"broken")
            add(tar, f"{i}.json", b'{"lat": 10, "lon": 20, "country": "Chad"}')
    run_sft(SftConfig(**common | {"data": str(tmp_path / "x.tar"), "eval_data": "none"}, max_steps=2, log_path="bad"))
    assert read_metrics("bad")[-2]["samples_skipped"] >= 2


@contextmanager
def full_disk():
    """No file can grow beyond 1 MB, so that no checkpoint fits. Python ignores the signal that comes with it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_while_saving_ends_clearly_and_keeps_what_was_saved(common, tmp_path):
    """Without the limit the run goes on unharmed."""
    settings = {**common, "max_steps": 4, "eval_data": "none"}
    run_sft(SftConfig(**settings, log_path=str(tmp_path / "whole")))
    config = SftConfig(**settings, log_path=str(tmp_path / "run"))
    with stopped_in(step=1), pytest.raises(Stopped):
        run_sft(config)
    saved = read_checkpoints(tmp_path / "run")[-1]
    assert saved.step == 2
    with full_disk(), pytest.raises(OSError, match=r"(?s)cannot write.*make room"):
        run_sft(config)
    assert read_checkpoints(tmp_path / "run")[-1] == saved
    assert saved.exists
    run_sft(config)
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")


def test_the_rate_rises_and_falls():
    from geospot.training.optim import learning_rate_at

    config = SftConfig(max_steps=10, warmup_steps=4, lr_schedule="linear")
    rates = [learning_rate_at(config, 1.0, step) for step in range(10)]
    np.testing.assert_allclose(rates[:4], [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(rates[4:], np.linspace(1, 1 / 6, 6))
    constant = chz.replace(config, lr_schedule="constant")
    assert learning_rate_at(constant, 1.0, 9) == 1.0


def test_the_default_rate_is_a_tenth_where_the_weights_themselves_learn_and_stays_with_the_run():
    from geospot.training.optim import peak_learning_rate

    def rate(state, begun=False, **keys):
        config = SftConfig(**{"model_name": "some/model", **keys})
        return peak_learning_rate(config, state, begun=begun, tiny=1e-3, adapter=2e-4)

    adapter, full, old = {}, {}, {}
    assert rate(adapter) == pytest.approx(2e-4)
    assert rate(full, lora_rank=0) == pytest.approx(2e-5)
    assert rate(full, begun=True, lora_rank=0) == pytest.approx(2e-5)
    assert rate(old, begun=True, lora_rank=0) == pytest.approx(2e-4)  # of before: it goes on as it began
    assert rate({}, model_name="geospot/tiny") == pytest.approx(1e-3)
    assert rate({}, lora_rank=0, learning_rate=7e-4) == pytest.approx(7e-4)


def test_what_learns_is_chosen_for_a_run_and_kept_by_what_comes_after(common, capsys):
    """A run with a frozen tower, resumed; a projector trained behind it, the rest held."""
    settings = common | {"eval_data": "none", "batch_size": 2}
    first = settings | {"train_vision": False, "log_path": "first"}
    run_sft(SftConfig(**first, max_steps=1))
    with pytest.raises(RunError, match="train_vision: false there, none asked for"):
        run_sft(SftConfig(**settings, log_path="first", max_steps=2))
    run_sft(SftConfig(**first, max_steps=2))
    run_sft(SftConfig(**settings, checkpoint="first", lora_targets=("projector",), log_path="second", max_steps=1))
    specs = [read_spec(read_checkpoints(folder)[-1].path)[0] for folder in ("first", "second")]
    everything = ("attention", "mlp", "projector", "head", "rest")
    assert [spec.parts for spec in specs] == [everything] * 2
    assert specs[1].held == ("attention", "mlp", "head", "rest")
    assert "train_vision=false" in capsys.readouterr().out.partition("geospot train")[2].splitlines()[0]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"lora_targets": ("visoin",)}, "lora_targets=visoin: must be .*Did you mean vision"),
        ({"lora_targets": ()}, "nothing would learn"),
        ({"lora_targets": ("vision",), "train_vision": False}, "contradict each other"),
    ],
)
def test_parts_that_make_no_sense_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        SftConfig(**keys)


def test_an_unclipped_ratio_is_not_the_default_where_answers_are_reused():
    assert TrainConfig().loss_fn == "importance_sampling"
    assert TrainConfig(num_substeps=2).loss_fn == "ppo"
    assert TrainConfig(num_epochs=2).loss_fn_config == {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2}
    assert TrainConfig(loss="cispo", clip_high=3.0).loss_fn_config["clip_high_threshold"] == 3.0


@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_has_what_each_loss_on_offer_reads(loss):
    datum = policy_datum(types.ModelInput.from_ints([1, 2]), [3, 4], np.zeros(2), np.ones(2))
    assert check_datum(datum, loss, 3)["advantages"].tolist() == [0, 1, 1]
    check_loss(loss, TrainConfig(loss=loss).loss_fn_config)


@pytest.mark.parametrize("loss", ["dro", "gspo", "cross_entropy"])
def test_a_loss_that_a_step_cannot_feed_is_refused_before_the_run(loss):
    with pytest.raises(ValueError, match=f"loss={loss}: must be one of auto, importance_sampling, ppo, cispo"):
        TrainConfig(loss=loss)


def test_the_settings_of_a_loss_go_with_it(monkeypatch):
    monkeypatch.setitem(LOSS_CONFIG, "ppo", {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2, "dual_clip": 3.0})
    assert TrainConfig(loss="ppo", clip_high=1.3).loss_fn_config["clip_high_threshold"] == 1.3
    assert TrainConfig(loss="ppo").loss_fn_config["dual_clip"] == 3.0
    monkeypatch.setitem(LOSS_CONFIG, "ppo", {"dual_clip": 3.0})
    assert TrainConfig(loss="ppo").loss_fn_config == {"dual_clip": 3.0}
    with pytest.raises(ValueError, match="ppo does not clip"):
        TrainConfig(loss="ppo", clip_high=1.3)


def test_every_schedule_of_the_rate_falls_from_its_peak():
    from geospot.training.optim import learning_rate_at

    for schedule in get_args(get_type_hints(SftConfig)["lr_schedule"]):
        config = SftConfig(max_steps=10, warmup_steps=0, lr_schedule=schedule)
        rates = [learning_rate_at(config, 1.0, step) for step in range(10)]
        assert rates[0] == 1.0
        assert (np.diff(rates) <= 0).all()


def test_a_checkpoint_of_another_rank_or_model_is_refused_by_key(common, half_trained):
    with pytest.raises(DataError, match=r"lora_rank=8: .* has 0; set lora_rank=0"):
        run_sft(SftConfig(**common | {"lora_rank": 8}, checkpoint=half_trained, max_steps=1, log_path="a"))
    with pytest.raises(DataError, match="model_name='geospot/tiny'"):
        run_sft(
            SftConfig(**common | {"model_name": "geospot/tiny"}, checkpoint=half_trained, max_steps=1, log_path="b")
        )


def test_a_run_that_failed_before_its_first_step_may_change(common, half_trained):
    with pytest.raises(DataError):
        run_sft(SftConfig(**common | {"lora_rank": 8}, checkpoint=half_trained, max_steps=1, log_path="a"))
    run_sft(SftConfig(**common, checkpoint=half_trained, max_steps=1, log_path="a"))
    assert read_checkpoints("a")[-1].final


def test_the_tiny_model_gets_a_warm_start_where_it_has_none(shards, tmp_path, monkeypatch, capsys):
    """`python -m geospot.train` alone: without a warm start no answer could be read and nothing would be learned."""
    from geospot import train

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "WARM_START", train.WARM_START | {"max_steps": 1})
    run_train(TrainConfig(
        data=str(shards / "train.tar"), eval_data="none", batch_size=2, group_size=2, max_steps=1, max_tokens=4,
        threads=1,
    ))  # fmt: skip
    assert "gets a short one first" in capsys.readouterr().out
    assert read_checkpoints("runs/sft-tiny")[-1].final
    assert read_checkpoints("runs/train-tiny")[-1].loop_state["loop"]["start_from"].endswith("000001")


@pytest.mark.parametrize("at", [0, 1])
def test_a_warm_start_that_was_stopped_is_finished_first(shards, tmp_path, monkeypatch, at):
    """The same command goes on: what GRPO starts from does not depend on when somebody pressed Ctrl-C."""
    from geospot import train

    log = RunFolder.log

    def stop(self, step, values):
        if step == at and "loss" in values:
            signal.raise_signal(signal.SIGINT)
            if at == 0:
                signal.raise_signal(signal.SIGINT)  # before the first checkpoint
        return log(self, step, values)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "WARM_START", train.WARM_START | {"max_steps": 3, "batch_size": 2})
    config = TrainConfig(
        data=str(shards / "train.tar"), eval_data="none", batch_size=2, group_size=2, max_steps=1, max_tokens=4,
        threads=1, device="cpu",
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "log", stop)
        with pytest.raises(KeyboardInterrupt):
            run_train(config)
    assert [c.step for c in read_checkpoints("runs/sft-tiny")] == [1, 2][: 2 * at]
    run_train(config)
    assert read_checkpoints("runs/sft-tiny")[-1].final
    assert read_checkpoints("runs/train-tiny")[-1].loop_state["loop"]["start_from"].endswith("000003")


def test_an_unfinished_sft_run_of_ones_own_is_started_from_as_it_is(common, capsys):
    sft = default_log_path("sft", common["model_name"])
    run_sft(SftConfig(**common | {"eval_data": "none"}, max_steps=2, log_path=sft))
    lines = Path(sft, "checkpoints.jsonl").read_text().splitlines(keepends=True)
    Path(sft, "checkpoints.jsonl").write_text("".join(lines[:-1]))  # without the final one
    assert start_checkpoint(TrainConfig(**common)).endswith("000002")
    assert f"{sft}, which is not finished" in capsys.readouterr().out


def test_training_from_a_hub_that_drops_connections_equals_training_from_the_disk(common, shards, monkeypatch):
    from servers.hub import Fault, serve, use_hub

    settings = {**common, "max_steps": 3, "eval_data": "none", "data_workers": 1}
    run_sft(SftConfig(**settings, log_path="disk"))
    faults = [Fault("drop", "train.tar", at=9_000), Fault("503", "train.tar", retry_after="0")]
    with serve({"train.tar": (shards / "train.tar").read_bytes()}, faults=faults) as server:
        use_hub(monkeypatch, server)
        hub = settings | {"data": f"hf://datasets/{server.repo}/train.tar", "log_path": "hub"}
        run_sft(SftConfig(**hub | {"max_steps": 3}))
        assert len(server.delivered) == 2
        commit = server.commit
    assert metrics("hub") == metrics("disk")
    position = json.loads(Path("hub", read_checkpoints("hub")[-1].loop_state["data"]).read_text())
    assert position["revisions"]["train"] == commit


@contextmanager
def data_that_ends(after: int, error: Exception):
    """A stream of which so many batches can be read."""
    from geospot.data.stream import SampleStream

    taken, original = [], SampleStream.take

    def take(stream, n):
        taken.append(n)
        if len(taken) > after:
            raise error
        return original(stream, n)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SampleStream, "take", take)
        yield


READER_ERRORS = [
    DataError("8 shards in a row could not be read"),
    OSError(5, "Input/output error"),
    ValueError("a bug"),
]


SIX_STEPS = {"max_steps": 6, "eval_data": "none", "save_every": 10}
FIVE_AHEAD = {"max_steps": 5, "eval_data": "none", "save_every": 10, "group_size": 4, "overlap": True}


@pytest.fixture(scope="module")
def six_steps(run_settings, tmp_path_factory) -> Path:
    """The folder of an SFT run whose data do not end."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run_sft(SftConfig(**run_settings | SIX_STEPS, log_path=str(folder)))
    return folder


@pytest.mark.parametrize("error", READER_ERRORS, ids=lambda error: type(error).__name__)
def test_steps_are_not_lost_when_the_data_ends(common, six_steps, error):
    """With save_every above 1: what was trained since the last checkpoint is saved before the error."""
    config = SftConfig(**common | SIX_STEPS, log_path="run")
    with data_that_ends(3, error), pytest.raises(type(error), match=str(error.args[-1])):
        run_sft(config)
    assert read_checkpoints("run")[-1].step == 3
    run_sft(config)
    assert metrics("run") == metrics(six_steps)


def test_buffer_and_open_shards_may_change_when_a_run_is_resumed(common):
    """As docs/data.md says; the schedules' max_steps may not."""
    settings = {**common, "max_steps": 4, "eval_data": "none", "save_every": 10, "log_path": "run"}
    with data_that_ends(2, DataError("no more")), pytest.raises(DataError):
        run_sft(SftConfig(**settings))
    with pytest.raises(RunError, match="max_steps: 4 there, 3 asked for"):
        run_sft(SftConfig(**settings | {"max_steps": 3}))  # longer it may become, see below
    run_sft(SftConfig(**settings | {"shuffle_buffer": 20, "open_shards": 2}))
    assert [row["step"] for row in read_metrics("run")] == [0, 1, 2, 3, 4]
    assert read_checkpoints("run")[-1].final


def test_a_loop_that_an_error_ends_waits_for_nothing_that_is_queued(common, monkeypatch):
    ran = []

    def interrupted(loop, steps_done, **how):
        loop.service.scheduler.submit(lambda: until(lambda: loop.service.scheduler._dropping))
        loop.service.scheduler.submit(lambda: ran.append("a minibatch"))
        raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_sft(SftConfig(**common | {"eval_data": "none"}, max_steps=3, log_path="run"))
    assert ran == []


def test_steps_are_not_lost_when_the_last_evaluation_fails(common, monkeypatch):
    def fail(loop, step, sampler):
        raise EngineError("out of memory")

    monkeypatch.setattr(Loop, "is_eval_step", lambda loop, step: False)
    monkeypatch.setattr(Loop, "evaluate", fail)
    with pytest.raises(EngineError):
        run_sft(SftConfig(**common | {"save_every": 10}, max_steps=3, log_path="run"))
    assert read_checkpoints("run")[-1].step == 3


# -- one step ahead ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ahead_settings(run_settings, half_trained) -> dict[str, Any]:
    settings = {**run_settings, "max_steps": 4, "checkpoint": half_trained, "group_size": 4, "eval_every": 4}
    return settings | {"learning_rate": 1e-4, "overlap": True}


@pytest.fixture(scope="module")
def ahead_run(ahead_settings, tmp_path_factory) -> Path:
    """The folder of a run of four overlapped steps in one go."""
    folder = tmp_path_factory.mktemp("ahead") / "run"
    run_train(TrainConfig(**ahead_settings, log_path=str(folder)))
    return folder


def test_overlapped_steps_are_one_update_old_and_corrected(ahead_settings, ahead_run, tmp_path):
    for name, overlap in (("plain", False), ("again", True)):
        run_train(TrainConfig(**ahead_settings | {"overlap": overlap}, log_path=str(tmp_path / name)))
    plain, ahead = metrics(tmp_path / "plain"), metrics(ahead_run)
    assert ahead == metrics(tmp_path / "again")  # the same run whichever thread is first
    # Step 0 has no older weights; behind it sampler and trainer are an update apart.
    assert np.isclose(plain[0]["reward"], ahead[0]["reward"])
    assert max(row["log_ratio_max"] for row in plain if "log_ratio_max" in row) < 1e-4
    assert max(row["log_ratio_max"] for row in ahead[1:] if "log_ratio_max" in row) > 1e-3
    assert keys(tmp_path / "plain") == keys(ahead_run)


def test_a_stopped_overlapped_run_misses_no_batch(ahead_settings, ahead_run, tmp_path, monkeypatch):
    stopped = str(tmp_path / "stopped")

    class Stop(Exception):
        pass

    def break_off(self, step, values, log=None):
        if step == 2:
            raise Stop
        return log(self, step, values)

    log = RunFolder.log
    monkeypatch.setattr(RunFolder, "log", partialmethod(break_off, log=log))
    with pytest.raises(Stop):
        run_train(TrainConfig(**ahead_settings, log_path=stopped))
    monkeypatch.undo()
    run_train(TrainConfig(**ahead_settings, log_path=stopped))
    assert keys(ahead_run) == keys(tmp_path / "stopped")


def keys(folder) -> list[tuple]:
    return [(row["step"], row["sample_key"]) for row in rollouts(folder)]


@pytest.fixture(scope="module")
def five_ahead(run_settings, half_trained, tmp_path_factory) -> Path:
    """The folder of an overlapped run whose data do not end."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run_train(TrainConfig(**run_settings | FIVE_AHEAD, checkpoint=half_trained, log_path=str(folder)))
    return folder


@pytest.mark.parametrize("error", READER_ERRORS[:2], ids=lambda error: type(error).__name__)
def test_an_overlapped_run_loses_no_step_when_the_data_ends(common, half_trained, five_ahead, error):
    config = TrainConfig(**common | FIVE_AHEAD, checkpoint=half_trained, log_path="run")
    with data_that_ends(3, error), pytest.raises(type(error), match=str(error.args[-1])):
        run_train(config)
    assert read_checkpoints("run")[-1].step == 3
    run_train(config)
    assert keys("run") == keys(five_ahead)


def test_an_overlapped_run_that_is_to_stop_asks_for_nothing_more(common, half_trained, monkeypatch):
    monkeypatch.setattr(control, "GRACE_S", 600.0)  # the step ends by itself
    asked, collect, init = [], Asked.collect, Asked.__init__

    def counted(self, *args, **kwargs):
        asked.append(None)
        init(self, *args, **kwargs)

    def interrupted(self, **kwargs):
        if len(asked) == 2:
            signal.raise_signal(signal.SIGINT)
        return collect(self, **kwargs)

    monkeypatch.setattr(Asked, "__init__", counted)
    monkeypatch.setattr(Asked, "collect", interrupted)
    settings = {**common, "checkpoint": half_trained, "group_size": 4, "overlap": True, "eval_data": "none"}
    with pytest.raises(Stopped):
        run_train(TrainConfig(**settings | {"save_every": 10}, max_steps=5, log_path="run"))
    assert read_checkpoints("run")[-1].step == len(asked) == 2


# --- a run goes on ---


def test_a_finished_run_is_extended_by_a_larger_max_steps(common, half_trained, capsys):
    settings = {**common, "checkpoint": half_trained, "group_size": 4, "eval_every": 10, "log_path": "run"}
    run_train(TrainConfig(**settings, max_steps=3))
    first = metrics("run")
    capsys.readouterr()
    with stopped_in(step=4), pytest.raises(Stopped):
        run_train(TrainConfig(**settings, max_steps=6))
    out = capsys.readouterr().out
    assert "3 steps are done; extended to 6" in out
    assert "follow the share of the run that is done, now 50% of it" in out
    run_train(TrainConfig(**settings, max_steps=6))  # the same command goes on
    assert "extended" not in capsys.readouterr().out
    rows = metrics("run")
    assert rows[:3] == first[:3]
    assert [row["step"] for row in rows] == list(range(7))
    assert rows[3]["eval/median_km"] == first[3]["eval/median_km"]  # what the run ended with
    assert rows[3]["tau_km"] == pytest.approx(2000 * (25 / 2000) ** (3 / 5))
    assert read_checkpoints("run")[-1].final
    assert {c.step for c in read_checkpoints("run") if c.final} == {3, 6}
    with pytest.raises(RunError, match="max_steps: 6 there, 5 asked for"):
        run_train(TrainConfig(**settings, max_steps=5))


def test_an_extended_run_may_keep_its_schedules_where_they_ended(common, half_trained, capsys):
    settings = {**common, "checkpoint": half_trained, "group_size": 4, "eval_data": "none", "log_path": "run"}
    run_train(TrainConfig(**settings, max_steps=2))
    longer = {"max_steps": 4, "schedule_steps": 2}
    with pytest.raises(ValueError, match="later steps would learn nothing; set lr_schedule=constant"):
        TrainConfig(**settings, **longer)
    run_train(TrainConfig(**settings | {"learning_rate": 1e-4}, **longer, lr_schedule="constant"))
    assert "Learning rate and reward stay as at step 2" in capsys.readouterr().out
    rows = read_metrics("run")
    assert [row["tau_km"] for row in rows[2:4]] == pytest.approx([25, 25])
    assert [row["learning_rate"] for row in rows[2:4]] == pytest.approx([1e-4, 1e-4])


def test_a_branch_begins_where_its_run_was_and_leaves_that_alone(common, half_trained, capsys):
    settings = {**common, "checkpoint": half_trained, "group_size": 4, "max_steps": 4, "keep_checkpoints": 9}
    run_train(TrainConfig(**settings, log_path="run"))
    before = metrics("run"), rollouts("run"), read_checkpoints("run")
    geospot.main(["train", "from=run/checkpoints/000002", "coord_tau=500"])
    out = capsys.readouterr().out
    assert "run-branch branches from run/checkpoints/000002 after 2 steps" in out
    assert (metrics("run"), rollouts("run"), read_checkpoints("run")) == before
    rows = metrics("run-branch")
    assert rows[:2] == before[0][:2]
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[3]["tau_km"] == pytest.approx(500)
    assert keys("run-branch") == keys("run")  # the same pictures
    assert read_config("run-branch")["group_size"] == 4
    geospot.main(["train", "from=run/checkpoints/000002", "coord_tau=500"])
    assert "4 steps are done" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        geospot.main(["sft", "from=run"])
    assert "a run of geospot train" in capsys.readouterr().err


def test_a_branch_without_a_change_is_the_run_it_comes_from(common):
    settings = {**common, "max_steps": 4, "keep_checkpoints": 9}
    run_sft(SftConfig(**settings, log_path="run"))
    run_sft(SftConfig(**settings, branch_from="run/checkpoints/000002", log_path="other"))
    assert metrics("other") == metrics("run")
    assert rollouts("other") == rollouts("run")


def test_a_demo_saves_once_a_minute_and_its_last_step_once(common, monkeypatch):
    """Whatever the machine: a checkpoint a step was 4.8 GB written to keep 133 MB."""
    clock, saved = [0.0], []
    save = LocalTrainingClient.save_state

    def counted(self, name, **how):
        saved.append((int(name), clock[0]))
        return save(self, name, **how)

    def tick(self, step, values, log=RunFolder.log):
        clock[0] += 7.0  # seconds a step
        return log(self, step, values)

    monkeypatch.setattr("geospot.training.loop.time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(LocalTrainingClient, "save_state", counted)
    monkeypatch.setattr(RunFolder, "log", tick)
    run_sft(SftConfig(**common | {"save_every": 0, "eval_data": "none", "batch_size": 2}, max_steps=20, log_path="run"))
    assert [step for step, _ in saved] == [9, 18, 20]
    last = read_checkpoints("run")[-1]
    assert last.final
    assert last.step == 20
    assert Path(last.path, "optimizer.safetensors").is_file()
