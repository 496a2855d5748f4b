"""Scores against the formulas of OSV-5M and PIGEON, computed here a second time; masks, joins, groups, references."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import geospot
from geospot import score
from geospot.answer import Answer, parse_answer
from geospot.earth.gazetteer import Gazetteer
from geospot.earth.place import Place
from geospot.earth.score import map_diagonal_km, score_decay_km
from geospot.errors import TableError
from geospot.scoring.breakdown import confusions, group_names, group_tables
from geospot.scoring.guesses import NOT_GIVEN, Guesses
from geospot.scoring.join import join, swapped_notes
from geospot.scoring.judge import judge
from geospot.scoring.metrics.intervals import linear_interval
from geospot.scoring.published import published_rows
from geospot.scoring.references import reference_rows
from geospot.scoring.truths import Truths

NAN = float("nan")


def guesses(lat, lon, **more) -> Guesses:
    lat, lon = np.array(lat, float), np.array(lon, float)
    failures = tuple("empty" if math.isnan(x) else None for x in lat)
    return Guesses("model", [str(i) for i in range(len(lat))], lat, lon, failures, **more)


def truths(lat, lon, **labels) -> Truths:
    return Truths([str(i) for i in range(len(lat))], np.array(lat, float), np.array(lon, float), labels)


def near_cities(n: int, seed: int = 0):
    cities, rng = Gazetteer.load().cities, np.random.default_rng(seed)
    row = rng.integers(len(cities), size=n)
    return np.clip(cities.lat[row] + rng.normal(0, 0.05, n), -90, 90), cities.lon[row].clip(-179, 179)


# --- the formulas of others, a second time ---


def osv5m(lat, lon, true_lat, true_lon) -> dict[str, float]:
    """OSV-5M (Astruc et al. 2024): haversine by arctan2 on a sphere of 6,371 km, 5000 exp(-d / 1492.7), d < radius."""
    a, b, c, d = (np.radians(x) for x in (lat, lon, true_lat, true_lon))
    square = np.sin((a - c) / 2) ** 2 + np.cos(a) * np.cos(c) * np.sin((b - d) / 2) ** 2
    km = 6371 * 2 * np.arctan2(np.sqrt(square), np.sqrt(1 - square))
    within = {f"acc_{r}km": float((km < r).sum()) for r in (1, 25, 200, 750, 2500)}
    return within | {"mean_km": km.mean(), "geoguessr_score": (5000 * np.exp(-km / 1492.7)).mean()}


def pigeon(lat, lon, true_lat, true_lon) -> dict[str, float]:
    """PIGEON (Haas et al. 2024): haversine by arcsin, the score with the world map's 14,916.862 km over 10; medians."""
    km = []
    for a, b, c, d in zip(lat, lon, true_lat, true_lon, strict=True):
        a, b, c, d = map(math.radians, (a, b, c, d))
        km.append(2 * 6371 * math.asin(math.sqrt(
            math.sin((c - a) / 2) ** 2 + math.cos(a) * math.cos(c) * math.sin((d - b) / 2) ** 2)))  # fmt: skip
    scores = [5000 * math.exp(-10 * x / 14916.862) for x in km]
    return {"median_km": float(np.median(km)), "geoguessr_score": sum(scores) / len(scores)}


def test_distances_and_scores_agree_with_osv5m_and_pigeon():
    true_lat, true_lon = near_cities(5000)
    rng = np.random.default_rng(1)
    lat = np.clip(true_lat + rng.standard_cauchy(5000), -90, 90)
    lon = (true_lon + rng.standard_cauchy(5000) + 180) % 360 - 180
    found = judge(truths(true_lat, true_lon), guesses(lat, lon), labels=False).summary
    theirs = osv5m(lat, lon, true_lat, true_lon)
    for key in ("acc_1km", "acc_25km", "acc_200km", "acc_750km", "acc_2500km"):
        assert round(found[key] * 5000) == theirs[key], key  # exact counts
    assert found["mean_km"] == pytest.approx(theirs["mean_km"], rel=1e-5)
    assert abs(found["geoguessr_score"] - theirs["geoguessr_score"]) < 1
    theirs = pigeon(lat, lon, true_lat, true_lon)
    assert found["median_km"] == pytest.approx(theirs["median_km"], rel=1e-5)
    assert abs(found["geoguessr_score"] - theirs["geoguessr_score"]) < 1


