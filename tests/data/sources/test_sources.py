"""One string names any source: its kind is found out, or named by hand; what fits none is told what would."""

import json
from pathlib import Path

import pytest
from made import jpeg

from geospot.data.records import Source
from geospot.data.sources import KINDS, _module, open_source
from geospot.errors import DataError


def make_csv(folder: Path) -> str:
    (folder / "a.jpg").write_bytes(jpeg(1))
    (folder / "t.csv").write_text("image,lat,lon\na.jpg,1.5,2.5\n")
    return "geospot.data.sources.rows"


def make_json(folder: Path) -> str:
    make_csv(folder)  # metadata.json goes before
    (folder / "metadata.json").write_text(json.dumps({"images": [{"image_path": "a.jpg", "lat": 1.5, "lng": 2.5}]}))
    return "geospot.data.sources.rows"


def make_photos(folder: Path) -> str:
    (folder / "a.jpg").write_bytes(jpeg(1))
    (folder / "1.5,2.5.jpg").write_bytes(jpeg(1))
    (folder / "b.jpg").write_bytes(jpeg(1))
    return "geospot.data.sources.photos"


def make_names(folder: Path) -> str:
    (folder / "a.jpg").write_bytes(jpeg(1))
    (folder / "1.5,2.5.jpg").write_bytes(jpeg(1))
    return "geospot.data.sources.names"


def make_shards(folder: Path) -> str:
    from geospot.data.samples import Sample
    from geospot.data.tar import write_shard
    from geospot.earth.place import Place

    (folder / "sub").mkdir()
    write_shard(folder / "sub" / "0.tar", [Sample("a", (jpeg(1),), Place(1.5, 2.5))])
    return "geospot.data.sources.webdataset"


MAKERS = [make_csv, make_json, make_photos, make_names, make_shards]


@pytest.mark.parametrize("make", MAKERS)
def test_the_kind_of_a_folder_is_found_out(tmp_path, make):
    module = make(tmp_path)
    source = open_source(str(tmp_path))
    assert isinstance(source, Source)
    assert type(source).__module__ == module
    assert source.spec == str(tmp_path)
    assert [item.end for item in source.read(0)]


def test_a_kind_named_by_hand_wins(tmp_path):
    make_json(tmp_path)
    assert open_source(f"csv:{tmp_path}").parts[0].startswith(str(tmp_path / "t.csv"))
    assert open_source(f"photos:{tmp_path}").rows == 1
    assert open_source(f"csv:{tmp_path}").spec == f"csv:{tmp_path}"


def test_relative_paths_and_the_home_folder(tmp_path, monkeypatch):
    make_csv(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for spec in ("t.csv", "./t.csv", ".", "~/t.csv", "~", "csv:~/t.csv"):
        assert len(list(open_source(spec).read(0))) == 1


def test_what_fits_no_kind_is_told_what_would(tmp_path):
    (tmp_path / "notes.txt.bak").write_text("x")
    with pytest.raises(DataError) as refused:
        open_source(str(tmp_path), key="eval_data")
    message = str(refused.value)
    assert message.startswith(f"eval_data={str(tmp_path)!r}: the folder {tmp_path} holds 1 .bak. Give one of")
    for kind in KINDS:
        assert f"\n  {kind} " in message
    assert "eval_data=KIND:PATH" in message


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "there is no such file"),
        ("nowhere/at/all", "there is no such file or folder .nor is there a folder nowhere/at"),
        ("cvs:x.csv", "there is no kind 'cvs'; the kinds are osv5m, mp16"),
        ("https://host/x.csv", "no kind reads this address"),
        ("gone.csv", "there is no such file"),
        ("gone.parquet", "there is no such file"),
        ("gone.json", "there is no such file"),
        ("photos:gone", "there is no such file"),
        ("names:gone", "there is no such folder"),
        ("mp16:gone", "there is no such file"),
        ("osv5m:gone", "holds no train.csv"),
        ("x" * 5000, "there is no such file"),
        ("a\0b", "there is no such file"),
        ("https://user:secret@host/x.bin?sig=1", "no kind reads this address"),
    ],
)
def test_what_is_not_there_is_an_error_that_names_the_setting(tmp_path, monkeypatch, spec, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=says) as refused:
        open_source(spec)
    assert str(refused.value).startswith("data=")
    assert str(refused.value).count("data=") <= 2
    assert "secret" not in str(refused.value)


