"""MP16-Pro, and any set like it: a CSV, and the pictures in one tar, whole or in pieces, read in the tar's order.

A tar has no list of its members. Its parts are ranges of bytes: the members whose header begins in the range. Where
that is found by the header's checksum, so that no pass over the 4.7 million pictures is needed before the first.
"""

import io
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from geospot.data.fields import USUAL, Columns
from geospot.data.records import Record, Skip, Source
from geospot.data.sources.arrow import ArrowTable
from geospot.data.sources.csvtable import SUFFIXES, open_csv, read_columns
from geospot.data.sources.kept import find_sorted, kept_index, text_hash
from geospot.data.sources.listing import files_in, local_path
from geospot.data.sources.pieces import PIECE_NAME, Pieces, find_pieces
from geospot.data.sources.rows import check_columns, coordinates_mend, has_coordinates
from geospot.data.tar import BLOCK, read_members
from geospot.errors import DataError
from geospot.files import foreign_content
from geospot.pictures import is_picture

EXAMPLE = "a folder with MP16-Pro's CSV (IMG_ID, LAT, LON, ...) and its tar, whole or in pieces (.tar.aa, .tar.00, ...)"
PART_BYTES = 16 << 20  # about 300 pictures: small enough for shuffled parts to mix well
_LOOK_BACK = 64 << 10  # more than the headers that go before a member's own
_READ_BYTES = 1 << 20
_LAYOUT = 1


def fold_key(text: str) -> str:
    """What a row's IMG_ID and a member's path have in common: 4f/a0/39.jpg, 4f_a0_39.jpg and 4f_a0_39 are one."""
    text = text.strip().replace("/", "_")
    return text.rpartition(".")[0] if is_picture(text) else text


class TableKeys:
    """Rows of a table by their keys: 12 bytes a row, mapped from the cache once made."""

    def __init__(self, table: ArrowTable, column: str):
        self._table, self._column = table, column
        arrays, _ = kept_index([_LAYOUT, "keys", table.digest, column], self._make)
        self._hashes, self._rows = arrays["hashes"], arrays["rows"]

    def _make(self) -> tuple[dict[str, np.ndarray], dict]:
        values = (str(value or "") for [value] in self._table.values(self._column))
        hashes = np.fromiter((text_hash(fold_key(value)) if value else 0 for value in values), np.uint64)
        hashes, rows = np.unique(hashes, return_index=True)
        return {"hashes": hashes, "rows": rows.astype(np.uint32)}, {}

    def find(self, path: str) -> Mapping | None:
        """The row of a member: its key is the path with `_` for `/`, or the end of it behind some folders."""
        parts = PurePosixPath(path).parts
        for i in range(len(parts)):
            key = fold_key("/".join(parts[i:]))
            if (at := find_sorted(self._hashes, key)) is not None:
                row = int(self._rows[at])
                [fields] = self._table.read(row, row + 1)
                if isinstance(fields, Mapping) and fold_key(str(fields.get(self._column, ""))) == key:
                    return fields
        return None


class TarWithTable(Source):
    """The pictures of a tar whose metadata is in a table; a cursor is a byte of the tar (of its pieces, joined)."""

    def __init__(self, spec: str, name: str, paths: list[Path], table: ArrowTable, columns: Columns):
        self.spec, self._paths, self._table, self._columns = spec, paths, table, columns
        column = columns.find("key", table.columns) or columns.find("image", table.columns)
        if column is None:
            raise DataError(
                f"{table.name} has no column `IMG_ID`; it has {', '.join(table.columns)}. Say columns=key=COLUMN"
            )
        self._keys = TableKeys(table, column)
        self._column = column
        # Nominatim's `region` is larger than a province ("Metropolitan France") and mostly empty.
        self._state = "state" if columns.region is None and {"state", "region"} <= set(table.columns) else None
        with self._open() as file:
            self.size = file.raw.size
            head = file.read(BLOCK)
        if (foreign := foreign_content(head)) is not None:
            raise DataError(f"{paths[0]} is {foreign[0]}: {foreign[1]}")
        if not _is_header(head):
            raise DataError(f"{paths[0]} does not begin as a tar does; if it is packed, unpack it first")
        self.parts = [f"{name} bytes {at}-{min(at + PART_BYTES, self.size)}" for at in range(0, self.size, PART_BYTES)]

    def identity(self) -> str:
        """By the table's content and the tar's size."""
        return blake2b(f"{self._table.digest} {self.size} {PART_BYTES}".encode(), digest_size=12).hexdigest()

    def read(self, part: int, start: int = 0) -> Generator[Record | Skip]:
        """The pictures whose headers begin in the part, from a cursor on."""
        begin, end = part * PART_BYTES, min((part + 1) * PART_BYTES, self.size)
        exact = start > begin or begin == 0
        at_first = start if exact else max(0, begin - _LOOK_BACK) // BLOCK * BLOCK
        try:
            with self._open() as file:
                for item in read_members(file, self.parts[part], at_first):
                    at = item.end if isinstance(item, Skip) else item[1]
                    if at >= end and not (isinstance(item, Skip) and end == self.size):
                        return
                    if at >= begin:
                        yield item if isinstance(item, Skip) else self._record(item, file.tell())
                    if file.tell() >= end and end < self.size:
                        return
        except OSError as error:
            yield Skip("unreadable shard", f"{self.parts[part]}: {error}")

    def fetch(self, part: int, start: int, end: int) -> Record:
        """One picture again."""
        with self._open() as file:
            file.seek(start)
            item = next(read_members(io.BytesIO(file.read(end - start)), self.parts[part]))
        record = item if isinstance(item, Skip) else self._record((item[0], start, item[2]), end)
        if isinstance(record, Skip):
            raise DataError(f"{self.parts[part]}: no picture at byte {start}: {record.detail}")
        return record

    def _record(self, member: tuple[str, int, Any], end: int) -> Record | Skip:
        path, at, data = member
        if not is_picture(PurePosixPath(path).name):
            return Skip("not a picture", path, end)
        fields = self._keys.find(path)
        if fields is None:
            return Skip("no row in the table", f"{path} of {self.parts[at // PART_BYTES]}", end)
        if self._state:
            fields = {**fields, "region": fields.get("state") or fields.get("region", "")}
        return Record(fields[self._column], fields, (data,), (PurePosixPath(path).name,), at, end)

    @property
    def mend(self) -> str:
        """Of the first row, which tells whether its coordinates can be read."""
        rows = self._table.read(0, 1) if self._table.rows else ()
        first = next((row for row in rows if isinstance(row, Mapping)), None)
        return coordinates_mend(first, self._columns, f"The first row of {self._table.name}") if first else ""

    @contextmanager
    def _open(self) -> "Generator[io.BufferedReader[Pieces]]":
        with io.BufferedReader(Pieces(self._paths), _READ_BYTES) as file:
            yield file


