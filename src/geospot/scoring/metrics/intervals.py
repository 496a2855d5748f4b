"""From resampled values to a 95 % interval.

BCa (B. Efron, "Better Bootstrap Confidence Intervals", JASA 82, 1987): percentiles of the resampled values, shifted for
bias and for skew, which distances have plenty of. They are taken a little farther out for few places, as far as
Student's t lies outside the normal distribution (T. Hesterberg, "What Teachers Should Know About the Bootstrap", The
American Statistician 69, 2015). A share of exactly 0 or 1, of which every resample is alike, gets the exact binomial
bound (Clopper and Pearson 1934).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from geospot.scoring.metrics.bootstrap import N_RESAMPLES, draw_blocks, draw_counts, resample
from geospot.scoring.metrics.summary import Predictions, columns, statistic


def bca_interval(
    values: np.ndarray, estimate: float, n: int, influence: np.ndarray | None = None, confidence: float = 0.95
) -> tuple[float, float]:
    """(low, high) from resampled values of a statistic of n places that is `estimate`; NaN for fewer than two places.

    `influence` (n,) is each place's on the statistic (see `mean_influence`), from which its skew is known; None for a
    median, whose few values make nonsense of both corrections. Resamples without a value are left out.
    """
    from scipy.special import ndtr, ndtri

    values = values[~np.isnan(values)]
    if n < 2 or len(values) == 0 or np.isnan(estimate):
        return (np.nan, np.nan)
    z = np.array([-1, 1]) * _far_out(n, confidence)
    if influence is None:
        low, high = np.quantile(values, ndtr(z))
        return float(low), float(high)
    slack = 1e-9 * max(1.0, abs(estimate))  # sums in another order are not bit for bit the same
    below = np.mean(values < estimate - slack) + np.mean(np.abs(values - estimate) <= slack) / 2
    bias = ndtri(np.clip(below, 1 / (2 * len(values)), 1 - 1 / (2 * len(values))))
    influence = influence / max(np.abs(influence).max(), 1e-300)
    spread = float(np.sum(influence**2))
    skew = float(np.sum(influence**3)) / (6 * spread**1.5) if spread > 0 else 0.0
    z = bias + z
    low, high = np.quantile(values, ndtr(bias + z / np.maximum(1 - skew * z, 1e-3)))
    return float(low), float(high)


@lru_cache(maxsize=4096)
def _far_out(n: int, confidence: float) -> float:
    """How many standard errors out: 1.96 for many places."""
    from scipy.special import stdtrit

    return float(np.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 + confidence) / 2))


def mean_influence(column: np.ndarray, place: np.ndarray) -> np.ndarray:
    """How much each place (P,) moves the mean of `column` (N,), NaN left out, up to a factor that all share."""
    present = ~np.isnan(column)
    if not present.any():
        return np.zeros(1)
    centred = np.where(present, column - np.mean(column[present]), 0.0) / np.count_nonzero(present)
    return np.bincount(place, centred)


def linear_interval(
    column: np.ndarray, place: np.ndarray, is_median: bool, confidence: float = 0.95
) -> tuple[float, float]:
    """(low, high) without resampling, for many places, where the bootstrap comes to the same (N values, NaN left out).

    A mean by the variance of the places' influence (the infinitesimal jackknife, Efron and Tibshirani 1993, ch. 21);
    a median by the ranks as far from the middle as the share of values below it varies (R. Woodruff, JASA 47, 1952).
    """
    column, place = column[~np.isnan(column)], place[~np.isnan(column)]
    n = int(np.count_nonzero(np.bincount(place, minlength=1)))
    if n < 2:
        return (np.nan, np.nan)
    if is_median:
        ranked = np.sort(column)
        share = np.bincount(place, (column <= ranked[(len(ranked) - 1) // 2]) - 0.5)
        away = _far_out(n, confidence) * np.sqrt(np.sum(share**2)) / len(column)
        ranks = np.clip(np.array([0.5 - away, 0.5 + away]) * len(column), 0, len(column) - 1)
        return float(ranked[int(ranks[0])]), float(ranked[int(np.ceil(ranks[1]))])
    away = _far_out(n, confidence) * np.sqrt(np.sum(mean_influence(column, place) ** 2))
    return float(np.mean(column) - away), float(np.mean(column) + away)


def certain_share(share: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact binomial interval of a share of 0 or 1 of n places."""
    bound = float(((1 - confidence) / 2) ** (1 / n))
    return (bound, 1.0) if share else (0.0, 1.0 - bound)


