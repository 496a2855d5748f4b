"""A radius that holds the truth as often as it says: learned from held-out pictures, kept with the model.

The method is split conformal prediction with normalised residuals (Papadopoulos et al. 2002; Lei et al., "Distribution-
Free Predictive Inference for Regression", JASA 113, 2018). The residual is the distance from the answer to the truth
over a difficulty, which grows with how far apart a picture's answers lie: (spread_km) ** slope. The radius for
probability p is the difficulty times the ceil((n + 1) p)-th smallest residual of n held-out places: over places of the
same kind it holds the truth with probability p or more, whatever the model.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from geospot.asking.likeness import Likeness
from geospot.asking.requests import Question
from geospot.asking.subject import Subject
from geospot.earth.distance import MAX_DISTANCE_KM
from geospot.errors import RunError
from geospot.files import cache_folder, write_json_atomic

PROBABILITIES = (0.5, 0.8, 0.9, 0.95)
LEAST_PLACES = 20
_FOLDS = 5
_KNOTS = 201


@dataclass(frozen=True)
class CalibratedOn:
    """What was calibrated: a radius says nothing about another model, or about another way to ask it."""

    model_name: str
    checkpoint: str | None
    step: int | None
    samples: int
    temperature: float
    region: bool
    manner: str = ""  # a hash of a question of one's own, a thinking budget, ...; "" for the usual way


@dataclass(frozen=True)
class Reliability:
    """For one stated probability: how often the radius held the truth of places it was not learned from."""

    probability: float
    coverage: float
    low: float
    high: float
    median_radius_km: float


@dataclass(frozen=True)
class Calibration:
    """`quantiles` are the residuals at `levels`, ascending; at a level that n places cannot tell it is infinite."""

    subject: CalibratedOn
    data: str
    n: int
    slope: float
    levels: tuple[float, ...]
    quantiles: tuple[float, ...]
    reliability: tuple[Reliability, ...] = ()
    sets: tuple[str, ...] = ()  # of the data
    likeness: Likeness | None = None  # None: of a version that did not look at the pictures

    @property
    def made_on(self) -> str:
        """The pictures that it holds for: those of this source, and others like them."""
        return f"{self.data} ({', '.join(self.sets)})" if self.sets else self.data

    def radius_km(self, spread_km: ArrayLike, probability: float) -> np.ndarray:
        """The radius (N,) in km for answers of these spreads, at most half the Earth; NaN where there is no answer."""
        spread_km = np.asarray(spread_km, np.float64)
        residual = _interpolated(self.levels, self.quantiles, probability)
        with np.errstate(invalid="ignore"):
            radius = np.minimum(np.power(spread_km, self.slope) * residual, MAX_DISTANCE_KM)
        return np.where(np.isnan(spread_km), np.nan, radius)

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        value = asdict(self)
        value["quantiles"] = [None if np.isinf(q) else q for q in self.quantiles]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(path, value)

    @classmethod
    def load(cls, path: str | Path) -> "Calibration":
        """Read one; RunError where the file is none."""
        try:
            value = json.loads(Path(path).read_text(encoding="utf-8"))
            value = {"sets": (), "likeness": None} | value
            value = {field.name: value[field.name] for field in fields(cls)}
            value["sets"] = tuple(value["sets"])
            value["likeness"] = None if value["likeness"] is None else Likeness.of_json(value["likeness"])
            value["subject"] = CalibratedOn(**value["subject"])
            value["reliability"] = tuple(Reliability(**row) for row in value["reliability"])
            value["levels"] = tuple(value["levels"])
            value["quantiles"] = tuple(np.inf if q is None else q for q in value["quantiles"])
            return cls(**value)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"calibration={path}: no calibration ({error}); make one by geospot calibrate") from None


def calibrate(
    distance_km: ArrayLike,
    spread_km: ArrayLike,
    place: ArrayLike,
    subject: CalibratedOn,
    data: str,
    sets: Sequence[str] = (),
    features: np.ndarray | None = None,
) -> Calibration:
    """Learn from N held-out pictures: distances (N,) from answer to truth, spreads (N,); NaN where the answer failed.

    `features` (N, F) are what the pictures look like (`picture_features`), for `Calibration.likeness`.

    `place` (N,) numbers the places: pictures of one place stay together when the reliability is found, by
    cross-validation. RunError for fewer than LEAST_PLACES places.
    """
    distance_km, spread_km = np.asarray(distance_km, np.float64), np.asarray(spread_km, np.float64)
    place = np.unique(place, return_inverse=True)[1].ravel()
    n_places = int(place.max()) + 1 if len(place) else 0
    if n_places < LEAST_PLACES:
        raise RunError(f"{n_places} places are too few to calibrate on; give {LEAST_PLACES} or more, best 500")
    if np.isnan(distance_km).all():
        raise RunError(
            f"none of the {len(distance_km):,} answers could be read: there is nothing to calibrate. Look at "
            "answers.jsonl in the folder of this calibration; an SFT run teaches a model the answer's form"
        )
    slope, levels, quantiles = _fit(distance_km, spread_km, place)
    plain = Calibration(subject, data, len(distance_km), slope, levels, quantiles)
    return replace(
        plain,
        reliability=_reliability(distance_km, spread_km, place, plain),
        sets=tuple(sets),
        likeness=None if features is None else Likeness.of(features, spread_km),
    )


def _fit(
    distance_km: np.ndarray, spread_km: np.ndarray, place: np.ndarray
) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """The slope from one half of the places, the quantiles of the residuals from the other half."""
    half = np.random.default_rng(0).permutation(int(place.max()) + 1)[place] % 2 == 0
    slope = _slope(distance_km[half], spread_km[half])
    n = int(np.sum(~half))
    residual = np.sort(_residuals(distance_km[~half], spread_km[~half], slope))
    levels = np.linspace(0, 1, _KNOTS)
    rank = np.ceil((n + 1) * levels - 1e-9).astype(int)
    quantiles = np.where(rank > n, np.inf, residual[np.clip(rank - 1, 0, n - 1)])
    return slope, tuple(levels.round(6).tolist()), tuple(quantiles.tolist())


def _slope(distance_km: np.ndarray, spread_km: np.ndarray) -> float:
    """How the logarithm of the distance grows with that of the spread: least squares, within [0, 1]."""
    good = ~np.isnan(distance_km) & ~np.isnan(spread_km)
    x, y = np.log(spread_km[good]), np.log(distance_km[good] + 1.0)
    if len(x) < 3 or np.ptp(x) < 1e-9:
        return 0.0
    return float(np.clip(np.cov(x, y)[0, 1] / np.var(x, ddof=1), 0.0, 1.0))


def _residuals(distance_km: np.ndarray, spread_km: np.ndarray, slope: float) -> np.ndarray:
    """Distance over difficulty; infinite where the answer failed, since no radius holds its truth."""
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(distance_km / np.power(spread_km, slope), nan=np.inf)


def _interpolated(levels: Sequence[float], quantiles: Sequence[float], probability: float) -> float:
    """The residual at the next level at or above `probability`: a radius is never too small by rounding."""
    i = int(np.searchsorted(levels, probability - 1e-9))
    return quantiles[min(i, len(quantiles) - 1)]


def _reliability(
    distance_km: np.ndarray, spread_km: np.ndarray, place: np.ndarray, plain: Calibration
) -> tuple[Reliability, ...]:
    """What each stated probability turns out to be: each fold of places judged by what the other folds teach."""
    from geospot.scoring.metrics.groups import coverage

    fold = np.random.default_rng(1).permutation(int(place.max()) + 1)[place] % _FOLDS
    radius = {p: np.empty(len(distance_km)) for p in PROBABILITIES}
    for k in range(_FOLDS):
        rest, part = fold != k, fold == k
        slope, levels, quantiles = _fit(distance_km[rest], spread_km[rest], _renumbered(place[rest]))
        fitted = Calibration(plain.subject, "", int(rest.sum()), slope, levels, quantiles)
        for p in PROBABILITIES:
            radius[p][part] = fitted.radius_km(spread_km[part], p)
    rows = []
    for p in PROBABILITIES:
        radius_km = np.nan_to_num(radius[p], nan=0.0)
        inside = np.nan_to_num(distance_km, nan=np.inf) <= radius_km
        found = coverage(inside | (radius_km >= MAX_DISTANCE_KM), place, radius_km)
        rows.append(Reliability(p, found.coverage, found.low, found.high, found.median_radius_km))
    return tuple(rows)


def _renumbered(place: np.ndarray) -> np.ndarray:
    return np.unique(place, return_inverse=True)[1].ravel()


def calibrated_subject(asked: Subject, question: Question) -> CalibratedOn:
    """What a calibration of this model, asked in this way, is for."""
    checkpoint = None if asked.checkpoint is None else Path(asked.checkpoint).name
    manner = asked.manner_of(question)
    return CalibratedOn(
        asked.model_name, checkpoint, asked.step, question.num_samples, question.temperature, bool(asked.region), manner
    )


def calibration_path(asked: Subject, question: Question) -> Path:
    """Beside the checkpoint's own folder, so that it is not lost with a copy of the run; else in the cache."""
    manner = f"-{asked.manner_of(question)}" if asked.manner_of(question) else ""
    name = f"n{question.num_samples}-t{question.temperature:g}{'-region' if asked.region else ''}{manner}.json"
    if asked.checkpoint is not None:
        path = Path(asked.checkpoint)
        return path.parent / f"{path.name}.calibration-{name}"
    model = re.sub(r"[^\w.-]+", "--", asked.model_name)
    return cache_folder() / "calibrations" / f"{model}-{name}"


def find_calibration(wanted: str, asked: Subject, question: Question) -> Calibration | None:
    """`wanted`: "auto" (the model's own, None without one), "none", or a file, which must be of this model."""
    if wanted == "none":
        return None
    path = calibration_path(asked, question) if wanted == "auto" else Path(wanted).expanduser()
    if wanted == "auto" and not path.is_file():
        return None
    found, subject = Calibration.load(path), calibrated_subject(asked, question)
    if found.subject != subject:
        differ = [
            f"{name} {getattr(found.subject, name)!r} (here {getattr(subject, name)!r})"
            for name in ("model_name", "checkpoint", "step", "samples", "temperature", "region", "manner")
            if getattr(found.subject, name) != getattr(subject, name)
        ]
        raise RunError(
            f"calibration={path}: it is of {', '.join(differ)}: its radius would be wrong. Make one by geospot "
            "calibrate, or say calibration=none"
        )
    return found
