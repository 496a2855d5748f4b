"""What an answer is worth, and how that tightens over a run. Pure functions over arrays; degrees and kilometres.

    earned = coord_weight * exp(-distance_km / tau) + hierarchy_weight * (country + region + city)
             + format_weight * format
    reward = (1 - form_penalty) * earned + form_penalty * form

The second line is for an answer whose coordinates could be read; any other earns 0. No sum of weights divides this. The
weights are what they say, and a config whose reward could exceed 1 is refused: coord_weight + 3 * hierarchy_weight +
format_weight <= 1, at the start of a run and at its end. `reward_curve` puts another function of the distance in place
of exp(-distance_km / tau), `tau_schedule` moves tau in another way.

The form is paid for, not subtracted: what is subtracted from nothing and cut off at 0 costs nothing, and where places
earn nothing the form is all that holds the text together.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from geospot.curves import CURVES, TAU_CURVES, Curve, OwnCurve, exp_curve, load_curve, try_curve
from geospot.earth.agreement import answer_point, score_labels
from geospot.earth.distance import MAX_DISTANCE_KM, haversine_km
from geospot.earth.place import Place
from geospot.errors import did_you_mean, listed

LEVELS = ("country", "region", "city")
PARTS = ("coordinate", *LEVELS, "format", "form")  # of RewardParts: logged each step, and with each answer


def _geometric(progress: float, start_km: float, end_km: float) -> float:
    return start_km ** (1 - progress) * end_km**progress


# tau (km) after a share `progress` of the run, from its start and end. `adaptive` is `AdaptiveTau`.
TAU_SCHEDULES: Mapping[str, Callable[[float, float, float], float]] = {
    "geometric": _geometric,
    "linear": lambda progress, start_km, end_km: (1 - progress) * start_km + progress * end_km,
    "cosine": lambda progress, start_km, end_km: end_km + (start_km - end_km) * (1 + math.cos(math.pi * progress)) / 2,
    # Four plateaus of equal length and equal ratio.
    "steps": lambda progress, start_km, end_km: _geometric(min(int(4 * progress), 3) / 3, start_km, end_km),
}
ADAPTIVE = "adaptive"


@dataclass(frozen=True)
class RewardConfig:
    """The reward's knobs at the start and at the end of a run ("early Europe, late Barcelona").

    Weights move linearly with progress, tau geometrically unless `tau_schedule` says otherwise: each step of the run
    tightens it by the same factor.
    """

    coord_tau_start: float = 2000.0  # km, > 0: where the coordinates' reward falls to 1/e, at progress 0
    coord_tau: float = 25.0  # km, > 0: the same at progress 1
    coord_weight_start: float = 0.3  # 0..1: what exact coordinates are worth, at progress 0
    coord_weight: float = 0.7  # 0..1: the same at progress 1
    hierarchy_weight_start: float = 0.7 / 3  # 0..1/3: what each of country, region, city is worth, at progress 0
    hierarchy_weight: float = 0.1  # 0..1/3: the same at progress 1
    format_weight: float = 0.0  # 0..1: what an answer with readable coordinates is worth for that alone
    form_penalty: float = 0.05  # 0..1: what an answer loses that is out of form altogether, see `answer.in_form`
    reward_curve: str = "exp"  # a name in CURVES, or module:function
    tau_schedule: str = "geometric"  # a name in TAU_SCHEDULES, or adaptive

    def __post_init__(self):
        if self.tau_schedule not in (known := (*TAU_SCHEDULES, ADAPTIVE)):
            raise ValueError(
                f"tau_schedule={self.tau_schedule}: must be {listed(known)}{did_you_mean(self.tau_schedule, known)}"
            )
        curve = load_curve(self.reward_curve)
        if self.reward_curve in CURVES and self.reward_curve not in TAU_CURVES:
            for name in ("coord_tau_start", "coord_tau", "tau_schedule"):
                default = type(self).__dataclass_fields__[name].default
                if getattr(self, name) != default:
                    raise ValueError(
                        f"{name}={getattr(self, name)}: reward_curve={self.reward_curve} has no tau; leave it out (set "
                        f"{name}={default} where a plan, config= or from= brings it), or take one of "
                        f"{', '.join(TAU_CURVES)}"
                    )
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, str):
                continue
            low_ok = value > 0 if "tau" in field.name else value >= 0
            if not (np.isfinite(value) and low_ok):
                raise ValueError(f"{field.name}={value}: must be {'> 0 km' if 'tau' in field.name else '>= 0'}")
        if self.form_penalty >= 1:
            raise ValueError(f"form_penalty={self.form_penalty}: must be below 1, where only the form would pay")
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

        if isinstance(curve, OwnCurve):
            try_curve(curve, self.tried_taus_km)

    @property
    def tried_taus_km(self) -> tuple[float, float, float]:
        """Where a curve of one's own is tried: tau at the start, half way and at the end, km."""
        return self.coord_tau_start, math.sqrt(self.coord_tau_start * self.coord_tau), self.coord_tau

    def at(self, progress: float, tau_km: float | None = None) -> "Weights":
        """Tau and the weights after a share `progress` of the run, in [0, 1]; an adaptive tau is given, in km."""
        if not 0 <= progress <= 1:
            raise ValueError(f"progress={progress}: must be in [0, 1], the share of the run that is done")
        if tau_km is None:
            schedule = TAU_SCHEDULES.get(self.tau_schedule)
            if schedule is None:
                raise ValueError(f"tau_schedule={self.tau_schedule}: needs the run's tau_km, see AdaptiveTau")
            tau_km = float(schedule(progress, self.coord_tau_start, self.coord_tau))
        return Weights(
            tau_km=tau_km,
            coordinate=(1 - progress) * self.coord_weight_start + progress * self.coord_weight,
            hierarchy=(1 - progress) * self.hierarchy_weight_start + progress * self.hierarchy_weight,
            format=self.format_weight,
            form_penalty=self.form_penalty,
            curve=load_curve(self.reward_curve),
        )


