"""A source whose records are numbered from 0: rows of a table, files of a folder. Its parts are blocks of rows."""

from abc import abstractmethod
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

from geospot.data.records import Record, Skip, Source
from geospot.errors import DataError

# Tables are often sorted (by country, by time). Parts are what is shuffled over the whole set, so small ones mix it;
# of 64 rows, one seek in the table serves 64 records, and 5 million rows are 78,000 parts.
BLOCK_ROWS = 64


class BlockSource(Source):
    """`rows` records in parts of BLOCK_ROWS; a cursor is a row's number in its part.

    where: the path of the table or folder, which names the parts.
    digest: of what a cursor's meaning depends on (the table's bytes, the files' names), for `identity`.
    """

    def __init__(self, spec: str, where: str | Path, rows: int, digest: str):
        self.spec, self.rows, self._digest = spec, rows, digest
        self.parts = [f"{where} rows {i}-{min(i + BLOCK_ROWS, rows) - 1}" for i in range(0, rows, BLOCK_ROWS)]

    @abstractmethod
    def load(self, first: int, stop: int) -> Iterator[Record | Skip | None]:
        """One thing for each of these rows, which lie in one part; None for a row that is empty. Thread-safe."""

    def read(self, part: int, start: int = 0) -> Generator[Record | Skip]:
        """The records of a block from a row on."""
        begin = part * BLOCK_ROWS
        stop = min(begin + BLOCK_ROWS, self.rows)
        for i, item in enumerate(self.load(begin + start, stop), start):
            if item is not None:
                yield replace(item, start=i, end=i + 1) if isinstance(item, Record) else replace(item, end=i + 1)

    def fetch(self, part: int, start: int, end: int) -> Record:
        """One record again."""
        row = part * BLOCK_ROWS + start
        for item in self.load(row, row + 1):
            if isinstance(item, Record):
                return replace(item, start=start, end=end)
            raise DataError(f"data={self.spec!r}: row {row} is gone: {item and f'{item.reason}, {item.detail}'}")
        raise DataError(f"data={self.spec!r}: row {row} is gone")

    def identity(self) -> str:
        """The digest: a copy of the same data elsewhere has the same."""
        return self._digest
