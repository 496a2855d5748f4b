"""Two models on the same pictures: how much better is one, and is it more than chance?"""

from dataclasses import dataclass

import numpy as np

from geospot.scoring.metrics.bootstrap import N_RESAMPLES, place_influence, resample
from geospot.scoring.metrics.interval import bca_interval
from geospot.scoring.metrics.predictions import Predictions
from geospot.scoring.metrics.summary import columns, statistic


@dataclass(frozen=True)
class Difference:
    """A metric of one model less that of another, with the interval of this difference."""

    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def difference(
    a: Predictions, b: Predictions, samples_a: dict, samples_b: dict, confidence: float = 0.95
) -> dict[str, Difference]:
    """metric(a) - metric(b) for every resampled metric. The samples must be of one call of `resample`."""
    table_a, table_b, found = columns(a), columns(b), {}
    for key in samples_a:
        value = statistic(key, table_a[key]) - statistic(key, table_b[key])
        influence_a, influence_b = (place_influence(key, table[key], a.place) for table in (table_a, table_b))
        influence = None
        if influence_a is not None and len(influence_a) == len(influence_b):
            influence = influence_a - influence_b
        moved = samples_a[key] - samples_b[key]
        found[key] = Difference(value, *bca_interval(moved, value, a.n_places, influence, confidence))
    return found


def paired_differences(
    a: Predictions, b: Predictions, n_resamples: int = N_RESAMPLES, seed: int = 0, keys=None
) -> dict[str, Difference]:
    """metric(a) - metric(b) for every metric, or for `keys`; both over the same pictures in the same order.

    Pairing is what makes the interval narrow: places that are hard for one model are mostly hard for the other.
    """
    if not (np.array_equal(a.truth_lat, b.truth_lat) and np.array_equal(a.truth_lon, b.truth_lon)):
        raise ValueError("a paired difference needs both models over the same pictures in the same order")
    samples_a, samples_b = resample([a, b], n_resamples, seed, keys)
    return difference(a, b, samples_a, samples_b)
