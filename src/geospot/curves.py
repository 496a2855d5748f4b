"""What a distance is worth: curves from kilometres to [0, 1], by name or a person's own. Pure functions over arrays."""

import hashlib
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import ModuleType
from typing import NoReturn

import numpy as np

from geospot.earth.distance import MAX_DISTANCE_KM
from geospot.earth.score import ACCURACY_RADII_KM, MAX_SCORE, geoguessr_score
from geospot.errors import RunError, did_you_mean, listed

WIDE_KM = 1500.0  # the wide half of two_scale: it still tells 5,000 km from 8,000
SCALES_KM = (25.0, 200.0, 750.0, 2500.0)  # of multi_scale: city, region, country, continent

Curve = Callable[[np.ndarray, float], np.ndarray]  # distances (N,) km, tau in km -> worth (N,) in [0, 1]


def exp_curve(distance_km: np.ndarray, tau_km: float) -> np.ndarray:
    """exp(-d / tau): the project's own."""
    return np.exp(-distance_km / tau_km)


def two_scale_curve(distance_km: np.ndarray, tau_km: float) -> np.ndarray:
    """Half exp(-d / tau), half exp(-d / 1,500 km): however narrow tau becomes, nearer still pays from far away."""
    return 0.5 * np.exp(-distance_km / tau_km) + 0.5 * np.exp(-distance_km / WIDE_KM)


def linear_curve(distance_km: np.ndarray, tau_km: float) -> np.ndarray:
    """1 - d / 20,015 km, half the Earth's circumference."""
    return 1.0 - distance_km / MAX_DISTANCE_KM


def geoguessr_curve(distance_km: np.ndarray, tau_km: float) -> np.ndarray:
    """The game's points on the world map over their most: exp(-d / 1,492.7 km)."""
    return geoguessr_score(distance_km) / MAX_SCORE


def thresholds_curve(distance_km: np.ndarray, tau_km: float) -> np.ndarray:
    """The mean of the hits at 1, 25, 200, 750 and 2,500 km."""
    return (distance_km[..., None] <= np.array(ACCURACY_RADII_KM)).mean(axis=-1)


def multi_scale_curve(distance_km: np.ndarray, tau_km: float) -> np.ndarray:
    """The mean of exp(-d / s) over s = 25, 200, 750 and 2,500 km: the thresholds with a slope."""
    return np.exp(-distance_km[..., None] / np.array(SCALES_KM)).mean(axis=-1)


CURVES: Mapping[str, Curve] = {
    "exp": exp_curve,
    "two_scale": two_scale_curve,
    "linear": linear_curve,
    "geoguessr": geoguessr_curve,
    "thresholds": thresholds_curve,
    "multi_scale": multi_scale_curve,
}
TAU_CURVES = ("exp", "two_scale")  # the others have scales of their own

TRIED_KM = np.concatenate([[0.0], np.geomspace(0.1, MAX_DISTANCE_KM, 200)])  # what a curve of one's own is called with
ROUNDING = 1e-6  # of a function in float32, whose last digit also depends on where a number stands in its array


