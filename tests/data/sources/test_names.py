"""Coordinates in names of files and folders: read as they were written, never seen where there are none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import jpeg

from geospot.data.records import Skip
from geospot.data.sources import open_source
from geospot.data.sources.names import parse_name
from geospot.errors import DataError

LATS = st.floats(-90, 90).map(lambda x: round(x, 6))
LONS = st.floats(-180, 180).map(lambda x: round(x, 6))


@given(LATS, LONS, st.sampled_from(["{},{}", "{}, {}", "{}_{}"]), st.sampled_from(["", "canvas_123_", "IMG-7 ", "12_"]))
def test_what_was_written_is_read(lat, lon, form, before):
    if lat == lon == 0:
        return
    found = parse_name(before + form.format(f"{lat:.6f}", f"{lon:.6f}"))
    assert found == (lat, lon)


@given(LATS, LONS, st.sampled_from(["_xyz", "_90", " copy", "-1", "_N5"]))
def test_what_follows_does_not_matter(lat, lon, after):
    lat, lon = round(lat, 5), round(lon, 5)
    if lat == lon == 0:
        return
    assert parse_name(f"{lat:.5f},{lon:.5f}{after}") == (lat, lon)


@given(
    st.dates(), st.times(), st.sampled_from(["%Y_%m_%d", "%Y-%m-%d", "%d.%m.%Y_%H.%M", "%Y%m%d_%H%M%S", "%d.%m_%H.%M"])
)
def test_dates_are_not_places(date, time, form):
    import datetime

    assert parse_name(datetime.datetime.combine(date, time).strftime(form)) is None


@given(st.integers(1, 9999), st.integers(1, 9999), st.sampled_from(",_x"))
def test_sizes_are_not_places(width, height, between):
    assert parse_name(f"{width}{between}{height}") is None


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("48.8584,2.2945", (48.8584, 2.2945)),
        ("48.8584_2.2945_xyz", (48.8584, 2.2945)),
        ("canvas_123_-33.9,18.4", (-33.9, 18.4)),
        ("33.9S,18.4E", (-33.9, 18.4)),
        ("lat48.8584_lon-2.29", (48.8584, -2.29)),
        ("lat=48.8584,lng=2.2945", (48.8584, 2.2945)),
        ("lat_48.8584_lon_2.2945", (48.8584, 2.2945)),
        ("48.8584_2.2945_90.0", (48.8584, 2.2945)),  # lat, lon, heading
        ("0.0,33.5", (0.0, 33.5)),
    ],
)
def test_spellings(name, place):
    assert parse_name(name) == place


NO_PLACES = """
    1920,1080  2024_05  20.05_12.30  v1.234_5.678  10.0.0.1_2.3456  91.5,10.5  10.5,181.5  0.0,0.0  -33.9S,18.4E
    48.8584  48.8584,  IMG_20240512_101112  1.5x2.25  3.1415_2  12,30  48.8584,2.2945m  photo-33.9,18.4
"""


@pytest.mark.parametrize("name", NO_PLACES.split())
def test_no_place_is_seen_where_none_is(name):
    assert parse_name(name) is None


def test_a_folder_of_named_pictures(tmp_path):
    for i, name in enumerate(
        ["48.8584,2.2945.jpg", "a/-33.9,18.4.JPG", "10.5,20.5/090.jpg", "10.5,20.5/000.jpg", "x.png"]
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(jpeg(i))
    source = open_source(str(tmp_path))
    records = [item for item in source.read(0) if not isinstance(item, Skip)]
    assert {r.key: (r.fields["lat"], r.fields["lon"], r.names) for r in records} == {
        "48.8584,2.2945": (48.8584, 2.2945, ("48.8584,2.2945.jpg",)),
        "a/-33.9,18.4": (-33.9, 18.4, ("-33.9,18.4.JPG",)),
        "10.5,20.5": (10.5, 20.5, ("000.jpg", "090.jpg")),
    }
    assert [r.pictures[0].read() for r in records if r.key == "10.5,20.5"] == [jpeg(3)]
    [skip] = [item for item in source.read(0) if isinstance(item, Skip)]
    assert skip.reason == "no coordinates in the name"
    assert skip.detail.endswith("x.png")
    assert [source.fetch(0, r.start, r.end) for r in records] == records


def test_a_renamed_file_makes_another_set(tmp_path):
    (tmp_path / "1.5,2.5.jpg").write_bytes(jpeg(1))
    before = open_source(str(tmp_path)).identity()
    (tmp_path / "1.5,2.5.jpg").rename(tmp_path / "1.5,2.75.jpg")
    assert open_source(str(tmp_path)).identity() != before


def test_named_by_hand_where_no_name_is_a_place(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    with pytest.raises(DataError, match=r"data='names:.*none of 1 pictures' names"):
        open_source(f"names:{tmp_path}")
