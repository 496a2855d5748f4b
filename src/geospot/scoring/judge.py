"""Truths and guesses in, every metric out: the one place where a model's answers are turned into numbers."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from geospot.earth.labels import score_labels
from geospot.earth.score import score_decay_km
from geospot.scoring.guesses import Guesses
from geospot.scoring.hits import geocoded_hits
from geospot.scoring.metrics import Predictions, bootstrap_intervals, summarize
from geospot.scoring.metrics.coverage import RadiusReport, radius_report
from geospot.scoring.truths import Truths


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One model on one set: what it answered and what that is worth."""

    name: str
    truths: Truths
    guesses: Guesses
    predictions: Predictions

    @cached_property
    def summary(self) -> dict[str, float]:
        """Every metric, see docs/metrics.md."""
        return summarize(self.predictions)

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95 % bootstrap interval of every metric."""
        return bootstrap_intervals(self.predictions)

    @cached_property
    def radius(self) -> RadiusReport | None:
        """How often the stated radius held the truth; None where none was stated."""
        if self.guesses.radius_km is None or np.isnan(self.guesses.radius_km).all():
            return None
        return radius_report(self.predictions, self.guesses.radius_km, self.guesses.probability)

    def __str__(self) -> str:
        from geospot.scoring.terminal import metrics_table

        return metrics_table([self])


def judge(
    truths: Truths, guesses: Guesses, *, scale: str | float = "world", labels: bool = True, name: str | None = None
) -> Evaluation:
    """Score guesses against truths, row by row; both must be over the same keys (see `geospot.scoring.join`).

    `scale`: "world", a map's diagonal in km, or "map" (the bounds of the truths). `labels=False` leaves out the
    accuracies of country, region, area and city, and with them the gazetteer.
    """
    if truths.keys != guesses.keys:
        raise ValueError("truths and guesses are over different keys; join them first (geospot.scoring.join)")
    hits: dict[str, np.ndarray] = {}
    if labels:
        hits |= {f"geo_{level}_hit": hit for level, hit in geocoded_hits(truths, guesses).items()}
        hits |= stated_hits(truths, guesses)
    predictions = Predictions(
        truths.lat,
        truths.lon,
        guesses.lat,
        guesses.lon,
        failures=guesses.failures,
        place=truths.place,
        score_decay_km=score_decay_km(scale, truths.lat, truths.lon),
        **hits,
    )
    return Evaluation(name or guesses.name, truths, guesses, predictions)


def stated_hits(truths: Truths, guesses: Guesses) -> dict[str, np.ndarray]:
    """Country, region and city as the answers' texts name them; nothing where no answer names any."""
    if not guesses.labels:
        return {}
    scores = score_labels(guesses.answers(), truths.places)
    return {f"{level}_hit": getattr(scores, level) for level in ("country", "region", "city")}
