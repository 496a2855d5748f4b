"""Rows of a CSV by number, however large it is: where every 64th begins is kept, the rest is read when needed."""

import codecs
import csv
import gzip
import os
import tempfile
import warnings
import weakref
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geospot.data.fields import USUAL, Columns
from geospot.data.records import Skip
from geospot.data.sources.blocks import BLOCK_ROWS
from geospot.data.sources.csvscan import Dialect, find_rows, scan
from geospot.data.sources.kept import file_facts, kept_index
from geospot.errors import DataError
from geospot.progress import Progress

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
DELIMITERS = (",", "\t", ";", "|")
_HEAD_BYTES = 1 << 20  # the header must end within
_KEEP_INDEX_BYTES = 64 << 20  # the index of a larger file is kept in the cache
_UNCLOSED_BYTES = 1 << 20  # a last row beyond this, with a quote left open, has swallowed others
_INDEX_LAYOUT = 1


@dataclass(frozen=True)
class _Index:
    starts: np.ndarray  # (blocks,) uint64: the byte at which every 64th row begins
    rows: int
    digest: str
    encoding: str
    regular: bool


class CsvTable:
    """The rows of a .csv, .tsv or .gz of one; UTF-8 (with or without a mark), UTF-16 with a mark, or else Latin-1.

    columns: the header. rows: how many there are, blank lines included. digest: of the content.
    Memory: 1/8 byte a row. A file of over 64 MB is scanned once; what was found is kept in the cache.
    """

    def __init__(self, path: str | Path, columns: Columns = USUAL):
        self.path = Path(path)
        self.name = self.path.name
        self._file, self._bom = _open_plain(self.path)
        weakref.finalize(self, self._file.close)
        head = self._pread(self._bom, _HEAD_BYTES)
        self.encoding, delimiter, self.columns, data_start = _read_header(head, self.path, columns)
        self._dialect = Dialect(delimiter, self.encoding, True)
        index = self._load_index(self._bom + data_start)
        self._starts, self.rows, self.digest = index.starts, index.rows, index.digest
        self._dialect = Dialect(delimiter, index.encoding, index.regular)

    def read(self, first: int, stop: int) -> Iterator[dict[str, str] | Skip | None]:
        """Rows first..stop of one block, as mappings of the header's names; None for a blank line."""
        block = first // BLOCK_ROWS
        begin = int(self._starts[block])
        end = int(self._starts[block + 1]) if block + 1 < len(self._starts) else self._size()
        data = self._pread(begin, end - begin)
        spans = find_rows(data, self._dialect)
        for row in range(first, stop):
            i = row - block * BLOCK_ROWS
            if i >= len(spans):
                yield Skip(
                    "row cannot be read", f"{self.name}, row {row + 1}: the file has changed since it was opened"
                )
            else:
                yield self._parse(data[slice(*spans[i])], row)

    def _parse(self, data: bytes, row: int) -> dict[str, str] | Skip | None:
        try:
            values = next(csv.reader((data.decode(self._dialect.encoding),), delimiter=self._dialect.delimiter), [])
        except (csv.Error, UnicodeDecodeError) as error:
            return Skip("row cannot be read", f"{self.name}, row {row + 1}: {error}")
        if not values:
            return None
        if any(values[len(self.columns) :]):
            detail = f"{len(values)} values under {len(self.columns)} names; is a value with a delimiter not in quotes?"
            return Skip("row longer than the header", f"{self.name}, row {row + 1}: {detail}")
        return dict(zip(self.columns, values, strict=False))

    def values(self, column: str) -> Iterator[str | None]:
        """A column's value in every row, None where it has none; one pass over the file, without keeping it."""
        at = self.columns.index(column)
        if not self.rows:
            return
        with os.fdopen(os.dup(self._file.fileno()), "rb", buffering=1 << 20) as file:
            file.seek(int(self._starts[0]))
            lines = (line.decode(self._dialect.encoding, "replace") for line in file)
            reader = csv.reader(lines, delimiter=self._dialect.delimiter)
            while True:
                try:
                    row = next(reader)
                except StopIteration:
                    return
                except csv.Error:
                    row = []
                yield row[at] if at < len(row) else None

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def _pread(self, offset: int, size: int) -> bytes:
        parts = []
        while size > 0 and (part := os.pread(self._file.fileno(), size, offset)):  # at most 2 GB a call
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return b"".join(parts)

    def _load_index(self, data_start: int) -> _Index:
        if self._size() < _KEEP_INDEX_BYTES:
            return self._scan(data_start)

        def make():
            index = self._scan(data_start)
            facts = {name: getattr(index, name) for name in ("rows", "digest", "encoding", "regular")}
            return {"starts": index.starts}, facts

        made_from = [_INDEX_LAYOUT, BLOCK_ROWS, *file_facts(self.path), self._dialect.delimiter]
        arrays, facts = kept_index(made_from, make)
        return _Index(arrays["starts"], **facts)

    def _scan(self, data_start: int) -> _Index:
        size, fd = self._size(), self._file.fileno()
        if size < _KEEP_INDEX_BYTES:
            found = scan(fd, data_start, size, self._dialect, BLOCK_ROWS)
        else:
            with Progress(f"indexing {self.name} (MB)", total=size >> 20) as bar:
                found = scan(fd, data_start, size, self._dialect, BLOCK_ROWS, lambda n: bar.advance(n >> 20))
        if found.left_open and size - found.last_start > _UNCLOSED_BYTES:
            raise DataError(
                f"{self.path}: row {found.rows} opens a quote that is never closed, and swallows the last "
                f"{(size - found.last_start) >> 20} MB of the file; mend that row (line {found.lines} or so)"
            )
        encoding = self.encoding
        if found.not_utf8_at is not None and encoding != "latin-1":
            encoding = "latin-1"
            warnings.warn(f"{self.path} is not UTF-8 (byte {found.not_utf8_at}): read as Latin-1", stacklevel=2)
        return _Index(found.starts, found.rows, found.digest, encoding, found.regular)


