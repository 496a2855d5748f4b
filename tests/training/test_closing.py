"""What `sft` and `train` say at their end, and again where a finished run is started."""

import re
import shlex

import numpy as np
import pytest

from geospot.runs.checkpoints import last_checkpoint
from geospot.runs.folder import RunFolder
from geospot.scoring.metrics import Predictions, paired_differences
from geospot.sft import SftConfig
from geospot.sft import run as run_sft
from geospot.train import TrainConfig
from geospot.training.closing import closing, held_out_tables, next_commands
from geospot.training.held_out import logged

CITIES = [(45.76, 4.84), (-12.05, -77.04), (30.04, 31.24), (51.5, -0.1), (35.7, 139.7)]


def log(run: RunFolder, step: int, offsets: list[float | None]) -> Predictions:
    """An evaluation whose answers are so many degrees north of the truth; None: it could not be read."""
    from geospot.scoring.guesses import Guesses
    from geospot.scoring.judge import judge
    from geospot.scoring.truths import Truths

    keys, (lat, lon) = [f"k{i}" for i in range(len(CITIES))], np.array(CITIES).T
    moved = np.array([np.nan if off is None else off for off in offsets])
    failures = tuple("no coordinates" if off is None else None for off in offsets)
    guesses = Guesses("eval", keys, lat + moved, np.where(np.isnan(moved), np.nan, lon), failures)
    evaluation = judge(Truths(keys, lat, lon), guesses)
    rows = [
        {"split": "eval", "sample_key": key, "group_index": i, "member_index": 0, "text": "", "true_lat": lat[i],
         "true_lon": lon[i], "lat": guesses.lat[i], "lon": guesses.lon[i], "error": failures[i]}
        for i, key in enumerate(keys)
    ]  # fmt: skip
    run.add_rollouts(step, rows)
    summary = {f"eval/{key}": value for key, value in evaluation.summary.items()}
    run.log(step, summary | logged_keys(evaluation))
    return evaluation.predictions


def logged_keys(evaluation) -> dict:
    evaluation.__dict__.setdefault("intervals", {})
    return {key: value for key, value in logged(evaluation).items() if value == value}


def test_the_table_has_before_best_and_last_with_the_paired_difference(tmp_path):
    with RunFolder.create(tmp_path / "run", {}) as run:
        before = log(run, 0, [None, 20.0, 30.0, 8.0, 9.0])
        log(run, 5, [0.1, 0.1, 0.1, 0.1, 0.1])
        last = log(run, 10, [1.0, 2.0, 3.0, 1.0, 2.0])
    [text, _] = held_out_tables(tmp_path / "run")
    lines = text.split("\n\n")[0].splitlines()  # what fits in 100 columns; the rest stands below
    assert re.match(r"eval +median km +score", lines[0])
    assert [line.split(",")[0] for line in lines[1:]] == ["before", "best", "last", "last - before"]
    assert "step 5 " in lines[2]
    assert "step 10 " in lines[3]
    found = paired_differences(last, before, keys=("median_km", "geoguessr_score"))
    for d in found.values():
        assert f"{d.value:+.0f} [{d.low:+.0f}, {d.high:+.0f}]".replace("-", "−") in lines[4]
    assert found["median_km"].high < 0


def test_a_run_that_is_not_finished_has_no_closing(tmp_path):
    with RunFolder.create(tmp_path / "run", {}) as run:
        log(run, 0, [1.0] * 5)
        run.add_checkpoint(1, run.path / "checkpoints" / "1", {})
    assert closing(tmp_path / "run", "sft", SftConfig()) == ""


def test_sft_ends_with_what_came_of_it_and_so_does_the_same_command_again(common, tmp_path, capsys):
    config = SftConfig(**common, max_steps=2, log_path="runs/a b")
    run_sft(config)
    first = capsys.readouterr().out
    run_sft(config)
    again = capsys.readouterr().out
    for out in (first, again):
        assert "before, step 0" in out
        assert "last, step 2" in out
        assert "last - before, 95 %" in out
        assert f"checkpoint  {last_checkpoint('runs/a b').path}" in out
        commands = [shlex.split(line.removeprefix("next")) for line in out.splitlines() if line.startswith("next ")]
        assert [words[:3] for words in commands] == [
            ["geospot", "train", "checkpoint=runs/a b"], ["geospot", "eval", "checkpoint=runs/a b"]
        ]  # fmt: skip
    assert "is complete" in again


def test_the_next_commands_are_configurations_that_are_accepted(tmp_path):
    """Given as printed, they train on the same data with the same model, and evaluate on the held-out data."""
    import chz

    config = SftConfig(model_name="some/model", data="a.tar", eval_data="b.tar", lora_rank=8, region=True, views="1")
    train, evaluation = (shlex.split(line)[2:] for line in next_commands(tmp_path, "sft", config))
    made = chz.Blueprint(TrainConfig).make_from_argv(train)
    assert (made.model_name, made.data, made.eval_data, made.lora_rank, made.region, made.views) == (
        "some/model", "a.tar", "b.tar", 8, True, "1"
    )  # fmt: skip
    assert made.checkpoint == str(tmp_path)
    assert "data=b.tar" in evaluation
    words = [shlex.split(line)[1] for line in next_commands(tmp_path, "train", TrainConfig())]
    assert words == ["eval", "guess", "export"]


@pytest.mark.parametrize("eval_data", ["none", "cells", "auto"])
def test_held_out_data_without_a_name_is_left_to_the_user(tmp_path, eval_data):
    [_, evaluation] = next_commands(tmp_path, "sft", SftConfig(data="a.tar", eval_data=eval_data))
    assert "data=SOURCE" in evaluation
