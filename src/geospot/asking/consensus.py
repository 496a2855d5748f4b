"""Answers, one or several a picture -> guesses with a radius."""

from collections.abc import Sequence

import numpy as np

from geospot.answer import Answer
from geospot.asking.calibration import Calibration
from geospot.asking.cluster import Draws
from geospot.scoring.guesses import Guesses


def guesses_of_draws(
    name: str,
    keys: Sequence[str],
    draws: Sequence[Draws],
    calibration: Calibration | None = None,
    probability: float = 0.9,
) -> tuple[Guesses, np.ndarray]:
    """The guess for each picture's answers, and how far they lie apart (N,), see `Draws.spread_km`.

    With one answer it is the guess; of several the first candidate is. With a calibration each guess has the radius
    that holds the truth with `probability`.
    """
    spread = np.array([d.spread_km for d in draws])
    answers = [_answer(d) for d in draws]
    radius = None if calibration is None else calibration.radius_km(spread, probability)
    shown = [_shown(d.texts) for d in draws]
    stated = None if calibration is None else probability
    made_on = None if calibration is None else calibration.made_on
    guesses = Guesses.of_answers(name, keys, answers, shown, radius, stated, made_on)
    return guesses, spread


def _answer(draws: Draws) -> Answer:
    if not draws.candidates:
        return Answer(None, None, error=draws.failures[0])
    first = draws.candidates[0]
    return Answer(first.lat, first.lon, first.city, first.region, first.country)


def _shown(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else "\n---\n".join(texts)
