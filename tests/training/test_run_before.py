"""Runs of the version before, stopped in the middle: they go on, are started from, and are evaluated.

`tests/data/run_before` has an SFT run and a GRPO run from it, each stopped after 2 of 4 steps of 3 pictures, with their
shards. The model is made here from its seed; the runs trained an adapter of rank 1 on it.
"""

import json
import shutil
from pathlib import Path

import pytest

from geospot import __main__ as geospot
from geospot.answer import prompt_text
from geospot.runs.checkpoints import read_checkpoints
from geospot.runs.folder import read_config, read_metrics
from geospot.runs.rollouts import query_rollouts
from geospot.sft import SftConfig
from geospot.sft import run as run_sft
from geospot.train import TrainConfig
from geospot.train import run as run_train

BEFORE = Path(__file__).parents[1] / "data" / "run_before"
WORDS = ("City: ", "\nCountry: ", "\nLatitude: ", "\nLongitude: ", "Lyon", "France", "Lima", "Peru", "Cairo", "Egypt")


@pytest.fixture
def before(tmp_path, monkeypatch) -> Path:
    """A copy of the two runs, beside the model that they trained."""
    from geospot.models import tiny

    folder = tmp_path / "before"
    shutil.copytree(BEFORE, folder)
    words = sorted({"user\n", "assistant\n", *prompt_text().splitlines(keepends=True), *WORDS})
    monkeypatch.setattr(tiny, "words", lambda: words)
    tiny.save_untrained(folder / "model", hidden=64, layers=1, vision_hidden=32, vision_layers=1)
    monkeypatch.chdir(folder)
    return folder


def settings(run: Path) -> dict:
    """What the run was started with, as a command line would say it again."""
    return {key: value for key, value in read_config(run).items() if key != "command"} | {"log_to": ()}


def test_an_sft_run_goes_on_with_its_weights_its_optimizer_and_its_next_sample(before):
    logged = read_metrics("sft")
    run_sft(SftConfig(**settings(before / "sft")))
    rows = read_metrics("sft")
    assert rows[:2] == logged
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    # What the version before would have logged.
    assert [row["loss"] for row in rows[2:4]] == pytest.approx([5.3915, 5.3579], rel=5e-3)
    assert read_checkpoints("sft")[-1].final


def test_a_grpo_run_goes_on_with_its_reference_and_its_next_sample(before, capsys):
    run_train(TrainConfig(**settings(before / "train")))
    assert "goes on as it began: form_penalty=0.0" in capsys.readouterr().out  # a key that it did not know
    rows = query_rollouts(
        "train", "SELECT sample_key FROM rollouts WHERE split = 'train' AND member_index = 0 ORDER BY step, group_index"
    )
    assert [int(row["sample_key"][-3:]) for row in rows] == [1, 2, 0, 3, 5, 6, 7, 8, 9, 11, 10, 4]
    assert read_metrics("train")[2]["kl_reference"] == pytest.approx(0.0219, rel=0.2)
    assert read_checkpoints("train")[-1].final


def test_a_run_starts_from_a_checkpoint_of_the_version_before(before):
    run_train(TrainConfig(**settings(before / "train") | {"checkpoint": "sft", "log_path": "new", "max_steps": 1}))
    assert read_checkpoints("new")[-1].loop_state["loop"]["start_from"].endswith("sft/checkpoints/000002")


def test_a_checkpoint_of_the_version_before_is_evaluated(before):
    geospot.main(["eval", "checkpoint=train", "data=eval.tar", "out=out", "max_tokens=16", "threads=1", "report=false",
              "device=cpu", "data_workers=0"])  # fmt: skip
    facts = json.loads(Path("out/metrics.json").read_text())
    assert facts["eval"]["n"] == 3
    assert (facts["about"]["model"], facts["about"]["step"]) == ("model", 2)