def test_every_kind_keeps_the_interface():
    for kind in KINDS:
        module = _module(kind)
        assert module.EXAMPLE
        assert module.matches("nowhere/at/all") is False
        assert module.__doc__


def test_a_file_whose_name_has_a_colon(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_csv(tmp_path)
    Path("t.csv").rename("trip:2024.csv")
    assert len(list(open_source("trip:2024.csv").read(0))) == 1


# -- a column `place`: the headings of a panorama are one place


def headings(folder: Path, kind: str, wobble: float = 0.0) -> str:
    """Three places of four, of one and of four headings, row by row; and a row of no place."""
    rows = []
    for place, n in (("p1", 4), ("p2", 1), ("p3", 4), ("", 1)):
        lon = len(rows) + 0.5
        rows += [{"id": f"{place}-{i}", "place_id": place, "lat": 1.5, "lon": lon + wobble * i} for i in range(n)]
    if kind == "shuffled":
        rows = rows[::2] + rows[1::2]
    for i, row in enumerate(rows):
        row["image"] = f"{i}.jpg"
        (folder / f"{i}.jpg").write_bytes(jpeg(i, 16, 16))
    if kind in ("csv", "shuffled"):
        lines = [",".join(map(str, row.values())) for row in rows]
        (folder / "t.csv").write_text("\n".join([",".join(rows[0]), *lines]))
        return str(folder / "t.csv")
    if kind == "json":
        (folder / "t.json").write_text(json.dumps(rows))
        return str(folder / "t.json")
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = {name: [row[name] for row in rows] for name in rows[0]}
    if kind == "pictures":
        table["image"] = [(folder / name).read_bytes() for name in table["image"]]
    pq.write_table(pa.table(table), folder / "t.parquet")
    return str(folder / "t.parquet")


@pytest.mark.parametrize("kind", ["csv", "shuffled", "json", "parquet", "pictures"])
def test_rows_of_one_place_are_one_record(tmp_path, kind):
    from geospot.data.inspect import inspect

    source = open_source(headings(tmp_path, kind))
    records = [item for part in range(len(source.parts)) for item in source.read(part)]
    assert {r.key: len(r.pictures) for r in records} == {"p1": 4, "p2-0": 1, "p3": 4, "-0": 1}
    for k, record in enumerate(records):
        assert source.fetch(0, record.start, record.end) == record
        assert list(source.read(0, record.end)) == records[k + 1 :]
    found = inspect(source)
    assert (found.places, found.pictures) == (4, 10)


def test_a_citys_name_over_many_photos_is_no_place(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(1, 16, 16))
    rows = ["Paris,48.86,2.35,a.jpg"] * 40 + ["Rome,41.9,12.5,a.jpg", "Rome,41.8,12.4,a.jpg"]
    (tmp_path / "t.csv").write_text("\n".join(["place,lat,lon,image", *rows]))
    source = open_source(str(tmp_path / "t.csv"))
    assert [len(r.pictures) for r in source.read(0)] == [1] * 42


def test_a_place_that_misses_a_heading_is_counted(tmp_path):
    source = open_source(headings(tmp_path, "csv"))
    (tmp_path / "2.jpg").unlink()
    first, *_ = source.read(0)
    assert first.reason == "picture file missing"
    assert "row 3: " in first.detail


@pytest.mark.parametrize("kind", ["csv", "shuffled", "json", "parquet", "pictures"])
def test_headings_whose_coordinates_differ_in_their_last_digits_are_one_place(tmp_path, kind):
    source = open_source(headings(tmp_path, kind, wobble=1e-6))
    records = [item for part in range(len(source.parts)) for item in source.read(part)]
    assert {r.key: len(r.pictures) for r in records} == {"p1": 4, "p2-0": 1, "p3": 4, "-0": 1}
