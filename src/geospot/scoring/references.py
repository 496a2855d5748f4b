"""What a model's numbers stand beside: guesses that never look at a picture (what papers report: `published`)."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from geospot.earth.distance import EARTH_RADIUS_KM, unit_vectors
from geospot.earth.gazetteer import Gazetteer
from geospot.scoring.guesses import Guesses
from geospot.scoring.judge import Evaluation, judge
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


def _constant(truths: Truths, lat: float, lon: float, name: str, scale: str | float) -> Evaluation:
    return _judged(truths, np.full(len(truths), lat), np.full(len(truths), lon), name, scale)


def _judged(truths: Truths, lat: np.ndarray, lon: np.ndarray, name: str, scale: str | float) -> Evaluation:
    guesses = Guesses(name, truths.keys, lat, lon, (None,) * len(truths))
    return judge(truths, guesses, scale=scale)


# Bounds the distances held at once: 4 million float64 are 32 MB.
CHUNK_ELEMENTS = 4_000_000


def best_constant_place(train_lat: ArrayLike, train_lon: ArrayLike) -> tuple[float, float]:
    """The one place (lat, lon) with the smallest median distance to the given places: the baseline that sees nothing.

    Search: the median distance from every point of a spherical Fibonacci grid (4,000 points, about 360 km apart) and
    from some of the places themselves, to at most 4,000 of the places; then from the best eight of them a pattern
    search in eight directions over all places, whose step shrinks from 400 km to under 100 m. Deterministic.
    """
    lat, lon = (np.asarray(x, dtype=np.float64) for x in (train_lat, train_lon))
    if lat.shape != lon.shape or lat.ndim != 1 or len(lat) == 0 or not np.all(np.isfinite([lat, lon])):
        raise ValueError(f"places of shapes {lat.shape} and {lon.shape}; expected (N,) finite degrees each, N >= 1")
    places = unit_vectors(lat, lon)
    rng = np.random.default_rng(0)
    sample = places[rng.permutation(len(places))[:4000]]
    candidates = np.concatenate([_fibonacci_grid(4000), sample[:500]])
    best = candidates[np.argsort(_median_distance_km(candidates, sample), kind="stable")[:8]]
    refined = [_pattern_search(start, places) for start in best]
    x, y, z = min(refined, key=lambda found: found[1])[0]
    return float(np.degrees(np.arcsin(np.clip(z, -1.0, 1.0)))), float(np.degrees(np.arctan2(y, x)))


def least_median_km(lat: ArrayLike, lon: ArrayLike) -> float:
    """A bound that the median distance of these places (N,) to any one place is never below, for N^2 distances.

    Half of the places lie within the median m of the one place, and so within 2 m of each other (the triangle
    inequality): the nearer half of the places around any of them is within 2 m.
    """
    places = unit_vectors(lat, lon)
    return 0.5 * float(_median_distance_km(places, places, lower=True).min())


def _fibonacci_grid(n: int) -> np.ndarray:
    """(n, 3) unit vectors spread evenly: equal steps of height, each turned by the golden angle."""
    i = np.arange(n)
    z = 1 - (2 * i + 1) / n
    turn = i * np.pi * (3 - np.sqrt(5))
    return np.stack([np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn), z], axis=1)


def _median_distance_km(candidates: np.ndarray, places: np.ndarray, lower: bool = False) -> np.ndarray:
    """(C,) median great-circle distance from each candidate (C, 3) to the places (M, 3), in chunks.

    `lower`: the nearer of the two in the middle where M is even, not their mean.
    """
    rows = max(1, CHUNK_ELEMENTS // len(places))
    middle = [len(places) // 2] if lower else [(len(places) - 1) // 2, len(places) // 2]
    medians = []
    for start in range(0, len(candidates), rows):
        cosines = np.partition(candidates[start : start + rows] @ places.T, middle, axis=1)[:, middle]
        medians.append(np.arccos(np.clip(cosines, -1.0, 1.0)).mean(axis=1) * EARTH_RADIUS_KM)
    return np.concatenate(medians)


def _across(here: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors (3,) at right angles to `here` and to each other: east and north, but near the poles.

    By hand, since `np.cross` takes 50 us for three numbers, hundreds of times a search.
    """
    x, y, z = map(float, here)
    a, b, c = (-y, x, 0.0) if abs(z) < 0.9 else (0.0, -z, y)
    length = math.sqrt(a * a + b * b + c * c)
    a, b, c = a / length, b / length, c / length
    return np.array([a, b, c]), np.array([y * c - z * b, z * a - x * c, x * b - y * a])


def _pattern_search(start: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, float]:
    """Walk downhill from `start` (3,): the best of eight neighbours a step away, or half the step if none is better."""
    here, value, step_km = start, float(_median_distance_km(start[None], places)[0]), 400.0
    directions = np.arange(8) * np.pi / 4
    while step_km > 0.1:
        east, north = _across(here)
        angle = step_km / EARTH_RADIUS_KM
        around = np.cos(directions)[:, None] * north + np.sin(directions)[:, None] * east
        steps = np.cos(angle) * here + np.sin(angle) * around
        values = _median_distance_km(steps, places)
        if values.min() < value:
            here, value = steps[np.argmin(values)] / np.linalg.norm(steps[np.argmin(values)]), float(values.min())
        else:
            step_km /= 2
    return here, value
