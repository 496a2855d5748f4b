"""What a text earns, and what an honest one earns, under every curve and every schedule: for the gaming tests.

Knowledge is a set of places, each as likely as the others. The honest answers to it name one of the places and give
its coordinates; the best of them is what a gaming text is held against, on average over the places. A text is read and
judged once: where a run stands changes only how distance and labels are combined.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from geospot.answer import format_answer, parse_answer
from geospot.curves import CURVES, TAU_CURVES
from geospot.earth.gazetteer import Gazetteer
from geospot.earth.place import Place
from geospot.reward import (
    ADAPTIVE,
    TAU_SCHEDULES,
    RewardConfig,
    Weights,
    combine,
    weighted_parts,
)

PROGRESS = (0.0, 0.5, 1.0)
OWN = f"{__name__}:reciprocal"


def reciprocal(distance_km: np.ndarray, tau_km: float) -> np.ndarray:
    """A curve of one's own: 1 / (1 + d / tau), whose tail is heavier than any exponential's."""
    return 1 / (1 + distance_km / tau_km)


def _moments() -> Iterator[tuple[str, Weights]]:
    """Each curve at the start, the middle and the end of a run, with tau where each schedule has it.

    An adaptive tau may stand anywhere at any time: at its start, half way and at its end.
    """
    for curve in (*CURVES, OWN):
        schedules = (*TAU_SCHEDULES, ADAPTIVE) if curve in (*TAU_CURVES, OWN) else ("geometric",)
        for schedule in schedules:
            config = RewardConfig(reward_curve=curve, tau_schedule=schedule)
            middle = float(np.sqrt(config.coord_tau_start * config.coord_tau))
            taus = (config.coord_tau_start, middle, config.coord_tau) if schedule == ADAPTIVE else (None,)
            for progress in PROGRESS:
                for tau_km in taus:
                    weights = config.at(progress, tau_km)
                    yield f"{curve}, {schedule}, progress {progress}, tau {weights.tau_km:.0f} km", weights


def _different(moments: Iterator[tuple[str, Weights]]) -> dict[str, Weights]:
    """The moments without those that are the same as an earlier one: most schedules share their ends."""
    seen: dict[tuple[object, ...], str] = {}
    found = {}
    for name, weights in moments:
        key = (weights.curve, round(weights.tau_km, 6), weights.coordinate)
        if seen.setdefault(key, name) == name:
            found[name] = weights
    return found


MOMENTS = _different(_moments())


def earned(text: str, known: Sequence[Place]) -> np.ndarray:
    """The mean reward of one text over the places that are equally likely, (M,) by moment."""
    return _earned([text], known)[:, 0]


def _earned(texts: Sequence[str], known: Sequence[Place]) -> np.ndarray:
    """The same of several texts, (M, T): in one call, since resolving the places is what costs."""
    answers = [answer for text in texts for answer in [parse_answer(text)] * len(known)]
    parts = weighted_parts(answers, [*known] * len(texts), next(iter(MOMENTS.values())))
    labels = np.stack([parts.country, parts.region, parts.city], axis=-1)
    return np.array([
        combine(parts.distance_km, labels, parts.format, weights)[1].reshape(len(texts), len(known)).mean(axis=1)
        for weights in MOMENTS.values()
    ])  # fmt: skip


def honest(known: Sequence[Place], region: bool = True) -> np.ndarray:
    """The best mean reward, (M,) by moment, of a text that names one of the places, with or without its region."""
    return _honest(tuple(known), region)


@lru_cache
def _honest(known: tuple[Place, ...], region: bool) -> np.ndarray:
    return _earned([format_answer(place, decimals=4, region=region) for place in known], known).max(axis=1)


def gains(text: str, known: Sequence[Place], at_most: np.ndarray | None = None) -> dict[str, float]:
    """Where a text earns more than honesty (or `at_most`), and by how much; empty where it never does."""
    more = earned(text, known) - (honest(known) if at_most is None else at_most)
    return {name: float(gain) for name, gain in zip(MOMENTS, more, strict=True) if gain > 1e-9}


def lines(city="", region="", country="", lat: object = 48.8534, lon: object = 2.3488) -> str:
    """An answer in the form that the prompt asks for."""
    return f"City: {city}\nRegion: {region}\nCountry: {country}\nLatitude: {lat}\nLongitude: {lon}"


def places(*rows: tuple) -> list[Place]:
    """Places from (lat, lon, city, region, country)."""
    return [Place(*row) for row in rows]


PARIS, LYON, BERLIN, MADRID, TOKYO, BAKERSFIELD = places(
    (48.8534, 2.3488, "Paris", "Île-de-France", "FR"),
    (45.7485, 4.8467, "Lyon", "Auvergne-Rhône-Alpes", "FR"),
    (52.5244, 13.4105, "Berlin", "Berlin", "DE"),
    (40.4165, -3.7026, "Madrid", "Madrid", "ES"),
    (35.6895, 139.6917, "Tokyo", "Tokyo", "JP"),
    (35.3733, -119.0187, "Bakersfield", "California", "US"),
)
STRASBOURG, KEHL = places(
    (48.5839, 7.7455, "Strasbourg", "Grand Est", "FR"), (48.5730, 7.8151, "Kehl", "Baden-Wurttemberg", "DE")
)


def _world() -> list[Place]:
    """A place of each of 120 countries: what somebody knows who knows nothing."""
    gazetteer = Gazetteer.load()
    cities, found = gazetteer.cities, {}
    for row in np.argsort(-cities.population):
        found.setdefault(cities.country[row], row)
    rows = list(found.values())[:120]
    at = gazetteer.locate(cities.lat[rows], cities.lon[rows])
    return [Place(cities.lat[r], cities.lon[r], cities.name[r], at.region[i], at.country[i])
            for i, r in enumerate(rows)]  # fmt: skip


WORLD = _world()
NOTHING, EUROPE, FRANCE = WORLD, [PARIS, LYON, BERLIN, MADRID], [PARIS, LYON]
KNOWN, BORDER = [PARIS], [STRASBOURG, KEHL]
