"""Tar shards: every group with its bytes' place, whatever is damaged around it."""

import io
import json
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import jpeg

from geospot.data.records import Record, Skip
from geospot.data.samples import Sample, read_sample
from geospot.data.tar import pack_samples, read_group, read_groups, split_name
from geospot.earth.place import Place


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
    [record], skips = read(shard([(f"{name}.jpg", b"1"), (f"{name}.json", b"{}")], format=kind))
    assert record.key == name
    assert not skips


def test_a_group_is_read_again_from_its_bytes_and_the_walk_goes_on_behind_any():
    data = shard(places(5))
    records, _ = read(data)
    assert len(records) == 5
    for i, record in enumerate(records):
        assert read_group(data[record.start : record.end], "x.tar", record.start) == record
        assert read(data, record.end) == (records[i + 1 :], [])


@given(cut=st.floats(0, 1), n=st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_a_tar_cut_anywhere_gives_whole_groups_and_says_that_it_was_cut(cut, n):
    data = shard(places(n))
    whole, _ = read(data)
    at = int(cut * (whole[-1].end - 1))
    records, skips = read(data[:at])
    # The last member's bytes may be there and only its padding be cut. A group cut between two members is given
    # without the second, which read_sample refuses ("no json").
    assert [r.key for r in records if r.fields] == [r.key for r in whole if r.end - PADDING <= at]
    assert [s.reason for s in skips] == ["truncated shard"]


@given(byte=st.integers(0, 10**9), n=st.integers(2, 6))
@settings(max_examples=80, deadline=None)
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
    assert [s.reason for s in read(b"<html>not found</html>" * 100)[1]] == ["damaged shard", "truncated shard"]
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
