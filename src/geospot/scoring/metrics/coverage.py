"""Does a stated radius hold the truth as often as it says?"""

from dataclasses import dataclass

import numpy as np

from geospot.earth.distance import MAX_DISTANCE_KM
from geospot.scoring.metrics.bootstrap import ratio_interval
from geospot.scoring.metrics.interval import certain_share
from geospot.scoring.metrics.predictions import Predictions

_BINS = 5


@dataclass(frozen=True)
class Coverage:
    """Of N pictures with a radius: the share whose truth lay inside, with its interval, and how large radii were."""

    n: int
    coverage: float
    low: float
    high: float
    median_radius_km: float


@dataclass(frozen=True)
class RadiusReport:
    """All radii together, and by their size (fifths of the pictures, the smallest radii first).

    `probability` is what was stated; None where the source does not say it.
    """

    probability: float | None
    all: Coverage
    by_size: list[Coverage]


def radius_report(predictions: Predictions, radius_km: np.ndarray, probability: float | None) -> RadiusReport:
    """`radius_km` (N,), NaN where none was stated. A failed answer's radius holds nothing."""
    has = np.flatnonzero(~np.isnan(radius_km))
    inside = np.nan_to_num(predictions.distance_km[has], nan=np.inf) <= radius_km[has]
    # A radius of half the Earth holds every truth, also the one of an answer that failed.
    inside |= radius_km[has] >= MAX_DISTANCE_KM
    place = np.unique(predictions.place[has], return_inverse=True)[1].ravel()
    order = np.argsort(radius_km[has], kind="stable")
    bins = [part for part in np.array_split(order, _BINS) if len(part) >= _BINS]
    return RadiusReport(
        probability,
        coverage(inside, place, radius_km[has]),
        [coverage(inside[part], place[part], radius_km[has][part]) for part in bins],
    )


def coverage(inside: np.ndarray, place: np.ndarray, radius_km: np.ndarray) -> Coverage:
    """The share of `inside` (N,) bool with its bootstrap interval over places (N,)."""
    place = np.unique(place, return_inverse=True)[1].ravel()
    hits, sizes = np.bincount(place, inside), np.bincount(place)
    if inside.all() or not inside.any():
        low, high = certain_share(int(inside.all()), len(sizes))
    else:
        low, high = ratio_interval(hits, sizes)
    return Coverage(len(inside), float(inside.mean()), low, high, float(np.median(radius_km)))
