"""A model's answers over an evaluation set as arrays, and every metric of them, over all and over those answered."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from geospot.earth.distance import MAX_DISTANCE_KM, haversine_km
from geospot.earth.score import ACCURACY_RADII_KM, WORLD_SCORE_DECAY_KM, geoguessr_score

STATED = ("text_country", "text_region", "text_city")  # what an answer's text names
LOCATED = ("geo_country", "geo_region", "geo_area", "geo_city")  # what its coordinates lie in
LEVELS = (*STATED, *LOCATED)
# How tables call the accuracies. There are two of country, region and city, so each name says which: "country (geo)" by
# the answer's coordinates, "country (text)" by its words (docs/metrics.md).
TITLES = {f"{level}_acc": "{1} ({0})".format(*level.split("_")) for level in LEVELS}


@dataclass(frozen=True)
class Predictions:
    """The answers of one model over N pictures, in the order of the evaluation set.

    Coordinates are (N,) in degrees, `lat` and `lon` NaN where the answer failed. `*_hit` are (N,) in [0, 1], NaN where
    the truth has no such label; None stands for all NaN. `failures` gives each failed answer's reason and None for
    each that was read; left empty, a failed answer's reason is "no coordinates". `place` (N,) numbers the places,
    where several pictures may show one; None: each shows its own. `score_decay_km` is the D / 10 of the score.
    """

    truth_lat: np.ndarray
    truth_lon: np.ndarray
    lat: np.ndarray
    lon: np.ndarray
    text_country_hit: np.ndarray | None = None
    text_region_hit: np.ndarray | None = None
    text_city_hit: np.ndarray | None = None
    failures: tuple[str | None, ...] = ()
    geo_country_hit: np.ndarray | None = None
    geo_region_hit: np.ndarray | None = None
    geo_area_hit: np.ndarray | None = None
    geo_city_hit: np.ndarray | None = None
    place: np.ndarray = None  # pyrefly: ignore[bad-assignment]  (an array once it is made)
    score_decay_km: float = WORLD_SCORE_DECAY_KM

    def __post_init__(self) -> None:
        for name in ("truth_lat", "truth_lon", "lat", "lon", *(f"{level}_hit" for level in LEVELS)):
            value = getattr(self, name)
            array = np.full(np.shape(self.truth_lat), np.nan) if value is None else np.asarray(value, np.float64)
            object.__setattr__(self, name, array)
            if array.ndim != 1 or array.shape != self.truth_lat.shape:
                raise ValueError(f"{name} has shape {array.shape}; expected one value per place, as truth_lat has")
            _check_range(name, array)
        place = np.arange(len(self)) if self.place is None else np.asarray(self.place)
        if place.shape != self.truth_lat.shape:
            raise ValueError(f"place has shape {place.shape}; expected one number per picture, as truth_lat has")
        object.__setattr__(self, "place", np.unique(place, return_inverse=True)[1])
        failed = self.failed
        reasons = tuple(self.failures) or tuple("no coordinates" if bad else None for bad in failed)
        object.__setattr__(self, "failures", reasons)
        if len(self) == 0:
            raise ValueError("no predictions: an evaluation set needs at least one place")
        if len(reasons) != len(self):
            raise ValueError(f"failures has {len(reasons)} entries for {len(self)} places; give one each")
        for i, (reason, bad) in enumerate(zip(reasons, failed.tolist(), strict=True)):
            if (reason is not None) != bad:
                raise ValueError(
                    f"place {i}: failure {reason!r} but coordinates ({self.lat[i]}, {self.lon[i]}); "
                    "a failed answer has a reason and NaN coordinates, any other has neither"
                )

    def __len__(self) -> int:
        return len(self.truth_lat)

    @cached_property
    def failed(self) -> np.ndarray:
        """(N,) bool: the answer gave no usable coordinates."""
        return np.isnan(self.lat) | np.isnan(self.lon)

    @cached_property
    def distance_km(self) -> np.ndarray:
        """(N,) great-circle distance from truth to answer; NaN where the answer failed."""
        return haversine_km(self.truth_lat, self.truth_lon, self.lat, self.lon)

    @property
    def n_places(self) -> int:
        """How many places the N pictures show."""
        return int(self.place.max()) + 1

    def failure_counts(self) -> dict[str, int]:
        """How often each reason occurred, most frequent first."""
        return dict(Counter(reason for reason in self.failures if reason is not None).most_common())

    def take(self, rows: np.ndarray) -> "Predictions":
        """Those of some pictures, by index or mask."""
        rows = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows)
        arrays = ("truth_lat", "truth_lon", "lat", "lon", "place", *(f"{level}_hit" for level in LEVELS))
        return Predictions(
            **{name: getattr(self, name)[rows] for name in arrays},
            failures=tuple(self.failures[i] for i in rows.tolist()),
            score_decay_km=self.score_decay_km,
        )


def _check_range(name: str, array: np.ndarray) -> None:
    if name.startswith("truth") and not np.all(np.isfinite(array)):
        raise ValueError(f"{name}[{int(np.argmin(np.isfinite(array)))}] is not a number; a truth is always known")
    if name.endswith("_hit"):
        low, high, remedy = 0.0, 1.0, "use NaN where the truth has no such label"
    else:
        high = 90.0 if name.endswith("lat") else 180.0
        low, remedy = -high, "use NaN for a failed answer and wrap longitudes"
    outside = (array < low) | (array > high)
    if np.any(outside):
        i = int(np.argmax(outside))
        raise ValueError(f"{name}[{i}] is {array[i]}, outside {low:g}..{high:g}; {remedy}")


METRICS = (
    "median_km",
    "mean_km",
    "geoguessr_score",
    *(f"acc_{radius}km" for radius in ACCURACY_RADII_KM),
    *(f"{level}_acc" for level in LEVELS),
)


def columns(predictions: Predictions) -> dict[str, np.ndarray]:
    """What each picture (N,) contributes to each metric; NaN where it does not take part in that metric.

    A failed answer scores 0, misses every radius and label and enters the distances as MAX_DISTANCE_KM.
    """
    failed, distance_km = predictions.failed, predictions.distance_km
    counted_km = np.where(failed, MAX_DISTANCE_KM, distance_km)
    found = {"median_km": counted_km, "mean_km": counted_km}
    found["geoguessr_score"] = geoguessr_score(distance_km, predictions.score_decay_km)
    found |= {f"acc_{radius}km": (counted_km <= radius).astype(np.float64) for radius in ACCURACY_RADII_KM}
    for level in LEVELS:
        hit = getattr(predictions, f"{level}_hit")
        found[f"{level}_acc"] = np.where(failed & ~np.isnan(hit), 0.0, hit)
    answered = {f"answered/{key}": np.where(failed, np.nan, value) for key, value in found.items()}
    return {"failure_rate": failed.astype(np.float64), **found, **answered}


def summarize(predictions: Predictions) -> dict[str, float]:
    """Every metric of the set, flat: `n`, `n_places`, `failure_rate`, METRICS; `n` and METRICS under `answered/`.

    Accuracies and rates are fractions in [0, 1], distances km, the score 0 to 5000. A metric with nothing to average
    (no truth has the label; nothing was answered) is NaN.
    """
    counts = {
        "n": float(len(predictions)),
        "n_places": float(predictions.n_places),
        "answered/n": float(np.sum(~predictions.failed)),
    }
    return counts | {key: statistic(key, column) for key, column in columns(predictions).items()}


def statistic(key: str, column: np.ndarray) -> float:
    """The value of a metric from what each picture contributes to it."""
    present = column[~np.isnan(column)]
    if len(present) == 0:
        return np.nan
    return float(np.median(present) if key.endswith("median_km") else np.mean(present))