@dataclass(frozen=True)
class OwnCurve:
    """A person's own curve, `module:function`: called like the others, and checked wherever it is."""

    name: str
    function: Callable[[np.ndarray, float], object] = field(hash=False)

    def __call__(self, distance_km: np.ndarray, tau_km: float) -> np.ndarray:
        """The worth of distances (N,) km; RunError where the function raises, or returns what is none."""
        try:
            return self._worth(distance_km, tau_km)
        except ValueError as error:
            raise RunError(
                f"{error}. It did not when it was tried before the run; correct the function, then start the same "
                "command again"
            ) from error

    def try_out(self, taus_km: Sequence[float]) -> None:
        """ValueError where it is no curve at one of these tau: shape, range, pure, each distance alone, never rising.

        So that nothing is found out after hours: it is called with 201 distances from 0 to 20,015 km, and some of them.
        """
        for tau_km in taus_km:
            found = self._worth(TRIED_KM, tau_km)
            if np.abs(found - self._worth(TRIED_KM, tau_km)).max() > ROUNDING:
                self._refuse(tau_km, "returns different values for the same distances: must be a pure function")
            for some in (slice(None, None, 3), slice(None, None, -1), slice(-1, None)):
                if np.abs(found[some] - self._worth(TRIED_KM[some], tau_km)).max() > ROUNDING:
                    self._refuse(tau_km, "returns another value for a distance where the other distances of the array "
                                 "change: must look at each distance alone")  # fmt: skip
            if (rises := np.flatnonzero(np.diff(found) > ROUNDING)).size:
                near, far = TRIED_KM[rises[0]], TRIED_KM[rises[0] + 1]
                self._refuse(tau_km, f"rises from {near:.1f} to {far:.1f} km: must never rise with the distance")

    def fingerprint(self, taus_km: Sequence[float]) -> str:
        """Of its values at these tau: a run that goes on under a function that has been edited has another."""
        values = np.concatenate([self._worth(TRIED_KM, tau_km) for tau_km in taus_km])
        return hashlib.blake2b(np.round(values, 5).tobytes(), digest_size=8).hexdigest()

    def _worth(self, distance_km: np.ndarray, tau_km: float) -> np.ndarray:
        try:
            found = np.asarray(self.function(distance_km.copy(), tau_km), np.float64)
        except Exception as error:  # whatever a person's function runs into
            n = len(distance_km)
            self._refuse(tau_km, f"raises {error!r}, called with an array of {n} distance{'s' * (n != 1)}", error)
        if found.shape != distance_km.shape:
            self._refuse(tau_km, f"returns shape {found.shape} for distances of shape {distance_km.shape}: must return "
                         "a number for each (numpy functions do, those of math do not)")  # fmt: skip
        if (bad := np.flatnonzero(~((found >= 0) & (found <= 1 + ROUNDING)))).size:  # NaN is neither
            self._refuse(tau_km, f"returns {found[bad[0]]:g} for {distance_km[bad[0]]:,.1f} km: must be in [0, 1]")
        return np.clip(found, 0.0, 1.0)

    def _refuse(self, tau_km: float, problem: str, error: Exception | None = None) -> NoReturn:
        raise ValueError(f"reward_curve={self.name}: with tau {tau_km:g} km it {problem}") from error


@lru_cache(maxsize=64)
def try_curve(curve: OwnCurve, taus_km: tuple[float, ...]) -> None:
    """`curve.try_out`, once: a slow function is not tried for every copy of a configuration."""
    curve.try_out(taus_km)


def load_curve(name: str) -> Curve:
    """A curve by its name in CURVES, or a person's own as `module:function`; ValueError for one that is none.

    One's own is a pure function of distances (N,) in km and tau in km to (N,) numbers in [0, 1] that never rise with
    the distance. Its module is looked for where Python looks, and last in the current folder.
    """
    if name in CURVES:
        return CURVES[name]
    module_name, colon, function_name = name.partition(":")
    if not colon:
        raise ValueError(
            f"reward_curve={name}: must be {listed([*CURVES, 'module:function of your own'])}"
            f"{did_you_mean(name, CURVES)}"
        )
    if module_name.endswith(".py") or not all(x.isidentifier() for x in (*module_name.split("."), function_name)):
        raise ValueError(
            f"reward_curve={name}: must name a module and a function in it, such as mycurves:steep for the function "
            "steep in mycurves.py"
        )
    module = _module(name, module_name)
    function = getattr(module, function_name, None)
    if not callable(function):
        own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        what = "there is no" if function is None else f"it is a {type(function).__name__}, and no"
        where = getattr(module, "__file__", None) or "a module of Python's own"
        raise ValueError(
            f"reward_curve={name}: {what} function {function_name} in {where}{did_you_mean(function_name, own)}"
        )
    return OwnCurve(name, function)


def _module(name: str, module_name: str) -> ModuleType:
    """The module of a curve: from Python's path, whose end the current folder becomes."""
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())  # `python -m` has it there, the command `geospot` has not
    try:
        return importlib.import_module(module_name)
    except Exception as error:  # whatever a person's module runs into
        missing = isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}.")
        raise ValueError(
            f"reward_curve={name}: there is no module {module_name}: put {module_name.replace('.', '/')}.py into this "
            f"folder ({os.getcwd()}), or set PYTHONPATH to where it is"
            if missing
            else f"reward_curve={name}: importing {module_name} fails: {type(error).__name__}: {error}"
        ) from error
