"""A run that degenerates says so, keeps its best checkpoint, and stops where it is asked to."""

import importlib
import json
import re
import shutil
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import chz
import numpy as np
import pytest
from made import jpeg
from small_runs import CITIES, metrics, rollouts

from geospot.answer import Answer
from geospot.config import SftConfig, TrainConfig
from geospot.data.samples import Sample
from geospot.data.tar import write_shard
from geospot.earth.place import Place
from geospot.errors import RunError
from geospot.reward import RewardConfig, RewardParts, combine, weighted_parts
from geospot.runs.branch import branch
from geospot.runs.checkpoints import read_checkpoints
from geospot.runs.folder import read_metrics
from geospot.sft import run as run_sft
from geospot.train import run as run_train
from geospot.train import warm_start_settings
from geospot.training.guards import Guard, begin_anew, evaluation_warnings, idle_text, step_warnings
from geospot.training.rehearsal import step_seconds
from geospot.training.rollout import blind_spots, decimal_endings, reward_shares

GOOD = {
    "eval/median_km": 400.0, "eval/constant_km": 6000.0, "eval/pictures": 300.0, "eval/distinct_answers": 250.0,
    "eval/in_form": 1.0, "eval/geoguessr_score": 3000.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, []),
        ({"eval/median_km": 10_316.0}, ["no better than one constant place (median 10,316 km"]),
        ({"eval/distinct_answers": 24.0}, ["24 different answers for 300 pictures"]),
        ({"eval/in_form": 0.4}, ["40% of the answers' lines are in the form"]),
        ({"eval/distinct_answers": 1.0, "eval/pictures": 3.0}, []),  # three pictures say nothing
        ({"eval/median_km": None}, []),
        ({"eval/median_km": 10_316.0, "eval/pictures": 3.0}, []),
    ],
)
def test_what_the_signs_mean(change, says):
    found = evaluation_warnings(GOOD | change)
    assert len(found) == len(says)
    assert all(words in sentence for words, sentence in zip(says, found, strict=True))


class Config:
    def __init__(self, early_stop: int = 0, on_collapse: str = "warn"):
        self.early_stop, self.on_collapse = early_stop, on_collapse


def test_a_warning_is_printed_when_it_begins_and_not_at_every_evaluation(capsys):
    guard = Guard(Config(), {})
    for step, distinct in ((0, 5.0), (10, 24.0), (20, 23.0), (30, 200.0), (40, 20.0)):
        guard.evaluated(step, "eval", GOOD | {"eval/distinct_answers": distinct})
    assert re.findall(r"(\d+) different answers", capsys.readouterr().out) == ["24", "20"]


def test_groups_without_signal_are_warned_of_over_ten_steps(capsys):
    guard = Guard(Config(on_collapse="stop"), {})
    for _ in range(9):
        guard.stepped({"groups_without_signal": 1.0})
    assert guard.reason_to_stop() is None
    guard.stepped({"groups_without_signal": 1.0})
    assert "100% of the groups of the last 10 steps have no signal" in capsys.readouterr().out
    assert guard.reason_to_stop() == "on_collapse=stop: see the warning above"


def test_answers_that_never_end_are_warned_of():
    rows = [{"groups_without_signal": 0.1, "answers_cut_off": share} for share in (0.0, 0.0, *[0.3] * 8)]
    assert len(step_warnings([*rows, rows[-1]])) == 1
    assert step_warnings(rows) == step_warnings(rows[:9]) == step_warnings([]) == []


def test_the_best_evaluation_and_patience_outlive_a_restart():
    guard = Guard(Config(early_stop=2), {})
    assert guard.evaluated(0, "eval", GOOD)
    assert guard.evaluated(10, "eval", GOOD | {"eval/geoguessr_score": 3100.0})
    assert not guard.evaluated(20, "eval", GOOD)
    assert guard.reason_to_stop() is None
    again = Guard(Config(early_stop=2), json.loads(json.dumps(guard.state)))
    assert not again.evaluated(30, "eval", GOOD)
    assert again.reason_to_stop() == "early_stop=2: no gain in 2 evaluations; the best was before step 10"


