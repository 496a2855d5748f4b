"""The same metrics by group of places: country, continent, population density, income."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geospot.scoring.metrics.bootstrap import intervals, resample
from geospot.scoring.metrics.interval import linear_interval
from geospot.scoring.metrics.predictions import Predictions
from geospot.scoring.metrics.summary import columns, statistic

GROUP_METRICS = (
    "median_km",
    "geoguessr_score",
    "acc_25km",
    "acc_750km",
    "geo_country_acc",
    "country_acc",
    "failure_rate",
)
GROUP_RESAMPLES = 500
MANY_PLACES = 1000  # from here on intervals need no resampling
LEAST_PLACES = 5  # fewer tell nothing about how a number would vary: no interval then


@dataclass(frozen=True)
class Group:
    """One line of a table by group."""

    name: str
    summary: dict[str, float]
    intervals: dict[str, tuple[float, float]]


def by_group(
    predictions: Predictions, names: Sequence[str | None], order: Sequence[str] | None = None, seed: int = 0
) -> list[Group]:
    """GROUP_METRICS of the pictures of each name (N,), None being in no group; the largest group first, or in `order`.

    Each group is resampled by itself, one of MANY_PLACES or more has intervals without (`linear_interval`), and one of
    fewer than LEAST_PLACES has none.
    """
    names = np.array(["" if name is None else name for name in names], dtype=object)
    found, inverse, sizes = np.unique(names.astype(str), return_inverse=True, return_counts=True)
    rank = {name: i for i, name in enumerate(order or ())}
    groups = []
    for i in sorted(range(len(found)), key=lambda i: (rank.get(found[i], len(rank)), -sizes[i], found[i])):
        if found[i] == "":
            continue
        part = predictions.take(inverse == i)
        table = columns(part)
        summary = {"n": float(len(part)), "n_places": float(part.n_places)}
        summary |= {key: statistic(key, table[key]) for key in GROUP_METRICS}
        groups.append(Group(str(found[i]), summary, _intervals(part, table, seed)))
    return groups


def _intervals(part: Predictions, table: dict[str, np.ndarray], seed: int) -> dict[str, tuple[float, float]]:
    if part.n_places < LEAST_PLACES:
        return {}
    if part.n_places >= MANY_PLACES:
        return {key: linear_interval(table[key], part.place, key.endswith("median_km")) for key in GROUP_METRICS}
    (samples,) = resample([part], GROUP_RESAMPLES, seed, GROUP_METRICS)
    return intervals(part, samples)
