"""From resampled values to a 95 % interval.

BCa (B. Efron, "Better Bootstrap Confidence Intervals", JASA 82, 1987): percentiles of the resampled values, shifted for
bias and for skew, which distances have plenty of. They are taken a little farther out for few places, as far as
Student's t lies outside the normal distribution (T. Hesterberg, "What Teachers Should Know About the Bootstrap", The
American Statistician 69, 2015). A share of exactly 0 or 1, of which every resample is alike, gets the exact binomial
bound (Clopper and Pearson 1934).
"""

from functools import lru_cache

import numpy as np


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


def linear_interval(column: np.ndarray, place: np.ndarray, is_median: bool, confidence: float = 0.95):
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
