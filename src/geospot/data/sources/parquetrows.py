"""The rows of Parquet files: with their pictures, read a few at a time, or without, as a table in memory."""

import os
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from dataclasses import fields as fields_of
from hashlib import blake2b
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

from geospot.answer.spellings import coordinate_columns
from geospot.data.fields import Columns
from geospot.data.records import Record, Skip, Source
from geospot.data.sources.arrow import ArrowTable, load_pyarrow, read_errors
from geospot.data.sources.listing import check_file
from geospot.data.sources.rows import MAX_HEADINGS, coordinates_mend, merge_headings, of_place, record_key
from geospot.data.sources.webdataset import WEB, RemoteFiles
from geospot.data.stored import StoredFile
from geospot.errors import DataError
from geospot.net.hub import HubFile
from geospot.progress import Progress

if TYPE_CHECKING:
    import pyarrow

_FOOTER_THREADS = 16
_BATCH_ROWS = 16  # read at once: a row may hold a panorama of some MB
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class RowGroup:
    """A row group of a file: a part. rows: how many; None where the file's footer cannot be read, as `problem` says."""

    file: HubFile
    number: int
    rows: int | None
    problem: str = ""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.file.name} row group {self.number}"


@contextmanager
def _opened(stored: HubFile, remote: RemoteFiles) -> "Generator[pyarrow.parquet.ParquetFile]":
    """A Parquet file that is read column by column with small buffers, so that no row group is ever held whole."""
    pyarrow = load_pyarrow()
    with ExitStack() as held:
        if stored.url.startswith(WEB):
            opened = held.enter_context(remote.open(stored.url, stored.size))
            file = held.enter_context(pyarrow.PythonFile(opened, mode="r"))
        else:
            check_file(stored.url)
            file = held.enter_context(pyarrow.OSFile(stored.url, "r"))
        yield pyarrow.parquet.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)


class ParquetPictures(Source):
    """Rows that hold their pictures: bytes, {bytes, path}, or lists of either. A cursor is a row of the row group."""

    fetches_singly = False  # a row group is decoded from its start

    def __init__(
        self,
        spec: str,
        groups: Sequence[RowGroup],
        schema: "pyarrow.Schema",
        columns: Columns,
        image: str,
        remote: RemoteFiles,
    ):
        self.spec, self._groups, self._remote = spec, groups, remote
        self.parts = [group.name for group in groups]
        self.remote = any(group.file.url.startswith(WEB) for group in groups)
        self._image, self._key, self._columns = image, columns.find("key", schema.names), columns
        self._first: tuple[str, Mapping | bytes | None] | None = None  # row that was read
        self._place = columns.find("place", schema.names)
        self._plain = [field.name for field in schema if field.name != image and _is_plain(field.type)]

    def identity(self) -> str:
        """By the files' names and the rows of their groups: a copy elsewhere on a disk has the same."""
        digest = blake2b(digest_size=12)
        for group in self._groups:
            name = group.file.name
            name = name if "://" in name else os.path.basename(name)
            digest.update(f"{name} {group.number} {group.rows}\n".encode())
        return digest.hexdigest()

    def read(self, part: int, start: int = 0) -> Generator[Record | Skip]:
        """The rows of a row group from one on; one that cannot be read (further) is a Skip."""
        group, at = self._groups[part], start
        if group.rows is None:
            yield Skip("unreadable shard", group.problem)
            return
        try:
            rows = self._rows(group, range(start, group.rows))
            for _, headings in groupby(rows, self._place_of()):
                while found := [self._record(group, *row) for row in islice(headings, MAX_HEADINGS)]:
                    records = [item for item in found if isinstance(item, Record)]
                    at += len(found)
                    yield from (item for item in found if isinstance(item, Skip))
                    if records:
                        self._first = self._first or (f"A row of {group.name}", records[0].fields)
                        yield replace(merge_headings(records, self._place), end=at)
        except read_errors() as error:
            yield Skip("unreadable shard", f"{group.name}, from row {at} on: {error}", at)

    def fetch(self, part: int, start: int, end: int) -> Record:
        """One record again."""
        [record] = self.fetch_many(part, [(start, end)])
        if record is None:
            raise DataError(f"{self._groups[part].name}: row {start} is gone")
        return record

    def fetch_many(self, part: int, cursors: Sequence[tuple[int, int]]) -> Iterator[Record | None]:
        """The records at these rows, by one pass over the row group; None for one that is gone."""
        group = self._groups[part]
        wanted = sorted({row for start, end in cursors for row in range(start, end)})
        found: dict[int, Record | Skip] = {}
        with suppress(*read_errors()), closing(self._rows(group, wanted)) as rows:
            found.update((row, self._record(group, row, fields)) for row, fields in rows)
        for start, end in cursors:
            items = [found.get(row) for row in range(start, end)]
            records = [item for item in items if isinstance(item, Record)]
            yield replace(merge_headings(records, self._place), end=end) if records and None not in items else None

    def _place_of(self) -> Callable[[tuple[int, Mapping]], object]:
        """What neighbouring rows of one place share; another thing for each where no column tells places."""
        keys = [self._place, *(self._columns.find(axis, self._plain) for axis in ("lat", "lon"))]

        def place(numbered: tuple[int, Mapping]) -> object:
            row, fields = numbered
            told = tuple(fields[key] for key in keys) if None not in keys else (None,)
            return row if told[0] in (None, "") else of_place(told)

        return place

    def close(self) -> None:
        """Wake who reads from the network."""
        self._remote.close()

    @property
    def mend(self) -> str:
        """Of the first row that was read."""
        return coordinates_mend(self._first[1], self._columns, self._first[0]) if self._first else ""

    def _rows(self, group: RowGroup, wanted: Sequence[int]) -> Generator[tuple[int, dict]]:
        """These rows, in rising order; what lies before them is decoded too, but not made into objects."""
        if not wanted:
            return
        first = 0
        with _opened(group.file, self._remote) as file:
            names = [*self._plain, self._image]
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group.number], columns=names, use_threads=False):
                rows = wanted[bisect_left(wanted, first) : bisect_left(wanted, first + len(batch))]
                if len(rows) == len(batch):
                    yield from zip(rows, batch.to_pylist(), strict=True)
                elif rows:
                    yield from zip(rows, batch.take([row - first for row in rows]).to_pylist(), strict=True)
                first += len(batch)
                if wanted[-1] < first:
                    return

    def _record(self, group: RowGroup, row: int, fields: dict) -> Record | Skip:
        stored = fields.pop(self._image)
        cells = stored if isinstance(stored, list) else [stored]
        pictures, names = [], []
        for i, cell in enumerate(cells):
            data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, Mapping) else (cell, None)
            path = path if isinstance(path, str) else path.decode(errors="replace") if isinstance(path, bytes) else ""
            data = data if isinstance(data, bytes) else None
            if data is None and path and os.path.isfile(beside := os.path.join(os.path.dirname(group.file.url), path)):
                data = StoredFile(beside)
            if data is None:
                return Skip("no picture", f"{group.name}, row {row}: {self._image} is empty", row + 1)
            pictures.append(data)
            names.append(os.path.basename(path) if path else f"{i:03d}.jpg")
        if not pictures:
            return Skip("no picture", f"{group.name}, row {row}: {self._image} is empty", row + 1)
        stem = os.path.splitext(os.path.basename(group.file.name))[0]
        key = record_key(fields, self._key, () if len(cells) > 1 or names[0] == "000.jpg" else names[:1])
        key = key or f"{stem}-{group.number}-{row}"
        return Record(key, fields, tuple(pictures), tuple(names), row, row + 1)