def intervals(
    predictions: Predictions, samples: dict[str, np.ndarray], confidence: float = 0.95
) -> dict[str, tuple[float, float]]:
    """The interval (low, high) of each metric from its resampled values; NaN where fewer than two places take part."""
    table, found = columns(predictions), {}
    for key, values in samples.items():
        present = ~np.isnan(table[key])
        column = table[key][present]
        n = int(np.count_nonzero(np.bincount(predictions.place[present], minlength=1)))
        if _is_share(key) and n and (np.all(column == 0) or np.all(column == 1)):
            found[key] = certain_share(int(column[0]), n, confidence)
        else:
            influence = place_influence(key, table[key], predictions.place)
            found[key] = bca_interval(values, statistic(key, table[key]), n, influence, confidence)
    return found


def place_influence(key: str, column: np.ndarray, place: np.ndarray) -> np.ndarray | None:
    """Each place's influence on a metric; None for a median, which has no skew of this kind."""
    return None if key.endswith("median_km") else mean_influence(column, place)


def _is_share(key: str) -> bool:
    return key.endswith("_rate") or "acc" in key.rpartition("/")[2]


def ratio_interval(top: np.ndarray, bottom: np.ndarray, n_resamples: int = N_RESAMPLES) -> tuple[float, float]:
    """The 95 % interval of sum(top) / sum(bottom) over places (N,)."""
    both = np.stack([top, bottom], axis=1).astype(np.float64)
    blocks = draw_blocks(len(both), len(both), n_resamples)
    sums = np.concatenate([draw_counts(len(both), rows, 0, block) @ both for block, rows in blocks])
    ratio = float(both[:, 0].sum() / both[:, 1].sum())
    return bca_interval(sums[:, 0] / sums[:, 1], ratio, len(both), both[:, 0] - ratio * both[:, 1])


def bootstrap_intervals(
    predictions: Predictions, n_resamples: int = N_RESAMPLES, seed: int = 0, confidence: float = 0.95
) -> dict[str, tuple[float, float]]:
    """The interval (low, high) of every key of `summarize` but the counts."""
    (samples,) = resample([predictions], n_resamples, seed)
    return intervals(predictions, samples, confidence)


@dataclass(frozen=True)
class Difference:
    """A metric of one model less that of another, with the interval of this difference."""

    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def difference(
    a: Predictions,
    b: Predictions,
    samples_a: Mapping[str, np.ndarray],
    samples_b: Mapping[str, np.ndarray],
    confidence: float = 0.95,
) -> dict[str, Difference]:
    """metric(a) - metric(b) for every resampled metric. The samples must be of one call of `resample`."""
    table_a, table_b, found = columns(a), columns(b), {}
    for key in samples_a:
        value = statistic(key, table_a[key]) - statistic(key, table_b[key])
        influence_a, influence_b = (place_influence(key, table[key], a.place) for table in (table_a, table_b))
        influence = None
        if influence_a is not None and influence_b is not None and len(influence_a) == len(influence_b):
            influence = influence_a - influence_b
        moved = samples_a[key] - samples_b[key]
        found[key] = Difference(value, *bca_interval(moved, value, a.n_places, influence, confidence))
    return found


def paired_differences(
    a: Predictions, b: Predictions, n_resamples: int = N_RESAMPLES, seed: int = 0, keys: Sequence[str] | None = None
) -> dict[str, Difference]:
    """metric(a) - metric(b) for every metric, or for `keys`; both over the same pictures in the same order.

    Pairing is what makes the interval narrow: places that are hard for one model are mostly hard for the other.
    """
    if not (np.array_equal(a.truth_lat, b.truth_lat) and np.array_equal(a.truth_lon, b.truth_lon)):
        raise ValueError("a paired difference needs both models over the same pictures in the same order")
    samples_a, samples_b = resample([a, b], n_resamples, seed, keys)
    return difference(a, b, samples_a, samples_b)