def test_a_level_without_a_label_is_masked_as_osv5m_does_and_na_is_namibia():
    lat, lon = [-22.56, 48.85, 45.76, -33.87], [17.08, 2.35, 4.84, 151.21]
    country, region = ["NA", "FR", None, "AU"], ["Khomas", None, None, "New South Wales"]
    city = ["Windhoek", "Paris", None, "nowhere such"]
    truth = truths(lat, lon, country=country, region=region, city=city)
    found = judge(truth, guesses([-22.57, 43.3, 45.7, -33.9], [17.1, 5.4, 4.8, 151.2])).summary
    earth = Gazetteer.load()
    at = earth.locate([-22.57, 43.3, 45.7, -33.9], [17.1, 5.4, 4.8, 151.2])
    hits = [a == b for a, b in zip(at.country, country, strict=True) if b is not None]
    assert hits == [True, True, True]
    assert found["geo_country_acc"] == 1.0
    counted = judge(truth, guesses([-22.57, 43.3, 45.7, -33.9], [17.1, 5.4, 4.8, 151.2])).predictions
    assert np.isnan(counted.geo_country_hit).tolist() == [False, False, True, False]
    assert counted.geo_region_hit[[0, 3]].tolist() == [1, 1]
    assert np.isnan(counted.geo_region_hit[[1, 2]]).all()
    assert counted.geo_city_hit[:2].tolist() == [1, 0]  # Marseille is not Paris
    wrong = judge(truth, guesses([0.0] * 4, [20.0] * 4)).predictions
    assert wrong.geo_country_hit[[0, 1, 3]].tolist() == [0, 0, 0]


def test_masked_accuracies_agree_with_osv5m_s_counting_over_many_rows():
    """Its rule: the label of the nearest city to the guess against the truth's, over the rows that have one."""
    true_lat, true_lon = near_cities(2000, 2)
    earth, rng = Gazetteer.load(), np.random.default_rng(3)
    at = earth.locate(true_lat, true_lon)
    has = rng.random(2000) < 0.7
    labels = {"country": [c if h else None for c, h in zip(at.country, has, strict=True)]}
    lat, lon = (
        np.clip(true_lat + rng.normal(0, 3, 2000), -90, 90),
        np.clip(true_lon + rng.normal(0, 3, 2000), -180, 180),
    )
    lat[:100] = lon[:100] = NAN  # failed: a miss wherever there is a label
    there = earth.locate(lat, lon).country
    right = sum(a == b for a, b in zip(there, labels["country"], strict=True) if b is not None)
    count = sum(b is not None for b in labels["country"])
    found = judge(truths(true_lat, true_lon, **labels), guesses(lat, lon)).summary
    assert found["geo_country_acc"] == pytest.approx(right / count, abs=1e-12)


def test_a_set_without_labels_is_judged_by_what_lies_at_its_coordinates():
    found = judge(truths([48.85, 37.77], [2.35, -122.42]), guesses([48.852, 34.05], [2.351, -118.24])).predictions
    assert found.geo_country_hit.tolist() == [1, 1]
    assert found.geo_region_hit.tolist() == [1, 1]
    assert found.geo_area_hit.tolist() == [1, 0]
    assert found.geo_city_hit.tolist() == [1, 0]
    assert np.isnan(found.text_country_hit).all()  # coordinates say nothing by text


def test_text_and_coordinates_are_judged_apart():
    answers = [
        "City: Paris\nCountry: France\nLatitude: 48.85\nLongitude: 2.35",
        "Country: France\nLatitude: 52.5\nLongitude: 13.4",
    ]
    found = score(answers, [Place(48.86, 2.34, "Paris", None, "FR"), Place(48.86, 2.34, "Paris", None, "FR")])
    assert found.predictions.text_country_hit.tolist() == [1, 0]  # the second contradicts itself
    assert found.predictions.geo_country_hit.tolist() == [1, 0]
    assert found.predictions.geo_city_hit.tolist() == [1, 0]


# --- the scale of the score ---