def _is_header(block: bytes) -> bool:
    """Whether 512 bytes are a tar's header: its checksum holds."""
    if len(block) < BLOCK or not block.strip(b"\0"):
        return False
    try:
        claimed = int(block[148:156].split(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        return False
    return claimed == 256 + sum(block[:148]) + sum(block[156:])


def _tars(folder: Path) -> dict[str, list[Path]]:
    """The folder's tars by name, those in pieces and those that are whole."""
    whole = {path.name: [path] for path in files_in(folder, (".tar",))}
    return {**find_pieces(folder), **whole}


def _tables(folder: Path, columns: Columns) -> list[Path]:
    def fits(path: Path) -> bool:
        try:
            names = read_columns(path, columns)
        except DataError:
            return False
        return has_coordinates(names, columns) and any(columns.find(name, names) for name in ("key", "image"))

    return [path for path in files_in(folder, SUFFIXES) if fits(path)]


def matches(spec: str, columns: Columns = USUAL) -> bool:
    """A folder with a table of places and a tar in pieces, or one tar that begins with a picture and holds no json."""
    folder = local_path(spec)
    if folder is None or not folder.is_dir():
        return False
    try:
        tars = _tars(folder)
    except DataError:
        return bool(_tables(folder, columns))  # pieces with gaps: opening says so
    if len(tars) != 1 or not _tables(folder, columns):
        return False
    [paths] = tars.values()
    return len(paths) > 1 or _holds_pictures_alone(paths[0])


def _holds_pictures_alone(path: Path) -> bool:
    with open(path, "rb") as file:
        if foreign_content(file.read(BLOCK)) is not None:
            return PIECE_NAME.fullmatch(path.name) is not None  # opening says what it is
        members = read_members(file, path.name)
        first = [item[0] for _, item in zip(range(4), members, strict=False) if not isinstance(item, Skip)]
    return bool(first) and all(map(is_picture, first))


def open_source(spec: str, columns: Columns, revision: str | None) -> Source:
    """Records of a tar's pictures, by a table: a folder that holds one of each, or the table's path in it."""
    path = Path(spec).expanduser()
    if not path.exists():
        raise DataError("there is no such file or folder")
    folder, tables = (path, _tables(path, columns)) if path.is_dir() else (path.parent, [path])
    tars = _tars(folder)
    if len(tars) != 1:
        found = (
            f"{len(tars)} tars ({', '.join(sorted(tars)[:5])})"
            if tars
            else "no tar (x.tar, or x.tar.aa, x.tar.ab, ...)"
        )
        raise DataError(f"{folder} holds {found}; it must hold one")
    if len(tables) != 1:
        there = ", ".join(p.name for p in (tables or files_in(folder, SUFFIXES))) or "none"
        raise DataError(f"{folder} must hold one CSV with key, latitude and longitude; there: {there}. Give its path")
    [(name, paths)], [table] = tars.items(), tables
    check_columns(read_columns(table, columns), columns, table.name)
    return TarWithTable(spec, str(folder / name), paths, open_csv(table, columns), columns)
