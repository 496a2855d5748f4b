"""The same metrics by group of places: country, continent, population density, income."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geospot.metrics.bootstrap import intervals, resample
from geospot.metrics.predictions import Predictions
from geospot.metrics.summary import summarize

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

    Each group is resampled by itself. Groups of fewer than LEAST_PLACES places have no intervals.
    """
    names = np.array(["" if name is None else name for name in names], dtype=object)
    found, inverse, sizes = np.unique(names.astype(str), return_inverse=True, return_counts=True)
    rank = {name: i for i, name in enumerate(order or ())}
    groups = []
    for i in sorted(range(len(found)), key=lambda i: (rank.get(found[i], len(rank)), -sizes[i], found[i])):
        if found[i] == "":
            continue
        part = predictions.take(inverse == i)
        summary = summarize(part)
        bounds = {}
        if part.n_places >= LEAST_PLACES:
            (samples,) = resample([part], GROUP_RESAMPLES, seed, GROUP_METRICS)
            bounds = intervals(part, samples)
        groups.append(Group(str(found[i]), {k: summary[k] for k in ("n", "n_places", *GROUP_METRICS)}, bounds))
    return groups
