"""The gallery of an evaluation: the same pictures whether they are kept as they pass or found afterwards."""

import re
from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from geospot.answer import Answer
from geospot.data.samples import Sample
from geospot.earth.place import Place
from geospot.report import gallery
from geospot.report.evaluation import report_evaluations
from geospot.report.gallery import COUNT, Gallery
from geospot.scoring.guesses import Guesses
from geospot.scoring.judge import judge
from geospot.scoring.truths import Truths


@patch.object(gallery, "KEPT", 2)  # else each of so few pictures is kept among those that are drawn
@settings(deadline=None, max_examples=20)
@given(st.lists(st.one_of(st.none(), st.integers(0, 5)), min_size=1, max_size=30), st.integers(1, 7))
def test_kept_as_they_pass_or_found_afterwards_it_is_the_same_gallery(off, batch):
    """`off`: degrees that each guess is off, with many ties; None for a failed answer."""
    keys = [str(i) for i in range(len(off))]
    places = [Place(0.0, 0.0)] * len(off)
    answers = [Answer(float(d), 0.0) if d is not None else Answer(None, None, error="empty") for d in off]
    samples = [Sample(key, (b"cannot be read",), place) for key, place in zip(keys, places, strict=True)]
    passing, parts = Gallery(), []
    for start in range(0, len(off), batch):
        part = slice(start, start + batch)
        parts.append(Guesses.of_answers("m", keys[part], answers[part]))
        passing.offer(samples[part], parts[-1])
    evaluation = judge(Truths.of(keys, places), Guesses.joined(parts), labels=False)
    shown = passing.examples(evaluation)
    found = Gallery.read(evaluation, reversed(samples)).examples(evaluation)
    assert [(e.tag, e.truth) for e in shown] == [(e.tag, e.truth) for e in found]
    assert len(shown) == min(len(off), 2 * COUNT)
    typical = [g.typical(evaluation) for g in (passing, Gallery.read(evaluation, reversed(samples)))]
    assert typical == [None, None]  # its picture cannot be read
    best = [e.answers[0].distance_km for e in shown if e.tag == "best"]
    assert np.allclose(best, np.sort(evaluation.predictions.distance_km)[: len(best)], equal_nan=True)


def test_every_drawing_of_a_report_has_an_area(tmp_path):
    """A viewBox of negative height draws nothing, and no browser says so."""
    keys = [str(i) for i in range(12)]
    lat, lon = np.linspace(-40, 60, 12), np.linspace(-170, 170, 12)
    guesses = Guesses("m", keys, lat + 1, lon, (None,) * 12)
    evaluation = judge(Truths(keys, lat, lon), guesses)
    report_evaluations(
        tmp_path, {"m": evaluation}, data="", configuration={}, about={"predictions": "m.csv"}, gallery={}
    )
    boxes = re.findall(r'viewBox="([^"]*)"', (tmp_path / "report.html").read_text())
    assert len(boxes) == 4  # the map, the histogram, the shares within, the countries
    assert all(width > 0 and height > 0 for *_, width, height in (map(float, box.split()) for box in boxes))
