"""Metrics over a fixed evaluation set in which every answer counts, with bootstrap intervals.

Each metric comes twice. The plain keys are over all places: an answer that failed (NaN coordinates) scores 0, misses
every radius and every label, and enters `median_km` and `mean_km` as MAX_DISTANCE_KM, the greatest distance on Earth,
so that failing never pays. The keys under `answered/` are over the answers that gave coordinates.
`docs/metrics.md` has one line per key.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from geospot.earth.distance import EARTH_RADIUS_KM, MAX_DISTANCE_KM, haversine_km, unit_vectors
from geospot.earth.score import ACCURACY_RADII_KM, geoguessr_score

LABELS = ("country", "region", "city")
METRICS = (
    "median_km",
    "mean_km",
    "geoguessr_score",
    *(f"acc_{radius}km" for radius in ACCURACY_RADII_KM),
    *(f"{label}_acc" for label in LABELS),
)
# Bounds the resample counts held at once: 4 million float64 are 32 MB.
CHUNK_ELEMENTS = 4_000_000


@dataclass(frozen=True)
class Predictions:
    """The answers of one model over N places, in the order of the evaluation set.

    Coordinates are (N,) in degrees, `lat` and `lon` NaN where the answer failed. `*_hit` are (N,) in [0, 1], NaN where
    the truth has no such label; None stands for all NaN. `failures` gives each failed answer's reason and None for
    each that was read; left empty, a failed answer's reason is "no coordinates".
    """

    truth_lat: np.ndarray
    truth_lon: np.ndarray
    lat: np.ndarray
    lon: np.ndarray
    country_hit: np.ndarray | None = None
    region_hit: np.ndarray | None = None
    city_hit: np.ndarray | None = None
    failures: tuple[str | None, ...] = ()

    def __post_init__(self):
        for name in ("truth_lat", "truth_lon", "lat", "lon", *(f"{label}_hit" for label in LABELS)):
            value = getattr(self, name)
            array = np.full(np.shape(self.truth_lat), np.nan) if value is None else np.asarray(value, np.float64)
            object.__setattr__(self, name, array)
            if array.ndim != 1 or array.shape != self.truth_lat.shape:
                raise ValueError(f"{name} has shape {array.shape}; expected one value per place, as truth_lat has")
            _check_range(name, array)
        reasons = tuple(self.failures) or tuple("no coordinates" if bad else None for bad in self.failed)
        object.__setattr__(self, "failures", reasons)
        if len(self) == 0:
            raise ValueError("no predictions: an evaluation set needs at least one place")
        if len(reasons) != len(self):
            raise ValueError(f"failures has {len(reasons)} entries for {len(self)} places; give one each")
        for i, (reason, bad) in enumerate(zip(reasons, self.failed, strict=True)):
            if (reason is not None) != bad:
                raise ValueError(
                    f"place {i}: failure {reason!r} but coordinates ({self.lat[i]}, {self.lon[i]}); "
                    "a failed answer has a reason and NaN coordinates, any other has neither"
                )

    def __len__(self) -> int:
        return len(self.truth_lat)

    @property
    def failed(self) -> np.ndarray:
        """(N,) bool: the answer gave no usable coordinates."""
        return np.isnan(self.lat) | np.isnan(self.lon)

    @property
    def distance_km(self) -> np.ndarray:
        """(N,) great-circle distance from truth to answer; NaN where the answer failed."""
        return haversine_km(self.truth_lat, self.truth_lon, self.lat, self.lon)

    def failure_counts(self) -> dict[str, int]:
        """How often each reason occurred, most frequent first."""
        return dict(Counter(reason for reason in self.failures if reason is not None).most_common())


def _check_range(name: str, array: np.ndarray) -> None:
    if name.startswith("truth") and not np.all(np.isfinite(array)):
        raise ValueError(f"{name}[{int(np.argmin(np.isfinite(array)))}] is not a number; a truth is always known")
    if name.endswith("_hit"):
        low, high, mend = 0.0, 1.0, "use NaN where the truth has no such label"
    else:
        high = 90.0 if name.endswith("lat") else 180.0
        low, mend = -high, "use NaN for a failed answer and wrap longitudes"
    outside = (array < low) | (array > high)
    if np.any(outside):
        i = int(np.argmax(outside))
        raise ValueError(f"{name}[{i}] is {array[i]}, outside {low:g}..{high:g}; {mend}")


def summarize(predictions: Predictions) -> dict[str, float]:
    """Every metric of the set, flat: `n`, `failure_rate`, METRICS, and METRICS and `n` again under `answered/`.

    Accuracies and rates are fractions in [0, 1], distances km, the score 0 to 5000. A metric with nothing to average
    (no truth has the label; nothing was answered) is NaN.
    """
    once = np.ones((1, len(predictions)))
    values = {key: float(value[0]) for key, value in _statistics(_columns(predictions), once).items()}
    return {"n": float(len(predictions)), "answered/n": float(np.sum(~predictions.failed)), **values}


def bootstrap_intervals(
    predictions: Predictions, n_resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap interval (low, high) of every key of `summarize` but the counts; places are resampled.

    Places are sorted by their values first, so that an interval does not depend on the order they come in. Resamples
    that leave a metric nothing to average are left out of its percentiles; NaN if all of them do.
    """
    columns = _columns(predictions)
    order = np.lexsort(list(columns.values())[::-1])  # by failure, then by distance, then by the rest
    columns = {key: column[order] for key, column in columns.items()}
    chunks = [_statistics(columns, counts) for counts in _resample_counts(len(order), n_resamples, seed)]
    return {key: _percentiles(np.concatenate([chunk[key] for chunk in chunks]), confidence) for key in columns}


