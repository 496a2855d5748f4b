"""What a user gives for data=: refused at once where it names nothing, read by the columns they named, and where no
sample can be used told what was there."""

import json
import warnings

import pytest
from data.sources.test_photos import gps, photo
from made import jpeg

from geospot.data.fields import Columns
from geospot.data.sources import open_source
from geospot.errors import DataError

BY_HAND = Columns.parse("lat=Y,lon=X")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "p.csv").write_text("file,Y,X\n" + "".join(f"{i}.jpg,{i}.5,2.5\n" for i in range(5)))
    for i in range(5):
        (tmp_path / f"{i}.jpg").write_bytes(jpeg(i))
    return tmp_path


def kind_of(source) -> str:
    return type(source).__module__.rpartition(".")[2]


@pytest.mark.parametrize("spec", ["", " ", "csv:", "photos: ", "webdataset:"])
def test_a_blank_spec_is_refused(folder, monkeypatch, spec):
    monkeypatch.chdir(folder)
    with pytest.raises(DataError, match=r"(?s)^eval_data=.*blank.*\n  csv +photos\.csv") as refused:
        open_source(spec, key="eval_data")
    assert "eval_data=KIND:PATH" in str(refused.value)


@pytest.mark.parametrize("kind", ["", "csv:", "webdataset:", "parquet:"])
@pytest.mark.parametrize("address", ["s3://bucket/x.tar", "gs://bucket/{0..9}.parquet", "file:///x.csv", "HTTP://h/x"])
def test_an_unknown_scheme_is_refused(kind, address):
    scheme = address.partition(":")[0]
    with pytest.raises(DataError, match=rf"^data=.*'{scheme}://'.*hf://, http:// and https://.*path on this machine"):
        open_source(kind + address)


def test_secrets_of_an_address_are_not_shown():
    with pytest.raises(DataError) as refused:
        open_source("s3://user:secret@bucket/x.tar?sig=secret")
    assert "secret" not in str(refused.value)


def test_columns_named_by_hand_find_the_table(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = open_source(str(folder), BY_HAND)
    assert [item.fields["Y"] for item in source.read(0)] == [f"{i}.5" for i in range(5)]
    assert source.parts[0].startswith(str(folder / "p.csv"))


def test_columns_named_by_hand_find_the_table_of_a_tar(tmp_path):
    from data.sources.test_archives import mp16_set

    made = mp16_set(tmp_path / "mp16", n=5)
    table = made / "MP16_Pro_places365.csv"
    table.write_text(table.read_text().replace("IMG_ID,LAT,LON", "IMG_ID,Y,X"))
    source = open_source(str(made), BY_HAND)
    assert kind_of(source) == "mp16"
    assert len(list(source.read(0))) == 5


@pytest.mark.parametrize(
    ("table", "text", "says"),
    [
        ("p.csv", None, r"p\.csv has no column for lat and lon \(looked for lat: lat, latitude.*'file', 'Y', 'X'"),
        ("p.csv", "not a table", r"p\.csv has no column for lat and lon"),
        ("p.jsonl", '{"file": "0.jpg", "Y": 1, "X": 2}', r"p\.jsonl has no column for lat and lon.*'file', 'Y', 'X'"),
        ("p.json", '[{"file": "0.jpg", "lat": 1, "X": 2}]', r"p\.json has no column for lon .*columns=lon="),
    ],
)
@pytest.mark.parametrize("names", [False, True])
def test_a_table_beside_pictures_that_is_not_read_is_warned_of(folder, table, text, says, names):
    if text is not None:
        (folder / "p.csv").unlink()
        (folder / table).write_text(text)
    if names:
        for i in range(5):
            (folder / f"{i}.jpg").rename(folder / f"{i}.5,2.5.jpg")
    with pytest.warns(UserWarning, match=says) as told:
        source = open_source(str(folder))
    assert kind_of(source) == ("names" if names else "photos")
    assert len(told) == 1
    message = str(told[0].message)
    assert f"data={str(folder)!r}" in message
    assert f"{'csv' if table == 'p.csv' else 'json'}:{folder / table}" in message
    assert "columns=" in message


def test_a_json_with_coordinates_that_is_not_read_is_warned_of(folder):
    (folder / "p.csv").unlink()
    (folder / "places.json").write_text(json.dumps({"images": [{"file": "0.jpg", "lat": 1, "lon": 2}]}))
    with pytest.warns(UserWarning, match=rf"data={folder / 'places.json'}"):
        open_source(str(folder))


def test_what_is_no_table_is_not_warned_of(folder):
    (folder / "p.csv").unlink()
    for i in range(3):  # as Google Takeout puts them
        (folder / f"{i}.jpg.json").write_text(json.dumps({"title": f"{i}.jpg", "geoData": {"latitude": 1.5}}))
        (folder / f"{i}.jpg.supplemental-metadata.json").write_text(json.dumps([{"title": 1}]))
    (folder / "config.json").write_text('{"a": 1}')
    (folder / "broken.json").write_text("{")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_source(str(folder))


def test_a_kind_named_by_hand_is_not_warned_of(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_source(f"photos:{folder}")


# -- what can be done where no sample can be used


def mend_of(spec, columns: Columns = Columns()) -> str:  # noqa: B008 (frozen)
    source = open_source(str(spec), columns)
    for part in range(len(source.parts)):
        list(source.read(part))
    return source.mend


def test_photos_without_gps(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.jpg").write_bytes(photo(None))
    said = mend_of(tmp_path)
    assert "no GPS in their EXIF" in said
    assert "LAT,LON.jpg" in said
    assert "CSV with columns lat, lon, image" in said
    (tmp_path / "9.jpg").write_bytes(photo(gps(1.5, 2.5)))
    assert mend_of(tmp_path) == ""


def test_photos_that_cannot_be_read_are_not_told_of_gps(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8 no picture")
    assert mend_of(tmp_path) == ""


def test_a_table_whose_coordinates_are_no_coordinates(folder):
    (folder / "p.csv").write_text("file,lat,lon,Y,X\n" + "".join(f"{i}.jpg,north,east,1.5,2.5\n" for i in range(5)))
    said = mend_of(folder)
    assert "p.csv" in said
    assert "lat='north'" in said
    assert "Y='1.5'" in said
    assert "columns=lat=KEY,lon=KEY" in said
    assert mend_of(folder, BY_HAND) == ""


def test_parquet_whose_coordinates_are_no_coordinates(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = {"image": [jpeg(1)] * 3, "lat": [None] * 3, "lon": [2.5] * 3, "Y": [1.5] * 3}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    said = mend_of(tmp_path / "a.parquet")
    assert "Y=1.5" in said
    assert "columns=lat=KEY,lon=KEY" in said
    assert mend_of(tmp_path / "a.parquet", Columns(lat="Y")) == ""


@pytest.mark.parametrize("fields", [{"north": 1.5, "east": 2.5, "note": "x" * 500}, None, [1]])
def test_shards_without_coordinates(tmp_path, fields):
    import io
    import tarfile

    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        members = [("a.jpg", jpeg(1))] + ([("a.json", json.dumps(fields).encode())] if fields else [])
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert open_source(str(tmp_path)).mend == ""  # nothing read yet
    said = mend_of(tmp_path)
    if isinstance(fields, dict):
        assert "north=1.5, east=2.5" in said
        assert "columns=lat=KEY,lon=KEY" in said
        assert len(said) < 500
        assert mend_of(tmp_path, Columns(lat="north", lon="east")) == ""
    else:
        assert said.startswith(f"The sample a of {tmp_path / '0.tar'} has")
        assert "KEY.json beside KEY.jpg" in said