def read_columns(path: str | Path, columns: Columns = USUAL) -> list[str]:
    """The names in a table's first row; DataError where it cannot be read."""
    file, mark = _open_plain(Path(path), head_only=True)
    with file:
        return _read_header(os.pread(file.fileno(), _HEAD_BYTES, mark), Path(path), columns)[2]


def _open_plain(path: Path, head_only: bool = False):
    """The table as a seekable file of single-byte newlines, and how many bytes its mark takes.

    What is packed, in UTF-16 or has the line ends of old Macs is unpacked into a nameless temporary file.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115 (the table keeps it)
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror}") from None
    with ExitStack() as unneeded:
        unneeded.callback(file.close)
        source = file
        try:
            head = file.read(_HEAD_BYTES)
            if head.startswith(b"\x1f\x8b"):
                file.seek(0)
                source = unneeded.enter_context(gzip.open(file))
                head = source.read(_HEAD_BYTES)
            utf16 = head.startswith((b"\xff\xfe", b"\xfe\xff"))
            old_mac = not utf16 and b"\r" in head and b"\n" not in head
            if source is file and not utf16 and not old_mac:
                unneeded.pop_all()
            else:
                source.seek(0)
                file = _copy_plain(source, "utf-16" if utf16 else None, old_mac, head_only)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise DataError(f"{path} cannot be read: {error}") from None
    return file, 3 if os.pread(file.fileno(), 3, 0) == b"\xef\xbb\xbf" else 0


def _copy_plain(source, encoding: str | None, old_mac: bool, head_only: bool):
    plain = tempfile.TemporaryFile()  # noqa: SIM115 (the table keeps it)
    reader = codecs.getreader(encoding)(source) if encoding else source
    while chunk := reader.read(1 << 22):
        data = chunk.encode() if encoding else chunk
        plain.write(data.replace(b"\r", b"\n") if old_mac else data)
        if head_only:
            break
    plain.flush()
    return plain


def _read_header(head: bytes, path: Path, columns: Columns) -> tuple[str, str, list[str], int]:
    """Encoding (as far as the head tells), delimiter, names, and the byte at which the rows begin.

    Of the delimiters, the one wins under which latitude and longitude are found, then the one that makes most columns.
    """
    best = None
    for delimiter in DELIMITERS:
        spans = find_rows(head, Dialect(delimiter, "latin-1", False), limit=50)
        span = next((s for s in spans if head[slice(*s)].strip()), None)
        if span is None:
            raise DataError(f"{path} is empty: its first row must name the columns")
        raw = head[slice(*span)]
        try:
            text, encoding = raw.decode(), "utf-8"
        except UnicodeDecodeError:
            text, encoding = raw.decode("latin-1"), "latin-1"
        try:
            names = [name.strip() for name in next(csv.reader((text,), delimiter=delimiter))]
        except csv.Error as error:
            raise DataError(f"{path}: its first row cannot be read: {error}") from None
        found = sum(columns.find(name, names) is not None for name in ("lat", "lon"))
        if best is None or (found, len(names)) > best[0]:
            best = ((found, len(names)), encoding, delimiter, names, span[1])
    _, encoding, delimiter, names, end = best
    return encoding, delimiter, names, end
