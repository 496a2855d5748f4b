"""Parquet: pictures in the rows, as Hugging Face's image sets have them, or beside the file; a few rows at a time."""

import http.server
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from made import jpeg

from geospot.data.fields import Columns, read_place
from geospot.data.records import Record, Skip
from geospot.data.sources import open_source
from geospot.errors import DataError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def everything(source) -> list[Record | Skip]:
    return [item for part in range(len(source.parts)) for item in source.read(part)]


def rows(n: int, image) -> dict:
    return {
        "image": [image(i) for i in range(n)],
        "country_iso_alpha2": ["NA"] * n,
        "latitude": [str(i % 80 + 0.5) for i in range(n)],  # strings, as in random_streetview_images_pano
        "longitude": [str(i % 170 + 0.25) for i in range(n)],
        "address": [f"{i} Street" for i in range(n)],
    }


def struct(i: int) -> dict:
    return {"bytes": jpeg(i, 16, 16), "path": f"{i}.jpg"}


def write(path: Path, columns: dict, group: int = 20, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=group, **options)
    return path


@pytest.mark.parametrize("image", [struct, lambda i: struct(i)["bytes"]], ids=["struct", "bytes"])
def test_pictures_in_rows(tmp_path, image):
    source = open_source(str(write(tmp_path / "a.parquet", rows(50, image))))
    assert len(source.parts) == 3
    records = everything(source)
    assert [r.pictures for r in records] == [(jpeg(i, 16, 16),) for i in range(50)]
    place = read_place(records[7].fields)
    assert (place.lat, place.lon, place.country) == (7.5, 7.25, "NA")
    assert set(records[7].fields) == {"country_iso_alpha2", "latitude", "longitude", "address"}
    assert len({r.key for r in records}) == 50


def test_lists_of_pictures_are_one_place(tmp_path):
    views = rows(5, lambda i: [struct(10 * i + k) for k in range(4)])
    records = everything(open_source(str(write(tmp_path / "a.parquet", views))))
    assert [r.pictures for r in records] == [tuple(jpeg(10 * i + k, 16, 16) for k in range(4)) for i in range(5)]
    assert records[1].names == ("10.jpg", "11.jpg", "12.jpg", "13.jpg")


def test_cursors(tmp_path):
    source = open_source(str(write(tmp_path / "a.parquet", rows(45, struct))))
    for part in range(3):
        whole = list(source.read(part))
        for k in (0, 3, 15, 16, len(whole) - 1):
            if k < len(whole):
                assert list(source.read(part, whole[k].end)) == whole[k + 1 :]
                assert source.fetch(part, whole[k].start, whole[k].end) == whole[k]


def big_struct(i: int) -> dict:
    return {"bytes": bytes([i % 251]) * 4000, "path": f"{i}.jpg"}


def test_many_rows_are_fetched_in_one_pass(tmp_path, monkeypatch):
    source = open_source(str(write(tmp_path / "a.parquet", rows(200, big_struct), group=200)))
    whole = list(source.read(0))
    passes, batches = [], []
    decode = pq.ParquetFile.iter_batches

    def counted(self, *args, **kwargs):
        passes.append(kwargs)
        for batch in decode(self, *args, **kwargs):
            batches.append(len(batch))
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    made = []
    record = source._record
    monkeypatch.setattr(source, "_record", lambda *args: made.append(args[1]) or record(*args))
    wanted = [0, 3, 4, 5, 17, 40, 40, 99]
    assert not source.fetches_singly
    assert list(source.fetch_many(0, [(i, i + 1) for i in wanted])) == [whole[i] for i in wanted]
    assert len(passes) == 1
    assert 100 <= sum(batches) < 100 + max(batches)  # nothing behind the last that is wanted
    assert made == sorted(set(wanted))


def test_rows_that_are_gone_are_none(tmp_path):
    images = rows(40, lambda i: None if i == 5 else struct(i))
    source = open_source(str(write(tmp_path / "a.parquet", images, group=40)))
    cursors = [(4, 5), (5, 6), (6, 7), (40, 41), (99, 100)]
    assert [r and r.key for r in source.fetch_many(0, cursors)] == ["4", None, "6", None, None]
    (tmp_path / "a.parquet").unlink()
    assert list(source.fetch_many(0, cursors)) == [None] * 5


