"""OSV-5M's zips and MP16-Pro's tar in pieces: every picture with its row, read at its place."""

import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import pytest
from made import jpeg

from geospot.data.fields import Columns, read_place
from geospot.data.records import Record, Skip
from geospot.data.sources import kept, mp16, open_source
from geospot.data.sources.pieces import Pieces
from geospot.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOSPOT_CACHE", str(tmp_path / "cache"))


def everything(source) -> list[Record | Skip]:
    return [item for part in range(len(source.parts)) for item in source.read(part)]


OSV_HEADER = "id,latitude,longitude,country,region,sub-region,city,unique_region,unique_city\n"


def osv5m(root: Path, split: str = "train", n: int = 100, zips: int = 3, method: int = zipfile.ZIP_STORED) -> Path:
    ids = [str(10**14 + 7919 * i) for i in range(n)]
    (root / "images" / split).mkdir(parents=True)
    labels = 'NA,Erongo,"Omaruru, x",Omaruru,E_NA,O_E'
    rows = "".join(f"{x},{i % 80 + 0.5},{i % 170 + 0.5},{labels}\n" for i, x in enumerate(ids))
    (root / f"{split}.csv").write_text(OSV_HEADER + rows)
    for z in range(zips):
        with zipfile.ZipFile(root / "images" / split / f"{z:02d}.zip", "w", method) as archive:
            for i in range(z, n, zips):
                archive.writestr(f"{z:02d}/{ids[i]}.jpg", jpeg(i, 16, 16))
    return root


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_osv5m_zips(tmp_path, method):
    source = open_source(str(osv5m(tmp_path / "osv5m", method=method)))
    records = everything(source)
    assert len(records) == 100
    for i, record in enumerate(records):
        picture = pickle.loads(pickle.dumps(record.pictures[0]))
        assert picture.read() == jpeg(i, 16, 16)
        assert record.key == record.fields["id"] == record.names[0].removesuffix(".jpg")
    place = read_place(records[7].fields)
    assert (place.lat, place.lon, place.city, place.region, place.country) == (7.5, 7.5, "Omaruru", "Erongo", "NA")
    assert source.fetch(1, records[70].start, records[70].end) == records[70]


def test_osv5m_unpacked_gives_the_same(tmp_path):
    root = osv5m(tmp_path / "osv5m")
    zipped = everything(open_source(str(root)))
    for path in (root / "images" / "train").glob("*.zip"):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(root / "images" / "train")
        path.unlink()
    unpacked = everything(open_source(str(root)))
    assert [(r.key, r.fields, r.names) for r in zipped] == [(r.key, r.fields, r.names) for r in unpacked]
    assert [r.pictures[0].read() for r in unpacked] == [jpeg(i, 16, 16) for i in range(100)]


def test_osv5m_splits_are_never_mixed(tmp_path):
    root = osv5m(osv5m(tmp_path / "osv5m", n=20), "test", n=10)
    with pytest.raises(DataError, match=r"has a train and a test split; say .*osv5m/train or .*osv5m/test"):
        open_source(str(root))
    for spec, n in [(f"{root}/train", 20), (f"osv5m:{root}/test", 10), (f"{root}/test.csv", 10)]:
        assert len(everything(open_source(spec))) == n


def test_osv5m_missing_and_damaged(tmp_path):
    root = osv5m(tmp_path / "osv5m", n=60)
    zips = sorted((root / "images" / "train").glob("*.zip"))
    zips[0].write_bytes(zips[0].read_bytes()[:5000])  # a download that was cut off
    with pytest.warns(UserWarning, match=r"00\.zip|40 pictures for the 60 rows"):
        source = open_source(str(root))
    items = everything(source)
    assert [i.reason for i in items if isinstance(i, Skip)] == ["picture file missing"] * 20
    assert sum(isinstance(i, Record) for i in items) == 40
    zips[1].write_bytes(b"another file" * 1000)  # changed while the run goes on
    for record in items:
        if isinstance(record, Record) and "01.zip" in record.pictures[0].path:
            with pytest.raises(OSError, match=r"01\.zip"):
                record.pictures[0].read()
        elif isinstance(record, Record):
            assert record.pictures[0].read().startswith(b"\xff\xd8")