def read_parquet(where: Path, paths: Sequence[str], schema: "pyarrow.Schema", columns: Columns) -> ArrowTable:
    """Rows whose pictures are elsewhere: the columns that tell place, key and picture, in memory."""
    pyarrow = load_pyarrow()
    found = {f.name: columns.find(f.name, schema.names) for f in fields_of(Columns)}
    wanted = [name for name in found.values() if name is not None]
    for axis in ("lat", "lon"):
        beside = coordinate_columns(str(found[axis]), axis, tuple(schema.names))
        wanted += [name for name in beside if name is not None]
    names = list(dict.fromkeys(wanted))
    try:
        table = pyarrow.concat_tables(
            [pyarrow.parquet.read_table(path, columns=names) for path in paths], promote_options="permissive"
        ).select(names)
    except read_errors() as error:
        raise DataError(f"{where} cannot be read: {error}") from None
    digest = blake2b(digest_size=12)
    for batch in table.to_batches(1 << 16):
        digest.update(repr([batch.column(i).to_pylist() for i in range(batch.num_columns)]).encode())
    return ArrowTable(where, table, names, digest.hexdigest())


def _is_plain(kind: "pyarrow.DataType") -> bool:
    types = load_pyarrow().types
    return not (types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind))


def holds_pictures(kind: "pyarrow.DataType") -> bool:
    """Whether an Arrow type is of encoded pictures: bytes, {bytes, path}, or lists of either."""
    types = load_pyarrow().types
    if types.is_list(kind) or types.is_large_list(kind):
        return holds_pictures(kind.value_type)
    if types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return types.is_binary(kind) or types.is_large_binary(kind)


def read_row_groups(files: Sequence[HubFile], remote: RemoteFiles) -> tuple[list[RowGroup], "pyarrow.Schema"]:
    """The row groups of all files, and the first file's columns; DataError where no footer can be read."""
    on_web = files[0].url.startswith(WEB)

    def footer(file: HubFile) -> "tuple[pyarrow.Schema | None, list[RowGroup]]":
        try:
            with _opened(file, remote) as opened:
                sizes = [opened.metadata.row_group(i).num_rows for i in range(opened.metadata.num_row_groups)]
                return opened.schema_arrow, [RowGroup(file, i, n) for i, n in enumerate(sizes) if n]
        except read_errors() as error:
            return None, [RowGroup(file, 0, None, f"{file.name}: {error}")]

    schema, groups = None, []
    with ExitStack() as held:
        pool = held.enter_context(ThreadPoolExecutor(_FOOTER_THREADS if on_web else 1))
        many = on_web and len(files) > 1
        bar = (
            held.enter_context(Progress("reading the footers of the Parquet files", total=len(files))) if many else None
        )
        for found, theirs in pool.map(footer, files):
            schema = found if schema is None else schema
            groups += theirs
            if bar:
                bar.advance(1)
    if schema is None:
        raise DataError(f"none of {len(files)} files can be read; {groups[0].problem}")
    return groups, schema