def paired_difference(
    distance_a_km,
    distance_b_km,
    statistic: str = "median_km",
    n_resamples: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float, float]:
    """(difference, low, high) of statistic(a) - statistic(b), both over the same places, resampled together.

    `distance_*_km` are (N,), NaN for a failed answer, which counts as everywhere in this module. `statistic` is
    `median_km`, `mean_km`, `geoguessr_score` or one of `acc_*km`. Pairing is what makes the interval narrow: places
    that are hard for one model are mostly hard for the other.
    """
    a, b = (np.asarray(distance, dtype=np.float64) for distance in (distance_a_km, distance_b_km))
    if a.ndim != 1 or a.shape != b.shape or len(a) == 0:
        raise ValueError(
            f"distances of shapes {a.shape} and {b.shape}; a paired difference needs the same N >= 1 places"
        )
    order = np.lexsort((b, a))
    columns = [_distance_columns(distance[order]) for distance in (a, b)]
    if statistic not in columns[0]:
        raise ValueError(f"statistic {statistic!r} is not computed from distances; take one of {tuple(columns[0])}")

    def difference(counts):
        value_a, value_b = (_statistics({statistic: column[statistic]}, counts)[statistic] for column in columns)
        return value_a - value_b

    resampled = np.concatenate([difference(counts) for counts in _resample_counts(len(a), n_resamples, seed)])
    return float(difference(np.ones((1, len(a))))[0]), *_percentiles(resampled, confidence)


def _distance_columns(distance_km: np.ndarray) -> dict[str, np.ndarray]:
    """What each place (N,) contributes to each metric that is computed from the distance alone."""
    counted_km = np.where(np.isnan(distance_km), MAX_DISTANCE_KM, distance_km)
    hits = {f"acc_{radius}km": (counted_km <= radius).astype(np.float64) for radius in ACCURACY_RADII_KM}
    return {"median_km": counted_km, "mean_km": counted_km, "geoguessr_score": geoguessr_score(distance_km), **hits}