def test_scales_by_hand():
    km = 1000.0
    one = score((0.0, km / 111.195), (0.0, 0.0), labels=False)
    assert one.summary["geoguessr_score"] == pytest.approx(5000 * math.exp(-km / 1492.7), abs=0.1)
    one = score((0.0, km / 111.195), (0.0, 0.0), scale=2000, labels=False)
    assert one.summary["geoguessr_score"] == pytest.approx(5000 * math.exp(-10 * km / 2000), abs=0.1)
    assert map_diagonal_km([0, 0], [0, 10]) == pytest.approx(1111.95, abs=0.01)
    assert map_diagonal_km([0, 0], [175, -175]) == pytest.approx(1111.95, abs=0.01)  # over the date line
    assert score_decay_km("map", [0, 0], [0, 10]) == pytest.approx(111.195, abs=0.001)
    for bad in ("moon", "-5", "nan", "inf"):
        with pytest.raises(ValueError, match="must be world, map"):
            score_decay_km(bad, [0], [0])
    with pytest.raises(ValueError, match="one place"):
        score_decay_km("map", [5.0], [5.0])


@given(st.lists(st.tuples(st.floats(-80, 80), st.floats(-180, 179.9)), min_size=2, max_size=8), st.floats(-180, 180))
def test_turning_the_earth_does_not_change_a_map_s_size(points, turn):
    lat, lon = np.array(points).T
    if np.ptp(lat) < 1e-3:
        return
    assert map_diagonal_km(lat, (lon + turn + 180) % 360 - 180) == pytest.approx(map_diagonal_km(lat, lon), rel=1e-6)


# --- joining ---


def test_a_picture_without_an_answer_is_a_failed_answer_and_is_named():
    truth = Truths(["a/1.jpg", "a/2.jpg", "a/3.jpg"], np.zeros(3), np.arange(3.0))
    said = Guesses("m", ["2.png", "1.png", "9.png"], np.zeros(3), np.array([1.0, 0.0, 5.0]), (None,) * 3)
    joined, found, notes = join(truth, said)
    assert found.failures == (None, None, NOT_GIVEN)
    assert found.lon[:2].tolist() == [0, 1]
    text = "\n".join(notes)
    assert "1 of 3 pictures have no answer" in text
    assert "'a/3.jpg'" in text
    assert "'9.png'" in text
    assert "without folders and endings" in text
    assert judge(joined, found).summary["failure_rate"] == pytest.approx(1 / 3)
    with pytest.raises(TableError, match=r"'x' against 'a/1\.jpg'"):
        join(truth, Guesses("m", ["x"], np.zeros(1), np.zeros(1), (None,)))


def test_swapped_coordinates_are_pointed_out():
    lat, lon = near_cities(300, 4)
    assert swapped_notes(truths(lat, lon), guesses(lat + 0.1, lon)) == []
    (note,) = swapped_notes(truths(lat, lon), guesses(lon.clip(-90, 90), lat))
    assert "look swapped" in note
    assert "km the other way round" in note
    north = np.abs(lon) <= 90
    notes = swapped_notes(truths(lon[north], lat[north]), guesses(lon[north], lat[north]))
    assert any("of the truths look swapped" in note for note in notes)


# --- places with several pictures, groups, references ---


def test_pictures_at_the_same_coordinates_are_one_place():
    found = judge(truths([1, 1, 2, 2.000001], [5, 5, 5, 5]), guesses([1] * 4, [5] * 4), labels=False)
    assert found.summary["n_places"] == 2
    assert found.summary["n"] == 4


def test_groups_cover_all_pictures_and_agree_with_their_own_metrics():
    lat, lon = near_cities(600, 5)
    evaluation = judge(truths(lat, lon), guesses(np.clip(lat + 1, -90, 90), lon))
    tables = group_tables(evaluation, group_names(evaluation.truths))
    for key in ("continent", "country", "population density"):
        known = sum(name is not None for name in group_names(evaluation.truths)[key])
        assert sum(group.summary["n"] for group in tables[key]) == known
    europe = next(group for group in tables["continent"] if group.name == "Europe")
    inside = [name == "Europe" for name in group_names(evaluation.truths)["continent"]]
    assert europe.summary["median_km"] == pytest.approx(np.median(evaluation.predictions.distance_km[inside]))
    low, high = europe.intervals["geoguessr_score"]
    assert low <= europe.summary["geoguessr_score"] <= high
    assert tables["income group"][0].name == "high income"


