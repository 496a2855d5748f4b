"""Metrics: values worked by hand, independent references, and the promise that failing never pays."""

import statistics
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from geospot.earth.distance import EARTH_RADIUS_KM, MAX_DISTANCE_KM, haversine_km
from geospot.scoring.metrics import (
    METRICS,
    Predictions,
    bootstrap,
    bootstrap_intervals,
    columns,
    intervals,
    paired_differences,
    summarize,
)
from geospot.scoring.metrics.bootstrap import draw_counts, resample
from geospot.scoring.metrics.intervals import bca_interval, certain_share
from geospot.scoring.references import best_constant_place, least_median_km

NAN = float("nan")
DEGREE_KM = EARTH_RADIUS_KM * np.pi / 180  # along the equator: 111.195 km
RESAMPLES, DRAWS = 600, 20  # of each simulated data set, and how many different sets of them there are


def on_the_equator(distances_km, **kwargs) -> Predictions:
    """Truths at (0, 0), answers due east at the given distances; NaN is a failed answer."""
    lon = np.asarray(distances_km, dtype=float) / DEGREE_KM
    zeros = np.zeros(len(lon))
    return Predictions(zeros, zeros, np.where(np.isnan(lon), NAN, 0.0), lon, **kwargs)


def test_values_worked_by_hand():
    summary = summarize(on_the_equator([10, 100, 1000, NAN]))
    assert summary["n"] == 4
    assert summary["answered/n"] == 3
    assert summary["failure_rate"] == 0.25
    assert summary["median_km"] == pytest.approx(550)  # the middle two of 10, 100, 1000, 20015
    assert summary["mean_km"] == pytest.approx((1110 + MAX_DISTANCE_KM) / 4)
    assert summary["answered/median_km"] == pytest.approx(100)
    assert summary["answered/mean_km"] == pytest.approx(370)
    # 5000 exp(-d / 1492.7): 4966.62, 4675.98, 2558.68; the failed answer scores nothing, not 5000 exp(-13.4)
    assert summary["geoguessr_score"] == pytest.approx((4966.6153 + 4676.0084 + 2558.7170) / 4, abs=0.01)
    assert summary["answered/geoguessr_score"] == pytest.approx(summary["geoguessr_score"] * 4 / 3)
    accuracies = {key: value for key, value in summary.items() if key.startswith("acc_")}
    assert accuracies == {"acc_1km": 0, "acc_25km": 0.25, "acc_200km": 0.5, "acc_750km": 0.5, "acc_2500km": 0.75}
    assert summary["answered/acc_200km"] == pytest.approx(2 / 3)


def test_labels_the_truth_lacks_are_left_out_and_failed_answers_miss_every_label():
    predictions = on_the_equator([0, 0, NAN, NAN], text_country_hit=[1, 0, 1, NAN], text_city_hit=[NAN, 0.5, NAN, NAN])
    summary = summarize(predictions)
    assert summary["text_country_acc"] == pytest.approx(1 / 3)  # the third answer failed: its hit does not count
    assert summary["answered/text_country_acc"] == pytest.approx(1 / 2)
    assert summary["text_city_acc"] == 0.5
    assert np.isnan(summary["text_region_acc"])
    assert np.isnan(bootstrap_intervals(predictions, 50)["text_region_acc"]).all()


def test_all_failed_is_a_number_for_all_and_nan_for_answered_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predictions = on_the_equator([NAN, NAN], failures=("empty", "no coordinates"))
        summary, intervals = summarize(predictions), bootstrap_intervals(predictions, 20)
    assert (summary["median_km"], summary["geoguessr_score"], summary["failure_rate"]) == (MAX_DISTANCE_KM, 0, 1)
    assert np.isnan(summary["answered/median_km"])
    assert intervals["median_km"] == (MAX_DISTANCE_KM, MAX_DISTANCE_KM)
    assert np.isnan(intervals["answered/median_km"]).all()


