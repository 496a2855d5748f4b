"""Where a row lies: one reader of coordinates and shapes for data and for truths, and what is the wrong way round."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import jpeg

from geospot.answer.places import (
    CONTRADICTORY,
    NO_HEMISPHERE,
    NOT_NUMBERS,
    OUT_OF_RANGE,
    find_exchange,
    read_cells,
    read_degrees,
)
from geospot.answer.shapes import place_rows
from geospot.answer.spellings import coordinate_columns, find_column
from geospot.data.fields import BadSample, Columns, read_coordinates
from geospot.data.samples import ReadOptions, Sample, SkipCounter
from geospot.data.sources import open_source
from geospot.data.stream import SampleStream, read_places
from geospot.data.tar import write_shard
from geospot.earth.place import Place
from geospot.errors import DataError
from geospot.scoring.tables import read_guesses, read_table_truths


@pytest.mark.parametrize(
    ("text", "axis", "degrees"),
    [
        ("48.86 N", "lat", 48.86),
        ("48,86", "lat", 48.86),
        ("2,35 W", "lon", -2.35),
        ("""48°51'24"N""", "lat", 48 + 51 / 60 + 24 / 3600),
        ("""33 deg 51' 24.00" S""", "lat", -(33 + 51 / 60 + 24 / 3600)),  # exiftool
        ("33 51 24 S", "lat", -(33 + 51 / 60 + 24 / 3600)),
        ("-33:51:24", "lat", -(33 + 51 / 60 + 24 / 3600)),
        ("33,51.4S", "lat", -(33 + 51.4 / 60)),  # XMP
        ("151,12,30E", "lon", 151 + 12 / 60 + 30 / 3600),
        ("151 12.5 E", "lon", 151 + 12.5 / 60),
        ("N48.5", "lat", 48.5),
        ("48.86 degrees north", "lat", 48.86),
        ("−33.9", "lat", -33.9),
        ("-33.9 S", "lat", -33.9),
        ("200", "lon", -160.0),
        (359.5, "lon", -0.5),
        (180, "lon", 180.0),
        ("48.86 E", "lat", CONTRADICTORY),
        ("-33.9 N", "lat", CONTRADICTORY),
        ("12 Main Street", "lat", NOT_NUMBERS),
        ("48.86, 2.35", "lat", NOT_NUMBERS),  # both in one cell
        ("1_000", "lon", NOT_NUMBERS),
        ("91", "lat", OUT_OF_RANGE),
        (361, "lon", OUT_OF_RANGE),
    ],
)
def test_cells_as_people_write_them(text, axis, degrees):
    read = read_degrees(text, axis)
    assert read == (degrees if isinstance(degrees, str) else pytest.approx(degrees, abs=1e-12))


@given(st.text(max_size=30) | st.text(st.sampled_from("0123456789.,°'\"NSEWnsew -+dms:"), max_size=20))
def test_any_cell_gives_degrees_in_range_or_a_reason(text):
    for axis, most in (("lat", 90), ("lon", 180)):
        for reference in ("", "S", "W", None):
            read = read_degrees(text, axis, reference)
            assert isinstance(read, str) or abs(read) <= most


@pytest.mark.parametrize(
    ("lat", "reference", "degrees"),
    [
        (33.9, "S", -33.9),
        ("33.9", "South", -33.9),
        ("33.9", " s ", -33.9),
        ("-33.9", "S", -33.9),
        ("33.9", "North", 33.9),
        ("-33.9", "", -33.9),
        ("33.9 S", "", -33.9),
        ("33.9 S", "S", -33.9),
        ("33 51 0", "S", -33.85),
        ("33.9", "", NO_HEMISPHERE),
        ("33.9", "\x01", NO_HEMISPHERE),
        (33.9, None, NO_HEMISPHERE),
        ("-33.9", "N", CONTRADICTORY),
        ("33.9 N", "S", CONTRADICTORY),
        ("33.9", "E", CONTRADICTORY),
    ],
)
@pytest.mark.parametrize(
    ("column", "beside"), [("GPSLatitude", "GPSLatitudeRef"), ("lat", "lat_ref"), ("latitude", "NS"), ("y", "y_dir")]
)
def test_a_reference_column_gives_the_hemisphere(lat, reference, degrees, column, beside):
    read = read_cells({"id": 1, column: lat, beside: reference, "lon": 3}, column, "lat")
    assert read == (degrees if isinstance(degrees, str) else pytest.approx(degrees))