@pytest.mark.parametrize("several", [1, 3])
def test_intervals_of_large_groups_agree_with_the_bootstrap(several):
    rng = np.random.default_rng(6)
    lon = np.repeat(rng.exponential(8, 1500), several) + rng.exponential(1, 1500 * several)
    zeros, place = np.zeros(len(lon)), np.repeat(np.arange(1500), several)
    found = geospot.scoring.metrics.Predictions(zeros, zeros, zeros, lon, place=place)
    bootstrap = geospot.scoring.metrics.bootstrap_intervals(found)
    table = geospot.scoring.metrics.columns(found)
    for key in ("median_km", "mean_km", "acc_750km"):
        low, high = bootstrap[key]
        assert linear_interval(table[key], place, key == "median_km") == pytest.approx(
            (low, high), abs=0.12 * (high - low)
        )


def test_confusions_name_the_pairs_by_hand():
    found = confusions(
        judge(truths([48.85, 45.76, 52.5], [2.35, 4.84, 13.4]), guesses([52.5, 52.4, 52.4], [13.4, 13.3, 13.5]))
    )
    assert [(c.truth, c.guess, c.n, c.share) for c in found] == [("FR", "DE", 2, 1.0)]


def test_reference_rows_see_no_picture():
    lat, lon = near_cities(200, 7)
    truth = truths(lat, lon)
    rows = {row.name.split(" (")[0]: row for row in reference_rows(truth, ["constant", "country", "population"])}
    assert set(rows) == {"best constant place", "centre of the most frequent country", "a city drawn by population"}
    constant = rows["best constant place"]
    assert len(np.unique(constant.guesses.lat)) == 1
    assert "oracle" in constant.name
    assert constant.summary["median_km"] <= rows["centre of the most frequent country"].summary["median_km"]
    assert {row.model for row in published_rows("/data/Im2GPS3k.csv")} >= {"GeoCLIP", "GeoRanker"}
    assert all(row.source for row in published_rows(None))


# --- the Python API ---


def test_score_takes_coordinates_texts_places_and_nothing():
    found = score([(48.8, 2.3), None, "Latitude: 40.0\nLongitude: -74.0", (NAN, NAN)], [(48.85, 2.35)] * 4)
    assert found.summary["answered/n"] == 2
    assert found.predictions.failures[1] == "no answer"
    assert "median km" in str(found)
    assert score(np.array([[48.8, 2.3]]), np.array([[48.85, 2.35]]), labels=False).summary["acc_25km"] == 1
    with pytest.raises(ValueError, match="2 guesses for 1 truths"):
        score([(1, 2), (3, 4)], [(1, 2)])
    with pytest.raises(ValueError, match=r"\(120.0, 10.0\): must be"):
        score((120, 10), (1, 2))
    with pytest.raises(ValueError, match="truths are needed"):
        score((1, 2))


def test_importing_geospot_is_light():
    import subprocess
    import sys

    code = "import sys, geospot; print(sorted({'numpy', 'torch', 'chz'} & set(sys.modules)), geospot.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.stdout.startswith("[] 0."), done.stdout + done.stderr
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        geospot.nothing  # noqa: B018


# --- what was read stays ---


def test_answers_are_carried_through_and_never_made_again():
    answers = [parse_answer("City: Paris\nCountry: France\nLatitude: 48.85\nLongitude: 2.35"), parse_answer("no idea")]
    parts = [Guesses.of_answers("m", [key], [a], [key]) for key, a in zip("ab", answers, strict=True)]
    whole = Guesses.joined(parts)
    assert [a is b for a, b in zip(whole.answers, answers, strict=True)] == [True, True]
    again = whole.take([1, -1, 0], ["b", "c", "a"])
    assert again.answers[0] is answers[1]
    assert again.answers[2] is answers[0]
    assert again.answers[1].error == again.failures[1] == NOT_GIVEN
    assert again.texts == ["b", "", "a"]
    assert np.isnan(again.lat).tolist() == [True, True, False]


def test_columns_of_a_table_are_answers_too():
    table = guesses([48.85, NAN], [2.35, NAN], labels={"country": ["FR", None]})
    assert table.answers == [Answer(48.85, 2.35, country="FR"), Answer(None, None, error="empty")]