def test_failure_counts_by_reason():
    predictions = on_the_equator([1, NAN, NAN, NAN], failures=(None, "empty", "no coordinates", "empty"))
    assert predictions.failure_counts() == {"empty": 2, "no coordinates": 1}
    assert on_the_equator([1, NAN]).failures == (None, "no coordinates")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"lat": [95.0]}, r"lat\[0\] is 95.0"),
        ({"lon": [200.0]}, r"lon\[0\] is 200.0"),
        ({"truth_lat": [NAN]}, r"truth_lat\[0\] is not a number"),
        ({"text_country_hit": [2.0]}, r"text_country_hit\[0\] is 2.0"),
        ({"lat": [1.0, 2.0]}, "lat has shape"),
        ({"failures": ("empty",)}, "place 0: failure 'empty'"),
        ({"lat": [NAN], "failures": (None,)}, "place 0: failure None"),
        ({"failures": (None, None)}, "2 entries for 1 places"),
        ({name: [] for name in ("truth_lat", "truth_lon", "lat", "lon")}, "at least one place"),
    ],
)
def test_contradictory_input_is_refused_with_the_value(kwargs, message):
    arguments = {"truth_lat": [0.0], "truth_lon": [0.0], "lat": [0.0], "lon": [0.0]} | kwargs
    with pytest.raises(ValueError, match=message):
        Predictions(**arguments)


# Small sets of distances in which failures, ties and exact hits are common.
distance_lists = st.lists(st.one_of(st.just(NAN), st.just(0.0), st.floats(0, 20000)), min_size=1, max_size=12)


@given(distance_lists, st.data())
def test_failing_never_raises_a_metric(distances, data):
    hits = data.draw(st.lists(st.sampled_from([0.0, 1.0, NAN]), min_size=len(distances), max_size=len(distances)))
    i = data.draw(st.integers(0, len(distances) - 1))
    before = summarize(on_the_equator(distances, text_country_hit=hits))
    after = summarize(on_the_equator([*distances[:i], NAN, *distances[i + 1 :]], text_country_hit=hits))
    for key in METRICS:
        sign = -1 if key.endswith("_km") else 1  # a kilometre is bad, all else is good
        assert np.isnan(before[key]) or sign * after[key] <= sign * before[key] + 1e-9, key


