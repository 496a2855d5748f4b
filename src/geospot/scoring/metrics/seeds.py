"""Intervals over training seeds and places together: of a metric, and of a paired difference of two variants.

A study has S runs (seeds) of a variant, all evaluated on the same places. Both levels vary: another seed gives another
run, another draw of places another metric. This is a hierarchical bootstrap whose lower level, the places, is resampled
(the same draw for every run, since the runs share them), and whose upper level is in closed form: with three to five
seeds, resampled seeds give percentiles that are far too narrow, and no number of resamples helps. The variance of
the mean over seeds is (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1, 2007, for the components)

    seeds / S + places,  seeds: variance of the S values,  places: mean covariance of two seeds' resampled values

where what a seed does at a place is in the first term already. Student's t with the degrees of freedom of Satterthwaite
(Biometrics Bulletin 2, 1946). Two or three seeds may agree by chance, on a share of few places to the last digit; the
interval is therefore never narrower than the one over places alone, for seeds that differ in nothing but what they do
at single places. `benchmarks/study_coverage.py` measures how often it holds the true difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from geospot.earth.distance import MAX_DISTANCE_KM
from geospot.earth.score import MAX_SCORE
from geospot.scoring.metrics.bootstrap import N_RESAMPLES, resample
from geospot.scoring.metrics.summary import Predictions, columns, statistic

# Higher is better of all but these.
LESS_IS_BETTER = ("median_km", "mean_km", "failure_rate")


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % interval, and the two-sided p-value of its being 0; NaN where unknown."""

    value: float
    low: float
    high: float
    p: float

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def across_seeds(values_S: ArrayLike, resampled_SR: ArrayLike, n_places: int, confidence: float = 0.95) -> Estimate:
    """From a statistic of S seeds (S,) and its values over R resamples of the places (S, R), drawn alike for all.

    For a paired difference both are differences, seed by seed. One seed has an interval over places alone.
    """
    from scipy.special import stdtr, stdtrit

    values, resampled = np.asarray(values_S, np.float64), np.asarray(resampled_SR, np.float64)
    n_seeds = len(values)
    resampled = resampled[:, ~np.isnan(resampled).any(axis=0)]
    if n_seeds == 0 or n_places < 2 or np.isnan(values).any() or resampled.shape[1] < 2:
        return Estimate(float(values.mean()) if n_seeds else np.nan, np.nan, np.nan, np.nan)
    between = np.atleast_2d(np.cov(resampled))  # (S, S), over resamples
    shared = max(_off_diagonal(between), 0.0)
    alone = max(float(np.trace(between)) / n_seeds - shared, 0.0) / n_seeds  # what each seed does at a place, at least
    spreads = [_spread([(shared, n_places - 1), (alone, n_places - 1)])]
    if n_seeds > 1:
        spreads.append(_spread([(shared, n_places - 1), (float(values.var(ddof=1)) / n_seeds, n_seeds - 1)]))
    value = float(values.mean())
    away = max(float(stdtrit(freedom, (1 + confidence) / 2)) * deviation for deviation, freedom in spreads)
    p = max(
        2 * float(stdtr(freedom, -abs(value) / deviation)) if deviation else float(value == 0)
        for deviation, freedom in spreads
    )
    return Estimate(value, value - away, value + away, p)


def _spread(parts: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """The standard deviation of a sum of variances, and Satterthwaite's degrees of freedom, from theirs."""
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return 0.0, 1.0
    return variance**0.5, variance**2 / sum(part**2 / degrees for part, degrees in parts)


def _off_diagonal(matrix: np.ndarray) -> float:
    """The mean of the entries beside the diagonal of (S, S); of (1, 1) its only one."""
    n = len(matrix)
    return float(matrix[0, 0] if n == 1 else (matrix.sum() - np.trace(matrix)) / (n * (n - 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (S. Holm, Scandinavian Journal of Statistics 6, 1979); NaN stays, uncounted.

    scipy has only the false discovery rate, and statsmodels would be a dependency for five lines.
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1.0)
    return adjusted.tolist()


@dataclass(frozen=True)
class VariantEstimates:
    """What S runs of a variant come to: metric -> estimate, metric -> difference to the baseline (empty for itself)."""

    seeds: tuple[int, ...]
    by_seed: dict[str, list[float]]
    metrics: dict[str, Estimate]
    differences: dict[str, Estimate]
    paired_seeds: tuple[int, ...]  # that the differences are over


def _possible(key: str, found: Estimate, difference: bool = False) -> Estimate:
    """With few seeds an interval may reach beyond what a metric, or a difference of two, can be: 0 km, 100 %."""
    most = MAX_DISTANCE_KM if key.endswith("_km") else MAX_SCORE if key == "geoguessr_score" else 1.0
    low, high = (float(np.clip(end, -most if difference else 0.0, most)) for end in (found.low, found.high))
    return replace(found, low=low, high=high)


def compare_variants(
    variants: Mapping[str, Mapping[int, Predictions]],
    baseline: str,
    keys: Sequence[str],
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> dict[str, VariantEstimates]:
    """Variant -> its estimates, from variant -> seed -> predictions, all over the same pictures in the same order.

    Differences are variant less baseline, paired by seed and by place, over the seeds that both have.
    """
    runs = [(name, number) for name, by_seed in variants.items() for number in sorted(by_seed)]
    predictions = [variants[name][number] for name, number in runs]
    drawn = dict(zip(runs, resample(predictions, n_resamples, seed, keys), strict=True))
    tables = {run: columns(found) for run, found in zip(runs, predictions, strict=True)}
    whole = {run: {key: statistic(key, table[key]) for key in keys} for run, table in tables.items()}
    n_places = predictions[0].n_places
    found = {}
    for name, by_seed in variants.items():
        own = [(name, number) for number in sorted(by_seed)]
        pairs = [(run, (baseline, run[1])) for run in own if run[1] in variants[baseline]]
        metrics, differences = {}, {}
        for key in keys:
            level = across_seeds([whole[run][key] for run in own], [drawn[run][key] for run in own], n_places)
            metrics[key] = _possible(key, level)
            if name != baseline and pairs:
                values = [whole[a][key] - whole[b][key] for a, b in pairs]
                moved = [drawn[a][key] - drawn[b][key] for a, b in pairs]
                differences[key] = _possible(key, across_seeds(values, moved, n_places), difference=True)
        found[name] = VariantEstimates(
            seeds=tuple(number for _, number in own),
            by_seed={key: [whole[run][key] for run in own] for key in keys},
            metrics=metrics,
            differences=differences,
            paired_seeds=tuple(run[1] for run, _ in pairs),
        )
    return found
