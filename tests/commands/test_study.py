"""`geospot study` as a user meets it: a plan, runs that can be stopped at any moment, a table, a page, refusals."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geospot import __main__ as geospot
from geospot.report import study_page
from geospot.runs.checkpoints import read_checkpoints
from geospot.runs.folder import RunFolder, read_config
from geospot.scoring.metrics import Predictions
from geospot.scoring.metrics.seeds import Estimate
from geospot.training.outcomes import decimals_worth_km

# The table's numbers are those of this torch: another rounds otherwise, and one sampled token changes a short run.
TORCH = "2.15."
TABLE = Path(__file__).parents[1] / "data" / "study" / "table.json"


@pytest.fixture(scope="session")
def smallest(tiny_folder, shards, sft_run) -> dict[str, Any]:
    """The smallest study: two variants, two seeds, two steps from a start that is trained for one."""
    return {
        "seeds": [0, 1],
        "baseline": "tightening",
        "shared": {
            "model_name": tiny_folder, "data": str(shards / "train.tar"), "eval_data": str(shards / "eval.tar"),
            "max_tokens": 16, "lora_rank": 0, "learning_rate": 1e-3, "shuffle_buffer": 8, "device": "cpu",
            "holdout_km": 0.0, "data_workers": 0, "batch_size": 4, "eval_every": 1,
        },
        "train": {"max_steps": 2, "group_size": 4},
        "sft": {"checkpoint": str(sft_run[0] / "checkpoints/000015")},
        "starts": {"good": {"max_steps": 1}},
        "variants": {"tightening": {}, "linear": {"reward_curve": "linear"}},
    }  # fmt: skip


@pytest.fixture(scope="session")
def studied(smallest, tmp_path_factory) -> Path:
    """It is done, in one go."""
    folder = tmp_path_factory.mktemp("study")
    study(smallest, folder, "out", "figures=true")
    return folder / "out"


def study(plan: dict[str, Any], folder: Path, out: str, *words: str) -> None:
    (folder / "plan.json").write_text(json.dumps(plan))
    geospot.main(["study", str(folder / "plan.json"), f"out={folder / out}", "threads=1", *words])


def found(out: Path) -> dict[str, Any]:
    whole = json.loads((out / "study.json").read_text())
    return {key: whole[key] for key in ("table", "curves", "places", "held_out")}


def refused(capsys: pytest.CaptureFixture[str], plan: dict[str, Any], folder: Path) -> str:
    with pytest.raises(SystemExit) as left:
        study(plan, folder, "refused")
    assert left.value.code == 2
    assert not (folder / "refused").exists()  # before any work
    return capsys.readouterr().err


def assert_close(a: object, b: object, where: str = "") -> None:
    """Equal, numbers up to rounding on another kind of machine; with another torch any number."""
    if isinstance(a, dict) and isinstance(b, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_close(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list) and isinstance(b, list):
        assert len(a) == len(b), where
        for i, pair in enumerate(zip(a, b, strict=True)):
            assert_close(*pair, f"{where}[{i}]")
    else:
        same = torch.__version__.startswith(TORCH)
        assert a == (pytest.approx(b, rel=1e-4, abs=1e-6) if isinstance(b, float) else b) or (
            not same and isinstance(a, float | int) and isinstance(b, float | int)
        ), where


def test_the_smallest_study_is_the_committed_table(studied):
    """If a change is meant: copy `found(studied)` to tests/data/study/table.json."""
    assert_close(found(studied), json.loads(TABLE.read_text()))


def test_a_study_leaves_ordinary_runs_a_table_a_page_and_a_figure(studied, capsys):
    assert read_config(studied / "good/linear/seed-1")["reward_curve"] == "linear"
    assert read_config(studied / "good/linear/seed-1")["seed"] == 1
    assert read_checkpoints(studied / "good/sft")[-1].final
    text = (studied / "study.txt").read_text()
    for says in ("eval: 3 places", "less tightening", "p (median)", "endings", "linear"):
        assert says in text, says
    page = (studied / "report.html").read_text()
    for says in ("From good, by the median distance", "km, by answers", "Less tightening"):
        assert says in page, says
    assert (studied / "figure.png").stat().st_size > 5000
    assert (studied / "figure.pdf").read_bytes().startswith(b"%PDF")
    geospot.main(["runs", str(studied)])
    assert capsys.readouterr().out.count(" finished  ") == 5


def test_a_difference_that_rounds_to_nothing_has_no_minus():
    assert study_page._cell(Estimate(-0.3, -1.2, 0.2, 0.5), 1, 0, "+") == "+0 [-1, +0]"


def test_decimals_that_know_the_place_are_worth_kilometres_and_noise_is_worth_none():
    rng = np.random.default_rng(0)
    lat, lon = rng.uniform(-60, 60, 400), rng.uniform(-170, 170, 400)
    place, zeros = np.arange(400), np.zeros(400)
    exact = Predictions(lat, lon, lat, lon, place=place)
    assert decimals_worth_km(exact) == pytest.approx(45, abs=8)  # two different fractions of a degree
    noise = np.trunc(lat) + np.copysign(rng.uniform(0, 1, 400), lat)
    blind = Predictions(lat, zeros, noise, zeros, place=place)
    assert decimals_worth_km(blind) == pytest.approx(0, abs=4)
    assert np.isnan(decimals_worth_km(Predictions(lat, lon, zeros * np.nan, zeros * np.nan, place=place)))


class Killed(BaseException):
    """As kill -9: nobody catches it."""


def test_a_study_killed_three_times_ends_in_the_same_table(smallest, studied, tmp_path, monkeypatch, capsys):
    shutil.copytree(studied / "good", tmp_path / "out/good")
    for name in ("tightening", "linear"):  # with one seed of each done, as behind earlier kills
        shutil.rmtree(tmp_path / f"out/good/{name}/seed-1")
    steps: Counter[tuple[str, int]] = Counter()
    log, kill_at = RunFolder.log, iter([1, 2, 3])
    left = [next(kill_at)]

    def killed(run: RunFolder, step: int, values: dict[str, float]) -> None:
        log(run, step, values)
        steps[str(run.path), step] += 1
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    monkeypatch.setattr(RunFolder, "log", killed)
    for _ in range(3):
        with pytest.raises(Killed):
            study(smallest, tmp_path, "out")
        left[0] = next(kill_at, -1)
    study(smallest, tmp_path, "out")
    assert found(tmp_path / "out") == found(studied)
    again = [where for where, n in steps.items() if n > 1]
    assert len(again) <= 3  # at most the step that each kill fell into
    before = steps.total()
    study(smallest, tmp_path, "out")  # once more, and nothing is left to do
    assert steps.total() == before
    assert "wrote study.json" in capsys.readouterr().out


def test_runs_side_by_side_end_in_the_same_table_and_can_lose_their_weights(smallest, studied, tmp_path, capsys):
    shutil.copytree(studied / "good", tmp_path / "out/good")
    for name in ("tightening", "linear"):
        shutil.rmtree(tmp_path / f"out/good/{name}/seed-1")  # the two that are to be made again
    study(smallest, tmp_path, "out", "jobs=2", "keep_weights=false")
    assert found(tmp_path / "out") == found(studied)
    assert (tmp_path / "out/good/sft/checkpoints").is_dir()
    assert not list((tmp_path / "out/good").glob("*/seed-*/checkpoints"))
    capsys.readouterr()
    geospot.main(["runs", str(tmp_path / "out")])
    assert capsys.readouterr().out.count(" finished  ") == 5
    study(smallest, tmp_path, "out", "finished_only=true")
    assert found(tmp_path / "out") == found(studied)


def test_runs_made_by_hand_are_compared_too(smallest, studied, tmp_path, capsys):
    runs = {name: {"runs": [f"{studied}/good/{name}/seed-*"]} for name in ("tightening", "linear")}
    study({"baseline": "tightening", "variants": runs}, tmp_path, "out")
    table = found(tmp_path / "out")["table"]
    expected = [row | {"start": "runs"} for row in found(studied)["table"]]
    assert table == expected
    study({"baseline": "tightening", "variants": runs, "places": [0, 2]}, tmp_path, "few")
    assert found(tmp_path / "few")["places"] == 2


def test_further_pairs_are_compared_and_counted_in_the_correction(smallest, studied, tmp_path, capsys):
    shutil.copytree(studied, tmp_path / "out")
    study(smallest | {"pairs": [["tightening", "linear"]]}, tmp_path, "out", "finished_only=true")
    assert "tightening less linear" in capsys.readouterr().out
    assert "tightening less linear" in (tmp_path / "out/report.html").read_text()
    whole = json.loads((tmp_path / "out/study.json").read_text())
    (pair,) = whole["pairs"]
    other = next(row["differences"] for row in whole["table"] if row["variant"] == "linear")
    assert (pair["start"], pair["variant"], pair["against"]) == ("good", "tightening", "linear")
    for key, found_ in pair["differences"].items():
        assert found_["value"] == pytest.approx(-other[key]["value"])
        assert found_["p_holm"] == pytest.approx(min(1.0, 2 * found_["p"]))


def test_a_plan_with_more_seeds_goes_on_and_one_with_other_keys_is_refused(smallest, studied, tmp_path, capsys):
    shutil.copytree(studied, tmp_path / "out")
    more = smallest | {"seeds": [0, 1, 2]}
    study(more, tmp_path, "out", "finished_only=true")
    assert "2 of 6 runs are not finished" in capsys.readouterr().out
    study(more, tmp_path, "out", "dry_run=true")
    assert "to do       2 runs, 4 steps" in capsys.readouterr().out
    other = smallest | {"train": smallest["train"] | {"group_size": 2}}
    with pytest.raises(SystemExit):
        study(other, tmp_path, "out")
    err = capsys.readouterr().err
    assert "holds a run with another group_size" in err
    assert "4 there, 2 asked for" in err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": [1]}, "there is no key seed. Did you mean seeds?"),
        ({"seeds": [1, 1]}, "seeds=1,1: must be a list of different whole numbers"),
        ({"seeds": 3}, "seeds=3: must be a list"),
        ({"baseline": "tightenin"}, "baseline=tightenin: must be tightening or linear. Did you mean tightening?"),
        ({"variants": {"tightening": {"reward_curv": "exp"}}},
         "variants.tightening: there is no key reward_curv. Did you mean reward_curve?"),
        ({"variants": {"tightening": {"reward_curve": "expo"}}}, "variants.tightening: reward_curve=expo: must be"),
        ({"variants": {"tightening": {"seed": 3}}}, "variants.tightening: seed is not for a plan: seeds says it"),
        ({"variants": {"tightening": 3}}, "variants.tightening=3: must be a table of keys"),
        ({"variants": {"tightening": {}, "a/b": {}}}, "variants.a/b: the name becomes that of a folder"),
        ({"variants": {"tightening": {}, "by_hand": {"runs": ["x"]}}}, "every variant does"),
        ({"train": {"max_steps": "many"}}, "train: max_steps=many: must be a whole number"),
        ({"sft": {"group_size": 4}}, "sft: there is no key group_size"),
        ({"shared": {"group_size": 4}}, "shared: there is no key group_size"),
        ({"starts": {}}, "starts: must name one or more"),
        ({"pairs": ["linear"]}, "pairs=linear: must be a list such as"),
        ({"pairs": [["linear", "liner"]]}, "liner must be tightening or linear. Did you mean linear?"),
        ({"pairs": [["linear", "linear"]]}, "a variant does not differ from itself"),
        ({"pairs": [["linear", "tightening"]]}, "this comparison is made already"),
        ({"starts": {"good": "nowhere"}}, "starts.good=nowhere: no such run folder or checkpoint"),
        ({"places": [3, 1]}, "places=3,1: must be two whole numbers"),
    ],
)  # fmt: skip
def test_a_bad_plan_is_refused_before_any_work(smallest, tmp_path, change, says, capsys):
    assert says in refused(capsys, smallest | change, tmp_path)


def test_a_plan_file_that_is_none_is_refused(tmp_path, capsys):
    (tmp_path / "plan.toml").write_text("seeds = [")
    for name, says in (("plan.toml", "not TOML"), ("plann.toml", "Did you mean"), ("plan", "no such file")):
        with pytest.raises(SystemExit):
            geospot.main(["study", str(tmp_path / name), f"out={tmp_path / 'out'}"])
        assert says in capsys.readouterr().err


def test_a_run_that_fails_is_named_and_does_not_stop_the_others(smallest, studied, tmp_path, monkeypatch, capsys):
    shutil.copytree(studied / "good", tmp_path / "out/good")
    for name in ("linear/seed-0", "tightening/seed-1"):  # the two that are to be made again
        shutil.rmtree(tmp_path / "out/good" / name)
    log = RunFolder.log

    def full_disk(run: RunFolder, step: int, values: dict[str, float]) -> None:
        if run.path.parent.name == "linear" and run.path.name == "seed-0":
            raise OSError(28, "No space left on device", str(run.path))
        log(run, step, values)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "log", full_disk)
        with pytest.raises(SystemExit):
            study(smallest, tmp_path, "out")
    err = capsys.readouterr().err
    assert "1 of 2 runs failed" in err
    assert "good/linear/seed-0: OSError" in err
    study(smallest, tmp_path, "out")
    assert found(tmp_path / "out") == found(studied)
