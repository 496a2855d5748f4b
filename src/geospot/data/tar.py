"""WebDataset shards as tar files: read group by group from any offset, written whole.

tarfile parses the headers; the walk is ours, since a stream must know at which byte each group lies (to resume there),
tell a shard that was cut off from one that ended, and go on behind a damaged header.
"""

import io
import json
import os
import re
import tarfile
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from geospot.data.records import Record, Skip
from geospot.data.samples import Sample
from geospot.data.stored import StoredSlice
from geospot.files import foreign_content, write_bytes_atomic
from geospot.pictures import PICTURE_SUFFIXES

MAX_MEMBER_BYTES = 512 << 20  # what a header claims beyond it is not read into memory
MAX_HEADER_BYTES = 64 << 10  # of a long name or a pax header; no file system has longer names
MAX_MEMBERS = 256  # of one key: more are held no longer
BLOCK = tarfile.BLOCKSIZE
FOREIGN = "no shard"  # another kind of file in its place
NO_PHOTOS = frozenset(
    ("depth", "seg", "segmentation", "mask", "label", "labels", "normal", "normals", "thumb", "thumbnail")
)
_MAX_OFFSET = 1 << 42  # bytes; file systems refuse to seek much further
_TARFILE: Any = tarfile  # no stub has its header errors
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENSIONS = (*_PAX, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_DIGITS = re.compile(rb"[0-9]{101}")
# What tarfile raises of a block that is no header; one header may go before another so often that it recurs too deep.
_NO_HEADER = (tarfile.HeaderError, ValueError, OverflowError, KeyError, IndexError, RecursionError)


def split_name(name: str) -> tuple[str, str]:
    """WebDataset's convention: ('a/000123', '090.jpg') of 'a/000123.090.jpg'; the suffix in small letters."""
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return folder + slash + stem, suffix.lower()


def _is_picture(suffix: str) -> bool:
    return f".{suffix.rpartition('.')[2]}" in PICTURE_SUFFIXES


def _named(suffix: str) -> str:
    """What stands before the kind in a suffix: `left` of `left.jpg`, "" of `jpg`."""
    return suffix.rpartition(".")[0]


def _is_json(suffix: str) -> bool:
    return suffix.rpartition(".")[2] == "json"


@dataclass(frozen=True)
class _CutMember(Skip):
    member: str = ""


class _Member(NamedTuple):
    """A picture or JSON of a shard: its suffix, the bytes that it takes with its header, and what it holds."""

    suffix: str
    start: int
    end: int
    data: bytes | StoredSlice

    @property
    def name(self) -> str:
        """What stands before the kind: `left` of `left.jpg`, "" of `jpg`."""
        return _named(self.suffix)


class _Group:
    """The members of one key, as WebDataset groups them: up to the first dot of the name.

    Sets whose keys hold dots (`a.b1.jpg`, `a.b1.json`, `a.b2.jpg`, ...) have several samples under such a key: a run of
    members of one name with metadata of its own is a sample. Where one ends depends on the members behind its begin
    alone, so that a walk from there gives the same.
    """

    def __init__(self, key: str):
        self.key = key
        self._members: list[_Member] = []

    def add(self, member: _Member) -> Iterator[Record | Skip]:
        """Take a member; what it completes comes out."""
        waiting = deque([member])
        while waiting:
            new = waiting.popleft()
            if self._ends_before(new):
                first, rest = self._cut()
                self._members = []
                waiting.extendleft(reversed([*rest, new]))
                yield from self._sample(first)
            else:
                self._members.append(new)

    def close(self) -> Iterator[Record | Skip]:
        """What is left."""
        while self._members:
            first, rest = self._cut()
            self._members = []
            yield from self._sample(first)
            for member in rest:
                yield from self.add(member)

    def _ends_before(self, new: _Member) -> bool:
        if len(self._members) >= MAX_MEMBERS or any(member.suffix == new.suffix for member in self._members):
            return True
        run = self._runs()[0] if self._members else []
        return _is_sample(run) and run[0].name != new.name

    def _runs(self) -> list[list[_Member]]:
        return [list(run) for _, run in groupby(self._members, attrgetter("name"))]

    def _cut(self) -> tuple[list[_Member], list[_Member]]:
        """The members of the first sample, and the others."""
        runs = self._runs()
        if any(member.suffix == "json" for member in self._members) or not any(map(_is_sample, runs)):
            return self._members, []
        return runs[0], self._members[len(runs[0]) :]

    def _sample(self, members: list[_Member]) -> Iterator[Record | Skip]:
        """Its record, behind a Skip for each picture that is not taken for one of its.

        Of pictures, the plain one and the headings are (`jpg`, `image.jpg`, `090.jpg`); where there are none, all that
        may be photos (`left.jpg`, `right.jpg`). Metadata is `json`, or the only `*.json`.
        """
        key = (
            f"{self.key}.{members[0].name}" if _is_sample(members) and len({m.name for m in members}) == 1 else self.key
        )
        pictures = sorted(m for m in members if _is_picture(m.suffix) and m.name not in NO_PHOTOS)
        usual = [m for m in pictures if m.name in ("", "image", "img") or m.name.isdecimal()]
        chosen = usual or pictures
        for member in pictures:
            if member not in chosen:
                yield Skip("picture beside the sample's own", f"{self.key}.{member.suffix}", member.end)
        texts = [m for m in members if _is_json(m.suffix)]
        told = next((m for m in texts if m.suffix == "json"), texts[0] if len(texts) == 1 else None)
        data: Any = told.data if told else None  # of JSON always bytes
        yield Record(
            key,
            data,
            tuple(m.data for m in chosen),
            tuple(m.suffix for m in chosen),
            members[0].start,
            members[-1].end,
        )


def _is_sample(run: list[_Member]) -> bool:
    """Whether members of one name are a sample of their own."""
    return (
        bool(run)
        and run[0].name != ""
        and any(_is_json(m.suffix) for m in run)
        and any(_is_picture(m.suffix) for m in run)
    )


class _Header(tarfile.TarInfo):
    """A header that claims nothing that would take for ever: tarfile believes every size that it reads."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        extends = self.type in _EXTENSIONS
        if self.size < 0 or self.size > (MAX_HEADER_BYTES if extends else _MAX_OFFSET):
            raise _TARFILE.InvalidHeaderError(f"a size of {self.size:,} bytes")
        if self.type in _PAX:
            begin = tar.fileobj.tell()
            if _DIGITS.search(tar.fileobj.read(self.size)):  # through which older versions of tarfile go in n^2 steps
                raise _TARFILE.InvalidHeaderError("a number of over 100 digits")
            tar.fileobj.seek(begin)
        return super()._proc_member(tar)  # pyrefly: ignore[missing-attribute]


def read_members(
    file: BinaryIO, name: str, start: int = 0, path: str | None = None
) -> Iterator[tuple[str, int, bytes | StoredSlice] | Skip]:
    """(name, offset of the header, bytes) of the pictures and the JSON of a tar, from `start`, where a header must lie.

    With the `path` of a file on disk pictures stay there: who decodes them reads them, out of the system's cache, which
    this walk fills. Damage comes as a Skip, then what follows the next good header; a tar without an end is
    'truncated shard', and what is no tar at all is called what it is.
    """
    file.seek(start)
    if start == 0:
        head = file.read(BLOCK)
        if (foreign := foreign_content(head)) is not None:
            yield Skip(FOREIGN, f"{name} is {foreign[0]}: {foreign[1]}")
            return
        if 0 < len(head) < BLOCK and head.decode("ascii", "replace").replace("\n", " ").isprintable():
            yield Skip(FOREIGN, f"{name} is a text of {len(head)} bytes that begins with {head[:80]!r}")
            return
        file.seek(0)
    tar = tarfile.TarFile(fileobj=io.BytesIO(), mode="w")  # holds the encoding and the pax state that headers share
    tar.fileobj = file
    ended = damaged = False
    length = os.fstat(file.fileno()).st_size if path else 0
    while True:
        at = file.tell()
        try:
            info = _Header.fromtarfile(tar)
            if not 0 <= info.size <= _MAX_OFFSET:  # a pax header may say so
                raise _TARFILE.InvalidHeaderError(f"a size of {info.size:,} bytes")
        except _TARFILE.EOFHeaderError:  # a block of zeros; another tar may follow, as GNU tar's --ignore-zeros
            ended = True
            continue
        except (_TARFILE.EmptyHeaderError, _TARFILE.TruncatedHeaderError):
            if not ended:
                yield Skip("truncated shard", f"{name}: ends at byte {file.tell()} without an end mark", file.tell())
            return
        except _NO_HEADER as error:
            if not damaged:
                yield Skip("damaged shard", f"{name}: no header at byte {at}: {error}", at)
            damaged = True
            file.seek(file.tell() if isinstance(error, RecursionError) else at + BLOCK)
            continue
        ended = damaged = False
        padded = -(-info.size // BLOCK) * BLOCK
        if not info.isreg():
            continue
        key, suffix = split_name(info.name)
        wanted = (_is_json(suffix) or _is_picture(suffix)) and not key.endswith("/") and key != ""  # `._a.jpg` of macOS
        if not wanted or info.size > MAX_MEMBER_BYTES:
            if wanted:
                yield Skip("member too large", f"{name}: {info.name} has {info.size:,} bytes", at)
            file.seek(info.offset_data + padded)
            continue
        if path and not _is_json(suffix):
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
    """The samples of a shard from the byte `start` on, where one begins (0, or a record's `end`).

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
        if group is not None and key != group.key:
            yield from group.close()
            group = None
        group = group or _Group(key)
        yield from group.add(_Member(suffix, at, file.tell(), data))  # a long name has headers of its own before it
        yield from skips
        skips.clear()
    if group is not None:
        yield from group.close()
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
