"""What a run trains on and is evaluated on, from its configuration: apart, whatever the source."""

import csv
from itertools import islice

import chz
import pytest
from made import jpeg

from geospot.config import EvalConfig, LoopConfig
from geospot.data.samples import Sample, SkipCounter
from geospot.data.sets import eval_options, held_out_sets, open_sets, train_options, worker_count
from geospot.data.stream import SampleStream, read_all
from geospot.data.tar import write_shard
from geospot.earth.distance import haversine_km
from geospot.earth.place import Place
from geospot.errors import DataError


def places(n: int) -> list[Place]:
    """On a grid over France, about 30 km apart."""
    return [Place(43.0 + 0.27 * (i // 20), -1.0 + 0.4 * (i % 20)) for i in range(n)]


@pytest.fixture
def folder(tmp_path):
    samples = [Sample(f"p{i:03d}", (jpeg(i % 7),), place) for i, place in enumerate(places(300))]
    write_shard(tmp_path / "all.tar", samples)
    write_shard(tmp_path / "held-out.tar", samples[40:60])
    return tmp_path


def everything(config, sets, held_out=()) -> tuple[list[Sample], SkipCounter]:
    with SampleStream(sets.train, seed=0, options=train_options(config, sets, held_out), epochs=1) as stream:
        return list(stream), stream.skipped


def test_nothing_is_trained_on_near_a_held_out_place(folder):
    config = LoopConfig(data=str(folder / "all.tar"), eval_data=str(folder / "held-out.tar"), holdout_km=35.0)
    sets = open_sets(config)
    held_out = list(read_all(sets.held_out["eval"], eval_options(config, sets), skipped=SkipCounter()))
    trained, skipped = everything(config, sets, held_out[:3])  # also where only some of them are evaluated on
    apart = [haversine_km(t.place.lat, t.place.lon, h.place.lat, h.place.lon) for t in trained for h in held_out]
    assert min(apart) > 35
    assert skipped["within 35 km of a held-out place"] == 300 - len(trained) >= 60


def test_data_without_a_value_is_the_built_in_world(folder, monkeypatch):
    made = {name: folder / file for name, file in (("train", "all.tar"), ("eval", "held-out.tar"))}
    monkeypatch.setattr("geospot.data.sets.ensure_shards", lambda *_, **__: dict(made))
    for config in (LoopConfig(data=None), EvalConfig(data=None)):
        sets = open_sets(config).held_out if isinstance(config, LoopConfig) else held_out_sets(config, 1000.0)
        assert sets["eval"].spec == str(folder / "held-out.tar")


def test_cells_hold_out_places_of_the_same_source(folder):
    config = LoopConfig(
        data=str(folder / "all.tar"), eval_data="cells", eval_fraction=0.3, cell_km=120.0, holdout_km=20.0
    )
    sets = open_sets(config)
    skipped = SkipCounter()
    held_out = list(read_all(sets.held_out["eval"], eval_options(config, sets), skipped=skipped))
    trained, refused = everything(config, sets)
    assert len(held_out) >= 10
    assert len(trained) >= 100
    apart = [haversine_km(t.place.lat, t.place.lon, h.place.lat, h.place.lon) for t in trained for h in held_out]
    assert min(apart) >= 20
    assert refused["in a held-out cell"] == len(held_out)
    assert skipped["in a training cell"] == len(trained)
    assert refused["on the rim of a held-out cell"] == skipped["on the rim of a held-out cell"] > 0


@pytest.mark.parametrize("data", ["all.tar", "."])
def test_a_shard_on_both_sides_is_refused(folder, data):
    with pytest.raises(DataError, match=r"1 of its shards are held out .*cells"):
        open_sets(LoopConfig(data=str(folder / data), eval_data=str(folder / "all.tar")))


def test_a_table_of_photos_is_trained_and_evaluated_on_as_shards_are(tmp_path):
    with open(tmp_path / "photos.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "image_path", "Latitude", "Longitude", "country"])
        for i, place in enumerate(places(20)):
            (tmp_path / f"{i}.jpg").write_bytes(jpeg(i))
            rows.writerow([f"r{i}", f"{i}.jpg", place.lat, place.lon, "FR"])
    spec = str(tmp_path / "photos.csv")
    trained, _ = everything(LoopConfig(), open_sets(LoopConfig(data=spec, eval_data="none")))
    assert sorted(s.key for s in trained) == sorted(f"r{i}" for i in range(20))
    sets = held_out_sets(EvalConfig(data=spec), 0.0)
    first = list(islice(read_all(sets["eval"], skipped=SkipCounter()), 5))
    assert [s.key for s in first] == [f"r{i}" for i in range(5)]
    assert first[3].pictures == (jpeg(3),)
    assert first[3].place == Place(places(4)[3].lat, places(4)[3].lon, None, None, "FR")


def test_the_missing_held_out_set_is_said(folder, capsys):
    open_sets(LoopConfig(data=str(folder / "all.tar")))
    assert "eval_data=" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"columns": "lat"}, "columns="),
        ({"columns": "height=h"}, "lat, lon, city"),
        ({"views": "0"}, "views='0'"),
        ({"data_workers": -2}, "data_workers=-2"),
        ({"open_shards": 0}, "open_shards=0"),
        ({"holdout_km": -1.0}, "holdout_km=-1"),
        ({"eval_fraction": 1.0}, "eval_fraction=1"),
        ({"eval_data": "cells", "holdout_km": 60.0}, "holdout_km=60"),
    ],
)
def test_bad_settings_fail_before_any_work(changed, says):
    with pytest.raises(ValueError, match=says):
        chz.replace(LoopConfig(), **changed)


def test_small_pictures_are_decoded_here_and_others_in_processes():
    assert worker_count(LoopConfig()) == 0
    assert worker_count(LoopConfig(data="x.tar")) >= 1
    assert worker_count(LoopConfig(data="x.tar", data_workers=5)) == 5
