"""Numbered rows of an Arrow table, in memory or mapped from a file: what a CSV and a Parquet file are read into."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from geospot.data.records import Skip
from geospot.errors import DataError, install_extra

if TYPE_CHECKING:
    import pyarrow

_VALUES_ROWS = 1 << 14  # made into objects at once


def load_pyarrow() -> ModuleType:
    """pyarrow with its readers; DataError that names the extra where it is not installed."""
    try:
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"CSV and Parquet need the package pyarrow: {install_extra('train')}") from None
    return pyarrow


def read_errors() -> tuple[type[Exception], ...]:
    """What pyarrow raises of a damaged file: its own errors, and Python's of a value that Python cannot hold."""
    return OSError, ValueError, OverflowError, KeyError, load_pyarrow().ArrowException


class ArrowTable:
    """Rows by number. columns: names of the first columns of `table`; what a row holds beyond them is too much.

    odd: rows that are not in `table`: a short one as a mapping, one that cannot be used as a Skip. digest: of the
    content. where: the path that names it.
    """

    def __init__(
        self,
        where: Path,
        table: "pyarrow.Table",
        columns: list[str],
        digest: str,
        odd: Mapping[int, Mapping[str, str] | Skip] | None = None,
    ):
        self.path, self.name, self.columns, self.digest = where, where.name, columns, digest
        self._table, self._odd = table, dict(odd or {})
        self._odd_rows = sorted(self._odd)
        self.rows = len(table) + len(self._odd)

    def read(self, first: int, stop: int) -> Iterator[Mapping[str, object] | Skip | None]:
        """Rows first..stop as mappings of the columns' names; None for a blank line."""
        stop = min(stop, self.rows)
        begin, end = (row - bisect_left(self._odd_rows, row) for row in (first, stop))
        columns = [column.to_pylist() for column in self._table.slice(begin, end - begin).columns]
        good = zip(*columns, strict=True)
        for row in range(first, stop):
            yield self._odd[row] if row in self._odd else self._mapping(next(good), row)

    def _mapping(self, values: tuple, row: int) -> dict[str, object] | Skip | None:
        if not any(value is not None and value != "" for value in values):
            return None
        if any(values[len(self.columns) :]):
            return too_long(self.name, row, len(values), len(self.columns))
        return dict(zip(self.columns, values, strict=False))

    def values(self, *names: str) -> Iterator[tuple]:
        """These columns' values in every row, None where it has none; a few thousand rows are held at once."""
        good = zip(*(self._column(self.columns.index(name)) for name in names), strict=True)
        for row in range(self.rows):
            odd = self._odd.get(row)
            yield next(good) if odd is None else tuple(None if isinstance(odd, Skip) else odd.get(n) for n in names)

    def _column(self, i: int) -> Iterator[object]:
        for chunk in self._table.column(i).chunks:
            for start in range(0, len(chunk), _VALUES_ROWS):
                yield from chunk.slice(start, _VALUES_ROWS).to_pylist()


def too_long(table: str, row: int, values: int, names: int) -> Skip:
    """For a row with more values than there are columns."""
    detail = f"{values} values under {names} names; is a value with a delimiter not in quotes?"
    return Skip("row longer than the header", f"{table}, row {row + 1}: {detail}")
