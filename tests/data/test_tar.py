"""Tar shards: every group with its bytes' place, whatever is damaged around it."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import jpeg

from geospot.data.fields import Columns
from geospot.data.records import Record, Skip
from geospot.data.samples import Sample, SkipCounter, read_sample
from geospot.data.sources import open_source, webdataset
from geospot.data.stream import read_places
from geospot.data.tar import pack_samples, read_group, read_groups, split_name
from geospot.earth.place import Place
from geospot.errors import DataError


def shard(members: list[tuple[str, bytes]], **kind) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **kind) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def places(n: int, size: int = 700) -> list[tuple[str, bytes]]:
    return [m for i in range(n) for m in ((f"{i:03d}.jpg", b"%d" % i * size), (f"{i:03d}.json", b'{"i": %d}' % i))]


PADDING = 512 - len(b'{"i": 0}')  # behind each of these


def read(data: bytes, start: int = 0) -> tuple[list[Record], list[Skip]]:
    items = list(read_groups(io.BytesIO(data), "x.tar", start))
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Skip)]


def test_headings_are_in_order_and_other_members_are_left_out():
    members = [("a/b.270.jpg", b"4"), ("a/b.000.JPG", b"1"), ("a/b.txt", b"note"), ("a/b.json", b"{}")]
    members += [("a/c.png", b"5")]
    [first, second], skips = read(shard(members))
    assert (first.key, first.names, first.pictures) == ("a/b", ("000.jpg", "270.jpg"), (b"1", b"4"))
    assert first.fields == b"{}"
    assert (second.key, second.pictures, second.fields) == ("a/c", (b"5",), None)
    assert not skips


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_in_every_kind_of_tar(kind):
    name = "d/" + "x" * 90 if kind == tarfile.USTAR_FORMAT else "Straße/" + "ü" * 120
    data = shard([(f"{name}.jpg", b"1"), (f"{name}.json", b"{}"), ("z.jpg", b"2"), ("z.json", b"{}")], format=kind)
    [record, last], skips = read(data)
    assert record.key == name
    assert not skips
    assert read_group(data[record.start : record.end], "x.tar", record.start) == record
    assert read(data, record.end) == ([last], [])


def test_a_group_is_read_again_from_its_bytes_and_the_walk_goes_on_behind_any():
    data = shard(places(5))
    records, _ = read(data)
    assert len(records) == 5
    for i, record in enumerate(records):
        assert read_group(data[record.start : record.end], "x.tar", record.start) == record
        assert read(data, record.end) == (records[i + 1 :], [])


@given(cut=st.floats(0, 1), n=st.integers(1, 6))
@settings(max_examples=60)
def test_a_tar_cut_anywhere_gives_whole_groups_and_says_that_it_was_cut(cut, n):
    data = shard(places(n))
    whole, _ = read(data)
    at = int(cut * (whole[-1].end - 1))
    records, skips = read(data[:at])
    # The last member's bytes may be there and only its padding be cut. A group cut between two members is given
    # without the second, which read_sample refuses ("no json").
    assert [r.key for r in records if r.fields] == [r.key for r in whole if r.end - PADDING <= at]
    [skip] = skips
    assert skip.reason == "truncated shard" or (
        0 < at < 512 and skip.reason == "no shard"
    )  # a few bytes may be anything


@given(byte=st.integers(0, 10**9), n=st.integers(2, 6))
@settings(max_examples=80)
def test_a_damaged_header_costs_its_own_group_alone(byte, n):
    data = bytearray(shard(places(n)))
    whole, _ = read(bytes(data))
    hurt = byte % n
    header = whole[hurt].start + (0 if byte % 2 else 512 + 1024)  # of its picture or of its json
    at = header + byte % 100
    data[at] ^= 0x55
    records, skips = read(bytes(data))
    good = [(r.key, r.pictures, r.fields) for r in records if r.fields and r.pictures]
    assert [r.key for r in whole if (r.key, r.pictures, r.fields) in good] == [
        r.key for i, r in enumerate(whole) if i != hurt
    ]
    assert {s.reason for s in skips} <= {"damaged shard"}


def test_tars_that_were_joined_are_read_through():
    data = shard(places(2)) + shard([("z.jpg", b"9"), ("z.json", b"{}")])
    records, skips = read(data)
    assert [r.key for r in records] == ["000", "001", "z"]
    assert not skips


def test_what_is_no_tar_is_damaged_and_empty_is_cut_off():
    assert [s.reason for s in read(b"{'error': 'not found'}" * 100)[1]] == ["damaged shard", "truncated shard"]
    assert [s.reason for s in read(b"")[1]] == ["truncated shard"]


def test_a_packed_sample_comes_back(pictures):
    sample = Sample("48.85,2.35", (jpeg(1), jpeg(2)), Place(48.85, 2.35, "Paris", None, "France"))
    [record], _ = read(pack_samples([sample]))
    assert read_sample(record) == Sample("48_85,2_35", sample.pictures, sample.place)
    assert json.loads(record.fields) == {"lat": 48.85, "lon": 2.35, "city": "Paris", "country": "France"}


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a.jpg", ("a", "jpg")),
        ("d.1/a.000.JPG", ("d.1/a", "000.jpg")),
        ("noext", ("noext", "")),
        ("x/.hidden", ("x/", "hidden")),
    ],
)
def test_names_split_at_the_first_dot_of_the_last_part(name, parts):
    assert split_name(name) == parts


def test_other_pictures_of_a_group_are_no_headings():
    members = [("a.jpg", b"1"), ("a.depth.png", b"2"), ("a.seg.png", b"3"), ("a.90.jpg", b"4"), ("a.json", b"{}")]
    [record], _ = read(shard(members))
    assert record.names == ("90.jpg", "jpg")


def test_a_member_that_is_too_large_is_told(monkeypatch):
    monkeypatch.setattr("geospot.data.tar.MAX_MEMBER_BYTES", 5000)
    records, skips = read(shard([("a.jpg", b"1" * 6000), ("a.json", b"{}"), *places(1)]))
    assert [skip.reason for skip in skips] == ["member too large"]
    assert [r.key for r in records if r.pictures] == ["000"]


# -- WebDataset's rule for keys: up to the first dot of the name's last part


@pytest.mark.parametrize(
    ("names", "samples"),
    [
        (["a.b1.jpg", "a.b1.json", "a.b2.jpg", "a.b2.json"], [("a.b1", ["b1.jpg"]), ("a.b2", ["b2.jpg"])]),
        (["0.left.jpg", "0.metadata.json", "0.right.jpg"], [("0", ["left.jpg", "right.jpg"])]),
        (["0.json", "0.left.jpg", "0.right.jpg"], [("0", ["left.jpg", "right.jpg"])]),
        (["0.jpg", "0.meta.json"], [("0", ["jpg"])]),
        (["0.jpg", "0.Json", "1.JPG", "1.JSON"], [("0", ["jpg"]), ("1", ["jpg"])]),
        (
            ["v1.0_7.jpg", "v1.0_7.json", "v1.0_8.jpg", "v1.0_8.json"],
            [("v1.0_7", ["0_7.jpg"]), ("v1.0_8", ["0_8.jpg"])],
        ),
        (["a.1.jpg", "a.1.json", "a.2.jpg", "a.2.json"], [("a.1", ["1.jpg"]), ("a.2", ["2.jpg"])]),
        (["a.image.jpg", "a.mask.png", "a.json"], [("a", ["image.jpg"])]),
        (["d/a.x.jpg", "d/a.x.json", "d/._a.x.jpg", "._b.jpg", "._b.json"], [("d/a.x", ["x.jpg"])]),
    ],
)
def test_samples_as_webdataset_groups_them(tmp_path, names, samples):
    data = shard([(name, b"{}" if name.lower().endswith("json") else name.encode()) for name in names])
    (tmp_path / "0.tar").write_bytes(data)
    for path in (None, str(tmp_path / "0.tar")):
        with open(tmp_path / "0.tar", "rb") as file:
            records = list(read_groups(file, "0.tar", 0, path))
        assert [(r.key, list(r.names)) for r in records] == samples
        assert all(r.fields == b"{}" for r in records)
    for i, record in enumerate(records := read(data)[0]):
        assert read_group(data[record.start : record.end], "x.tar", record.start) == record
        assert read(data, record.end)[0] == records[i + 1 :]


def test_members_that_are_not_understood_are_counted_by_name():
    [record], [skip] = read(shard([("a.jpg", b"1"), ("a.left.jpg", b"2"), ("a.depth.png", b"3"), ("a.json", b"{}")]))
    assert record.names == ("jpg",)
    assert (skip.reason, skip.detail) == ("picture beside the sample's own", "a.left.jpg")
    [record], skips = read(shard([(f"a.{name}", b"{}") for name in ("x.jpg", "y.jpg", "x.json", "y.json")]))
    assert (record.key, record.fields, skips) == ("a", None, [])  # which of the two? It is refused: "no json"


SUFFIXES = ["jpg", "json", "000.jpg", "090.jpg", "left.jpg", "left.json", "b.png", "b.json", "meta.json", "txt", "JPG"]


@given(st.lists(st.tuples(st.sampled_from("aab"), st.sampled_from(SUFFIXES)), max_size=12))
@settings(max_examples=200, deadline=None)
def test_any_members_give_records_that_are_read_again(members):
    data = shard([(f"{key}.{suffix}", b"{}") for key, suffix in members])
    records, _ = read(data)
    for i, record in enumerate(records):
        assert read_group(data[record.start : record.end], "x.tar", record.start) == record
        assert read(data, record.end)[0] == records[i + 1 :]


def test_a_key_with_members_without_end_is_held_in_pieces():
    records, _ = read(shard([(f"a.{i}.jpg", b"1") for i in range(1000)]))
    assert [len(r.names) for r in records] == [256, 256, 256, 232]


# -- hostile tars


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytearray:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return bytearray(info.tobuf(tarfile.GNU_FORMAT))


def signed(block: bytearray) -> bytes:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(text: bytes) -> bytes:
    block = header("./PaxHeaders/x", len(text), tarfile.XHDTYPE)
    return bytes(block) + text + bytes(-len(text) % 512)


def negative_size() -> bytes:
    block = header("x.jpg", 0)
    block[124:136] = b"\xff" * 10 + b"\xfe\x00"  # base 256, two's complement: -512
    return signed(block)


HOSTILE = {
    "negative size": lambda: negative_size() * 3,
    "size beyond the file": lambda: signed(header("y.txt", 1 << 62)),
    "GNU long name of 3 GB": lambda: bytes(header("x", 3 << 30, tarfile.GNUTYPE_LONGNAME)),
    "GNU long link of 3 GB": lambda: bytes(header("x", 3 << 30, tarfile.GNUTYPE_LONGLINK)),
    "pax header of 2 GB": lambda: bytes(header("x", 2 << 30, tarfile.XHDTYPE)),
    "pax header of digits": lambda: pax(b"1" * 60_000) * 3,
    "pax header with a negative size": lambda: pax(b"12 size=-99\n") + bytes(header("x.jpg", 0)),
    "pax headers one before another": lambda: pax(b"8 path=x\n") * 2000,
    "sparse without an end": lambda: bytes(header("x.jpg", 100, tarfile.GNUTYPE_SPARSE)),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("on_disk", [False, True])
def test_a_hostile_header_is_bounded_counted_and_the_rest_is_read(tmp_path, kind, on_disk):
    data = HOSTILE[kind]() + shard(places(3))
    (tmp_path / "x.tar").write_bytes(data)
    tracemalloc.start()
    begun = time.process_time()
    with open(tmp_path / "x.tar", "rb") as file:
        items = list(read_groups(file, "x.tar", 0, str(tmp_path / "x.tar") if on_disk else None))
    assert time.process_time() - begun < 20
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()
    skips = [item for item in items if isinstance(item, Skip)]
    assert skips or kind == "sparse without an end"
    assert {skip.reason for skip in skips} <= {"damaged shard", "truncated shard"}
    if kind not in ("size beyond the file", "sparse without an end"):
        assert [r.key for r in items if isinstance(r, Record) and r.fields] == ["000", "001", "002"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "a Git LFS pointer: run git lfs pull"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "an HTML page: fetch the file itself"),
        (b"\n  <HTML lang=en>", "an HTML page"),
        (gzip.compress(bytes(1024), mtime=0), "packed by gzip: unpack it with gunzip"),
        (bz2.compress(bytes(1024)), "packed by bzip2"),
        (lzma.compress(bytes(1024)), "packed by xz"),
        (b"\x28\xb5\x2f\xfd" + bytes(100), "packed by zstd"),
        (b"PK\x03\x04" + bytes(100), "a zip archive"),
        (b"/annex/objects/SHA256E-s1--a.tar\n", "a git-annex pointer"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "an XML file"),
        (b"Rar!\x1a\x07\0", "a RAR archive"),
        (b"Access to this data set is restricted", "a text of 37 bytes that begins with"),
        (b'{"error": "gated"}\n', "a text of 19 bytes that begins with"),
    ],
)
def test_what_is_no_tar_is_called_what_it_is(tmp_path, data, says):
    for name in ("0.tar", "1.tar.gz"):
        (tmp_path / name).write_bytes(data)
        skipped = SkipCounter()
        with pytest.warns(UserWarning, match="no shard"):
            assert list(read_places(open_source(str(tmp_path / name)), Columns(), skipped)) == []
        assert skipped == {"no shard": 1}
        assert f"{name} is {says}" in skipped.examples["no shard"][0]


def test_a_folder_of_packed_shards_is_told_to_unpack_them(tmp_path):
    (tmp_path / "0.tar.gz").write_bytes(gzip.compress(shard(places(1))))
    with pytest.raises(DataError, match=r"no \.tar file, but 1 packed ones such as 0\.tar\.gz: unpack them"):
        open_source(str(tmp_path))


def test_photos_beside_a_packed_copy_of_them_are_photos(tmp_path):
    (tmp_path / "photos.tar.gz").write_bytes(b"\x1f\x8b\x08\x00")
    assert webdataset.matches(str(tmp_path))
    (tmp_path / "48.85,2.35.jpg").write_bytes(jpeg(0))
    assert not webdataset.matches(str(tmp_path))
    assert webdataset.matches("shards/0.tgz")