def test_new_york_with_a_reference_column_is_not_in_kyrgyzstan(tmp_path):
    rows = "id,GPSLatitude,GPSLatitudeRef,GPSLongitude,GPSLongitudeRef,image\na,40.7128,N,74.006,W,a.jpg\n"
    (tmp_path / "t.csv").write_text(rows)
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    [record] = open_source(str(tmp_path / "t.csv")).read(0)
    assert read_coordinates(record.fields) == (40.7128, -74.006)
    truths, _ = read_table_truths(tmp_path / "t.csv")
    assert (truths.lat[0], truths.lon[0]) == (40.7128, -74.006)
    (tmp_path / "p.csv").write_text("id,pred_lat,pred_lat_ref,pred_lon,pred_lon_ref\na,33.9,S,18.4,E\n")
    guesses, _, _ = read_guesses(tmp_path / "p.csv")
    assert (guesses.lat[0], guesses.lon[0]) == (-33.9, 18.4)


def test_degrees_minutes_and_seconds_in_columns_of_their_own():
    row = {"lat_deg": "33", "lat_min": "51.0", "lat_sec": "24.5", "lat_dir": "S", "lon_deg": 151, "lon_min": 12}
    lat, lon = read_coordinates(row)
    assert lat == pytest.approx(-(33 + 51 / 60 + 24.5 / 3600))
    assert lon == pytest.approx(151.2)
    box = {"lat": 1.5, "lon": 2.5, "lat_min": 1, "lat_max": 2, "lat_deg": 7}
    assert read_coordinates(box) == (1.5, 2.5)
    assert coordinate_columns("lat_deg", "lat", ("lat_deg", "lat_min", "lat_max")) == (None, None, None)


POINT = {"type": "Point", "coordinates": [2.35, 48.86]}