def _columns(predictions: Predictions) -> dict[str, np.ndarray]:
    """What each place (N,) contributes to each metric; NaN where it does not take part in that metric."""
    columns = _distance_columns(predictions.distance_km)
    for label in LABELS:
        hit = getattr(predictions, f"{label}_hit")
        columns[f"{label}_acc"] = np.where(predictions.failed & ~np.isnan(hit), 0.0, hit)
    answered = {f"answered/{key}": np.where(predictions.failed, np.nan, value) for key, value in columns.items()}
    return {"failure_rate": predictions.failed.astype(np.float64), **columns, **answered}


def _resample_counts(n: int, n_resamples: int, seed: int):
    """Yields (rows, N) arrays, n_resamples rows in all: how often each place was drawn in N draws with replacement."""
    rng = np.random.default_rng(seed)
    rows = max(1, CHUNK_ELEMENTS // n)
    for start in range(0, n_resamples, rows):
        size = min(rows, n_resamples - start)
        draws = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        yield np.bincount(draws.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)


def _statistics(columns: dict[str, np.ndarray], counts: np.ndarray) -> dict[str, np.ndarray]:
    """Each metric (rows,) of the samples that hold place i `counts[:, i]` times; NaN where nothing takes part."""
    values = np.stack(list(columns.values()), axis=1)  # (N, K)
    present = ~np.isnan(values)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is meant
        means = (counts @ np.where(present, values, 0.0)) / (counts @ present.astype(np.float64))
    results = dict(zip(columns, means.T, strict=True))
    return results | {key: _median(columns[key], counts) for key in columns if key.endswith("median_km")}


def _median(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Median (rows,) of `values` (N,) taken `counts` (rows, N) times each; of an even count, the middle two's mean."""
    order = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]  # NaN sorts last
    if len(order) == 0:
        return np.full(len(counts), np.nan)
    ranked, below = values[order], np.cumsum(counts[:, order], axis=1)
    total = below[:, -1:]
    lower = ranked[np.argmax(below > (total - 1) // 2, axis=1)]
    upper = ranked[np.argmax(below > total // 2, axis=1)]
    return np.where(total[:, 0] > 0, (lower + upper) / 2, np.nan)


def _percentiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return (np.nan, np.nan)
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def best_constant_place(train_lat, train_lon) -> tuple[float, float]:
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


def _fibonacci_grid(n: int) -> np.ndarray:
    """(n, 3) unit vectors spread evenly: equal steps of height, each turned by the golden angle."""
    i = np.arange(n)
    z = 1 - (2 * i + 1) / n
    turn = i * np.pi * (3 - np.sqrt(5))
    return np.stack([np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn), z], axis=1)


def _median_distance_km(candidates: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(C,) median great-circle distance from each candidate (C, 3) to the places (M, 3), in chunks."""
    rows = max(1, CHUNK_ELEMENTS // len(places))
    middle = [(len(places) - 1) // 2, len(places) // 2]
    medians = []
    for start in range(0, len(candidates), rows):
        cosines = np.partition(candidates[start : start + rows] @ places.T, middle, axis=1)[:, middle]
        medians.append(np.arccos(np.clip(cosines, -1.0, 1.0)).mean(axis=1) * EARTH_RADIUS_KM)
    return np.concatenate(medians)


def _pattern_search(start: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, float]:
    """Walk downhill from `start` (3,): the best of eight neighbours a step away, or half the step if none is better."""
    here, value, step_km = start, float(_median_distance_km(start[None], places)[0]), 400.0
    directions = np.arange(8) * np.pi / 4
    while step_km > 0.1:
        east = np.cross([0.0, 0.0, 1.0] if abs(here[2]) < 0.9 else [1.0, 0.0, 0.0], here)
        east /= np.linalg.norm(east)
        north = np.cross(here, east)
        angle = step_km / EARTH_RADIUS_KM
        around = np.cos(directions)[:, None] * north + np.sin(directions)[:, None] * east
        steps = np.cos(angle) * here + np.sin(angle) * around
        values = _median_distance_km(steps, places)
        if values.min() < value:
            here, value = steps[np.argmin(values)] / np.linalg.norm(steps[np.argmin(values)]), float(values.min())
        else:
            step_km /= 2
    return here, value