@dataclass(frozen=True)
class Weights:
    """The reward's knobs at one moment of a run."""

    tau_km: float
    coordinate: float
    hierarchy: float  # of each of the three labels
    format: float
    form_penalty: float = 0.0
    curve: Curve = exp_curve

    @property
    def has_tau(self) -> bool:
        """Whether tau reaches the reward; of a curve of one's own it is taken to."""
        return all(self.curve is not curve for name, curve in CURVES.items() if name not in TAU_CURVES)

    def coordinate_worth(self, distance_km: ArrayLike) -> np.ndarray:
        """What the coordinates are worth, unweighted, (N,) in [0, 1]; 0 where there are none (NaN)."""
        distance_km = np.asarray(distance_km, np.float64)
        worth, there = np.zeros(distance_km.shape), ~np.isnan(distance_km)
        if there.any():  # one's own function need not know what to do with no distance at all
            worth[there] = np.clip(self.curve(distance_km[there], self.tau_km), 0.0, 1.0)
        return worth


class AdaptiveTau:
    """Tau that follows the policy: the running median of its own answers' distances, so that a group always differs.

    It begins at `coord_tau_start`, never loosens, and ends at `coord_tau` at the least. `state` is all of it; a branch
    may have put other ends around it. Medians below the end count as the end: since it never loosens, one step of
    answers that are nearly exact must not tighten it for good by more than that.
    """

    RATE = 0.2  # of the newest step in the running median, which is a mean of logarithms

    def __init__(self, config: RewardConfig, state: Mapping[str, float] | None = None):
        self._start_km, self._end_km = config.coord_tau_start, config.coord_tau
        self.state: dict[str, float] = {"tau_km": self._start_km} | dict(state or {})
        self.state["tau_km"] = min(max(self.state["tau_km"], self._end_km), self._start_km)

    @property
    def tau_km(self) -> float:
        """The tau of the next step."""
        return self.state["tau_km"]

    def follow(self, distance_km: ArrayLike) -> None:
        """Take in the distances (N,) of a step's answers; NaN, no answer, is as far as can be."""
        km = np.nan_to_num(np.asarray(distance_km, np.float64), nan=MAX_DISTANCE_KM)
        if not km.size:
            return
        newest = math.log(max(float(np.median(km)), self._end_km))
        before = self.state.get("log_median_km", newest)
        self.state["log_median_km"] = (1 - self.RATE) * before + self.RATE * newest
        self.state["tau_km"] = min(self.tau_km, max(self._end_km, math.exp(self.state["log_median_km"])))


