"""What is known beforehand: answers elsewhere are set aside, the others share their mass, the spread stays honest."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geospot.answer import Answer
from geospot.asking.cluster import gather, read_draws
from geospot.asking.guesser import make_guess
from geospot.asking.prior import Prior
from geospot.asking.requests import Question
from geospot.config import EvalConfig, GuessConfig
from geospot.earth.distance import haversine_km
from geospot.errors import DataError
from geospot.report.guess_files import as_text

PARIS, LYON, BERLIN = (48.85, 2.35), (45.76, 4.84), (52.52, 13.40)


def text(at: tuple[float, float]) -> str:
    return f"Latitude: {at[0]}\nLongitude: {at[1]}"


def test_answers_in_another_country_are_set_aside_and_the_rest_renormalised():
    texts = [text(BERLIN)] * 4 + [text(PARIS)] * 3 + [text(LYON), "no idea", "none"]
    free = read_draws(texts)
    assert [(round(c.lat), c.mass) for c in free.candidates] == [(53, 0.4), (49, 0.3), (46, 0.1)]
    known = read_draws(texts, Prior(("FR",)))
    assert [round(c.lat) for c in known.candidates] == [49, 46]
    assert [c.mass for c in known.candidates] == pytest.approx([0.6, 0.2])  # two tenths could not be read
    assert (known.outside, len(known.failures)) == (4, 2)
    assert known.spread_km > free.spread_km  # of all answers, around Paris: no radius shrinks by what is set aside
    guess = make_guess("a.jpg", texts, prior=Prior(("FR",)))
    assert guess.spot.country == "France"
    assert "4 of 10 answers contradict what is known, and are set aside" in as_text([guess])
    coarse = make_guess("a.jpg", texts, prior=Prior(("FR",)), coarse=True)
    assert {c.country for c in coarse.candidates} == {"France"}
    assert coarse.outside == 4


def test_where_all_are_elsewhere_there_is_no_answer_and_the_reason_is_said():
    guess = make_guess("a.jpg", [text(BERLIN)], prior=Prior(near=PARIS, within_km=200))
    assert not guess.ok
    assert guess.failures == ("outside near=48.85,2.35 within=200",)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.floats(-89, 89), st.floats(-179, 179)), min_size=1, max_size=8),
    st.tuples(st.floats(-89, 89), st.floats(-179, 179)),
    st.floats(1, 20000),
)
def test_candidates_near_a_point_are_near_it_and_their_masses_sum_to_all(points, near, within_km):
    draws = gather([Answer(*point) for point in points], prior=Prior(near=near, within_km=within_km))
    inside = [haversine_km(*point, *near) <= within_km for point in points]
    assert draws.outside == len(points) - sum(inside)
    assert sum(c.mass for c in draws.candidates) == pytest.approx(float(any(inside)))
    assert bool(draws.candidates) == any(inside)


def test_points_at_sea_are_of_the_coast_and_nan_is_nowhere():
    assert Prior(("FR",)).holds([43.2, 0.0, np.nan], [5.3, -30.0, 1.0]).tolist() == [True, False, False]
    assert Prior(("FR", "DE")).holds(*np.array([PARIS, BERLIN]).T).tolist() == [True, True]


def test_keys_become_a_prior_and_a_sentence():
    prior = Prior.of(GuessConfig(photos=("a.jpg",), country=("Frankreich", "BE"), near=PARIS, within=200.0))
    assert prior == Prior(("FR", "BE"), PARIS, 200.0)
    told = prior.told(Question("Where?", 10)).text
    assert told.startswith("Where?\nIt is known that it was taken in France or Belgium and within 200 km of ")
    assert told.endswith("latitude 48.85, longitude 2.35.")
    assert Prior.of(EvalConfig()) is None
    with pytest.raises(DataError, match="country=Atlantis: no country"):
        Prior.of(EvalConfig(country=("Atlantis",)))
    for wrong in ({"near": PARIS}, {"within": 5.0}, {"near": (99.0, 0.0), "within": 5.0}, {"tell_prior": True}):
        with pytest.raises(ValueError, match=r"near|nothing is known"):
            EvalConfig(**wrong)
