"""WebDataset shards as tar files: read group by group from any offset, written whole.

tarfile parses the headers; the walk is ours, since a stream must know at which byte each group lies (to resume there),
tell a shard that was cut off from one that ended, and go on behind a damaged header.
"""

import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from geospot.data.pictures import PICTURE_SUFFIXES
from geospot.data.records import Record, Skip
from geospot.data.samples import Sample
from geospot.data.stored import StoredSlice
from geospot.files import write_bytes_atomic

MAX_MEMBER_BYTES = 512 << 20  # what a header claims beyond it is not read into memory
BLOCK = tarfile.BLOCKSIZE


def split_name(name: str) -> tuple[str, str]:
    """WebDataset's convention: ('a/000123', '090.jpg') of 'a/000123.090.jpg'; the suffix in small letters."""
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return folder + slash + stem, suffix.lower()


def is_wanted(suffix: str) -> bool:
    """Whether a member is metadata, or a picture: `jpg`, `image.jpg` or a heading, `090.jpg`; not `depth.png`."""
    if suffix == "json":
        return True
    name, _, kind = suffix.rpartition(".")
    return f".{kind}" in PICTURE_SUFFIXES and (name in ("", "image", "img") or name.isdecimal())


@dataclass(frozen=True)
class _CutMember(Skip):
    member: str = ""


class _Group:
    def __init__(self, key: str, start: int):
        self.key, self.start = key, start
        self.end = start
        self.members: dict[str, bytes | StoredSlice] = {}

    def add(self, suffix: str, at: int, data: bytes | StoredSlice) -> None:
        self.members[suffix] = data
        size = len(data) if isinstance(data, bytes) else data.size
        self.end = at + BLOCK + -(-size // BLOCK) * BLOCK

    def record(self) -> Record:
        names = tuple(sorted(name for name in self.members if name != "json"))
        pictures = tuple(self.members[name] for name in names)
        return Record(self.key, self.members.get("json"), pictures, names, self.start, self.end)


def read_members(
    file: BinaryIO, name: str, start: int = 0, path: str | None = None
) -> Iterator[tuple[str, int, bytes | StoredSlice] | Skip]:
    """(name, offset of the header, bytes) of the wanted members of a tar, from `start`, where a header must lie.

    With the `path` of a file on disk pictures stay there: who decodes them reads them, out of the system's cache, which
    this walk fills. Damage comes as a Skip, then what follows the next good header; a tar without an end is
    'truncated shard'.
    """
    file.seek(start)
    tar = tarfile.TarFile(fileobj=io.BytesIO(), mode="w")  # holds the encoding and the pax state that headers share
    tar.fileobj = file
    ended = damaged = False
    length = os.fstat(file.fileno()).st_size if path else 0
    while True:
        at = file.tell()
        try:
            info = tarfile.TarInfo.fromtarfile(tar)
        except tarfile.EOFHeaderError:  # a block of zeros; another tar may follow, as GNU tar's --ignore-zeros
            ended = True
            continue
        except (tarfile.EmptyHeaderError, tarfile.TruncatedHeaderError):
            if not ended:
                yield Skip("truncated shard", f"{name}: ends at byte {file.tell()} without an end mark", file.tell())
            return
        except (tarfile.HeaderError, ValueError, OverflowError) as error:
            if not damaged:
                yield Skip("damaged shard", f"{name}: no header at byte {at}: {error}", at)
            damaged = True
            file.seek(at + BLOCK)
            continue
        ended = damaged = False
        padded = -(-info.size // BLOCK) * BLOCK
        if not info.isreg():
            continue
        wanted = is_wanted(split_name(info.name)[1])
        if not wanted or info.size > MAX_MEMBER_BYTES:
            if wanted:
                yield Skip("member too large", f"{name}: {info.name} has {info.size:,} bytes", at)
            file.seek(info.offset_data + padded)
            continue
        if path and not info.name.endswith(".json"):
            there, data = length - info.offset_data, StoredSlice(path, info.offset_data, info.size)
            file.seek(info.offset_data + padded)
        else:
            data = file.read(padded)
            there, data = len(data), data[: info.size]
        if there < info.size:
            detail = f"{name}: {info.name} has {there} of {info.size} bytes"
            yield _CutMember("truncated shard", detail, file.tell(), member=info.name)
            return
        yield info.name, at, data


def read_groups(file: BinaryIO, name: str, start: int = 0, path: str | None = None) -> Iterator[Record | Skip]:
    """The groups of a shard from the byte `start` on, where a group begins (0, or a record's `end`).

    path: where the shard lies on disk, so that its pictures are left there (see `read_members`).

    What is damaged behind a group comes behind it, so that a walk from the group's end meets it again.
    """
    group: _Group | None = None
    skips: list[Skip] = []  # since the group's last member
    for member in read_members(file, name, start, path):
        if isinstance(member, Skip):
            skips.append(member)
            if group and isinstance(member, _CutMember) and split_name(member.member)[0] == group.key:
                group = None  # it misses that member; the shard's skip stands for it
            continue
        member_name, at, data = member
        key, suffix = split_name(member_name)
        if group is not None and (key != group.key or suffix in group.members):
            yield group.record()
            group = None
        yield from skips
        skips.clear()
        group = group or _Group(key, at)
        group.add(suffix, at, data)
    if group is not None:
        yield group.record()
    yield from skips


def read_group(data: bytes, name: str, start: int) -> Record:
    """One group again, from its bytes; `start` is where they lie in the shard. OSError where they hold none."""
    for item in read_groups(io.BytesIO(data), name):
        if isinstance(item, Record):
            return Record(item.key, item.fields, item.pictures, item.names, start, start + len(data))
    raise OSError(f"{name}: no sample at byte {start}")


def pack_samples(samples: Iterable[Sample]) -> bytes:
    """Samples as the bytes of one tar; the same samples give the same bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for sample in samples:
            place = sample.place
            fields = {"lat": place.lat, "lon": place.lon}
            fields |= {n: getattr(place, n) for n in ("city", "region", "country") if getattr(place, n) is not None}
            one = len(sample.pictures) == 1
            names = ["" if one else f"{i:03d}." for i in range(len(sample.pictures))]
            members = [(f"{n}{_suffix(p)}", p) for n, p in zip(names, sample.pictures, strict=True)]
            key = sample.key.replace(".", "_")  # the first dot ends a key
            for suffix, data in [("json", json.dumps(fields, ensure_ascii=False).encode()), *members]:
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size, info.mode, info.uname, info.gname = len(data), 0o444, "geospot", "geospot"
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _suffix(picture: bytes) -> str:
    return "png" if picture.startswith(b"\x89PNG") else "webp" if picture[8:12] == b"WEBP" else "jpg"


def write_shard(path: str | Path, samples: Iterable[Sample]) -> None:
    """Write samples as one tar, whole or not at all."""
    write_bytes_atomic(path, pack_samples(samples))
