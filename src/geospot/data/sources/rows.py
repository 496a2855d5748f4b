"""Records from a table: its rows are the metadata, and each names its pictures or holds them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Protocol

from geospot.data.fields import SPELLINGS, BadSample, Columns, read_coordinates, read_fields
from geospot.data.records import Record, Skip
from geospot.data.sources.blocks import BLOCK_ROWS, BlockSource
from geospot.errors import DataError

PROBE_BLOCKS = 5
_SHOWN_KEYS, _SHOWN_CHARS = 12, 30


class Table(Protocol):
    """Numbered rows under named columns. name: for messages. digest: of the content."""

    name: str
    path: str | Path
    columns: list[str]
    rows: int
    digest: str

    def read(self, first: int, stop: int) -> Iterator[Mapping | Skip | None]:
        """One thing for each row of a block; None for a blank one."""


class TableSource(BlockSource):
    """A table whose rows' pictures `locate` finds: (pictures, their names) or a Skip."""

    def __init__(self, spec: str, table: Table, columns: Columns, locate: Callable):
        super().__init__(spec, table.path, table.rows, table.digest)
        self._table, self._columns, self._locate = table, columns, locate
        self._key = columns.find("key", table.columns)
        self.table_name = table.name

    def load(self, first: int, stop: int) -> Iterator[Record | Skip | None]:
        """The records of these rows."""
        for row, fields in enumerate(self._table.read(first, stop), first):
            if fields is None or isinstance(fields, Skip):
                yield fields
                continue
            found = self._locate(fields)
            if isinstance(found, Skip):
                yield Skip(found.reason, f"{self._table.name}, row {row + 1}: {found.detail}")
                continue
            pictures, names = found
            yield Record(record_key(fields, self._key, names), fields, pictures, names)

    @property
    def mend(self) -> str:
        """Of rows from all over the table; "" where the coordinates of one can be read."""
        rows = probe_rows(self._table)
        said = [coordinates_mend(row, self._columns, f"A row of {self._table.name}") for row in rows]
        return said[0] if said and all(said) else ""


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
