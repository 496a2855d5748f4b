"""Coordinates and labels under the keys that data sets use: read where they are good, refused with a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geospot.answer.spellings import SPELLINGS
from geospot.data.fields import BadSample, Columns, read_coordinates, read_fields, read_place


def test_zero_is_a_coordinate():
    assert read_coordinates({"lat": 0, "lon": 33.5}) == (0.0, 33.5)
    assert read_coordinates({"latitude": "51.5", "longitude": 0}) == (51.5, 0.0)


def test_unknown_labels_are_none_and_namibia_is_not():
    place = read_place({"lat": 1, "lon": 2, "city": "nan", "region": " ", "country": "NA"})
    assert (place.city, place.region, place.country) == (None, None, "NA")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"lat": None, "lon": 1}, "no coordinates"),
        ({"lat": "", "lon": 1}, "no coordinates"),
        ({}, "no coordinates"),
        ({"lat": "x", "lon": 1}, "coordinates are not numbers"),
        ({"lat": True, "lon": 1}, "coordinates are not numbers"),
        ({"lat": [1.0], "lon": 1}, "coordinates are not numbers"),
        ({"lat": "1,234,567", "lon": 1}, "coordinates are not numbers"),
        ({"lat": "nan", "lon": 1}, "coordinates are not finite"),
        ({"lat": 1, "lon": float("inf")}, "coordinates are not finite"),
        ({"lat": 90.01, "lon": 1}, "coordinates out of range"),
        ({"lat": 1, "lon": -360.01}, "coordinates out of range"),
        ({"lat": 0, "lon": 0.0}, "coordinates are (0, 0)"),
    ],
)
def test_bad_coordinates_say_why(fields, reason):
    with pytest.raises(BadSample) as refused:
        read_coordinates(fields)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("lat", "lon"),
    [
        ("LAT", "LON"),
        ("lat", "lng"),
        ("lat ", "long"),
        ("Latitude", "Longitude"),
        ("GPSLatitude", "GPSLongitude"),
        ("gps_lat", "gps-lon"),
        ("decimalLatitude", "decimalLongitude"),
    ],
)
def test_usual_spellings_are_found(lat, lon):
    assert read_coordinates({"id": "7", lon: "2.5", lat: "1.5"}) == (1.5, 2.5)


def test_keys_of_the_sets_that_people_bring():
    osv5m = {"latitude": "1", "longitude": "2", "region": "Erongo", "sub-region": "x", "city": "Omaruru"}
    place = read_place({**osv5m, "country": "NA", "unique_region": "Erongo_NA", "lon_bin": "9"})
    assert (place.city, place.region, place.country) == ("Omaruru", "Erongo", "NA")
    panos = {"country_iso_alpha2": "ZA", "latitude": "-33.9", "longitude": "18.4"}
    assert read_place(panos).country == "ZA"
    assert read_place({"lat": 1, "lon": 2, "country_iso2": "IN"}).country == "IN"


def test_columns_named_by_hand_win_and_stand_alone():
    fields = {"lat": 1, "lon": 2, "y": "3,5", "x": "-4,25", "country": "France", "land": "Spain"}
    columns = Columns.parse("lat=y, lon=x,country=land")
    place = read_place(fields, columns)
    assert (place.lat, place.lon, place.country) == (3.5, -4.25, "Spain")
    with pytest.raises(BadSample, match="no y"):
        read_coordinates({"lat": 1, "lon": 2}, columns)


@pytest.mark.parametrize("text", ["lat", "lat=", "latitude=y", "lat=a,lat=b", "=y"])
def test_columns_that_cannot_be_say_what_is_allowed(text):
    with pytest.raises(ValueError, match=r"NAME=KEY with NAME one of lat, lon, city"):
        Columns.parse(text)


@given(st.floats(-90, 90), st.floats(-180, 180), st.sampled_from(SPELLINGS["lat"]), st.sampled_from(SPELLINGS["lon"]))
def test_what_repr_writes_is_read(lat, lon, lat_key, lon_key):
    if lat == lon == 0:
        return
    assert read_coordinates({lat_key.upper(): repr(lat), lon_key: lon}) == (lat, lon)


JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists)


@given(JSON)
def test_no_value_breaks_the_reader(value):
    for fields in ({"lat": value, "lon": 1.5}, {"lat": 1.5, "lon": value, "country": value}):
        try:
            place = read_place(fields)
        except BadSample:
            continue
        assert -90 <= place.lat <= 90
        assert -180 <= place.lon <= 180


@pytest.mark.parametrize(
    ("stored", "reason"), [(None, "no json"), (b"{", "json cannot be read"), (b"[1]", "json cannot be read")]
)
def test_metadata_that_is_no_object(stored, reason):
    with pytest.raises(BadSample) as refused:
        read_fields(stored)
    assert refused.value.reason == reason
