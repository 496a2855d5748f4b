"""Every metric of an evaluation set, twice: over all pictures, and over the answers that gave coordinates."""

import numpy as np

from geospot.earth.distance import MAX_DISTANCE_KM
from geospot.earth.score import ACCURACY_RADII_KM, geoguessr_score
from geospot.scoring.metrics.predictions import LEVELS, Predictions

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
