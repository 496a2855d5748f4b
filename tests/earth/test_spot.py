"""Names beside coordinates: no place is called that does not exist, and what contradicts itself is said to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geospot.earth.gazetteer import Gazetteer
from geospot.earth.place import Place
from geospot.earth.spot import name_points, truth_text


@pytest.mark.parametrize(
    ("place", "spot", "disagreement"),
    [
        (
            Place(60.78, -70.28, "Fort McMurray", None, "Canada"),
            "Quebec, Canada, 316 km N of Kuujjuaq",
            "Fort McMurray is 2,372 km from these coordinates",
        ),
        (Place(48.85, 2.35, "Paris", None, "France"), "Paris, Île-de-France, France", ""),
        (Place(48.85, 2.35), "Paris, Île-de-France, France", ""),
        (
            Place(48.85, 2.35, "Lyon", None, "Germany"),
            "Paris, Île-de-France, France",
            "Lyon is 393 km from these coordinates; the coordinates lie in France, not in Germany",
        ),
        (
            Place(43.6, 1.44, None, "Bretagne", "France"),
            "Toulouse, Occitanie, France",
            "the coordinates lie in Occitanie, not in Bretagne",
        ),
        (Place(43.6, 1.44, "a hamlet of no gazetteer", None, "France"), "Toulouse, Occitanie, France", ""),
        (Place(37.8, -122.27, "San Francisco", "California", "US"), "Oakland, California, United States", ""),
        (Place(0, -30, "Lima", None, "Peru"), "open sea", "Lima is 5,359 km from these coordinates; the coordinates "
         "lie in the open sea, not in Peru"),
        (Place(51.3, 4.4, None, None, "Netherlands"), "Antwerp, Flanders, Belgium", ""),  # the border is 10 km away
        (Place(-80, 10), "Antarctica", ""),
    ],
)  # fmt: skip
def test_what_lies_there_and_what_contradicts_it(place, spot, disagreement):
    (named,) = name_points([place])
    assert (str(named.spot), named.disagreement) == (spot, disagreement)


@given(st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), min_size=1, max_size=20))
def test_a_city_is_never_named_in_a_region_that_it_is_not_in(points):
    cities = Gazetteer.load().cities
    for named in name_points([Place(lat, lon) for lat, lon in points]):
        spot = named.spot
        if spot.city is not None and str(spot).startswith(f"{spot.city}, {spot.region}"):
            assert spot.city_km <= 10
            assert spot.city in cities.name
        assert named.disagreement == ""


def test_a_true_place_is_called_by_where_it_is_and_its_label_is_quoted():
    assert truth_text(Place(66.4, 140.1, "Anadyr", "Sakha", "Russia")) == (
        "Sakha, Russia, 139 km W of Khonuu; labelled Anadyr, Sakha, Russia, but Anadyr is 1,704 km from these "
        "coordinates"
    )
    assert truth_text(Place(48.85, 2.35, "Paris", "Île-de-France", "FR")) == "Paris, Île-de-France, France"
