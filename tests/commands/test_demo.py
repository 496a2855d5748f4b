"""The demo from end to end, on a handful of pictures and with a step of each stage."""

import json

import pytest
from chz import replace
from made import jpeg

from geospot.commands import demo
from geospot.data import sets
from geospot.data.samples import Sample
from geospot.data.tar import write_shard
from geospot.earth.place import Place


@pytest.fixture
def small_world(tmp_path, monkeypatch):
    """Three folders of shards in place of the made ones."""
    folders = {}
    for n, (name, lat) in enumerate((("train", 10.0), ("eval", 30.0), ("eval-far", -40.0))):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        # No city: where it is far from the point, the report folds the names of all cities of its country.
        places = [Place(lat + i, 20.0 + i, None, None, "France") for i in range(8)]
        write_shard(
            folders[name] / "0.tar", [Sample(f"{name}-{i}", (jpeg(8 * n + i),), p) for i, p in enumerate(places)]
        )
    for module in (demo, sets):
        monkeypatch.setattr(module, "ensure_shards", lambda *a, **k: dict(folders))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def small_steps(monkeypatch):
    """8 pictures to a step and 4 answers to each, not 16 of either: what a step costs is not asked here."""
    for name, keys in (("sft", {"batch_size": 8}), ("train", {"batch_size": 8, "group_size": 4})):
        make = getattr(demo.DemoConfig, name)
        monkeypatch.setattr(demo.DemoConfig, name, lambda config, make=make, keys=keys: replace(make(config), **keys))


def test_the_demo_ends_in_a_table_and_a_report(small_world, small_steps, tmp_path, capsys, monkeypatch):
    config = demo.DemoConfig(sft_steps=1, grpo_steps=1, train_places=8, threads=1)
    stages = demo.run(config)
    assert set(stages) == {"eval", "eval-far"}
    assert {len(stage.predictions) for stage in stages["eval"].values()} == {8}
    out = capsys.readouterr().out
    assert "GRPO minus SFT on eval" in out
    assert "best constant place" in out
    page = (tmp_path / "runs/demo/report.html").read_text()
    assert "GRPO" in page
    monkeypatch.setattr(demo, "evaluate_stages", lambda *_: stages)  # it would answer the same again
    demo.run(config)  # the same command again finds both runs done
    assert capsys.readouterr().out.count("are done") == 2


def test_warnings_are_of_the_ground_that_the_model_has_seen(tmp_path):
    signs = {"pictures": 512, "distinct_answers": 300, "in_form": 1.0, "median_km": 8_000.0, "constant_km": 2_000.0}
    for run in ("sft", "train"):
        (tmp_path / run).mkdir()
        row = {"step": 1} | {f"{name}/{sign}": value for name in ("eval", "eval-far") for sign, value in signs.items()}
        (tmp_path / run / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    said = demo.run_warnings(tmp_path)
    assert [one.split(":")[:2] for one in said] == [["SFT", " eval"], ["GRPO", " eval"]]
    assert all("the one that is nearest to these pictures has 2,000 km" in one for one in said)
