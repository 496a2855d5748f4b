"""Small runs that several test files share: three places in two shards, and a warm start that knows them by heart."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from made import jpeg, made_once

from geospot.config import SftConfig
from geospot.data.samples import Sample
from geospot.data.tar import write_shard
from geospot.earth.place import Place
from geospot.runs.folder import read_metrics
from geospot.runs.rollouts import query_rollouts
from geospot.sft import run as run_sft

CITIES = [("Lyon", "France", 45.76, 4.84), ("Lima", "Peru", -12.05, -77.04), ("Cairo", "Egypt", 30.04, 31.24)]
TIMES = ("time/", "step_seconds")


def write_shards(folder: Path) -> None:
    """Three places, in a training shard of twelve pictures each and a held-out one of two."""
    for split, count in (("train", 12), ("eval", 2)):
        samples = []
        for i in range(3 * count):
            city, country, lat, lon = CITIES[i % 3]
            samples.append(Sample(f"{split}-{i:03d}", (jpeg(i % 3),), Place(lat, lon, city, None, country)))
        write_shard(folder / f"{split}.tar", samples)


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """See `write_shards`."""
    return made_once(tmp_path_factory, "shards", write_shards)


@pytest.fixture(scope="session")
def run_settings(tiny_folder, shards) -> dict[str, Any]:
    """Keys of a run of a few steps."""
    return {
        "model_name": tiny_folder, "data": str(shards / "train.tar"), "eval_data": str(shards / "eval.tar"),
        "batch_size": 4, "eval_every": 3, "max_tokens": 16, "threads": 1, "lora_rank": 0, "learning_rate": 3e-3,
        "shuffle_buffer": 8, "save_every": 1, "device": "cpu", "holdout_km": 0.0, "data_workers": 0,
    }  # fmt: skip


@pytest.fixture
def common(run_settings, tmp_path, monkeypatch) -> dict[str, Any]:
    """The same, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    return dict(run_settings)


def metrics(folder) -> list[dict]:
    """Metrics without what the clock says."""
    return [{k: v for k, v in row.items() if not k.startswith(TIMES)} for row in read_metrics(folder)]


def rollouts(folder) -> list[dict]:
    return query_rollouts(folder, "SELECT * FROM rollouts ORDER BY step, split, group_index, member_index")


@pytest.fixture(scope="session")
def sft_run(tiny_folder, shards, tmp_path_factory):
    """A warm start that learned the three places by heart: its folder, and what its last evaluation came to."""

    def make(folder: Path) -> None:
        config = SftConfig(
            model_name=tiny_folder, data=str(shards / "train.tar"), eval_data=str(shards / "eval.tar"), batch_size=12,
            max_steps=90, eval_every=45, max_tokens=16, threads=1, lora_rank=0, learning_rate=4e-3,
            log_path=str(folder / "run"), device="cpu", save_every=5, keep_checkpoints=20, holdout_km=0.0,
            data_workers=0,
        )  # fmt: skip
        [evaluation] = run_sft(config)
        found = {"summary": evaluation.summary, "text": evaluation.guesses.texts[0]}
        (folder / "found.json").write_text(json.dumps(found, default=float))

    # A copy for each of pytest's processes: some tests write to it.
    folder = shutil.copytree(made_once(tmp_path_factory, "sft", make), tmp_path_factory.mktemp("sft") / "own")
    return folder / "run", json.loads((folder / "found.json").read_text())


@pytest.fixture(scope="session")
def half_trained(sft_run) -> str:
    """The same warm start a ninth of the way: its answers still differ."""
    return str(sft_run[0] / "checkpoints" / "000010")
