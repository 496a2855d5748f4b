"""A CSV as numbered rows: pyarrow reads it once, block by block; of a large one what was read is kept in the cache."""

import codecs
import csv
import gzip
import hashlib
import io
import json
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from geospot.data.fields import USUAL, Columns
from geospot.data.records import Skip
from geospot.data.sources.arrow import ArrowTable, load_pyarrow, too_long
from geospot.data.sources.kept import file_facts, kept_folder
from geospot.errors import BadSample, DataError
from geospot.files import foreign_content
from geospot.pictures import open_file
from geospot.progress import Progress

if TYPE_CHECKING:
    import pyarrow

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
DELIMITERS = (",", "\t", ";", "|")
_HEAD_BYTES = 1 << 20  # the header must end within
_HEAD_ROWS = 100  # that tell how many values a row has
_BLOCK_BYTES = 16 << 20  # read at once; a row must fit
_KEEP_BYTES = 64 << 20  # of a larger file the rows are kept in the cache, not in memory
_PACKING = 8  # times a packed file grows, or so
_LAYOUT = 2


@dataclass(frozen=True)
class _Header:
    """encoding: of Python, as far as the head tells. row: the number of the first row that is no longer header."""

    encoding: str
    delimiter: str
    names: list[str]
    width: int
    row: int


class _Tap(io.RawIOBase):
    """What pyarrow reads from, which sees all bytes of the file: their digest, and how many quotes there are.

    It also finds what is not in the encoding, which pyarrow would do in rows that are as wide as they should be alone.
    """

    def __init__(self, file: BinaryIO, encoding: str, advance: Callable[[int], object]):
        self._file, self._advance = file, advance
        self._check = codecs.getincrementaldecoder(encoding)().decode
        self.digest, self.quotes, self.problem = hashlib.blake2b(digest_size=12), 0, ""

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is not."""
        return False

    def read(self, size: int = -1) -> bytes:
        """Bytes of the unpacked file; it ends before what is not in the encoding, as `problem` says."""
        data = b"" if self.problem else self._file.read(size)
        try:
            self._check(data, final=not data)
        except UnicodeDecodeError as error:
            self.problem = str(error)
            return b""
        self.digest.update(data)
        self.quotes += data.count(b'"')
        self._advance(len(data))
        return data


@contextmanager
def _opened(path: Path) -> Generator[BinaryIO]:
    """The file, unpacked if it is a gzip; DataError where that cannot be done."""
    try:
        with open_file(path, most=None) as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            yield gzip.GzipFile(fileobj=file) if packed else file  # type: ignore[misc]
    except BadSample as error:
        raise DataError(f"{path} {error.detail}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def read_columns(path: str | Path, columns: Columns = USUAL) -> list[str]:
    """The names in a table's first row; DataError where it cannot be read."""
    return _read_header(Path(path), columns).names


def _read_header(path: Path, columns: Columns) -> _Header:
    """Of the delimiters, the one wins under which latitude and longitude are found, then that of most columns."""
    with _opened(path) as file:
        head = file.read(_HEAD_BYTES)
    if foreign := foreign_content(head):
        raise DataError(f"{path} is {foreign[0]}: {foreign[1]}")
    encoding = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
    text = head.decode(encoding, "replace").removeprefix("\ufeff")
    best: Any = None  # (columns found, columns in all) and the header
    for delimiter in DELIMITERS:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        number = names = None
        widths: Counter[int] = Counter()
        try:
            number, names = next(((i, row) for i, row in enumerate(rows, 1) if any(map(str.strip, row))), (None, None))
            widths.update(len(row) for row in islice(rows, _HEAD_ROWS) if row)
        except csv.Error as error:
            if names is None:
                raise DataError(f"{path}: its first row cannot be read: {error}") from None
        if names is None or number is None:
            raise DataError(f"{path} is empty: its first row must name the columns")
        names = [name.strip() for name in names]
        found = sum(columns.find(name, names) is not None for name in ("lat", "lon"))
        if best is None or (found, len(names)) > best[0]:
            width = max(len(names), widths.most_common(1)[0][0] if widths else 0)  # rows may end in a delimiter more
            best = (found, len(names)), _Header(encoding, delimiter, names, width, number)
    return best[1]


def open_csv(path: str | Path, columns: Columns = USUAL) -> ArrowTable:
    """The rows of a .csv, .tsv or .gz of one; UTF-8 (with or without a mark), UTF-16 with a mark, or else Latin-1.

    Blank lines count as rows. Rows that cannot be used are Skips with their number. DataError where the file cannot be
    read, or where a quote is opened and never closed. Of a file over 64 MB the rows are kept in the cache.
    """
    path = Path(path)
    header = _read_header(path, columns)
    try:
        return _open(path, header)
    except _NotUtf8:
        warnings.warn(f"{path} is not UTF-8: read as Latin-1", stacklevel=2)
        return _open(path, replace(header, encoding="latin-1"))


