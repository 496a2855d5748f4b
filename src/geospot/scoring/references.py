"""Reference rows: guesses that never look at a picture, so that a model's numbers have something to stand beside."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from geospot.earth.gazetteer import Gazetteer
from geospot.scoring.guesses import Guesses
from geospot.scoring.judge import Evaluation, judge
from geospot.scoring.metrics import best_constant_place
from geospot.scoring.metrics.baselines import PUBLISHED, Published
from geospot.scoring.truths import Truths

REFERENCES = ("constant", "country", "population", "published")


def parse_references(names: Sequence[str]) -> tuple[str, ...]:
    """The names as given, "all" standing for every one; ValueError for an unknown one."""
    names = tuple(names)
    if "all" in names:
        return REFERENCES
    for name in names:
        if name not in REFERENCES:
            raise ValueError(f"references={name!r}: must be all or some of {', '.join(REFERENCES)}")
    return names


def reference_rows(
    truths: Truths, names: Sequence[str], *, scale: str | float = "world", train: Truths | None = None, seed: int = 0
) -> list[Evaluation]:
    """An evaluation for each of "constant", "country" and "population" in `names`.

    constant: the place with the smallest median distance to the places of `train`; country: the same among the places
    of its most frequent country; population: for each picture a city drawn by population. Without `train` the first
    two are fitted to the truths themselves, which flatters them: their names say "oracle".
    """
    fitted, how = (truths, ", oracle") if train is None else (train, "")
    rows = []
    if "constant" in names:
        lat, lon = best_constant_place(fitted.lat, fitted.lon)
        rows.append(_constant(truths, lat, lon, f"best constant place ({lat:.0f}, {lon:.0f}){how}", scale))
    if "country" in names:
        code = Counter(c for c in fitted.country if c).most_common(1)[0][0]
        inside = np.array([c == code for c in fitted.country])
        lat, lon = best_constant_place(fitted.lat[inside], fitted.lon[inside])
        name = f"centre of the most frequent country ({Gazetteer.load().country_name(code)}){how}"
        rows.append(_constant(truths, lat, lon, name, scale))
    if "population" in names:
        cities = Gazetteer.load().cities
        share = cities.population / cities.population.sum()
        drawn = np.random.default_rng(seed).choice(len(cities), len(truths), p=share)
        rows.append(_judged(truths, cities.lat[drawn], cities.lon[drawn], "a city drawn by population", scale))
    return rows


def published_rows(data: str | None) -> list[Published]:
    """What papers report on a set (`im2gps3k`, `osv5m`); on all of them where the set is not known."""
    known = {row.data for row in PUBLISHED}
    name = next((name for name in known if data and name in data.lower().replace("-", "").replace("_", "")), None)
    return [row for row in PUBLISHED if name is None or row.data == name]


def _constant(truths: Truths, lat: float, lon: float, name: str, scale) -> Evaluation:
    return _judged(truths, np.full(len(truths), lat), np.full(len(truths), lon), name, scale)


def _judged(truths: Truths, lat: np.ndarray, lon: np.ndarray, name: str, scale) -> Evaluation:
    guesses = Guesses(name, truths.keys, lat, lon, (None,) * len(truths))
    return judge(truths, guesses, scale=scale)
