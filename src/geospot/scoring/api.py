"""`score`: guesses and truths in, metrics with intervals out. Needs neither torch nor tinker."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from geospot.answer import Answer, parse_answer
from geospot.answer.coordinates import wrap_longitude
from geospot.earth.agreement import Said
from geospot.earth.place import Place
from geospot.scoring.guesses import Guesses
from geospot.scoring.judge import Evaluation, judge
from geospot.scoring.truths import Truths

Point = Sequence[float]  # (lat, lon) in degrees
GuessLike = Point | str | Said | None
TruthLike = Point | Place


def score(
    guesses: GuessLike | Sequence[GuessLike] | np.ndarray | Path,
    truths: TruthLike | Sequence[TruthLike] | np.ndarray | str | Path | None = None,
    *,
    scale: str | float = "world",
    labels: bool = True,
    name: str = "guesses",
) -> Evaluation:
    """Metrics of guesses, with 95 % intervals: `.summary`, `.intervals`, and `print` shows both.

    guesses: one or N of (lat, lon), answer texts, `Guess`es or None (no answer); or the path of a predictions file.
    truths: one or N of (lat, lon) or `Place`s; for a file the path of a table of truths, or None if it holds them.
    scale: of the GeoGuessr score: "world", a map's diagonal in km, or "map" (the bounds of the truths). `labels=False`
    leaves out countries, regions and cities. ValueError for coordinates out of range and for lengths that differ.
    """
    if isinstance(guesses, str | Path) and Path(guesses).suffix and Path(guesses).exists():
        from geospot.scoring.tables.evaluations import read_pair

        known, found = read_pair(guesses, truth_file=cast(Any, truths), name=name)
        return judge(known, found, scale=scale, labels=labels)
    if truths is None:
        raise ValueError("truths are needed: (lat, lon) of each picture, or a predictions file that holds them")
    places = [_place(t) for t in _listed(truths)]
    answers = [_answer(g) for g in _listed(guesses)]
    if len(places) != len(answers):
        raise ValueError(f"{len(answers)} guesses for {len(places)} truths; give one for each")
    keys = [str(i) for i in range(len(places))]
    texts = [g for g in _listed(guesses) if isinstance(g, str)]
    found = Guesses.of_answers(name, keys, answers, texts if len(texts) == len(keys) else None)
    return judge(Truths.of(keys, places), found, scale=scale, labels=labels)


def _listed(values: Any) -> list:
    """N values; a single one is a list of one."""
    if isinstance(values, np.ndarray):
        values = values.tolist()
    pair = isinstance(values, tuple | list) and len(values) == 2 and all(isinstance(v, int | float) for v in values)
    return [values] if pair or not isinstance(values, Sequence) or isinstance(values, str) else list(values)


def _coordinates(value: Point) -> tuple[float, float]:
    lat, lon = (float(part) for part in value)
    if not (abs(lat) <= 90 and abs(lon) <= 360):
        raise ValueError(f"({lat}, {lon}): must be (latitude, longitude) in degrees, -90..90 and -180..180")
    return lat, wrap_longitude(lon)


def _place(value: TruthLike) -> Place:
    return value if isinstance(value, Place) else Place(*_coordinates(value))


def _answer(value: GuessLike) -> Answer:
    """An answer from coordinates, a text, a `Guess`, or None."""
    if isinstance(value, str):
        return parse_answer(value)
    if value is None or getattr(value, "ok", True) is False:
        return Answer(None, None, error="no answer")
    if hasattr(value, "lat"):
        said = cast(Said, value)
        return Answer(said.lat, said.lon, said.city, said.region, said.country)
    lat, lon = (float(part) for part in cast(Any, value))
    return Answer(None, None, error="no coordinates") if lat != lat or lon != lon else Answer(*_coordinates((lat, lon)))
