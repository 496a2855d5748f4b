"""Intervals over seeds and places together hold what they should; Holm's correction by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geospot.scoring.metrics import Predictions
from geospot.scoring.metrics.bootstrap import draw_counts
from geospot.scoring.metrics.seeds import across_seeds, compare_variants, holm

TRUE = 0.7


def simulated(rng: np.random.Generator, seeds: int, places: int, spread: dict[str, float]) -> np.ndarray:
    """Differences of two variants (S, P) whose mean over all seeds and places there could be is TRUE."""
    of_seed = rng.normal(0, spread["seed"], (seeds, 1))
    of_place = rng.normal(0, spread["place"], (1, places))
    return TRUE + of_seed + of_place + rng.normal(0, spread["both"], (seeds, places))


@pytest.mark.parametrize(
    ("seeds", "spread"),
    [
        (5, {"seed": 0.3, "place": 3.0, "both": 3.0}),
        (5, {"seed": 1.0, "place": 1.0, "both": 1.0}),
        (3, {"seed": 0.3, "place": 3.0, "both": 2.0}),
        (5, {"seed": 0.0, "place": 3.0, "both": 0.5}),
        (3, {"seed": 1.0, "place": 0.2, "both": 0.2}),
    ],
)
def test_the_interval_of_a_known_difference_holds_it_93_to_97_times_in_100(seeds, spread):
    rng, places, sets = np.random.default_rng(1), 100, 1500
    counts = draw_counts(places, 200, seed=0, block=0) / places
    held = 0
    for _ in range(sets):
        differences = simulated(rng, seeds, places, spread)
        found = across_seeds(differences.mean(axis=1), differences @ counts.T, places)
        held += found.low <= TRUE <= found.high
    assert 0.93 <= held / sets <= 0.97, held / sets


def test_seeds_alone_and_places_alone_are_student_s_t():
    values = np.array([1.0, 2.0, 4.0])
    alike = np.tile(values[:, None], 50)  # no place moves anything
    found = across_seeds(values, alike, n_places=100)
    away = 4.302653 * values.std(ddof=1) / 3**0.5  # t of 2 degrees of freedom
    assert (found.value, found.low, found.high) == pytest.approx((7 / 3, 7 / 3 - away, 7 / 3 + away))
    assert found.p == pytest.approx(1 - 7**0.5 / 3)  # t = sqrt(7): p = 1 - t / sqrt(t^2 + 2)
    assert not found.clear
    one = across_seeds([2.0], [[1.0, 3.0, 1.0, 3.0]], n_places=1000)
    assert one.low < 2.0 < one.high  # one seed: places alone
    same = across_seeds([0.0, 0.0], np.zeros((2, 9)), n_places=9)
    assert (same.low, same.high, same.p) == (0.0, 0.0, 1.0)
    assert np.isnan(across_seeds([np.nan, 1.0], np.ones((2, 9)), n_places=9).low)


def test_seeds_that_agree_by_chance_do_not_make_places_certain():
    """Both seeds hit one place of 60 more than the baseline, each another one: the places are still a draw."""
    rng, truth = np.random.default_rng(0), np.linspace(0, 40, 60)
    base = predictions(rng, truth, 1.0)

    def with_hit(i: int) -> Predictions:
        lat = base.lat.copy()
        lat[i] = truth[i]
        return Predictions(truth, np.zeros(60), lat, np.zeros(60), place=np.arange(60))

    runs = {"a": {1: base, 2: base}, "b": {1: with_hit(3), 2: with_hit(40)}}
    found = compare_variants(runs, "a", ["acc_25km"], n_resamples=500)["b"].differences["acc_25km"]
    assert found.value == pytest.approx(1 / 60)
    assert found.low < 0 < found.high
    assert found.p > 0.05


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, np.nan]) == pytest.approx([0.03, 0.06, 0.06, np.nan], nan_ok=True)
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=9))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p):
    adjusted = holm(p)
    assert all(a >= b for a, b in zip(adjusted, p, strict=True))
    assert all(0 <= a <= 1 for a in adjusted)
    order = np.argsort(p, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)


def predictions(rng: np.random.Generator, truth: np.ndarray, away: float) -> Predictions:
    n = len(truth)
    return Predictions(
        truth, np.zeros(n), truth + away * np.abs(rng.normal(1, 0.2, n)), np.zeros(n), place=np.arange(n)
    )


def test_a_variant_is_compared_with_the_baseline_on_the_seeds_that_both_have():
    rng, truth = np.random.default_rng(0), np.linspace(0, 40, 60)
    variants = {
        "wide": {s: predictions(rng, truth, 1.0) for s in (0, 1, 2)},
        "narrow": {s: predictions(rng, truth, 0.5) for s in (1, 2, 3)},
    }
    found = compare_variants(variants, "wide", ["median_km", "geoguessr_score"], n_resamples=200)
    assert found["narrow"].seeds == (1, 2, 3)
    assert found["narrow"].paired_seeds == (1, 2)
    assert found["wide"].differences == {}
    shorter = found["narrow"].differences["median_km"]
    assert shorter.value == pytest.approx(-55.6, abs=6)
    assert shorter.clear
    assert found["narrow"].differences["geoguessr_score"].low > 0
    again = compare_variants(variants, "wide", ["median_km", "geoguessr_score"], n_resamples=200)
    assert again == found


def test_no_interval_reaches_beyond_what_a_metric_or_a_difference_can_be():
    """Two seeds that disagree about everything: Student's t with one degree of freedom is wider than the scale."""
    rng, truth = np.random.default_rng(0), np.linspace(0, 40, 60)
    near, far = predictions(rng, truth, 0.01), predictions(rng, truth, 30.0)
    keys = ["acc_25km", "median_km", "geoguessr_score"]
    found = compare_variants({"a": {1: near, 2: far}, "b": {1: far, 2: near}}, "a", keys, n_resamples=200)["b"]
    for key, most in zip(keys, (1.0, 20_015.12, 5000.0), strict=True):
        difference, level = found.differences[key], found.metrics[key]
        assert -most <= difference.low <= difference.value <= difference.high <= most, key
        assert 0.0 <= level.low <= level.value <= level.high <= most, key
    assert (found.differences["acc_25km"].low, found.differences["acc_25km"].high) == (-1.0, 1.0)
