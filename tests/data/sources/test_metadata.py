"""JSON beside pictures: GeoBench's metadata.json, lists of objects, an object a line."""

import json

import pytest
from made import jpeg

from geospot.data.fields import Columns, read_place
from geospot.data.records import Record, Skip
from geospot.data.sources import open_source
from geospot.errors import DataError


def everything(source) -> list[Record | Skip]:
    return [item for part in range(len(source.parts)) for item in source.read(part)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for i in range(70):
        (tmp_path / "images" / f"{i}.jpg").write_bytes(jpeg(i % 3, 16, 16))
    return tmp_path


def images(n: int) -> list[dict]:
    return [{"image_path": f"images/{i}.jpg", "country": "NA", "lat": i + 0.5, "lng": -i - 0.5} for i in range(n)]


def test_geobench(folder):
    bounds = {"min": {"lat": -90, "lng": -180}, "max": {"lat": 90, "lng": 180}}
    (folder / "metadata.json").write_text(json.dumps({"name": "acw", "bounds": bounds, "images": images(70)}))
    source = open_source(str(folder))
    records = everything(source)
    assert [r.key for r in records] == [str(i) for i in range(70)]
    place = read_place(records[69].fields)
    assert (place.lat, place.lon, place.country) == (69.5, -69.5, "NA")
    assert records[69].pictures[0].read() == jpeg(0, 16, 16)
    assert source.fetch(1, 5, 6) == records[69]
    assert list(source.read(1, 4)) == records[68:]


@pytest.mark.parametrize("name", ["places.json", "places.jsonl", "metadata.jsonl"])
def test_lists_and_lines(folder, name):
    objects = images(66)
    lines = "\n".join(map(json.dumps, objects)) + "\n\n"
    (folder / name).write_text(lines if name.endswith("l") else json.dumps(objects))
    assert len(everything(open_source(str(folder / name)))) == 66


def test_what_cannot_be_used_is_counted(folder):
    gone = '{"image_path": "images/99.jpg", "lat": 1, "lng": 2}'
    lines = [json.dumps(images(1)[0]), "{", "[1]", "", gone, '{"lat": 1}']
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    items = everything(open_source(str(folder)))
    assert [i.reason if isinstance(i, Skip) else i.key for i in items] == [
        "0", "json cannot be read", "json cannot be read", "picture file missing", "no picture"
    ]  # fmt: skip
    assert "row 2" in items[1].detail


def test_nan_as_python_writes_it(folder):
    objects = images(3)
    objects[1]["lat"] = float("nan")
    (folder / "metadata.json").write_text(json.dumps({"images": objects}))
    assert len(everything(open_source(str(folder)))) == 3


def test_a_changed_file_makes_another_set(folder):
    path = folder / "metadata.json"
    path.write_text(json.dumps({"images": images(5)}))
    before = open_source(str(folder)).identity()
    path.write_text(json.dumps({"images": images(6)}))
    assert open_source(str(folder)).identity() != before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is no JSON"),
        ("{}", "holds neither a list of objects"),
        ('{"images": []}', "holds neither"),
        ("3", "holds neither"),
        ("", "is empty"),
        ('[{"image": "a.jpg", "north": 1}]', r"no column for lat and lon.*columns=lat=COLUMN,lon=COLUMN"),
        ('[{"lat": 1, "lon": 1}]', "no column names the pictures"),
        ("[1, 2]", "no column for lat and lon"),
    ],
)
def test_files_that_are_no_set(folder, text, says):
    (folder / "metadata.json").write_text(text)
    with pytest.raises(DataError, match=says):
        open_source(str(folder))


def test_columns_named_by_hand(folder):
    (folder / "x.json").write_text('{"data": [{"foto": "images/3.jpg", "y": "1.5", "x": "2.5"}]}')
    columns = Columns(lat="y", lon="x", image="foto")
    [record] = everything(open_source(str(folder / "x.json"), columns))
    assert read_place(record.fields, columns).lon == 2.5