@given(distance_lists, st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_order_of_places_does_not_matter(distances, random):
    hits = np.arange(len(distances)) % 2.0
    order = np.array(random.sample(range(len(distances)), len(distances)))
    a = on_the_equator(distances, text_city_hit=hits)
    b = on_the_equator(np.array(distances)[order], text_city_hit=hits[order])
    assert summarize(a) == pytest.approx(summarize(b), nan_ok=True)
    left, right = bootstrap_intervals(a, 30), bootstrap_intervals(b, 30)
    assert all(left[key] == pytest.approx(right[key], nan_ok=True) for key in left)


@given(distance_lists)
@settings(max_examples=50)
def test_intervals_contain_the_estimate(distances):
    predictions = on_the_equator(distances)
    summary, intervals = summarize(predictions), bootstrap_intervals(predictions, 300)
    assert set(intervals) == set(summary) - {"n", "n_places", "answered/n"}
    for key, (low, high) in intervals.items():
        slack = 1e-6 * max(1.0, abs(summary[key]))
        assert np.isnan(low) or low - slack <= summary[key] <= high + slack, key


@given(distance_lists)
def test_summary_agrees_with_the_statistics_module(distances):
    counted = [MAX_DISTANCE_KM if np.isnan(d) else d for d in distances]
    summary = summarize(on_the_equator(distances))
    assert summary["median_km"] == pytest.approx(statistics.median(counted), abs=1e-4)
    assert summary["mean_km"] == pytest.approx(statistics.fmean(counted), abs=1e-4)


@pytest.mark.parametrize(
    ("key", "statistic", "method"), [("median_km", np.median, "percentile"), ("mean_km", np.mean, "BCa")]
)
def test_intervals_agree_with_scipy(key, statistic, method):
    distances = np.random.default_rng(1).exponential(1000, 101)
    low, high = bootstrap_intervals(on_the_equator(distances), 10_000)[key]
    reference = stats.bootstrap((distances,), statistic, n_resamples=10_000, method=method, rng=2)
    width = high - low
    assert low == pytest.approx(reference.confidence_interval.low, abs=0.06 * width)
    assert high == pytest.approx(reference.confidence_interval.high, abs=0.06 * width)


def test_intervals_agree_with_a_plain_loop_over_the_same_draws():
    distances = np.sort(np.random.default_rng(3).exponential(1000, 640))
    distances[-96:] = NAN  # sorted, so that the canonical order is this one
    predictions = on_the_equator(distances)
    got = resample([predictions], 200, seed=7)[0]
    hits = np.where(np.isnan(distances), 0.0, distances <= 750)
    for row, counts in enumerate(draw_counts(640, 200, 7, 0)):
        sample = np.repeat(distances, counts)
        answered = sample[~np.isnan(sample)]
        assert got["answered/median_km"][row] == pytest.approx(np.median(answered))
        assert got["median_km"][row] == pytest.approx(np.median(np.nan_to_num(sample, nan=MAX_DISTANCE_KM)))
        assert got["answered/mean_km"][row] == pytest.approx(np.mean(answered))
        assert got["acc_750km"][row] == pytest.approx(np.mean(np.repeat(hits, counts)))


def test_the_number_of_threads_does_not_change_the_result(monkeypatch):
    predictions = on_the_equator(np.random.default_rng(4).exponential(500, 4000))
    several = bootstrap_intervals(predictions, 600)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert bootstrap_intervals(predictions, 600) == several


@pytest.fixture
def draws_made_once() -> Iterator[None]:
    """Many simulated data sets share a few sets of draws, of which they are independent: making them costs most."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "draw_counts", lru_cache(maxsize=2 * DRAWS)(draw_counts))
        yield


Draw = Callable[[np.random.Generator], Predictions]


def coverage(draw: Draw, truths: dict[str, float], runs: int) -> dict[str, float]:
    """The share of simulated data sets whose 95 % intervals hold the true values."""
    held = dict.fromkeys(truths, 0)
    for run in range(runs):
        predictions = draw(np.random.default_rng([4, run]))
        found = intervals(predictions, resample([predictions], RESAMPLES, run % DRAWS, keys=list(truths))[0])
        for key, truth in truths.items():
            held[key] += found[key][0] <= truth <= found[key][1]
    return {key: count / runs for key, count in held.items()}


# `benchmarks/coverage.py` does the same 3,000 times and for more kinds of data.
@pytest.mark.usefixtures("draws_made_once")
def test_95_percent_intervals_hold_the_truth_93_to_97_times_of_100():
    truths = {
        "median_km": 1000 * np.log(2),
        "mean_km": 1000.0,
        "geoguessr_score": 5000 * 1492.7 / (1000 + 1492.7),
        "acc_750km": 1 - np.exp(-0.75),
    }
    found = coverage(lambda rng: on_the_equator(rng.exponential(1000, 150)), truths, 300)
    assert {key: share for key, share in found.items() if not 0.93 <= share <= 0.97} == {}


def several_pictures_a_place(rng, n_places: int = 80, pictures: int = 4, clustered: bool = True) -> Predictions:
    """Pictures of a place are about equally hard: 1,000 km on average, most of the spread between places."""
    km = np.repeat(rng.exponential(800, n_places), pictures) + rng.exponential(200, n_places * pictures)
    return on_the_equator(km, place=np.repeat(np.arange(n_places), pictures) if clustered else None)


@pytest.mark.usefixtures("draws_made_once")
def test_places_with_several_pictures_are_resampled_as_places():
    assert 0.93 <= coverage(several_pictures_a_place, {"mean_km": 1000.0}, 300)["mean_km"] <= 0.97
    alone = coverage(lambda rng: several_pictures_a_place(rng, clustered=False), {"mean_km": 1000.0}, 100)
    assert alone["mean_km"] < 0.8  # what treating pictures as independent would claim


@pytest.mark.usefixtures("draws_made_once")
def test_paired_intervals_hold_the_true_difference_93_to_97_times_of_100():
    held, runs, n = 0, 600, 100
    for run in range(runs):
        rng = np.random.default_rng([6, run])
        hard = rng.exponential(800, n)
        a, b = on_the_equator(hard + rng.exponential(300, n)), on_the_equator(hard + rng.exponential(200, n))
        found = paired_differences(a, b, RESAMPLES, seed=run % DRAWS, keys=["mean_km"])["mean_km"]
        held += found.low <= 100 <= found.high
    assert 0.93 <= held / runs <= 0.97


def test_a_share_of_none_or_all_has_the_exact_binomial_bound():
    low, high = bootstrap_intervals(on_the_equator([500.0] * 20), 100)["acc_1km"]
    assert (low, high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    low, high = bootstrap_intervals(on_the_equator([0.5] * 20), 100)["acc_1km"]
    assert (low, high) == (pytest.approx(0.025 ** (1 / 20)), 1.0)
    assert certain_share(0, 100)[1] == pytest.approx(stats.binomtest(0, 100).proportion_ci(0.95).high)


def test_one_place_tells_nothing_about_how_places_vary():
    assert np.isnan(bootstrap_intervals(on_the_equator([5.0, 6.0, 7.0], place=[4, 4, 4]), 50)["mean_km"]).all()


def test_the_interval_is_wider_than_the_plain_percentiles_for_few_places_and_the_same_for_many():
    values = np.random.default_rng(3).normal(size=20_001)
    estimate = float(np.median(values))
    low, high = bca_interval(values, estimate, 5)
    plain = np.quantile(values, [0.025, 0.975])
    assert high - low > 1.4 * np.ptp(plain)
    assert bca_interval(values, estimate, 10**6) == pytest.approx(tuple(plain), abs=1e-3)


def test_paired_differences_by_hand_and_narrower_than_unpaired():
    rng = np.random.default_rng(6)
    hard = rng.exponential(1000, 400)
    noisy = hard + rng.normal(50, 5, 400).clip(0)
    a, b = on_the_equator(noisy), on_the_equator(hard)
    found = paired_differences(a, b)["mean_km"]
    assert found.value == pytest.approx(np.mean(noisy - hard))
    assert found.low < found.value < found.high
    assert found.high - found.low < 2  # the places' own spread, about 200 km wide for each mean, cancels
    assert found.clear
    assert paired_differences(b, a)["mean_km"].value == pytest.approx(-found.value)
    same = paired_differences(a, a, 100)["median_km"]
    assert (same.value, same.low, same.high, same.clear) == (0, 0, 0, False)


def test_paired_differences_count_failures():
    a, b = on_the_equator([10.0, 10.0, NAN, NAN]), on_the_equator([10.0, 10.0, 10.0, 300.0])
    found = paired_differences(a, b, 100)
    assert found["acc_25km"].value == pytest.approx(0.5 - 0.75)
    assert found["median_km"].value == pytest.approx((10 + MAX_DISTANCE_KM) / 2 - 10)


def test_paired_differences_agree_with_scipy():
    rng = np.random.default_rng(8)
    a = rng.exponential(800, 200)
    b = a * rng.uniform(0.5, 1.1, 200)
    found = paired_differences(on_the_equator(a), on_the_equator(b), 5000)["median_km"]
    reference = stats.bootstrap(
        (a, b), lambda a, b, axis: np.median(a, axis) - np.median(b, axis), paired=True, method="percentile",
        n_resamples=5000, rng=9,
    ).confidence_interval  # fmt: skip
    assert found.value == pytest.approx(np.median(a) - np.median(b))
    assert (found.low, found.high) == pytest.approx(
        (reference.low, reference.high), abs=0.08 * (found.high - found.low)
    )


def test_what_cannot_be_paired_is_refused():
    with pytest.raises(ValueError, match="same pictures in the same order"):
        paired_differences(on_the_equator([1.0]), on_the_equator([1.0, 2.0]))
    with pytest.raises(ValueError, match="'points' is no metric; there are failure_rate, median_km"):
        paired_differences(on_the_equator([1.0]), on_the_equator([2.0]), keys=["points"])


def test_best_constant_place_of_a_majority_in_one_city():
    lat, lon = np.array([48.85] * 6 + [-33.9, 35.7, 40.7]), np.array([2.35] * 6 + [151.2, 139.7, -74.0])
    assert haversine_km(*best_constant_place(lat, lon), 48.85, 2.35) < 0.1
    assert best_constant_place([10.0], [179.9]) == pytest.approx((10.0, 179.9))


def test_best_constant_place_does_not_mind_the_date_line():
    lat, lon = best_constant_place([-17.0, -17.0, -17.5, -16.5], [179.0, -179.0, 180.0, 180.0])
    assert abs(lon) > 178.5
    assert -18 < lat < -16


def test_best_constant_place_beats_a_dense_grid():
    rng = np.random.default_rng(10)
    lat = np.concatenate([rng.normal(45, 8, 60), rng.normal(-20, 10, 45)])
    lon = np.concatenate([rng.normal(10, 15, 60), rng.normal(-55, 10, 45)])
    found = np.median(haversine_km(*best_constant_place(lat, lon), lat, lon))
    grid_lat, grid_lon = np.meshgrid(np.arange(-90, 90.1, 0.75), np.arange(-180, 180, 0.75), indexing="ij")
    grid = [
        np.median(haversine_km(y[:, None], x[:, None], lat, lon), axis=1)
        for y, x in zip(grid_lat, grid_lon, strict=True)
    ]
    assert found <= np.min(grid) + 1e-6


def test_every_metric_is_computed_and_documented():
    some = columns(on_the_equator(np.array([1.0, NAN])))
    computed = {key for key in some if not key.startswith("answered/")} - {"failure_rate"}
    assert computed == set(METRICS)
    documented = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    assert [key for key in METRICS if f"`{key}`" not in documented] == []


@given(st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), min_size=1, max_size=12), st.integers(0, 99))
def test_no_place_has_a_median_below_the_bound(places, seed):
    lat, lon = np.array(places).T
    bound, rng = least_median_km(lat, lon), np.random.default_rng(seed)
    middle = np.mean(lat), np.mean(lon)
    for here in (middle, places[0], places[-1], (rng.uniform(-90, 90), rng.uniform(-180, 180))):
        assert np.median(haversine_km(*here, lat, lon)) >= bound - 1e-3


def test_best_constant_place_refuses_nothing():
    with pytest.raises(ValueError, match="N >= 1"):
        best_constant_place([], [])


def test_a_model_has_the_same_intervals_in_whatever_company():
    rng = np.random.default_rng(5)
    lat, lon = rng.uniform(-60, 60, 300), rng.uniform(-180, 180, 300)
    place = rng.integers(0, 200, 300)
    models = [
        Predictions(lat, lon, np.clip(lat + rng.normal(0, 5, 300), -90, 90), lon, place=place, text_country_hit=hits)
        for hits in rng.integers(0, 2, (3, 300))
    ]
    alone = [bootstrap_intervals(model, 200) for model in models]
    for order in ([0, 1, 2], [2, 0, 1], [1, 2]):
        together = resample([models[i] for i in order], 200)
        for i, samples in zip(order, together, strict=True):
            for key, found in intervals(models[i], samples).items():
                assert found == pytest.approx(alone[i][key], nan_ok=True), key