def test_missing_pictures_are_counted(tmp_path):
    images = rows(6, lambda i: [struct(i), None, {"bytes": None, "path": "x.jpg"}][i % 3])
    items = everything(open_source(str(write(tmp_path / "a.parquet", images))))
    assert [i.reason if isinstance(i, Skip) else i.names for i in items] == [
        ("0.jpg",), "no picture", "no picture", ("3.jpg",), "no picture", "no picture"
    ]  # fmt: skip


def test_a_path_in_bytes_is_a_path_and_text_is_no_picture(tmp_path):
    cells = [{"bytes": jpeg(1, 16, 16), "path": b"a.jpg"}, {"bytes": jpeg(1, 16, 16), "path": b"\xff.jpg"}]
    [first, second] = everything(open_source(str(write(tmp_path / "a.parquet", rows(2, lambda i: cells[i])))))
    assert (first.key, first.names) == ("a", ("a.jpg",))
    assert second.pictures == (jpeg(1, 16, 16),)
    texts = [{"bytes": "no picture", "path": "b.jpg"}] * 2
    items = everything(open_source(str(write(tmp_path / "b.parquet", rows(2, lambda i: texts[i])))))
    assert [item.reason for item in items] == ["no picture"] * 2


def test_pictures_beside(tmp_path):
    table = rows(150, lambda i: f"{i}.jpg") | {"embedding": [[0.5, 0.25]] * 150}
    (tmp_path / "images").mkdir()
    for i in range(150):
        (tmp_path / "images" / f"{i}.jpg").write_bytes(jpeg(i % 3, 16, 16))
    (tmp_path / "images" / "9.jpg").unlink()
    source = open_source(str(write(tmp_path / "a.parquet", table, group=1000)))
    assert len(source.parts) == 3
    items = everything(source)
    assert [i.reason for i in items if isinstance(i, Skip)] == ["picture file missing"]
    assert items[149].pictures[0].read() == jpeg(149 % 3, 16, 16)
    assert source.fetch(2, 149 - 128, 150 - 128) == items[149]


def test_a_hub_clone_of_several_files(tmp_path):
    for k in range(2):
        table = rows(10, lambda i, k=k: struct(10 * k + i))
        write(tmp_path / "set" / "data" / f"train-0000{k}-of-00002.parquet", table)
    assert [r.names[0] for r in everything(open_source(str(tmp_path / "set")))] == [f"{i}.jpg" for i in range(20)]
    identity = open_source(str(tmp_path / "set")).identity()
    (tmp_path / "set").rename(tmp_path / "moved")
    assert open_source(str(tmp_path / "moved")).identity() == identity
    write(tmp_path / "moved" / "data" / "test-00000-of-00001.parquet", rows(3, struct))
    with pytest.raises(DataError, match=r"there are the splits test, train; say which .* such as 'test-\*\.parquet'"):
        open_source(str(tmp_path / "moved"))
    assert len(everything(open_source(str(tmp_path / "moved/data/train-*.parquet")))) == 20


def test_damage_is_counted_and_the_other_files_are_read(tmp_path):
    for k in range(3):
        write(tmp_path / f"{k}.parquet", rows(40, struct), compression="none")
    cut = tmp_path / "0.parquet"
    cut.write_bytes(cut.read_bytes()[:3000])  # without its footer
    data = bytearray((tmp_path / "1.parquet").read_bytes())
    data[20_000 : 20_000 + 4000] = b"\xff" * 4000
    (tmp_path / "1.parquet").write_bytes(bytes(data))
    items = everything(open_source(str(tmp_path)))
    skips = [i for i in items if isinstance(i, Skip)]
    assert {i.reason for i in skips} == {"unreadable shard"}
    assert "0.parquet" in skips[0].detail
    assert 40 <= sum(isinstance(i, Record) for i in items) <= 80
    with pytest.raises(DataError, match="none of 1 files can be read"):
        open_source(str(cut))


def test_missing_columns_say_the_mend(tmp_path):
    table = write(tmp_path / "a.parquet", {"picture": [struct(1)], "north": [1.5], "east": [2.5]})
    with pytest.raises(DataError, match=r"no column for lat and lon.*columns=lat=COLUMN,lon=COLUMN"):
        open_source(str(table))
    columns = Columns(lat="north", lon="east")
    [record] = everything(open_source(str(table), columns))
    assert read_place(record.fields, columns).lat == 1.5


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    table = write(tmp_path / "a.parquet", rows(1, struct))
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(DataError, match="uv sync --extra train"):
        open_source(str(table))