def test_osv5m_without_pictures_or_columns(tmp_path):
    root = osv5m(tmp_path / "osv5m", n=3, zips=0)
    with pytest.raises(DataError, match="images/train holds no picture"):
        open_source(str(root))
    root = osv5m(tmp_path / "other", n=3)
    (root / "train.csv").write_text("id,north\n1,2\n")
    with pytest.raises(DataError, match="no column for lat and lon"):
        open_source(str(root))


def test_the_index_of_pictures_is_kept_until_they_change(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "KEEP_AFTER_S", 0.0)
    root = osv5m(tmp_path / "osv5m", n=30)
    first = everything(open_source(str(root)))
    with monkeypatch.context() as patch:
        patch.setattr(zipfile, "ZipFile", None)  # reading a directory again would fail
        assert everything(open_source(str(root))) == first
    (root / "images" / "train" / "00.zip").unlink()
    with pytest.warns(UserWarning, match="20 pictures for the 30 rows"):
        assert sum(isinstance(i, Skip) for i in everything(open_source(str(root)))) == 10


def mp16_set(folder: Path, n: int = 60, pieces: int = 3, form: int = tarfile.PAX_FORMAT, prefix: str = "mp16/") -> Path:
    folder.mkdir(parents=True)
    rows, out = ["IMG_ID,LAT,LON,neighbourhood,city,county,state,region,country,continent\n"], io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        tar.addfile(tarfile.TarInfo(prefix.rstrip("/") or "."))
        for i in range(n):
            key = f"{i % 16:02x}/a0/{i}{'x' * (120 if i % 7 == 0 else 1)}.jpg"  # long names have headers before theirs
            rows.append(f'{key},{i % 80 + 0.5},{i % 170 + 0.5},,"Saint-Denis",,Bavaria,,Germany,Europe\n')
            data = jpeg(i, 24, 24) + b"\0" * (i * 37 % 900)
            info = tarfile.TarInfo(prefix + key.replace("/", "_"))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    (folder / "MP16_Pro_places365.csv").write_text("".join(reversed(rows[1:])).join([rows[0], ""]))
    data = out.getvalue()
    size = -(-len(data) // pieces)
    for p in range(pieces):
        name = "mp-16-images.tar" if pieces == 1 else f"mp-16-images.tar.a{'abcdefgh'[p]}"
        (folder / name).write_bytes(data[p * size : (p + 1) * size])
    return folder


@pytest.mark.parametrize("pieces", [1, 5])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("part_bytes", [16 << 20, 4096, 512])
def test_mp16_every_picture_once_with_its_row(tmp_path, monkeypatch, pieces, form, part_bytes):
    monkeypatch.setattr(mp16, "PART_BYTES", part_bytes)
    source = open_source(str(mp16_set(tmp_path / "mp16", pieces=pieces, form=form)))
    items = everything(source)
    assert all(isinstance(item, Record) for item in items)
    assert len(items) == 60
    for i, record in enumerate(items):
        assert record.pictures[0].rstrip(b"\0") == jpeg(i, 24, 24).rstrip(b"\0")
        assert record.fields["LAT"] == str(i % 80 + 0.5)
    assert read_place(items[3].fields).region == "Bavaria"


def test_mp16_cursors(tmp_path, monkeypatch):
    monkeypatch.setattr(mp16, "PART_BYTES", 20_000)
    source = open_source(f"mp16:{mp16_set(tmp_path / 'mp16')}")
    assert len(source.parts) > 4
    for part in range(len(source.parts)):
        whole = list(source.read(part))
        for k, record in enumerate(whole):
            assert list(source.read(part, record.end)) == whole[k + 1 :]
            assert source.fetch(part, record.start, record.end) == record


def test_mp16_damage_is_counted_and_the_rest_read(tmp_path, monkeypatch):
    monkeypatch.setattr(mp16, "PART_BYTES", 20_000)
    folder = mp16_set(tmp_path / "mp16", pieces=1)
    path = folder / "mp-16-images.tar"
    whole = everything(open_source(f"mp16:{folder}"))
    data = bytearray(path.read_bytes())
    data[whole[10].start : whole[10].start + 300] = b"\xff" * 300  # a header
    path.write_bytes(data[: whole[50].start + 700])  # and cut off in a picture
    items = everything(open_source(f"mp16:{folder}"))
    assert [r.key for r in items if isinstance(r, Record)] == [r.key for r in [*whole[:10], *whole[11:50]]]
    assert [i.reason for i in items if isinstance(i, Skip)] == ["damaged shard", "truncated shard"]


def test_mp16_pictures_without_a_row_are_counted(tmp_path):
    folder = mp16_set(tmp_path / "mp16", n=20)
    table = folder / "MP16_Pro_places365.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *lines[3:]]))
    items = everything(open_source(str(folder)))
    assert [i.reason for i in items if isinstance(i, Skip)] == ["no row in the table"] * 2


def test_mp16_other_columns_and_names(tmp_path):
    folder = mp16_set(tmp_path / "mp16", n=5, prefix="")
    table = folder / "MP16_Pro_places365.csv"
    table.write_text(table.read_text().replace("IMG_ID,LAT", "photo,y").replace("LON", "x"))
    with pytest.raises(DataError, match=r"must hold one CSV with key, latitude and longitude; there: MP16_Pro"):
        open_source(f"mp16:{folder}")
    source = open_source(f"mp16:{folder}", Columns(lat="y", lon="x", key="photo", region="continent"))
    assert [read_place(r.fields, Columns(lat="y", lon="x", region="continent")).region for r in everything(source)] == (
        ["Europe"] * 5
    )


@pytest.mark.parametrize(("gone", "says"), [("aa", "the first missing"), ("ab", "1 in the middle missing")])
def test_mp16_a_missing_piece_is_an_error(tmp_path, gone, says):
    folder = mp16_set(tmp_path / "mp16", pieces=4)
    (folder / f"mp-16-images.tar.{gone}").unlink()
    with pytest.raises(DataError, match=says):
        open_source(str(folder))


def test_mp16_a_packed_tar_is_an_error(tmp_path):
    folder = mp16_set(tmp_path / "mp16", pieces=1)
    (folder / "mp-16-images.tar").write_bytes(b"\x1f\x8b" + bytes(2000))
    with pytest.raises(DataError, match="is packed by gzip: unpack it with gunzip"):
        open_source(f"mp16:{folder}")


def test_a_shard_beside_a_csv_is_still_a_shard(tmp_path):
    from geospot.data.samples import Sample
    from geospot.data.tar import write_shard
    from geospot.earth.place import Place

    write_shard(tmp_path / "0.tar", [Sample("a", (jpeg(1),), Place(1.5, 2.5))])
    (tmp_path / "stats.csv").write_text("id,lat,lon\na,1.5,2.5\n")
    [record] = everything(open_source(str(tmp_path)))
    assert isinstance(record.fields, bytes)


def test_pieces_are_one_file(tmp_path):
    data = bytes(range(256)) * 9
    paths = []
    for i, size in enumerate((100, 1, 2000, 203)):
        start = sum((100, 1, 2000, 203)[:i])
        paths.append(tmp_path / str(i))
        paths[-1].write_bytes(data[start : start + size])
    with io.BufferedReader(Pieces(paths), 64) as file:
        assert file.read() == data
        for at in (0, 99, 100, 101, 2100, 2101, 2303, 2304, 5000):
            file.seek(at)
            assert file.read(150) == data[at : at + 150]
        assert file.seek(-3, io.SEEK_END) == len(data) - 3
        assert file.read() == data[-3:]
