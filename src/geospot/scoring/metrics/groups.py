"""Metrics by group of places (country, continent, population density, income), and coverage of the stated radius."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geospot.earth.distance import MAX_DISTANCE_KM
from geospot.scoring.metrics.bootstrap import resample
from geospot.scoring.metrics.intervals import certain_share, intervals, linear_interval, ratio_interval
from geospot.scoring.metrics.summary import Predictions, columns, statistic

GROUP_METRICS = (
    "median_km",
    "geoguessr_score",
    "acc_25km",
    "acc_750km",
    "geo_country_acc",
    "text_country_acc",
    "failure_rate",
)
GROUP_RESAMPLES = 500
MANY_PLACES = 1000  # from here on intervals need no resampling
LEAST_PLACES = 5  # fewer say nothing about how a number would vary: no interval


@dataclass(frozen=True)
class Group:
    """One line of a table by group."""

    name: str
    summary: dict[str, float]
    intervals: dict[str, tuple[float, float]]


def by_group(
    predictions: Predictions,
    names: Sequence[str | None],
    order: Sequence[str] | None = None,
    seed: int = 0,
    whole: Mapping[str, tuple[float, float]] | None = None,
) -> list[Group]:
    """GROUP_METRICS of the pictures of each name (N,), None being in no group; the largest group first, or in `order`.

    Each group is resampled by itself, one of MANY_PLACES or more has intervals without (`linear_interval`), and one of
    fewer than LEAST_PLACES has none. `whole`: the intervals of the whole set, which a group of all pictures has too.
    """
    known = np.array(["" if name is None else name for name in names], dtype=object)
    found, inverse, sizes = np.unique(known.astype(str), return_inverse=True, return_counts=True)
    rank = {name: i for i, name in enumerate(order or ())}
    groups = []
    for i in sorted(range(len(found)), key=lambda i: (rank.get(found[i], len(rank)), -sizes[i], found[i])):
        if found[i] == "":
            continue
        part = predictions.take(inverse == i)
        table = columns(part)
        summary = {"n": float(len(part)), "n_places": float(part.n_places)}
        summary |= {key: statistic(key, table[key]) for key in GROUP_METRICS}
        if whole is not None and len(part) == len(predictions):
            intervals_of = {key: whole[key] for key in GROUP_METRICS}
        else:
            intervals_of = _intervals(part, table, seed)
        groups.append(Group(str(found[i]), summary, intervals_of))
    return groups


def _intervals(part: Predictions, table: dict[str, np.ndarray], seed: int) -> dict[str, tuple[float, float]]:
    if part.n_places < LEAST_PLACES:
        return {}
    if part.n_places >= MANY_PLACES:
        return {key: linear_interval(table[key], part.place, key.endswith("median_km")) for key in GROUP_METRICS}
    (samples,) = resample([part], GROUP_RESAMPLES, seed, GROUP_METRICS)
    return intervals(part, samples)


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