def test_an_evaluation_that_a_run_makes_again_when_it_goes_on_counts_once(capsys):
    """A checkpoint taken for the best evaluation, or at the end, knows it already."""
    guard = Guard(Config(early_stop=1), {})
    guard.evaluated(0, "eval", GOOD)
    assert guard.evaluated(10, "eval", GOOD | {"eval/geoguessr_score": 3100.0})
    again = Guard(Config(early_stop=1), json.loads(json.dumps(guard.state)))
    assert not again.evaluated(10, "eval", GOOD | {"eval/geoguessr_score": 3100.0})
    assert again.reason_to_stop() is None
    assert again.state["best"] == guard.state["best"]
    again.evaluated(20, "eval", GOOD)
    assert again.reason_to_stop()


def test_nothing_that_is_evaluated_is_no_evaluation_without_gain():
    guard = Guard(Config(early_stop=1), {})
    for step in range(4):
        assert not guard.evaluated(step, None, {})
    assert guard.reason_to_stop() is None


def test_a_run_that_ended_early_and_goes_on_has_its_patience_and_its_warnings_again(capsys):
    bad = GOOD | {"eval/distinct_answers": 5.0, "eval/geoguessr_score": 10.0}
    guard = Guard(Config(early_stop=1, on_collapse="stop"), {})
    guard.evaluated(0, "eval", GOOD)
    guard.evaluated(10, "eval", bad)
    assert guard.reason_to_stop()
    assert "5 different answers" in capsys.readouterr().out
    begin_anew(guard.state)
    assert guard.reason_to_stop() is None
    guard.evaluated(20, "eval", bad)
    assert "5 different answers" in capsys.readouterr().out  # what the reason to stop points to
    assert guard.reason_to_stop()


@pytest.mark.parametrize(
    ("early_stop", "every", "steps", "within"), [(2, 50, 100, 1), (1, 50, 51, 0), (1, 5, 1, 0), (3, 10, 31, 2)]
)
def test_patience_that_no_run_of_this_length_can_lose_is_said(early_stop, every, steps, within):
    assert f"evaluated only {within} time" in idle_text(early_stop, every, steps)
    assert idle_text(within, every, steps) == idle_text(0, every, steps) == ""


@pytest.mark.parametrize(
    ("kind", "keys", "says"),
    [
        (TrainConfig, {"early_stop": 2, "eval_data": "none"}, "early_stop=2: eval_data=none"),
        (SftConfig, {"early_stop": 2, "eval_data": "none"}, "early_stop=2: eval_data=none"),
        (SftConfig, {"on_collapse": "stop", "eval_data": "none"}, "on_collapse=stop: sft sees a collapse by its eval"),
        (TrainConfig, {"kl_coef": float("inf")}, "kl_coef=inf: must be finite"),
        (TrainConfig, {"entropy_coef": float("inf")}, "entropy_coef=inf: must be finite"),
    ],
)
def test_keys_that_could_have_no_effect_are_refused(kind, keys, says):
    with pytest.raises(ValueError, match=says):
        kind(**keys)


def test_a_warm_start_is_not_stopped_for_what_it_does_not_know_yet():
    config = TrainConfig(on_collapse="stop", eval_data="none")
    assert SftConfig(**warm_start_settings(config)).on_collapse == "warn"
    assert SftConfig(**warm_start_settings(TrainConfig(early_stop=1))).early_stop == 0


def test_a_dry_run_counts_the_answers_that_oversampling_asks_for():
    keys = {"batch_size": 8, "group_size": 4, "num_epochs": 2}
    assert step_seconds(TrainConfig(**keys), 1.0, 0.5) == 8 * 4 * (1.0 + 2 * 0.5)
    assert step_seconds(TrainConfig(**keys, oversample=1.5), 1.0, 0.5) == 12 * 4 * 1.0 + 8 * 4 * 2 * 0.5
    assert step_seconds(SftConfig(batch_size=8), 1.0, 0.5) == 4


