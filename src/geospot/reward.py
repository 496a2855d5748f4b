"""What an answer is worth, and how that tightens over a run. Pure functions over arrays; degrees and kilometres.

    reward = coord_weight * exp(-distance_km / tau) + hierarchy_weight * (country + region + city)
             + format_weight * format

No sum of weights divides this. The weights are what they say, and a config whose reward could exceed 1 is refused:
coord_weight + 3 * hierarchy_weight + format_weight <= 1, at the start of a run and at its end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from geospot.earth.distance import haversine_km
from geospot.earth.labels import answer_point, score_labels
from geospot.earth.place import Place

LEVELS = ("country", "region", "city")


@dataclass(frozen=True)
class RewardConfig:
    """The reward's knobs at the start and at the end of a run ("early Europe, late Barcelona").

    Weights move linearly with progress, tau geometrically: each step of the run tightens it by the same factor.
    """

    coord_tau_start: float = 2000.0  # km, > 0: where the coordinates' reward falls to 1/e, at progress 0
    coord_tau: float = 25.0  # km, > 0: the same at progress 1
    coord_weight_start: float = 0.3  # 0..1: what exact coordinates are worth, at progress 0
    coord_weight: float = 0.7  # 0..1: the same at progress 1
    hierarchy_weight_start: float = 0.7 / 3  # 0..1/3: what each of country, region, city is worth, at progress 0
    hierarchy_weight: float = 0.1  # 0..1/3: the same at progress 1
    format_weight: float = 0.0  # 0..1: what an answer with readable coordinates is worth for that alone

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            low_ok = value > 0 if "tau" in field.name else value >= 0
            if not (np.isfinite(value) and low_ok):
                raise ValueError(f"{field.name}={value}: must be {'> 0 km' if 'tau' in field.name else '>= 0'}")
        if self.coord_tau > self.coord_tau_start:
            raise ValueError(
                f"coord_tau={self.coord_tau} > coord_tau_start={self.coord_tau_start}: the reward tightens over a run; "
                "set coord_tau_start to at least coord_tau"
            )
        for name, coord, hierarchy in (
            ("start", self.coord_weight_start, self.hierarchy_weight_start),
            ("end", self.coord_weight, self.hierarchy_weight),
        ):
            most = coord + len(LEVELS) * hierarchy + self.format_weight
            if not 0 < most <= 1 + 1e-9:
                raise ValueError(
                    f"at the {name} of a run a perfect answer would earn {most:.3f}: keep coord_weight "
                    f"({coord}) + 3 * hierarchy_weight ({hierarchy}) + format_weight ({self.format_weight}) in (0, 1]"
                )

    def at(self, progress: float) -> "Weights":
        """Tau and the weights after a share `progress` of the run, in [0, 1]."""
        if not 0 <= progress <= 1:
            raise ValueError(f"progress={progress}: must be in [0, 1], the share of the run that is done")
        return Weights(
            tau_km=float(self.coord_tau_start ** (1 - progress) * self.coord_tau**progress),
            coordinate=(1 - progress) * self.coord_weight_start + progress * self.coord_weight,
            hierarchy=(1 - progress) * self.hierarchy_weight_start + progress * self.hierarchy_weight,
            format=self.format_weight,
        )


@dataclass(frozen=True)
class Weights:
    """The reward's knobs at one moment of a run."""

    tau_km: float
    coordinate: float
    hierarchy: float  # of each of the three labels
    format: float


@dataclass(frozen=True)
class RewardParts:
    """Rewards of N answers and what they are made of, each of shape (N,). The parts are unweighted, in [0, 1]."""

    coordinate: np.ndarray  # exp(-distance / tau); 0 where there are no coordinates
    country: np.ndarray  # NaN where the truth has no such label
    region: np.ndarray
    city: np.ndarray
    format: np.ndarray  # 1 where the answer was read in full
    total: np.ndarray  # the reward, in [0, 1]
    distance_km: np.ndarray  # NaN where there are no coordinates


def combine(
    distance_km: ArrayLike, labels: ArrayLike, format_: ArrayLike, weights: Weights
) -> tuple[np.ndarray, np.ndarray]:
    """The coordinates' part and the total, each (N,), from distances (N,), labels (N, 3) and format (N,).

    A label that the truth lacks (NaN) neither pays nor costs: the mean over the labels that are there stands for it,
    and where there is none the coordinates take its weight. So a perfect answer earns the same for every picture.
    """
    distance_km, labels = np.asarray(distance_km, np.float64), np.asarray(labels, np.float64)
    coordinate = np.exp(-np.where(np.isnan(distance_km), np.inf, distance_km) / weights.tau_km)
    present = ~np.isnan(labels)
    count = present.sum(axis=-1)
    mean = np.where(present, labels, 0.0).sum(axis=-1) / np.maximum(count, 1)
    hierarchy = len(LEVELS) * weights.hierarchy * np.where(count > 0, mean, coordinate)
    total = weights.coordinate * coordinate + hierarchy + weights.format * np.asarray(format_, np.float64)
    return coordinate, np.minimum(total, 1.0)  # a rounding error above 1 at most, see RewardConfig


def reward_parts(answers: Sequence, truths: Sequence[Place], progress: float, config: RewardConfig) -> RewardParts:
    """Rewards of N answers, each against its own truth, after a share `progress` (0..1) of the run.

    Answers have `lat, lon, city, region, country` (any may be None) and, where they failed to parse, an `error`.
    An answer without readable coordinates earns nothing at all: if its labels paid, leaving the coordinates out would
    be the way not to contradict them, and a policy finds that within twenty steps. See `earth.labels` for the rest.
    """
    if len(answers) != len(truths):
        raise ValueError(f"{len(answers)} answers for {len(truths)} truths: give each answer its own truth")
    guess = np.array([answer_point(a) for a in answers], dtype=np.float64).reshape(-1, 2)
    true = np.array([(t.lat, t.lon) for t in truths], dtype=np.float64).reshape(-1, 2)
    distance_km = haversine_km(*guess.T, *true.T)
    found = score_labels(answers, truths)
    read = np.array([getattr(a, "error", None) is None for a in answers], dtype=bool)
    format_ = (read & ~np.isnan(distance_km)).astype(np.float64)
    labels = np.stack([found.country, found.region, found.city], axis=-1) * format_[:, None]
    coordinate, total = combine(distance_km, labels, format_, config.at(progress))
    country, region, city = labels.T
    return RewardParts(coordinate, country, region, city, format_, total, distance_km)