@pytest.mark.parametrize(
    "content",
    [
        [{"id": "a", "lat": 48.86, "lng": 2.35}],
        {"customCoordinates": [{"panoId": "a", "lat": 48.86, "lng": 2.35, "heading": 0, "extra": {"tags": []}}]},
        {"name": "map", "customCoordinates": [{"id": "a", "lat": 48.86, "lng": 2.35}], "tags": []},
        {"type": "FeatureCollection", "features": [{"type": "Feature", "id": "a", "geometry": POINT}]},
        {"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {"id": "a"}, "geometry": POINT}]},
        {"type": "Feature", "properties": {"id": "a"}, "geometry": POINT},
        {"data": [{"id": "a", "geometry": {"type": "Point", "coordinates": [9, 9]}, "computed_geometry": POINT}]},
        {"a": {"lat": 48.86, "lng": 2.35}},
        {"a": [48.86, 2.35]},
        {"a": {"location": {"lat": 48.86, "lng": 2.35}}},
        [{"id": "a", "coordinates": {"latitude": "48.86 N", "longitude": "2.35 E"}}],
    ],
)
def test_every_shape_of_places_is_read_as_data_and_as_truth(tmp_path, content):
    path = tmp_path / "places.json"
    path.write_text(json.dumps(content))
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    [(key, place)] = read_places(open_source(str(path)), Columns(), SkipCounter())
    assert (key, place.lat, place.lon) == ("a", 48.86, 2.35)
    truths, _ = read_table_truths(path)
    assert (truths.keys, truths.lat.tolist(), truths.lon.tolist()) == (["a"], [48.86], [2.35])


def test_a_feature_a_line_and_in_a_shard(tmp_path):
    feature = {"type": "Feature", "properties": {"id": "a"}, "geometry": POINT}
    (tmp_path / "places.jsonl").write_text(json.dumps(feature) + "\n")
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    [(_, place)] = read_places(open_source(str(tmp_path / "places.jsonl")), Columns(), SkipCounter())
    assert (place.lat, place.lon) == (48.86, 2.35)
    assert read_table_truths(tmp_path / "places.jsonl")[0].lat[0] == 48.86
    assert read_coordinates({"computed_geometry": POINT}) == (48.86, 2.35)


@pytest.mark.parametrize("content", [{}, [], 3, "x", None, {"a": []}, {"name": "x"}])
def test_what_holds_no_places_is_none(content):
    assert place_rows(content) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.sampled_from(["Point", "a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["lat", "lng", "type", "coordinates", "geometry", "properties", "x"]), inner)
    ),
)


@given(JSON)
def test_no_json_breaks_the_reader_of_shapes(content):
    for row in place_rows(content) or []:
        if isinstance(row, dict):
            try:
                read_coordinates(row)
            except BadSample:
                continue


CITIES = [
    (48.86, 2.35), (40.71, -74.0), (35.68, 139.69), (-33.87, 151.21), (52.52, 13.4),
    (51.51, -0.13), (28.61, 77.21), (-22.91, -43.17), (55.75, 37.62), (-33.92, 18.42),
]  # fmt: skip


@pytest.mark.parametrize(
    "places", [CITIES, [(48.86 + i / 100, 2.35) for i in range(9)], [(40.7 + i / 50, -74.2) for i in range(8)]]
)
def test_exchanged_places_are_found_and_right_ones_are_not(places):
    lat, lon = np.array(places).T
    assert find_exchange(lat, lon) is None
    found = find_exchange(lon, lat)
    assert (found.n, found.exchanged) == (len(places), len(places))


def test_a_country_that_lies_on_land_either_way_is_told_by_its_labels():
    rome = np.array([(41.9 + i / 50, 12.5) for i in range(9)])
    assert find_exchange(rome[:, 1], rome[:, 0]) is None
    assert find_exchange(rome[:, 1], rome[:, 0], ["Italy"] * 9).exchanged == 9
    assert find_exchange(rome[:, 0], rome[:, 1], ["Italy"] * 9) is None
    assert find_exchange(rome[:, 0], rome[:, 1], ["nowhere"] * 9) is None
    assert find_exchange(rome[:, 0], rome[:, 1], ["Spain"] * 9) is None  # wrong labels say nothing


@pytest.mark.parametrize("place", [(95, 10), (0, 0), (-8.5, 179.2), (28.1, -15.4), (64.1, -21.9)])
def test_a_bad_row_or_an_island_is_no_exchange(place):
    lat, lon = np.array([*CITIES, place]).T
    assert find_exchange(lat, lon) is None
    assert find_exchange([place[0]] * 9, [place[1]] * 9) is None


def exchanged(folder, kind: str) -> str:
    for i in range(len(CITIES)):
        (folder / f"{i}.jpg").write_bytes(jpeg(i, 16, 16))
    rows = [{"image": f"{i}.jpg", "lat": lon, "lon": lat} for i, (lat, lon) in enumerate(CITIES)]
    if kind == "csv":
        (folder / "t.csv").write_text(
            "image,lat,lon\n" + "".join(f"{r['image']},{r['lat']},{r['lon']}\n" for r in rows)
        )
    elif kind == "json":
        (folder / "t.json").write_text(json.dumps(rows))
    elif kind == "tar":
        import io
        import tarfile

        with tarfile.open(folder / "t.tar", "w") as tar:
            for i, row in enumerate(rows):
                for name, data in ((f"{i}.jpg", jpeg(i, 16, 16)), (f"{i}.json", json.dumps(row).encode())):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    elif kind == "parquet":
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet as pq

        table = {name: [row[name] for row in rows] for name in ("lat", "lon")}
        pq.write_table(pa.table({"image": [jpeg(i, 16, 16) for i in range(len(rows))], **table}), folder / "t.parquet")
    return str(folder / f"t.{kind}")


@pytest.mark.parametrize("kind", ["csv", "json", "tar", "parquet"])
def test_data_with_latitude_and_longitude_exchanged_is_refused_with_the_remedy(tmp_path, kind):
    source = open_source(exchanged(tmp_path, kind))
    with pytest.raises(DataError, match=r"look exchanged: of 10 places . lie on land.* columns=lat=lon,lon=lat"):
        SampleStream(source, seed=0).take(1)
    with pytest.raises(DataError, match="look exchanged"):
        list(read_places(source, Columns(), SkipCounter()))
    columns = Columns.parse("lat=lon,lon=lat")
    with SampleStream(open_source(source.spec, columns), seed=0, options=ReadOptions(columns=columns)) as stream:
        assert {(s.place.lat, s.place.lon) for s in stream.take(10)} == set(CITIES)
    with pytest.warns(UserWarning, match="look exchanged"):  # who insists is served
        list(read_places(source, Columns.parse("lat=lat,lon=lon"), SkipCounter()))


def test_names_with_longitude_first_are_refused(tmp_path):
    for lat, lon in CITIES:
        if abs(lon) <= 90:
            (tmp_path / f"{lon},{lat}.jpg").write_bytes(jpeg(1, 16, 16))
    with pytest.raises(DataError, match=r"look exchanged.*Call the pictures LAT,LON"):
        SampleStream(open_source(str(tmp_path)), seed=0).take(1)


def test_right_data_is_read_without_a_word(tmp_path):
    write_shard(tmp_path / "t.tar", [Sample(f"{i}", (jpeg(i, 16, 16),), Place(*at)) for i, at in enumerate(CITIES)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(read_places(open_source(str(tmp_path)), Columns(), SkipCounter()))) == 10


def test_names_of_columns_are_found_without_their_marks():
    assert find_column("lat", ("id", "GPS Latitude")) == "GPS Latitude"
    assert find_column("image", ("image_name", "lat")) == "image_name"
    assert find_column("city", ("lat",)) is None
