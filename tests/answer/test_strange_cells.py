"""Cells, columns and shapes of places that strangers' tables have: the right half of the Earth, or a refusal."""

import json

import pytest

from geospot.answer.places import CONTRADICTORY, NOT_NUMBERS, find_exchange, read_cells, read_degrees
from geospot.answer.shapes import place_rows
from geospot.data.fields import Columns
from geospot.data.samples import SkipCounter
from geospot.data.sources import open_source
from geospot.data.stream import read_places
from geospot.errors import DataError


@pytest.mark.parametrize(
    ("lat", "lon"),
    [
        ("lat_hem", "lon_hem"),
        ("hemisphere_lat", "hemisphere_lon"),
        ("dir_lat", "dir_lon"),
        ("lat_cardinal", "lon_cardinal"),
        ("lat_card", "lon_card"),
        ("side of latitude", "side of longitude"),
    ],
)
@pytest.mark.parametrize(
    ("south", "west"), [("S", "W"), ("south", "West"), ("Sur", "Oeste"), ("South latitude", "West longitude")]
)
def test_a_column_of_hemispheres_is_known_by_its_name_or_by_what_it_holds(lat, lon, south, west):
    row = {"lat": "33.9", lat: south, "lon": 70.6, lon: west}
    assert (read_cells(row, "lat", "lat"), read_cells(row, "lon", "lon")) == (-33.9, -70.6)


def test_other_columns_about_a_coordinate_say_nothing_of_its_side():
    row = {"lat": 33.9, "lat_accuracy": "5 m", "lat_zone": "T", "lat_max": 34.0, "lon": 70.6, "lon_source": "GPS"}
    assert (read_cells(row, "lat", "lat"), read_cells(row, "lon", "lon")) == (33.9, 70.6)


@pytest.mark.parametrize("prefix", ["EXIF:GPS", "EXIF GPS", "GPS GPS", "Composite:GPS", "XMP:"])
def test_columns_as_programs_name_them(prefix):
    row = {f"{prefix}Latitude": 33.9, f"{prefix}LatitudeRef": "S", f"{prefix}Longitude": 70.6,
           f"{prefix}LongitudeRef": "W"}  # fmt: skip
    columns = [Columns().find(axis, row) for axis in ("lat", "lon")]
    assert [read_cells(row, c, axis) for c, axis in zip(columns, ("lat", "lon"), strict=True)] == [-33.9, -70.6]


@pytest.mark.parametrize(
    ("text", "axis", "degrees"),
    [
        ("40.7° Norte", "lat", 40.7),
        ("74.0° Oeste", "lon", -74.0),
        ("74,0 ouest", "lon", -74.0),
        ("33-54-00S", "lat", -33.9),
        ("""74°00'00""W""", "lon", -74.0),  # a quote that was doubled where nothing was quoted
        ("-", "lat", "no coordinates"),
        ("74.0 O", "lon", NOT_NUMBERS),  # east or west?
        ("14.43° V", "lon", NOT_NUMBERS),
    ],
)
def test_cells_of_other_languages(text, axis, degrees):
    assert read_degrees(text, axis) == (degrees if isinstance(degrees, str) else pytest.approx(degrees))


def test_a_sign_in_a_column_of_its_own():
    row = {"lat": 33.9, "lat_sign": "-", "lon": 70.6, "lon_sign": "+"}
    assert (read_cells(row, "lat", "lat"), read_cells(row, "lon", "lon")) == (-33.9, 70.6)
    assert read_cells({"lat": -33.9, "lat_sign": "+"}, "lat", "lat") == CONTRADICTORY


@pytest.mark.parametrize(
    "row",
    [
        {"latLng": {"lat": 40.7, "lng": -74.0}},
        {"latlng": [40.7, -74.0]},
        {"coordinates": "40.7, -74.0"},
        {"latlon": "40.7 -74.0"},
        {"lonlat": "-74.0, 40.7"},
        {"lnglat": [-74.0, 40.7]},
        {"gps": "40°42'N 74°W"},
        {"wkt": "SRID=4326;POINT(-74.0 40.7)"},
        {"geom": "POINT Z (-74 40.7 12)"},
        {"location": "geo:40.7,-74.0"},
        {"location": "https://www.google.com/maps/@40.7,-74.0,17z"},
        {"location": "(40.7; -74.0)"},
        {"geo": {"lat": 40.7, "lon": -74.0}},
    ],
)
def test_shapes_of_a_place(row):
    [read] = place_rows([{"image": "0.jpg", **row}])
    assert (read_cells(read, "lat", "lat"), read_cells(read, "lon", "lon")) == (40.7, -74.0)


def test_a_list_whose_order_no_key_says_is_no_place():
    [read] = place_rows([{"image": "0.jpg", "coordinates": [40.7, -74.0]}])
    assert "lat" not in read


CITIES = [(48.85, 2.35), (40.7, -74.0), (51.5, -0.12), (35.68, 139.69), (55.75, 37.6), (-33.9, 151.2)]


@pytest.mark.parametrize("n", [4, 5, 6])
def test_a_few_exchanged_places_are_noticed_where_all_of_them_say_so(n):
    lat, lon = zip(*CITIES[:n], strict=True)
    assert find_exchange(lon, lat) is not None
    assert find_exchange(lat, lon) is None


def test_pictures_named_from_here(tmp_path):
    (tmp_path / "0.jpg").write_bytes(b"x")
    (tmp_path / "metadata.json").write_text(json.dumps([{"SourceFile": "./0.jpg", "lat": 40.7, "lng": -74.0}]))
    found = list(read_places(open_source(str(tmp_path), Columns()), Columns(), SkipCounter()))
    assert [place.lat for _, place in found] == [40.7]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer: run git lfs pull"),
        (b"<!DOCTYPE html><html>", "is an HTML page"),
        (b"\x1f\x8b\x08\x00", "is packed by gzip"),
        (b"", "is empty"),
        (b'{"image": "0.jpg", "lat": 1, "lon": 2}\n{"image": "1.jpg", "lat": 1, "lon": 2}\n', "call it .jsonl"),
    ],
)
def test_what_is_no_json_is_called_what_it_is(tmp_path, data, says):
    (tmp_path / "metadata.json").write_bytes(data)
    with pytest.raises(DataError, match=says):
        open_source(str(tmp_path / "metadata.json"))
