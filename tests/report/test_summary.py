"""The sentence a page begins with: true, and in words that need no glossary."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geospot.earth.distance import haversine_km
from geospot.earth.gazetteer import Gazetteer
from geospot.report.lead import KNOWN_KM, comparison_lead, evaluation_lead, familiar_distance
from geospot.scoring.metrics import Predictions, summarize

NAN = float("nan")
COUNTRIES = {"London": "GB", "Birmingham": "GB", "Paris": "FR", "Rome": "IT", "Moscow": "RU", "Berlin": "DE",
             "Mumbai": "IN", "Tokyo": "JP", "Sydney": "AU"}  # fmt: skip
NAMES = {"New York": "New York City"}


def where(city: str) -> tuple[float, float]:
    """The largest city of the name in its country."""
    cities = Gazetteer.load().cities
    country = cities.country_codes.tolist().index(COUNTRIES.get(city, "US"))
    rows = np.flatnonzero((cities.country == country) & (cities.name == NAMES.get(city, city)))
    best = rows[np.argmax(cities.population[rows])]
    return float(cities.lat[best]), float(cities.lon[best])


@pytest.mark.parametrize(("km", "start", "end"), KNOWN_KM)
def test_the_known_distances_are_those_of_the_gazetteer(km, start, end):
    assert float(haversine_km(*where(start), *where(end))) == pytest.approx(km, rel=0.02)


@given(st.floats(0, 20_015))
def test_a_comparison_is_never_far_off(km):
    text = familiar_distance(km)
    if text:
        known = next(row[0] for row in KNOWN_KM if f"from {row[1]} to {row[2]}" in text)
        assert known / 1.31 <= km <= known * 1.31


def shifted(*degrees: float) -> Predictions:
    """Pictures on the equator whose guesses are so many degrees off; NaN: no answer."""
    nowhere = np.zeros(len(degrees))
    return Predictions(nowhere, nowhere, np.where(np.isnan(degrees), NAN, 0.0), np.array(degrees))


def test_the_sentence_by_hand():
    predictions = shifted(0.1, 3.1, 9.0, NAN)
    text = evaluation_lead(predictions, {"geo_country_acc": 0.5})
    assert text.startswith("A model was shown 4 pictures and asked where on Earth each was taken. Half of its guesses")
    assert "within 673 km of the true place, about as far as from San Francisco to Los Angeles." in text
    assert text.endswith("50 of 100 lie in the right country. 1 of 4 answers name no place and count as wrong.")


def test_no_distance_is_claimed_where_there_is_none():
    assert evaluation_lead(shifted(NAN, NAN), {}).endswith("None of its 2 answers names a place that can be read.")
    assert "More than half of its answers name no place" in evaluation_lead(shifted(NAN, NAN, 1.0), {})


def test_the_nearest_of_several_comes_first():
    near, far, none = shifted(1, 1), shifted(20, 20), shifted(NAN, NAN)
    models = {name: (p, summarize(p)) for name, p in (("far", far), ("none", none), ("near", near))}
    text = comparison_lead(models)
    assert text.startswith("3 models were asked where on Earth the same 2 pictures were taken. Half of near’s guesses")
    assert "of the others: of far 2,224 km, of none none, since most of the answers failed." in text
