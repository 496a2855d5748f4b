"""Parquet files: Hugging Face's image data sets, with the pictures in the rows, or tables with pictures beside them."""

import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from geospot.data.fields import Columns
from geospot.data.records import DataError, Record, Skip, Source
from geospot.data.sources.beside import PicturesBeside
from geospot.data.sources.listing import files_in, local_path
from geospot.data.sources.rows import TableSource, check_columns, probe_rows, record_key

EXAMPLE = "train.parquet, 'data/train-*.parquet', or a folder of them (pictures in the rows, or beside the file)"
_BATCH_ROWS = 16  # read at once: a row may hold a panorama of some MB
_BUFFER_BYTES = 1 << 20
_SPLITS = re.compile(r"(?:^|[^a-z])(train|test|validation|valid|val|dev)(?:[^a-z]|$)", re.IGNORECASE)


def _pyarrow():
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError("Parquet needs the extra `parquet`: pip install 'geospot[parquet]' (pyarrow)") from None
    return pyarrow


@dataclass(frozen=True)
class _Group:
    """A row group of a file: a part. rows: how many; None where the file's footer cannot be read, as `problem` says."""

    path: str
    number: int
    rows: int | None
    problem: str = ""

    @property
    def name(self) -> str:
        return f"{self.path} row group {self.number}"


@contextmanager
def _opened(path: str):
    """A Parquet file that is read column by column with small buffers, so that no row group is ever held whole."""
    pyarrow = _pyarrow()
    if "://" in path:
        from geospot.data.http import open_url

        with open_url(path) as remote, pyarrow.PythonFile(remote, mode="r") as file:
            yield pyarrow.parquet.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        return
    with pyarrow.OSFile(path, "r") as file:
        yield pyarrow.parquet.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)


class ParquetPictures(Source):
    """Rows that hold their pictures: bytes, {bytes, path}, or lists of either. A cursor is a row of the row group."""

    def __init__(self, spec: str, groups: Sequence[_Group], schema, columns: Columns, image: str):
        self.spec, self._groups = spec, groups
        self.parts = [group.name for group in groups]
        self.remote = any("://" in group.path for group in groups)
        self._image, self._key = image, columns.find("key", schema.names)
        self._plain = [field.name for field in schema if field.name != image and _is_plain(field.type)]

    def identity(self) -> str:
        """By the files' names and the rows of their groups: a copy elsewhere has the same."""
        digest = blake2b(digest_size=12)
        for group in self._groups:
            digest.update(f"{os.path.basename(group.path)} {group.number} {group.rows}\n".encode())
        return digest.hexdigest()

    def read(self, part: int, start: int = 0) -> Iterator[Record | Skip]:
        """The rows of a row group from one on; one that cannot be read (further) is a Skip."""
        group, at = self._groups[part], start
        if group.rows is None:
            yield Skip("unreadable shard", group.problem)
            return
        try:
            for row, fields in self._rows(group, start):
                at = row + 1
                yield self._record(group, row, fields)
        except (OSError, _pyarrow().ArrowException) as error:
            yield Skip("unreadable shard", f"{group.name}, from row {at} on: {error}", at)

    def fetch(self, part: int, start: int, end: int) -> Record:
        """One record again."""
        group = self._groups[part]
        try:
            for row, fields in self._rows(group, start):
                if isinstance(record := self._record(group, row, fields), Record):
                    return record
                break
        except _pyarrow().ArrowException as error:
            raise OSError(f"{group.name}: {error}") from None
        raise DataError(f"{group.name}: row {start} is gone")

    def _rows(self, group: _Group, start: int) -> Iterator[tuple[int, Mapping]]:
        row = 0
        with _opened(group.path) as file:
            names = [*self._plain, self._image]
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group.number], columns=names, use_threads=False):
                skipped = min(max(start - row, 0), len(batch))
                for i, fields in enumerate(batch.slice(skipped).to_pylist(), row + skipped):
                    yield i, fields
                row += len(batch)

    def _record(self, group: _Group, row: int, fields: dict) -> Record | Skip:
        stored = fields.pop(self._image)
        cells = stored if isinstance(stored, list) else [stored]
        pictures, names = [], []
        for i, cell in enumerate(cells):
            data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, Mapping) else (cell, None)
            if data is None:
                return Skip("no picture", f"{group.name}, row {row}: {self._image} is empty", row + 1)
            pictures.append(data)
            names.append(os.path.basename(path) if path else f"{i:03d}.jpg")
        if not pictures:
            return Skip("no picture", f"{group.name}, row {row}: {self._image} is empty", row + 1)
        stem = os.path.splitext(os.path.basename(group.path))[0]
        key = record_key(fields, self._key, () if len(cells) > 1 or names[0] == "000.jpg" else names[:1])
        key = key or f"{stem}-{group.number}-{row}"
        return Record(key, fields, tuple(pictures), tuple(names), row, row + 1)