@dataclass(frozen=True)
class RewardParts:
    """Rewards of N answers and what they are made of, each of shape (N,). The parts are unweighted, in [0, 1]."""

    coordinate: np.ndarray  # exp(-distance / tau), or the curve's; 0 where there are no coordinates
    country: np.ndarray  # NaN where the truth has no such label
    region: np.ndarray
    city: np.ndarray
    format: np.ndarray  # 1 where the answer was read in full
    form: np.ndarray  # share of the answer that is in form; 1 where no texts were given
    total: np.ndarray  # the reward, in [0, 1]
    distance_km: np.ndarray  # NaN where there are no coordinates


def combine(
    distance_km: ArrayLike, labels: ArrayLike, format_: ArrayLike, weights: Weights, form: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The coordinates' part and the total, each (N,), from distances (N,), labels (N, 3), format (N,) and form (N,).

    form None: it is not judged, and the whole reward is for the place.

    A label that the truth lacks (NaN) neither pays nor costs: the mean over the labels that are there stands for it,
    and where there is none the coordinates take its weight. So a perfect answer earns the same for every picture.
    """
    distance_km, labels = np.asarray(distance_km, np.float64), np.asarray(labels, np.float64)
    coordinate = weights.coordinate_worth(distance_km)
    present = ~np.isnan(labels)
    count = present.sum(axis=-1)
    mean = np.where(present, labels, 0.0).sum(axis=-1) / np.maximum(count, 1)
    hierarchy = len(LEVELS) * weights.hierarchy * np.where(count > 0, mean, coordinate)
    read = np.asarray(format_, np.float64)
    total = weights.coordinate * coordinate + hierarchy + weights.format * read
    if form is not None:
        total = (1 - weights.form_penalty) * total + weights.form_penalty * np.asarray(form, np.float64) * read
    return coordinate, np.clip(total, 0.0, 1.0)  # above 1 by a rounding error at most, see RewardConfig


def reward_parts(
    answers: Sequence, truths: Sequence[Place], progress: float, config: RewardConfig, form: ArrayLike | None = None
) -> RewardParts:
    """Rewards of N answers, each against its own truth, after a share `progress` (0..1) of the run.

    Answers have `lat, lon, city, region, country` (any may be None) and, where they failed to parse, an `error`.
    `form` (N,) is the share of each text that is in form (`answer.in_form`); None: there is no text to judge.
    """
    return weighted_parts(answers, truths, config.at(progress), form)


def weighted_parts(
    answers: Sequence, truths: Sequence[Place], weights: Weights, form: ArrayLike | None = None
) -> RewardParts:
    """`reward_parts` at one moment of a run.

    An answer without readable coordinates earns nothing at all: if its labels paid, leaving the coordinates out would
    be the way not to contradict them, and a policy finds that within twenty steps. See `earth.agreement` for the rest.
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
    coordinate, total = combine(distance_km, labels, format_, weights, form)
    country, region, city = labels.T
    form = np.ones(len(answers)) if form is None else np.asarray(form, np.float64)
    return RewardParts(coordinate, country, region, city, format_, form, total, distance_km)
