"""What nobody may miss: each warning where it belongs, none where it does not, in text, JSON and the page alike."""

import json

import numpy as np
import pytest

from geospot import __main__ as geospot
from geospot.scoring.cautions import cautions
from geospot.scoring.guesses import Guesses
from geospot.scoring.judge import judge
from geospot.scoring.truths import Truths

N = 120


def world(seed: int = 0, n: int = N, lon_range: tuple[float, float] = (-120, 140)) -> Truths:
    rng = np.random.default_rng(seed)
    return Truths([f"{i}.jpg" for i in range(n)], rng.uniform(-30, 60, n), rng.uniform(*lon_range, n))


def kinds(truths: Truths, lat, lon, failures: dict[int, str] | None = None, train: Truths | None = None) -> list[str]:
    lat, lon, failed = np.array(lat, float), np.array(lon, float), failures or {}
    lat[list(failed)] = lon[list(failed)] = np.nan
    guesses = Guesses("m", truths.keys, lat, lon, tuple(failed.get(i) for i in range(len(truths))))
    return [caution.kind for caution in cautions(judge(truths, guesses, labels=False), train)]


def near(truths: Truths, degrees: float = 2.0, seed: int = 1):
    rng = np.random.default_rng(seed)
    return truths.lat + rng.normal(0, degrees, len(truths)), truths.lon + rng.normal(0, degrees, len(truths))


def test_a_model_that_sees_its_pictures_has_no_warning():
    truths = world()
    assert kinds(truths, *near(truths, 12.0)) == []
    assert kinds(truths, *near(truths, 12.0), dict.fromkeys(range(4), "refused")) == []


def test_invented_scenes_are_no_better_than_the_best_constant_place():
    truths, elsewhere = world(), world(5)
    assert kinds(truths, elsewhere.lat, elsewhere.lon) == ["constant"]
    assert kinds(truths, elsewhere.lat, elsewhere.lon, train=world(7)) == ["constant"]
    few = world(0, 12)
    assert kinds(few, *(axis[:12] for axis in (elsewhere.lat, elsewhere.lon))) == []  # the constant was chosen by them


@pytest.mark.parametrize("lon_range", [(-80, 80), (-120, 140), (95, 150)])
def test_latitude_and_longitude_that_look_swapped(lon_range):
    truths = world(lon_range=lon_range)
    lat, lon = near(truths)
    out = dict.fromkeys(np.flatnonzero(np.abs(lon) > 90), "coordinates out of range")
    assert "swapped" in kinds(truths, np.where(np.abs(lon) > 90, 0, lon), lat, out)


def test_failures_above_a_tenth_and_what_leaving_them_out_would_say():
    truths = world()
    assert kinds(truths, *near(truths), dict.fromkeys(range(13), "refused"))[0] == "failures"
    assert kinds(truths, *near(truths), dict.fromkeys(range(60), "cut off")) == ["failures", "answered"]
    everything = dict.fromkeys(range(N), "refused")
    assert kinds(truths, *near(truths), everything) == ["failures"]


def test_many_answers_at_one_place_unless_the_pictures_are_from_there():
    truths = world()
    lat, lon = near(truths)
    lat[:20], lon[:20] = 37.77, -122.42
    assert kinds(truths, lat, lon) == ["one place"]
    truths.lat[:20], truths.lon[:20] = 37.7749, -122.4194
    assert kinds(truths, lat, lon) == []


def test_warnings_are_in_text_json_and_page(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    truths, elsewhere = world(), world(5)
    for name, spared in (("bad", 0), ("worse", 30)):
        rows = [{"key": k, "true_lat": a, "true_lon": b, "lat": c, "lon": d} for k, a, b, c, d in
                zip(truths.keys, truths.lat, truths.lon, elsewhere.lat, elsewhere.lon, strict=True)]  # fmt: skip
        for row in rows[:spared]:
            row |= {"lat": None, "lon": None, "error": "refused"}
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    geospot.main(["eval", "predictions=bad.jsonl", "out=out"])
    out = capsys.readouterr().out
    assert "WARNING  bad: no better than one place for all pictures: median" in out
    assert out.splitlines()[-1].startswith("WARNING  1 warning about these numbers")
    facts = json.loads((tmp_path / "out/metrics.json").read_text())["bad"]
    assert [warning["kind"] for warning in facts["warnings"]] == ["constant"]
    page = (tmp_path / "out/report.html").read_text()
    assert 'role="alert"' in page
    assert page.index("no better than one place") < page.index("<h2>Results</h2>")
    geospot.main(["compare", "bad.jsonl", "worse.jsonl", "resamples=100", "out=both"])
    assert "WARNING  worse: 25.0 % of the answers failed, and count as wrong: refused 30" in capsys.readouterr().out
    facts = json.loads((tmp_path / "both/comparison.json").read_text())["models"]
    assert [warning["kind"] for warning in facts["worse"]["warnings"]][:2] == ["constant", "failures"]
    assert "refused 30" in (tmp_path / "both/report.html").read_text()
    geospot.main(["eval", "predictions=worse.jsonl", "out=worse"])
    page = (tmp_path / "worse/report.html").read_text()
    assert "<h2>Failed answers</h2>" in page
    assert '<th scope="row">refused</th>' in page