class ParquetTable:
    """Rows whose pictures are elsewhere: the columns that tell place, key and picture, in memory as Arrow has them."""

    def __init__(self, where: Path, paths: Sequence[str], schema, columns: Columns):
        pyarrow = _pyarrow()
        wanted = [columns.find(name, schema.names) for name in ("key", "image", "lat", "lon", "city", "region", "country")]
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
    types = _pyarrow().types
    return not (types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind))


def _holds_pictures(kind) -> bool:
    types = _pyarrow().types
    if types.is_list(kind) or types.is_large_list(kind):
        return _holds_pictures(kind.value_type)
    if types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return types.is_binary(kind) or types.is_large_binary(kind)


def _files(spec: str) -> list[str]:
    if "://" in spec:
        return [spec]
    path = Path(spec).expanduser()
    if path.is_file():
        return [str(path)]
    if path.is_dir():
        found = [str(p) for p in files_in(path, (".parquet",)) or sorted(path.glob("data/*.parquet"))]
        splits = {match[1].lower() for name in found if (match := _SPLITS.search(os.path.basename(name)))}
        if len(splits) > 1:
            folder = os.path.dirname(found[0])
            raise DataError(
                f"{folder} holds the splits {', '.join(sorted(splits))}; say which, such as '{folder}/{min(splits)}*.parquet'"
            )
        return found
    return sorted(glob.glob(str(path), recursive=True))


def matches(spec: str) -> bool:
    """A .parquet, a glob of them, one on a web server, or a folder with some (in it, or in its `data`)."""
    path = local_path(spec)
    if path is None or path.is_file():
        return spec.lower().split("?")[0].endswith(".parquet") and not spec.startswith("hf://")
    return bool(files_in(path, (".parquet",))) or next(path.glob("data/*.parquet"), None) is not None


def open_source(spec: str, columns: Columns, revision: str | None) -> Source:
    """Records of the rows of one or more Parquet files of the same columns."""
    pyarrow = _pyarrow()
    paths = _files(spec)
    if not paths:
        raise DataError("there is no such file or folder, or no .parquet in it")
    groups, schema, problems = [], None, []
    for path in paths:
        try:
            with _opened(path) as file:
                schema = schema if schema is not None else file.schema_arrow
                counts = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        except (OSError, pyarrow.ArrowException) as error:
            problems.append(f"{path}: {error}")
            groups.append(_Group(path, 0, None, problems[-1]))
            continue
        groups += [_Group(path, i, n) for i, n in enumerate(counts) if n]
    if schema is None:
        raise DataError(f"none of {len(paths)} files can be read; the first: {problems[0]}")
    where = os.path.basename(paths[0]) if len(paths) == 1 else f"{len(paths)} Parquet files"
    check_columns(schema.names, columns, where)
    if not any(group.rows for group in groups):
        raise DataError(f"{where} has no rows")
    image = columns.find("image", schema.names)
    if image is None and columns.image is None:
        image = next((field.name for field in schema if _holds_pictures(field.type)), None)
    if image is not None and _holds_pictures(schema.field(image).type):
        return ParquetPictures(spec, groups, schema, columns, image)
    if problems or "://" in spec:
        raise DataError(problems[0] if problems else f"{where} holds no pictures; its columns are {', '.join(schema.names)}")
    path = Path(spec).expanduser()
    table = ParquetTable(path, paths, schema, columns)
    folder = path if path.is_dir() else Path(paths[0]).parent
    return TableSource(spec, table, columns, PicturesBeside(folder, columns, table.columns, probe_rows(table)))