class Ranged(http.server.SimpleHTTPRequestHandler):
    """Serves files with byte ranges."""

    def log_message(self, *args):
        pass

    sent = 0
    asked, stall = threading.Event(), threading.Event()  # stall, clear: nothing comes behind the headers
    stall.set()

    def do_GET(self):
        data = Path(self.translate_path(self.path)).read_bytes()
        first, last = 0, len(data) - 1
        if asked := self.headers.get("Range"):
            low, _, high = asked.removeprefix("bytes=").partition("-")
            first, last = (int(low), min(int(high or last), last)) if low else (len(data) - int(high), last)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        self.asked.set()
        self.stall.wait(300)
        type(self).sent += last + 1 - first
        self.wfile.write(data[first : last + 1])


@pytest.fixture
def server(tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranged, directory=str(tmp_path))) as served:
        threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


def test_over_http(tmp_path, server):
    write(tmp_path / "a.parquet", rows(45, struct))
    source = open_source(f"{server}/a.parquet")
    assert source.remote
    records = everything(source)
    assert [r.pictures for r in records] == [(jpeg(i, 16, 16),) for i in range(45)]
    assert source.fetch(1, 3, 4) == records[23]


def test_many_rows_over_http_are_downloaded_once(tmp_path, server, monkeypatch):
    path = write(tmp_path / "a.parquet", rows(500, lambda i: rng_struct(i, 10_000)), group=500)
    source = open_source(f"{server}/a.parquet")
    whole = list(source.read(0))
    monkeypatch.setattr(Ranged, "sent", 0)
    wanted = list(range(0, 500, 7))
    assert list(source.fetch_many(0, [(i, i + 1) for i in wanted])) == [whole[i] for i in wanted]
    assert Ranged.sent < 1.5 * path.stat().st_size


def rng_struct(i: int, size: int) -> dict:
    import random

    return {"bytes": random.Random(i).randbytes(size), "path": f"{i}.jpg"}


def test_close_wakes_who_waits_for_the_network(tmp_path, server, monkeypatch):
    write(tmp_path / "a.parquet", rows(45, struct))
    source = open_source(f"{server}/a.parquet")
    asked, stall = threading.Event(), threading.Event()
    monkeypatch.setattr(Ranged, "asked", asked)
    monkeypatch.setattr(Ranged, "stall", stall)
    ended = []

    def read():
        try:
            ended.extend(source.read(0))
        except (OSError, ValueError) as error:
            ended.append(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert asked.wait(60)
    time.sleep(0.1)  # now it waits for the bytes
    source.close()
    reader.join(100)
    assert not reader.is_alive()
    assert len(ended) == 1
    assert not isinstance(ended[0], Record)
    stall.set()
    assert len(list(source.read(0))) == 20  # what is opened later is read


def test_sets_of_the_same_file_names_on_the_hub_are_told_apart(tmp_path, monkeypatch):
    from servers.hub import serve, use_hub

    data = write(tmp_path / "a.parquet", rows(25, struct)).read_bytes()
    parts, identities = [], []
    for repo in ("owner/train", "owner/other"):
        with serve({"0.parquet": data, "test-1.parquet": data}, repo=repo) as server:
            use_hub(monkeypatch, server)
            source = open_source(f"hf://datasets/{repo}")  # a repository's name is no split
            parts += source.parts
            identities += [source.identity(), open_source(f"hf://datasets/{repo}@v1").identity()]
    assert parts[0] == "hf://datasets/owner/train/0.parquet row group 0"
    assert len(set(parts)) == len(parts) == 8
    assert identities[0] == identities[1] != identities[2] == identities[3]


def test_on_the_hub(tmp_path, monkeypatch):
    from servers.hub import serve, use_hub

    files = {}
    for split, n in (("train", 2), ("test", 1)):
        for k in range(n):
            table = rows(25, lambda i, k=k: struct(100 * k + i))
            files[f"data/{split}-{k:05d}-of-{n:05d}.parquet"] = write(
                tmp_path / f"{split}{k}.parquet", table
            ).read_bytes()
    with serve(files) as server:
        use_hub(monkeypatch, server)
        source = open_source("hf://datasets/owner/name/data/train-*.parquet")
        assert (source.remote, source.revision) == (True, server.commit)
        records = everything(source)
        assert [r.names[0] for r in records] == [f"{100 * k + i}.jpg" for k in range(2) for i in range(25)]
        assert source.fetch(2, 3, 4) == records[28]
        with pytest.raises(DataError, match="there are the splits test, train"):
            open_source("parquet:hf://datasets/owner/name/data")
        assert not server.leaks