def test_decimal_endings():
    assert decimal_endings([(48.38, 2.38), (-12.38, 100.38)]) == 2  # one of latitudes, one of longitudes
    assert decimal_endings([(48.38, 2.38), (48.39, 2.38)]) == 3
    assert decimal_endings([]) == 0


def test_the_parts_share_the_reward_by_hand():
    """A truth with country and city, and one without any label, whose weight the coordinates take."""
    nan = float("nan")
    config = RewardConfig(coord_weight=0.4, hierarchy_weight=0.2)
    weights, format_, form = config.at(1.0), np.ones(2), np.array([1.0, 0.5])
    labels = np.array([[1.0, nan, 0.0], [nan, nan, nan]])
    coordinate, total = combine([0.0, 0.0], labels, format_, weights, form)
    country, region, city = labels.T
    parts = parts_of(coordinate=coordinate, country=country, region=region, city=city, format=format_, form=form,
                     total=total)  # fmt: skip
    shares = reward_shares(parts, weights)  # 0.95 * (0.4 + 0.3) + 0.05 and 0.95 + 0.05 / 2
    assert total == pytest.approx([0.715, 0.975])
    by_hand = {
        "country_share": 0.285 / 1.69, "region_share": 0.0, "city_share": 0.0, "coordinate_share": 1.33 / 1.69,
        "format_share": 0.0, "form_share": 0.075 / 1.69,
    }  # fmt: skip
    assert {name: shares[name] for name in by_hand} == pytest.approx(by_hand)
    assert sum(shares.values()) == pytest.approx(1)


def test_the_parts_share_the_reward_whatever_has_a_weight():
    """A term that `combine` pays and `reward_shares` does not know leaves a sum below 1."""
    weights = [field.name for field in fields(RewardConfig) if field.name.endswith(("_weight", "_weight_start"))]
    config = RewardConfig(**dict.fromkeys(weights, 0.1))
    place = Place(45.76, 4.84, "Lyon", "Auvergne-Rhône-Alpes", "France")
    answers = [Answer(45.7, 4.9, "Lyon", None, "France"), Answer(-20.0, 4.9, None, None, "France")]
    parts = weighted_parts(answers, [place] * 2, config.at(1.0), form=[1.0, 0.5])
    assert sum(reward_shares(parts, config.at(1.0)).values()) == pytest.approx(1)


def parts_of(**known: np.ndarray) -> RewardParts:
    """Parts of which some are known; the others are 0."""
    zeros = np.zeros(len(next(iter(known.values()))))
    return RewardParts(**dict.fromkeys((field.name for field in fields(RewardParts)), zeros) | known)


