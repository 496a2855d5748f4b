"""Records from a table: its rows are the metadata, and each names its pictures or holds them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Protocol

import numpy as np

from geospot.answer.spellings import SPELLINGS
from geospot.data.fields import Columns, read_coordinates, read_fields
from geospot.data.records import Record, Skip
from geospot.data.sources.beside import Located
from geospot.data.sources.blocks import BLOCK_ROWS, BlockSource
from geospot.errors import BadSample, DataError

PROBE_BLOCKS = 5
MAX_HEADINGS = 24
_SHOWN_KEYS, _SHOWN_CHARS = 12, 30


class Table(Protocol):
    """Numbered rows under named columns. name: for messages. digest: of the content."""

    name: str
    path: Path
    columns: list[str]
    rows: int
    digest: str

    def read(self, first: int, stop: int) -> Iterator[Mapping | Skip | None]:
        """One thing for each row of a block; None for a blank one."""

    def values(self, *names: str) -> Iterator[tuple]:
        """These columns' values in every row, None where it has none."""


class TableSource(BlockSource):
    """A table whose rows' pictures `locate` finds: (pictures, their names) or a Skip.

    Where it has a column `place`, the rows of one place (the headings of a panorama) are one record.
    """

    def __init__(self, spec: str, table: Table, columns: Columns, locate: Callable[[Mapping], Located | Skip]):
        self._groups = _rows_by_place(table, columns)
        places, digest = (table.rows, table.digest) if self._groups is None else (
            len(self._groups[1]) - 1, f"{table.digest} by place"
        )  # fmt: skip
        super().__init__(spec, table.path, places, digest)
        self._table, self._columns, self._locate = table, columns, locate
        self._key, self._place = (columns.find(name, table.columns) for name in ("key", "place"))
        self.table_name = table.name

    def load(self, first: int, stop: int) -> Iterator[Record | Skip | None]:
        """The records of these rows, or places."""
        if self._groups is None:
            yield from (self._record(fields, row) for row, fields in enumerate(self._table.read(first, stop), first))
            return
        order, edges = self._groups
        for place in range(first, stop):
            rows = order[edges[place] : edges[place + 1]].tolist()
            found = [self._record(fields, row) for row in rows for fields in self._table.read(row, row + 1)]
            records = [item for item in found if isinstance(item, Record)]
            bad = next((item for item in found if isinstance(item, Skip)), None)  # without it the place is not whole
            yield bad if bad or not records else merge_headings(records, self._place)

    def _record(self, fields: Mapping | Skip | None, row: int) -> Record | Skip | None:
        if fields is None or isinstance(fields, Skip):
            return fields
        found = self._locate(fields)
        if isinstance(found, Skip):
            return Skip(found.reason, f"{self._table.name}, row {row + 1}: {found.detail}")
        pictures, names = found
        return Record(record_key(fields, self._key, names), fields, pictures, names)

    @property
    def mend(self) -> str:
        """Of rows from all over the table; "" where the coordinates of one can be read."""
        rows = probe_rows(self._table)
        said = [coordinates_mend(row, self._columns, f"A row of {self._table.name}") for row in rows]
        return said[0] if said and all(said) else ""


def _rows_by_place(table: Table, columns: Columns) -> tuple[np.ndarray, np.ndarray] | None:
    """(rows, edges): the rows of place i are rows[edges[i] : edges[i + 1]], places in the order of their first rows.

    Rows are of one place where `place` and coordinates agree, decimals to some ten metres; more than MAX_HEADINGS are
    none (a city's name over many photos). None where every row is a place of its own. Memory: 16 bytes a row.
    """
    names = [columns.find(name, table.columns) for name in ("place", "lat", "lon")]
    if None in names:
        return None
    values = table.values(*map(str, names))
    keys = (hash(of_place(v) if v[0] not in (None, "") else (row,)) for row, v in enumerate(map(_hashable, values)))
    _, of, counts = np.unique(np.fromiter(keys, np.int64, table.rows), return_inverse=True, return_counts=True)
    of = np.where(counts[of] > MAX_HEADINGS, len(counts) + np.arange(table.rows), of)
    _, first, of, counts = np.unique(of, return_index=True, return_inverse=True, return_counts=True)
    if table.rows == 0 or counts.max() == 1:
        return None
    by_first = np.argsort(first)
    rank = np.empty_like(by_first)
    rank[by_first] = np.arange(len(first))
    return np.argsort(rank[of], kind="stable"), np.concatenate([[0], np.cumsum(counts[by_first])])


