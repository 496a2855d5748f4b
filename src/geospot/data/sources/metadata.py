"""A JSON file with pictures beside it: metadata.json as GeoBench has it, a list of objects, or an object a line."""

import hashlib
import json
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import orjson

from geospot.answer.places import as_row
from geospot.answer.shapes import place_rows
from geospot.data.fields import USUAL, Columns
from geospot.data.records import Skip, Source
from geospot.data.sources.beside import PicturesBeside
from geospot.data.sources.listing import local_path
from geospot.data.sources.rows import TableSource, check_columns, probe_rows
from geospot.errors import DataError
from geospot.files import foreign_content

EXAMPLE = "metadata.json ({images: [{image_path, lat, lng, country}]} or a list of objects), or .jsonl; or its folder"
NAMES = ("metadata.json", "metadata.jsonl")
LINES = (".jsonl", ".ndjson")
_ALBUM_BYTES = 1 << 16
_LOOK_AT = 200  # rows whose keys make the columns


class JsonTable:
    """Rows of a .json, held in memory, or of a .jsonl, of which the places of the lines are (8 bytes a row)."""

    def __init__(self, path: Path):
        self.path, self.name = path, path.name
        try:
            with open(path, "rb") as file:
                if foreign := foreign_content(file.read(512)):
                    raise DataError(f"{path} is {foreign[0]}: {foreign[1]}")
                if not path.stat().st_size:
                    raise DataError(f"{path} is empty")
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read: {error}") from None
        self.digest = hashlib.blake2b(data, digest_size=12).hexdigest()
        self._lines = path.suffix.lower() in LINES
        if self._lines:
            self._data, self._edges = data, _line_edges(data)
            self.rows = len(self._edges) - 1
        else:
            self._objects = _objects(bytes(data), path)
            self.rows = len(self._objects)
        first = (row for row in self.read(0, min(self.rows, _LOOK_AT)) if isinstance(row, Mapping))
        self.columns = list(dict.fromkeys(key for row in first for key in row))

    def read(self, first: int, stop: int) -> Iterator[Mapping | Skip | None]:
        """The rows; None for a blank line."""
        for row in range(first, stop):
            try:
                value = self._line(row) if self._lines else self._objects[row]
            except orjson.JSONDecodeError as error:
                yield Skip("json cannot be read", f"{self.name}, row {row + 1}: {error}")
                continue
            if value is None or isinstance(value, Mapping):
                yield value
            else:
                yield Skip("json cannot be read", f"{self.name}, row {row + 1}: not an object")

    def values(self, *names: str) -> Iterator[tuple]:
        """These keys' values in every row, None where it has none."""
        for row in self.read(0, self.rows):
            yield tuple(row.get(name) for name in names) if isinstance(row, Mapping) else (None,) * len(names)

    def _line(self, row: int) -> object:
        line = self._data[int(self._edges[row]) : int(self._edges[row + 1])].strip()
        return as_row(orjson.loads(line)) if line else None


def _line_edges(data: mmap.mmap) -> np.ndarray:
    newlines = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")).astype(np.uint64) + np.uint64(1)
    edges = np.concatenate([np.zeros(1, np.uint64), newlines])
    return edges if edges[-1] == len(data) else np.append(edges, np.uint64(len(data)))


def _objects(data: bytes, path: Path) -> list:
    try:
        content = orjson.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        try:
            content = json.loads(data)  # takes NaN, which Python's own writer writes
        except ValueError as error:
            lines = isinstance(error, json.JSONDecodeError) and error.msg == "Extra data"
            also = ". Where it holds an object a line, call it .jsonl" if lines else ""
            raise DataError(f"{path} is no JSON: {error}{also}") from None
        except RecursionError:
            raise DataError(f"{path} is nested too deep to be a table of places") from None
    if (rows := place_rows(content)) is None:
        raise DataError(
            f"{path} holds neither a list of objects nor an object with such a list, as `images`, nor objects by key"
        )
    return rows


def _is_album(path: Path) -> bool:
    """Whether it is what Google Takeout says of an album: an object of few bytes that lists nothing."""
    if path.stat().st_size > _ALBUM_BYTES:
        return False
    try:
        told = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return False
    return isinstance(told, dict) and "title" in told and not any(isinstance(value, list) for value in told.values())


def matches(spec: str, columns: Columns = USUAL) -> bool:
    """A .json or .jsonl, or a folder with metadata.json(l)."""
    path = local_path(spec)
    if path is None:
        return "://" not in spec and spec.lower().endswith((".json", *LINES))
    if path.is_file():
        return path.suffix.lower() in (".json", *LINES)
    return any((path / name).is_file() and not _is_album(path / name) for name in NAMES)


def open_source(spec: str, columns: Columns, revision: str | None) -> Source:
    """Records of a JSON file's objects."""
    path = Path(spec).expanduser()
    if path.is_dir():
        there = [path / name for name in NAMES if (path / name).is_file()]
        if not there:
            raise DataError(f"the folder {path} holds no {' or '.join(NAMES)}")
        path = there[0]
    if not path.is_file():
        raise DataError("there is no such file or folder")
    table = JsonTable(path)
    check_columns(table.columns, columns, path.name)
    return TableSource(spec, table, columns, PicturesBeside(path.parent, columns, table.columns, probe_rows(table)))
