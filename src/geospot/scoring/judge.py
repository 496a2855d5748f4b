"""Truths and guesses in, every metric out: the only code that turns a model's answers into numbers."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from geospot.earth.agreement import score_labels
from geospot.earth.folding import fold
from geospot.earth.gazetteer import Gazetteer, Located
from geospot.earth.score import score_decay_km
from geospot.scoring.guesses import Guesses
from geospot.scoring.metrics import Predictions, bootstrap_intervals, summarize
from geospot.scoring.metrics.groups import RadiusReport, radius_report
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
    scores = score_labels(guesses.answers, truths.places)
    return {f"text_{level}_hit": getattr(scores, level) for level in ("country", "region", "city")}


def geocoded_hits(truths: Truths, guesses: Guesses) -> dict[str, np.ndarray]:
    """`country`, `region`, `area` and `city` (N,): 1 or 0, NaN where the truth has no such label."""
    gazetteer = Gazetteer.load()
    at = gazetteer.locate(guesses.lat, guesses.lon)
    country = [code in codes for code, codes in zip(at.country.tolist(), truths.codes, strict=True)]
    known = [bool(codes) for codes in truths.codes]
    regions = truths.regions
    region = [code in codes for code, codes in zip(at.region_code.tolist(), regions, strict=True)]
    area, has_area = _areas(truths, at, gazetteer)
    city, has_city = _cities(truths, at, gazetteer)
    right = np.array(country)
    return {
        "country": _hits(right, known),
        "region": _hits(np.array(region), [bool(codes) for codes in regions]),
        "area": _hits(np.array(region) & area, has_area),
        "city": _hits(right & city, has_city),
    }


def _hits(right: np.ndarray, known: ArrayLike) -> np.ndarray:
    return np.where(np.asarray(known, bool), np.asarray(right, np.float64), np.nan)


def _areas(truths: Truths, at: Located, gazetteer: Gazetteer) -> tuple[np.ndarray, list[bool]]:
    """Whether the guess lies in an area of the true one's name (N,), and whether the truth has one."""
    guessed = gazetteer.cities.area[at.city_row].tolist()
    folded = {name: fold(name) for name in set(guessed) if name}
    right = [bool(t) and bool(g) and folded[g] == t for g, t in zip(guessed, truths.areas, strict=True)]
    return np.array(right), [bool(t) for t in truths.areas]


def _cities(truths: Truths, at: Located, gazetteer: Gazetteer) -> tuple[np.ndarray, list[bool]]:
    """Whether the city nearest to the guess is the true one (N,), and whether the truth has one."""
    if "city" not in truths.labels:
        true = truths.located.city_row
        return (at.city_row == true) & (true >= 0), (true >= 0).tolist()
    names, labels = gazetteer.cities.names, truths.cities
    right = [row >= 0 and label in names(row) for row, label in zip(at.city_row.tolist(), labels, strict=True)]
    return np.array(right), [bool(label) for label in labels]
