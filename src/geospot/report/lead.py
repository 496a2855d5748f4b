"""What was found, in a sentence or two for a reader who knows none of the metrics."""

from collections.abc import Mapping

import numpy as np

from geospot.earth.distance import MAX_DISTANCE_KM
from geospot.report.page import kilometres
from geospot.scoring.metrics import Predictions

# Distances that people know, km by great circle; tests/report/test_summary.py measures them.
KNOWN_KM = (
    (57, "Washington", "Baltimore"), (130, "New York", "Philadelphia"), (163, "London", "Birmingham"),
    (344, "London", "Paris"), (559, "San Francisco", "Los Angeles"), (878, "Paris", "Berlin"),
    (1434, "London", "Rome"), (2501, "London", "Moscow"), (3936, "New York", "Los Angeles"),
    (5570, "London", "New York"), (7010, "Paris", "Mumbai"), (9711, "Paris", "Tokyo"),
    (12543, "New York", "Mumbai"), (16994, "London", "Sydney"),
)  # fmt: skip
ALIKE = 1.3  # distances within this factor are "about as far"


def familiar_distance(km: float) -> str:
    """ ", about as far as from London to Paris"; empty where no known distance is near, within a city for instance."""
    known, start, end = min(KNOWN_KM, key=lambda row: abs(np.log(row[0] / max(km, 1e-3))))
    return f", about as far as from {start} to {end}" if max(known / max(km, 1e-3), km / known) <= ALIKE else ""


def result_sentence(predictions: Predictions, summary: Mapping[str, float], whose: str = "its") -> str:
    """How near half of the guesses are, how many lie in the right country and how many answers failed."""
    n, failed = len(predictions), int(predictions.failed.sum())
    if failed == n:
        return f"None of {whose} {n:,} answers names a place that can be read."
    median = float(np.median(np.where(predictions.failed, MAX_DISTANCE_KM, predictions.distance_km)))
    if median >= 0.999 * MAX_DISTANCE_KM:
        return f"More than half of {whose} answers name no place that can be read."
    text = f"Half of {whose} guesses are within {kilometres(median)} km of the true place{familiar_distance(median)}."
    country = summary.get("geo_country_acc", np.nan)
    if not np.isnan(country):
        text += f" {round(100 * country)} of 100 lie in the right country."
    if failed:
        text += f" {failed:,} of {n:,} answers name no place and count as wrong."
    return text


def evaluation_lead(predictions: Predictions, summary: Mapping[str, float]) -> str:
    """Of one model on one set."""
    what = _pictures(predictions)
    return f"A model was shown {what} and asked where on Earth each was taken. {result_sentence(predictions, summary)}"


def comparison_lead(models: Mapping[str, tuple[Predictions, Mapping[str, float]]]) -> str:
    """Of several models on the same pictures, the nearest first."""
    order = sorted(models, key=lambda name: models[name][1]["median_km"])
    predictions, summary = models[order[0]]
    first = f"{len(models)} models were asked where on Earth the same {_pictures(predictions)} were taken."
    medians = [models[name][1]["median_km"] for name in order]
    rest = ", ".join(f"of {name} {_median(km)}" for name, km in zip(order[1:], medians[1:], strict=True))
    best = result_sentence(predictions, summary, f"{order[0]}’s")
    return f"{first} {best}" + (f" The median distance of the others: {rest}." if rest else "")


def _median(km: float) -> str:
    return "none, since most of the answers failed" if km >= 0.999 * MAX_DISTANCE_KM else f"{kilometres(km)} km"


def _pictures(predictions: Predictions) -> str:
    n, places = len(predictions), predictions.n_places
    pictures = f"{n:,} picture{'' if n == 1 else 's'}"
    return pictures if places == n else f"{pictures} of {places:,} places"
