"""The rows of Parquet files: with their pictures, read a few at a time, or without, as a table in memory."""

import os
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from geospot.data.fields import Columns
from geospot.data.records import Record, Skip, Source
from geospot.data.sources.remote import WEB, RemoteFiles
from geospot.data.sources.rows import coordinates_mend, record_key
from geospot.data.stored import StoredFile
from geospot.errors import DataError, install_extra
from geospot.net.hub import HubFile
from geospot.progress import Progress

_FOOTER_THREADS = 16
_BATCH_ROWS = 16  # read at once: a row may hold a panorama of some MB
_BUFFER_BYTES = 1 << 20


def load_pyarrow():
    """pyarrow with its Parquet reader; DataError that names the extra where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"Parquet needs the extra parquet (pyarrow): {install_extra('parquet')}") from None
    return pyarrow


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
def _opened(stored: HubFile, remote: RemoteFiles):
    """A Parquet file that is read column by column with small buffers, so that no row group is ever held whole."""
    pyarrow = load_pyarrow()
    with ExitStack() as held:
        if stored.url.startswith(WEB):
            opened = held.enter_context(remote.open(stored.url, stored.size))
            file = held.enter_context(pyarrow.PythonFile(opened, mode="r"))
        else:
            file = held.enter_context(pyarrow.OSFile(stored.url, "r"))
        yield pyarrow.parquet.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)


class ParquetPictures(Source):
    """Rows that hold their pictures: bytes, {bytes, path}, or lists of either. A cursor is a row of the row group."""

    fetches_singly = False  # a row group is decoded from its start

    def __init__(
        self, spec: str, groups: Sequence[RowGroup], schema, columns: Columns, image: str, remote: RemoteFiles
    ):
        self.spec, self._groups, self._remote = spec, groups, remote
        self.parts = [group.name for group in groups]
        self.remote = any(group.file.url.startswith(WEB) for group in groups)
        self._image, self._key, self._columns = image, columns.find("key", schema.names), columns
        self._first = None  # row that was read
        self._plain = [field.name for field in schema if field.name != image and _is_plain(field.type)]

    def identity(self) -> str:
        """By the files' names and the rows of their groups: a copy elsewhere on a disk has the same."""
        digest = blake2b(digest_size=12)
        for group in self._groups:
            name = group.file.name
            name = name if "://" in name else os.path.basename(name)
            digest.update(f"{name} {group.number} {group.rows}\n".encode())
        return digest.hexdigest()

    def read(self, part: int, start: int = 0) -> Iterator[Record | Skip]:
        """The rows of a row group from one on; one that cannot be read (further) is a Skip."""
        group, at = self._groups[part], start
        if group.rows is None:
            yield Skip("unreadable shard", group.problem)
            return
        try:
            for row, fields in self._rows(group, range(start, group.rows)):
                at = row + 1
                record = self._record(group, row, fields)
                self._first = self._first or (f"Row {row} of {group.name}", fields)
                yield record
        except (OSError, load_pyarrow().ArrowException) as error:
            yield Skip("unreadable shard", f"{group.name}, from row {at} on: {error}", at)

    def fetch(self, part: int, start: int, end: int) -> Record:
        """One record again."""
        group = self._groups[part]
        try:
            with closing(self._rows(group, [start])) as rows:
                row, fields = next(rows, (start, None))
            if fields and isinstance(record := self._record(group, row, fields), Record):
                return record
        except load_pyarrow().ArrowException as error:
            raise OSError(f"{group.name}: {error}") from None
        raise DataError(f"{group.name}: row {start} is gone")

    def fetch_many(self, part: int, cursors: Sequence[tuple[int, int]]) -> Iterator[Record | None]:
        """The records of rows in rising order, by one pass over the row group; None for one that is gone."""
        group = self._groups[part]
        gone = (group.rows or 0, None)
        with closing(self._rows(group, sorted({start for start, _ in cursors}))) as rows:
            row, record = -1, None
            for start, _ in cursors:
                if row < start:
                    try:
                        row, fields = next(rows, gone)
                    except (OSError, load_pyarrow().ArrowException):
                        row, fields = gone
                    record = fields and self._record(group, row, fields)
                yield record if row == start and isinstance(record, Record) else None

    def close(self) -> None:
        """Wake who reads from the network."""
        self._remote.close()

    @property
    def mend(self) -> str:
        """Of the first row that was read."""
        return coordinates_mend(self._first[1], self._columns, self._first[0]) if self._first else ""

    def _rows(self, group: RowGroup, wanted: Sequence[int]) -> Iterator[tuple[int, dict]]:
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


class ParquetTable:
    """Rows whose pictures are elsewhere: the columns that tell place, key and picture, in memory as Arrow has them."""

    def __init__(self, where: Path, paths: Sequence[str], schema, columns: Columns):
        pyarrow = load_pyarrow()
        wanted = [
            columns.find(name, schema.names) for name in ("key", "image", "lat", "lon", "city", "region", "country")
        ]
        self.columns = list(dict.fromkeys(name for name in wanted if name is not None))
        self.path, self.name = where, where.name
        try:
            self._table = pyarrow.concat_tables(
                [pyarrow.parquet.read_table(path, columns=self.columns) for path in paths], promote_options="permissive"
            )
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f"{where} cannot be read: {error}") from None
        self.rows = len(self._table)
        digest = blake2b(digest_size=12)
        for batch in self._table.to_batches(1 << 16):
            digest.update(repr([batch.column(i).to_pylist() for i in range(batch.num_columns)]).encode())
        self.digest = digest.hexdigest()

    def read(self, first: int, stop: int) -> Iterator[Mapping]:
        """The rows."""
        yield from self._table.slice(first, stop - first).to_pylist()


def _is_plain(kind) -> bool:
    types = load_pyarrow().types
    return not (types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind))


def holds_pictures(kind) -> bool:
    """Whether an Arrow type is of encoded pictures: bytes, {bytes, path}, or lists of either."""
    types = load_pyarrow().types
    if types.is_list(kind) or types.is_large_list(kind):
        return holds_pictures(kind.value_type)
    if types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return types.is_binary(kind) or types.is_large_binary(kind)


def read_row_groups(files: Sequence[HubFile], remote: RemoteFiles) -> tuple[list[RowGroup], object]:
    """The row groups of all files, and the first file's columns; DataError where no footer can be read."""
    on_web = files[0].url.startswith(WEB)

    def footer(file: HubFile):
        try:
            with _opened(file, remote) as opened:
                sizes = [opened.metadata.row_group(i).num_rows for i in range(opened.metadata.num_row_groups)]
                return opened.schema_arrow, [RowGroup(file, i, n) for i, n in enumerate(sizes) if n]
        except (OSError, load_pyarrow().ArrowException) as error:
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
