"""Where the rows of a CSV begin. Newlines in quotes end no row; the verdict is the csv module's, found with numpy."""

import csv
import hashlib
import io
import os
from codecs import getincrementaldecoder
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

CHUNK_BYTES = 8 << 20
_NEWLINE, _QUOTE = 10, 34


@dataclass(frozen=True)
class Dialect:
    """How a CSV is written. regular: a quote stands at a value's ends alone, so that counting quotes finds the rows."""

    delimiter: str
    encoding: str
    regular: bool


@dataclass
class Scan:
    """What a pass over a file found. starts: the byte of every nth row; last_start: of the last row."""

    starts: np.ndarray
    rows: int
    digest: str
    last_start: int
    lines: int
    left_open: bool
    not_utf8_at: int | None
    regular: bool


class _Quotes:
    """Follows the quotes through chunks: which newlines end rows, and whether each quote that opens may do so."""

    def __init__(self, delimiter: str):
        self.open = 0  # 1: inside quotes
        self.regular = True
        self._before = _NEWLINE  # the byte before the chunk
        self._may_precede = np.zeros(256, bool)
        self._may_precede[[ord(delimiter), _NEWLINE, _QUOTE]] = True

    def row_ends(self, chunk: np.ndarray) -> np.ndarray:
        """Positions of the newlines that end rows."""
        newlines = np.flatnonzero(chunk == _NEWLINE)
        quotes = np.flatnonzero(chunk == _QUOTE)
        if len(quotes):
            opening = quotes[self.open :: 2]
            before = np.where(opening > 0, chunk[opening - 1], self._before)
            self.regular &= bool(self._may_precede[before].all())
            inside = (np.searchsorted(quotes, newlines) + self.open) % 2
            newlines = newlines[inside == 0]
            self.open = (self.open + len(quotes)) % 2
        elif self.open:
            newlines = newlines[:0]
        self._before = int(chunk[-1])
        return newlines


def find_rows(data: bytes, dialect: Dialect, limit: int | None = None) -> list[tuple[int, int]]:
    """(start, stop) of the rows of a block of bytes that begins with a row."""
    if dialect.regular:
        ends = _Quotes(dialect.delimiter).row_ends(np.frombuffer(data, np.uint8)) + 1 if data else np.zeros(0, int)
        edges = [0, *ends.tolist()]
        if edges[-1] < len(data):
            edges.append(len(data))
    else:
        edges = [0]
        for _, end in _RowReader(io.BytesIO(data), dialect):
            edges.append(end)
            if len(edges) == limit:
                break
    return list(pairwise(edges))


class _RowReader:
    """(start, stop) of every row as the csv module reads them: exact on stray quotes, 20 times slower than counting."""

    def __init__(self, file, dialect: Dialect, begin: int = 0):
        self._file, self._dialect, self._at = file, dialect, begin
        self.lines = 0

    def _lines(self):
        for line in self._file:
            self._at += len(line)
            self.lines += 1
            yield line.decode("latin-1")  # the delimiter and the quotes are ASCII: rows end where they do in UTF-8

    def __iter__(self):
        reader = csv.reader(self._lines(), delimiter=self._dialect.delimiter)
        start = self._at
        while True:
            try:
                next(reader)
            except StopIteration:
                return
            except csv.Error:  # a row that cannot be read is a row; what is wrong is said when it is parsed
                pass
            if self._at > start:
                yield start, self._at
            start = self._at


def scan(
    fd: int, begin: int, size: int, dialect: Dialect, every: int, advance: Callable[[int], object] = lambda n: None
) -> Scan:
    """Where every `every`th row of a file begins, from the byte `begin` on; `advance` is told of the bytes read."""
    digest = hashlib.blake2b(digest_size=12)
    decoder, pending, bad = getincrementaldecoder("utf-8")(), False, None
    quotes = _Quotes(dialect.delimiter)
    kept, rows, last, lines = [], 0, begin, 0  # rows: those that begin at or before `last`, without the one at it
    digest.update(os.pread(fd, begin, 0))
    at = begin
    starts_here = np.array([begin], np.int64) if size > begin else np.zeros(0, np.int64)
    while at < size and (chunk := os.pread(fd, min(CHUNK_BYTES, size - at), at)):
        digest.update(chunk)
        if bad is None and (pending or not chunk.isascii()):
            try:
                decoder.decode(chunk)
                pending = bool(decoder.getstate()[0])
            except UnicodeDecodeError as error:
                bad = at + error.start
        ends = quotes.row_ends(np.frombuffer(chunk, np.uint8))
        starts = np.concatenate([starts_here, at + ends.astype(np.int64) + 1])
        lines += len(ends)
        starts = starts[starts < size]
        first = -rows % every
        kept.append(starts[first::every])
        rows += len(starts)
        last = int(starts[-1]) if len(starts) else last
        starts_here = starts[:0]
        at += len(chunk)
        advance(len(chunk))
    if bad is None and pending:
        bad = size
    found = Scan(_joined(kept), rows, digest.hexdigest(), last, lines, bool(quotes.open), bad, quotes.regular)
    return found if found.regular else _scan_exactly(fd, begin, size, dialect, every, found, advance)


def _scan_exactly(fd: int, begin: int, size: int, dialect: Dialect, every: int, found: Scan, advance: Callable) -> Scan:
    kept, rows, last = [], 0, begin
    with os.fdopen(os.dup(fd), "rb", buffering=CHUNK_BYTES) as file:
        file.seek(begin)
        reader = _RowReader(file, dialect, begin)
        for start, _ in reader:
            if rows % every == 0:
                kept.append(start)
            rows, last = rows + 1, start
    return Scan(np.array(kept, np.uint64), rows, found.digest, last, reader.lines, True, found.not_utf8_at, False)


def _joined(kept: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(kept).astype(np.uint64) if kept else np.zeros(0, np.uint64)