def of_place(values: tuple) -> tuple:
    """What the rows of one place share, of (place, lat, lon)."""
    try:  # the headings of a panorama may differ in their last digits
        return values[0], round(float(values[1]), 4), round(float(values[2]), 4)
    except (TypeError, ValueError):
        return values


def _hashable(values: tuple) -> tuple:
    return tuple(v if isinstance(v, str | int | float | None) else repr(v) for v in values)


def merge_headings(records: Sequence[Record], place: str | None) -> Record:
    """One record of the rows of a place, called as its place is."""
    first, last = records[0], records[-1]
    if len(records) == 1:
        return first
    pictures, names = (tuple(x for r in records for x in getattr(r, name)) for name in ("pictures", "names"))
    key = str(first.fields[place]) if isinstance(first.fields, Mapping) and place else first.key
    return Record(key, first.fields, pictures, names, first.start, last.end)


def coordinates_mend(stored: Mapping | bytes | None, columns: Columns, where: str) -> str:
    """What to do about metadata whose coordinates cannot be read: it names what is there; "" where they can."""
    try:
        fields = read_fields(stored)
    except BadSample as error:
        return f"{where} has {error}; it must be an object with lat and lon, in KEY.json beside KEY.jpg."
    try:
        read_coordinates(fields, columns)
    except BadSample as error:
        shown = [f"{key}={_short(value)}" for key, value in list(fields.items())[:_SHOWN_KEYS]]
        more = ", ..." if len(fields) > _SHOWN_KEYS else ""
        return (
            f"{where} has {', '.join(shown) or 'no keys'}{more} ({error}): "
            "name the keys of the coordinates by columns=lat=KEY,lon=KEY."
        )
    return ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


def record_key(fields: Mapping, column: str | None, names: Sequence[str]) -> str:
    """What a row is called: by its key, or by its picture; "" where it has neither."""
    value = fields.get(column) if column else None
    if value is not None and str(value).strip():
        return str(value).strip()
    return Path(names[0]).stem if names else ""


def probe_rows(table: Table) -> list[Mapping]:
    """Some rows from all over a table: what a look at it is judged by."""
    blocks = -(-table.rows // BLOCK_ROWS)
    chosen = sorted({i * (blocks - 1) // max(PROBE_BLOCKS - 1, 1) for i in range(PROBE_BLOCKS)}) if blocks else []
    starts = [block * BLOCK_ROWS for block in chosen]
    blocks_rows = [table.read(at, min(at + BLOCK_ROWS, table.rows)) for at in starts]
    dealt = chain.from_iterable(zip_longest(*blocks_rows))  # one of each block in turn
    return [row for row in dealt if isinstance(row, Mapping)]


def has_coordinates(names: list[str], columns: Columns) -> bool:
    """Whether these columns include a latitude and a longitude."""
    return all(columns.find(name, names) is not None for name in ("lat", "lon"))


def check_columns(names: list[str], columns: Columns, where: str) -> None:
    """DataError that names what is there, what was looked for and the mend, unless all that is needed is there."""
    given = {name: getattr(columns, name) for name in SPELLINGS}
    for name, column in given.items():
        if column is not None and column not in names:
            raise DataError(f"columns={name}={column}: {where} has no column {column!r}; it has {', '.join(names)}")
    missing = [name for name in ("lat", "lon") if columns.find(name, names) is None]
    if missing:
        looked = "; ".join(f"{name}: {', '.join(SPELLINGS[name])}" for name in missing)
        mend = ",".join(f"{name}=COLUMN" for name in missing)
        raise DataError(
            f"{where} has no column for {' and '.join(missing)} (looked for {looked}); it has "
            f"{', '.join(map(repr, names))}. Say columns={mend}"
        )