class _NotUtf8(Exception):
    pass


def _open(path: Path, header: _Header) -> ArrowTable:
    pyarrow = load_pyarrow()
    size = path.stat().st_size
    with _opened(path) as file:
        large = size * (_PACKING if isinstance(file, gzip.GzipFile) else 1) >= _KEEP_BYTES
    if not large:
        batches: list[pyarrow.RecordBatch] = []
        facts = _read_rows(path, header, batches.append)
        return _table(path, header, pyarrow.Table.from_batches(batches, _schema(header)), facts)

    def fill(folder: Path) -> None:
        with (
            Progress(f"reading {path.name} (MB)", total=size >> 20) as bar,
            pyarrow.ipc.new_file(str(folder / "rows.arrow"), _schema(header)) as file,
        ):
            facts = _read_rows(path, header, file.write_batch, lambda n: bar.advance(n >> 20))
        (folder / "facts.json").write_text(json.dumps(facts))

    def load(folder: Path) -> ArrowTable:
        rows = pyarrow.ipc.open_file(pyarrow.memory_map(str(folder / "rows.arrow"))).read_all()
        return _table(path, header, rows, json.loads((folder / "facts.json").read_text()))

    return kept_folder([_LAYOUT, "csv", *file_facts(path), *asdict(header).values()], fill, load)


def _table(path: Path, header: _Header, rows: "pyarrow.Table", facts: dict) -> ArrowTable:
    """The rows behind the header; facts: what `_read_rows` gave."""
    odd: dict[int, dict[str, str] | Skip] = {}
    names, above = header.names, header.row
    for number, values in facts["odd"]:
        row = number - header.row - 1
        if row < 0:
            above -= 1
        elif any(values[len(names) :]):
            odd[row] = too_long(path.name, row, len(values), len(names))
        else:
            odd[row] = dict(zip(names, values, strict=False))
    return ArrowTable(path, rows.slice(above), names, facts["digest"], odd)


def _schema(header: _Header) -> "pyarrow.Schema":
    pyarrow = load_pyarrow()
    return pyarrow.schema([(str(i), pyarrow.string()) for i in range(header.width)])


def _read_rows(
    path: Path,
    header: _Header,
    write: Callable[["pyarrow.RecordBatch"], object],
    advance: Callable[[int], object] = lambda n: None,
) -> dict:
    """Give the rows that are as wide as they should be to `write`, the header with them.

    Returns, for JSON, the digest of the content and the other rows as [number, values], counted from 1.
    """
    pyarrow = load_pyarrow()
    odd: list[tuple[int, list[str]]] = []
    csv.field_size_limit(1 << 30)

    def invalid(row: "pyarrow.csv.InvalidRow") -> str:
        odd.append((row.number, next(csv.reader(io.StringIO(row.text, newline=""), delimiter=header.delimiter), [])))
        return "skip"

    parse = pyarrow.csv.ParseOptions(
        delimiter=header.delimiter, newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=invalid
    )
    convert = pyarrow.csv.ConvertOptions(column_types=_schema(header), strings_can_be_null=False)
    names = [str(i) for i in range(header.width)]
    how = pyarrow.csv.ReadOptions(
        use_threads=False, block_size=_BLOCK_BYTES, column_names=names, encoding=header.encoding
    )
    rows, last = 0, []
    with _opened(path) as file:
        tap = _Tap(file, header.encoding, advance)
        try:
            with pyarrow.csv.open_csv(
                pyarrow.PythonFile(tap, "r"), read_options=how, parse_options=parse, convert_options=convert
            ) as reader:
                for batch in reader:
                    write(batch)
                    rows += len(batch)
                    last = [column[-1].as_py() for column in batch.columns] if len(batch) else last
        except pyarrow.ArrowInvalid as error:
            if not tap.problem and "straddling" not in str(error):
                raise DataError(f"{path} cannot be read: {error}") from None
            if not tap.problem:
                raise _unclosed(path, rows + len(odd) + 1 - header.row) from None
        except UnicodeDecodeError as error:
            tap.problem = str(error)
    if tap.problem and header.encoding == "utf-8":
        raise _NotUtf8
    if tap.problem:
        raise DataError(f"{path} is not whole {header.encoding.upper()} ({tap.problem}); save it as UTF-8")
    last = odd[-1][1] if odd and odd[-1][0] == rows + len(odd) else last
    if tap.quotes % 2 and header.encoding != "utf-16" and any("\n" in value for value in last):
        raise _unclosed(path, rows + len(odd) - header.row)
    return {"digest": tap.digest.hexdigest(), "odd": odd}


def _unclosed(path: Path, row: int) -> DataError:
    return DataError(
        f"{path}: row {row} opens a quote that is never closed, and swallows what follows; close it, or take it out"
    )
