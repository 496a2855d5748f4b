"""Two models on the same pictures: how much better is one, and is it more than chance?"""

from dataclasses import dataclass

import numpy as np

from geospot.metrics.bootstrap import N_RESAMPLES, percentile_interval, resample
from geospot.metrics.predictions import Predictions
from geospot.metrics.summary import summarize


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
    value_a, value_b = summarize(a), summarize(b)
    return {
        key: Difference(
            value_a[key] - value_b[key],
            *percentile_interval(samples_a[key] - samples_b[key], a.n_places, confidence),
        )
        for key in samples_a
    }


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