def spots(points: list[tuple[float, float] | None], size: int) -> dict[str, float]:
    """What `blind_spots` says of groups of `size` answers at these points, all 100 km off; None: no coordinates."""
    answers = [Answer(lat=point[0], lon=point[1]) if point else Answer(None, None, error="empty") for point in points]
    km = np.array([100.0 if point else np.nan for point in points])
    parts = parts_of(distance_km=km)
    rollouts = SimpleNamespace(answers=answers)
    return blind_spots(parts, (len(points) // size, size), rollouts, RewardConfig().at(1.0))


def test_what_a_reward_cannot_see_by_hand():
    a, b = (1.5, 2.5), (1.25, 2.5)
    found = spots([a, a, a, b, a, b, None, None, None, None, None, None], 4)
    assert found["same_place_in_group"] == pytest.approx((2 / 3 + 0) / 2)  # the third group has no coordinates
    assert (found["distinct_answers"], found["decimal_endings"]) == (2, 3)
    assert found["dead_zone"] == 0  # exp(-70 / 25) - exp(-100 / 25) = 0.04


def test_what_is_undefined_is_not_a_number():
    found = spots([None, None, (1.0, 2.0), None], 2)
    assert np.isnan(found["same_place_in_group"])
    assert found["distinct_answers"] == 1
    nothing = spots([None, None], 2)
    assert np.isnan(nothing["dead_zone"])
    assert np.isnan(nothing["same_place_in_group"])
    assert (nothing["distinct_answers"], nothing["decimal_endings"]) == (0, 0)


def test_a_run_without_gain_ends_early_with_its_best_checkpoint_kept(common, sft_run, tmp_path, capsys):
    """A rate that wrecks the weights: every evaluation after the first is worse."""
    settings = common | {"learning_rate": 1.0, "eval_every": 1, "keep_checkpoints": 1, "warmup_steps": 0}
    run = tmp_path / "run"
    config = SftConfig(**settings, checkpoint=str(sft_run[0]), max_steps=9, early_stop=2, log_path=str(run))
    run_sft(config)
    out = capsys.readouterr().out
    assert "early_stop=2: no gain in 2 evaluations; the best was before step 0" in out
    steps = [row["step"] for row in read_metrics(run)]
    assert 2 <= steps[-1] < 9
    last = read_checkpoints(run)[-1]
    assert last.final
    assert last.step == steps[-1]
    assert "median km" in out, "the table of what came of it is missing"
    assert f"best        where the run began: {sft_run[0]}" in out
    run_sft(config)  # the same command leaves it so
    assert f"is complete: {last.step} steps are done" in capsys.readouterr().out
    run_sft(chz.replace(config, max_steps=20))
    assert read_checkpoints(run)[-1].step == last.step + 3  # two more evaluations without gain, and the step behind
    begun = branch(run, tmp_path / "branch", "sft")
    assert begun.step == last.step + 3
    [copied] = read_checkpoints(tmp_path / "branch")
    assert not {"best", "ended", "warned", "evaluated"} & copied.loop_state["loop"].keys()


def test_the_best_checkpoint_is_kept_beside_the_last(common, tmp_path, capsys):
    run = tmp_path / "run"
    settings = common | {"eval_every": 2, "keep_checkpoints": 1, "learning_rate": 4e-3, "batch_size": 12}
    run_sft(SftConfig(**settings, max_steps=16, log_path=str(run)))
    scores = {row["step"]: row["eval/geoguessr_score"] for row in read_metrics(run) if "eval/geoguessr_score" in row}
    best = max(scores, key=lambda step: (scores[step], -step))
    kept = {c.step for c in read_checkpoints(run) if c.exists and Path(c.path).is_dir()}
    assert kept == {best, 16} - ({0} if best == 0 else set())
    assert ("best        " in capsys.readouterr().out) == (best not in (0, 16))


def test_an_adaptive_pooled_run_that_goes_on_equals_one_in_one_go(common, sft_run, tmp_path):
    near = str(sft_run[0] / "checkpoints" / "000045")
    few = [Sample(f"few-{i}", (jpeg(i % 3),), Place(lat, lon, city, None, country))
           for i, (city, country, lat, lon) in enumerate(2 * CITIES)]  # fmt: skip
    write_shard(tmp_path / "few.tar", few)  # as many as a step asks about: each comes again and again
    settings = common | {
        "checkpoint": near,
        "data": str(tmp_path / "few.tar"),
        "batch_size": 4,
        "difficulty_pools": True,
        "group_size": 4,
        "tau_schedule": "adaptive",
        "eval_every": 2,
        "keep_checkpoints": 9,
        "oversample": 1.5,
        "entropy_coef": 0.01,
    }
    run_train(TrainConfig(**settings, max_steps=5, log_path=str(tmp_path / "whole")))
    taus = [row["tau_km"] for row in read_metrics(tmp_path / "whole") if "tau_km" in row]
    passed = [row["pool_passed"] for row in read_metrics(tmp_path / "whole") if "pool_passed" in row]
    assert passed[:2] == [0, 0]  # a batch is drawn by the results of two steps before
    assert passed[-1] > 0
    assert [row.get("answers_asked") for row in read_metrics(tmp_path / "whole")] == [24.0] * 5 + [None]
    assert taus[0] == 2000
    assert taus[1] < 2000
    assert (np.diff(taus) <= 0).all()
    broken = shutil.copytree(tmp_path / "whole", tmp_path / "broken")
    config = TrainConfig(**settings, max_steps=5, log_path=str(broken))
    lines = (broken / "checkpoints.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["step"] <= 3 and not json.loads(line)["final"]]
    (broken / "checkpoints.jsonl").write_text("".join(kept))
    run_train(config)
    assert metrics(broken) == metrics(tmp_path / "whole")
    assert rollouts(broken) == rollouts(tmp_path / "whole")


def test_a_run_goes_on_only_under_the_curve_that_it_began_with(common, half_trained, tmp_path, monkeypatch):
    """And a run under a curve without tau logs none."""
    monkeypatch.setattr("sys.path", [*sys.path])
    source, text = tmp_path / "edited_curve.py", "def worth(km, tau):\n    return {} / (1 + km / tau)\n"
    settings = common | {"checkpoint": half_trained, "group_size": 2, "reward_curve": "edited_curve:worth"}
    settings |= {"log_path": "run", "eval_data": "none"}
    try:
        source.write_text(text.format("1"))
        run_train(TrainConfig(**settings, max_steps=1))
        run_train(TrainConfig(**settings, max_steps=2))
        source.write_text(text.format("0.5"))
        del sys.modules["edited_curve"]
        importlib.invalidate_caches()
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        with pytest.raises(RunError, match="edited_curve:worth: returns other values than when this run began"):
            run_train(TrainConfig(**settings, max_steps=3))
    finally:
        sys.modules.pop("edited_curve", None)
    assert "tau_km" in read_metrics("run")[0]
    linear = settings | {"reward_curve": "linear", "log_path": "linear", "max_steps": 1}
    run_train(TrainConfig(**linear))
    assert "tau_km" not in read_metrics("linear")[0]


def test_a_step_logs_what_its_reward_cannot_see(common, half_trained, tmp_path):
    run = tmp_path / "run"
    run_train(TrainConfig(**common, checkpoint=half_trained, group_size=4, max_steps=1, log_path=str(run)))
    row = read_metrics(run)[0]
    for key in ("dead_zone", "reward_form", "coordinate_share", "eval/in_form"):
        assert 0 <= row[key] <= 1
    same = row["same_place_in_group"]
    assert same is None or 0 <= same <= 1  # none where no group has two answers with a place
    assert row["decimal_endings"] >= 1
    assert row["eval/constant_km"] > 0
    assert row["eval/distinct_answers"] <= row["eval/pictures"]


def test_a_step_without_any_signal_leaves_the_weights_alone(common, half_trained, tmp_path, monkeypatch):
    """Adam steps as far for a bonus on entropy as for a reward, where the bonus is all that there is."""
    (tmp_path / "flat_curve.py").write_text("import numpy as np\ndef nothing(km, tau):\n    return np.zeros_like(km)\n")
    monkeypatch.syspath_prepend(tmp_path)
    settings = common | {"checkpoint": half_trained, "group_size": 2, "eval_every": 2, "entropy_coef": 0.1}
    settings |= {"reward_curve": "flat_curve:nothing", "coord_weight_start": 1.0, "coord_weight": 1.0}
    settings |= {"hierarchy_weight_start": 0.0, "hierarchy_weight": 0.0, "form_penalty": 0.0}
    run = tmp_path / "run"
    run_train(TrainConfig(**settings, max_steps=2, log_path=str(run)))
    rows = [row for row in read_metrics(run) if "reward" in row]
    assert [row["groups_without_signal"] for row in rows] == [1.0, 1.0]
    assert [(row["n_updates"], row["updates_skipped"], row["groups_kept"]) for row in rows] == [(0, 1, 0)] * 2
    held_out = [row for row in rollouts(run) if row["split"] == "eval"]
    texts = [[row["text"] for row in held_out if row["step"] == step] for step in (0, 2)]
    assert texts[0] == texts[1]
