"""Files of rows -> columns of plain values: encodings, delimiters, broken lines."""

import codecs
import csv
import gzip
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from geospot.answer.places import MISSING, NOT_FINITE, as_row, read_cells, read_signed
from geospot.answer.shapes import place_rows
from geospot.answer.spellings import coordinate_columns
from geospot.errors import TableError, install_extra
from geospot.scoring.tables.logs import episode_row, read_inspect_log

SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet", ".pq", ".eval")
ROW = "row"  # how a key that is a row's number begins
_DELIMITERS = ",;\t|"
_SOLID = re.compile(r"\S")
_DECODER = json.JSONDecoder()
_EXCEL = re.compile(rf'"?sep=([{_DELIMITERS}])"?[{_DELIMITERS}]*', re.IGNORECASE)
# How files begin that hold something else than text, and what to do about it.
_MAGIC = (
    (b"PK\x03\x04", "a zip archive (as sheets of Excel are, too): unpack it, or save the sheet as CSV"),
    (b"\x1f\x8b", "gzip: give it the ending .gz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard: unpack it"),
    (b"\xfd7zXZ\x00", "xz: unpack it"),
    (b"BZh", "bzip2: unpack it"),
    (b"PAR1", "Parquet: give it the ending .parquet"),
    (b"\xd0\xcf\x11\xe0", "a sheet of an old Excel: save it as CSV"),
)
_PACKED = {  # endings that are not read, and what to do about them
    **dict.fromkeys((".zip", ".zst", ".xz", ".bz2", ".7z", ".tar", ".tgz"), "unpack it first"),
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".numbers"), "save the sheet as CSV"),
}
_BOMS = (  # that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


@dataclass
class RawTable:
    """Columns of N values each (str, number, bool, None or nested) and where each row stands in the file, from 1."""

    path: Path
    columns: dict[str, list]
    rows: list[int]
    warnings: list[str] = field(default_factory=list)
    decimal_comma: bool = False
    first_row: int = 1  # where the first row stands: 2 behind a header
    nested: set[str] = field(default_factory=set)  # the columns that come from objects in cells, with dotted names

    def __len__(self) -> int:
        return len(self.rows)

    def warn(self, text: str) -> None:
        """Something to tell the user, who sees it once."""
        self.warnings.append(f"{self.path.name}: {text}")

    def keep(self, rows: list[int]) -> None:
        """Leave out all other rows."""
        self.rows = [self.rows[i] for i in rows]
        self.columns = {name: [values[i] for i in rows] for name, values in self.columns.items()}

    def number(self, i: int) -> str:
        """A key for row i where the file has none: its number, the header not counted."""
        return f"{ROW} {self.rows[i] - self.first_row + 1}"

    def where(self, i: int) -> str:
        """Row i for people: the file's own line number."""
        return f"row {self.rows[i]}"


def read_raw(path: str | Path) -> RawTable:
    """Read a table by its suffix (a `.gz` behind it is unpacked); TableError where that cannot be done."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise TableError(
            f"{path}: " + ("no such file" if not path.exists() else "no plain file; a folder or a pipe cannot be read")
        )
    suffixes = [s.lower() for s in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    kind = suffixes[-2 if packed else -1] if len(suffixes) > packed else ""
    if kind not in SUFFIXES:
        remedy = f"; {_PACKED[kind]}" if kind in _PACKED else ""
        raise TableError(f"{path}: a table ends in {', '.join(SUFFIXES)}, not in {kind or 'nothing'!r}{remedy}")
    if kind in (".parquet", ".pq"):
        return _read_parquet(path)
    if kind == ".eval":
        table = RawTable(path, {}, [])
        _fill(table, read_inspect_log(path))
        return table
    try:
        data = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
    except (gzip.BadGzipFile, EOFError) as error:
        raise TableError(f"{path}: not a whole gzip file ({error})") from None
    for magic, what in _MAGIC:
        if data.startswith(magic):
            raise TableError(f"{path}: holds {what}")
    table = RawTable(path, {}, [])
    text = decode(data, table).lstrip("\ufeff")
    if not text.strip():
        raise TableError(f"{path}: the file is empty")
    if kind in (".jsonl", ".ndjson") and not text.lstrip().startswith("["):
        _fill(table, _json_lines(text, table))
    elif kind in (".jsonl", ".ndjson", ".json"):  # a list may be in a file that is called .jsonl
        _fill(table, _json_rows(text, table))
    else:
        _read_csv(text, table)
    if not table.rows:
        raise TableError(f"{path}: no row in it that can be read")
    return table


def decode(data: bytes, table: RawTable) -> str:
    """The text of a file in UTF-8, UTF-16, UTF-32 or, as a last resort, Windows' Latin-1; a guess is warned of."""
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return _decoded(data, encoding, table)
    zeros = data[:200].count(0)
    if zeros and zeros >= len(data[:200]) // 3:  # UTF-16 of Latin letters without a mark: every other byte is 0
        encoding = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
        table.warn(f"read as {encoding.upper()}, which it does not say it is")
        return _decoded(data, encoding, table)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        table.warn(f"row {line} is not UTF-8; the file was read as Windows-1252 (Latin-1): check names with accents")
        return data.decode("cp1252", errors="replace")


def _decoded(data: bytes, encoding: str, table: RawTable) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise TableError(f"{table.path}: not whole {encoding.upper()} ({error}); save it as UTF-8") from None


def _fill(table: RawTable, rows: Iterable[tuple[int, Mapping]]) -> None:
    """Columns from rows that may lack keys."""
    for number, row in rows:
        for name in row:
            if name not in table.columns:
                table.columns[str(name)] = [None] * len(table.rows)
        for name, values in table.columns.items():
            values.append(row.get(name))
        table.rows.append(number)


def _json_lines(text: str, table: RawTable) -> Iterable[tuple[int, Mapping]]:
    broken: list[int] = []
    episodes: Counter[str] = Counter()
    for number, value in _spread_objects(text, table) or _by_line(text):
        try:
            row = as_row(episode_row(value, episodes))
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            yield number, row
        else:
            broken.append(number)
    if broken:
        table.warn(f"{len(broken)} lines are no JSON objects and were left out, the first is row {broken[0]}")


def _by_line(text: str) -> Iterator[tuple[int, Any]]:
    """What each line holds that is not blank, and where it stands; None for what is no JSON."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                yield number, None


def _spread_objects(text: str, table: RawTable) -> list[tuple[int, Any]]:
    """Objects that take several lines each, one after the other, as jq prints them; none where the first has its own
    line.
    """
    found: list[tuple[int, Any]] = []
    start, line, counted = len(text) - len(text.lstrip()), 1, 0
    if next(_by_line(text[start:].partition("\n")[0]), (0, {}))[1] is not None:
        return found
    while start < len(text):
        line, counted = line + text.count("\n", counted, start), start
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            if any(isinstance(value, dict) for _, value in _by_line(text)):  # lines, the first of which is broken
                return []
            if found:
                table.warn(f"what begins at row {line} is no whole JSON object and was left out, with all behind it")
            break
        found.append((line, value))
        start = next((match.start() for match in _SOLID.finditer(text, end)), len(text))
    return found


def _json_rows(text: str, table: RawTable) -> Iterable[tuple[int, Mapping]]:
    try:
        rows: Any = place_rows(json.loads(text))
    except (ValueError, RecursionError) as error:
        if str(error).startswith("Extra data") and text.lstrip().startswith("{"):  # an object a line, called .json
            return _json_lines(text, table)
        raise TableError(f"{table.path}: not JSON ({error})") from None
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise TableError(
            f"{table.path}: must hold a list of objects, an object with such a list, or an object of objects by key"
        )
    return enumerate(rows, start=1)


def _read_csv(text: str, table: RawTable) -> None:
    first, _, rest = text.partition("\n")
    delimiter = max(_DELIMITERS, key=first.count) if table.path.suffix != ".tsv" else "\t"
    above = 0
    if said := _EXCEL.fullmatch(first.strip("\r")):  # Excel's word for its delimiter, above the header
        delimiter, text, above = said[1], rest, 1
    table.decimal_comma, table.first_row = delimiter == ";", 2 + above
    csv.field_size_limit(1 << 30)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        header = [name.strip() for name in next(reader)]
        if len(set(header)) < len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise TableError(f"{table.path}: row 1 names the column {twice!r} twice; rename one")
        table.columns = {name: [] for name in header}
        columns, ragged = list(table.columns.values()), []
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                ragged.append((reader.line_num + above, len(row)))
                continue
            for values, value in zip(columns, row, strict=True):
                values.append(value)
            table.rows.append(reader.line_num + above)
    except csv.Error as error:
        raise TableError(f"{table.path}: row {reader.line_num + above}: {error}") from None
    if ragged:
        (number, cells), n = ragged[0], len(header)
        table.warn(f"{len(ragged)} rows do not have the header's {n} cells and were left out, the first is row {number}"
                   f" with {cells}; a comma inside a name needs quotes")  # fmt: skip


def _read_parquet(path: Path) -> RawTable:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise TableError(f"{path}: Parquet needs the extra parquet (pyarrow): {install_extra('parquet')}") from None
    try:
        table = parquet.read_table(path)
        columns = {name: _as_text(table.column(name).to_pylist()) for name in table.column_names}
    except (OSError, ValueError, OverflowError, KeyError, NotImplementedError) as error:  # pyarrow's derive from these
        raise TableError(f"{path}: not a Parquet file that can be read ({error})") from None
    return RawTable(path, columns, list(range(1, table.num_rows + 1)))


def _as_text(values: list) -> list:
    """A column of bytes that are all UTF-8 as text, as some programs write it; any other as it is."""
    if not any(isinstance(value, bytes) for value in values):
        return values
    try:
        return [value.decode() if isinstance(value, bytes) else value for value in values]
    except UnicodeDecodeError:
        return values


# --- the numbers of a column --------------------------------------------------------------------------------------


def read_numbers(table: RawTable, column: str) -> tuple[np.ndarray, np.ndarray]:
    """(values (N,), NaN where there is none; (N,) bool where there is text that is no number). Such text is reported.

    A decimal comma is read, and a blank is none: "", "nan", "n/a".
    """
    if (values := _all_numbers(table.columns[column])) is not None:
        return values, np.zeros(len(values), bool)
    return _checked(table, column, [read_signed(cell, "lon") for cell in table.columns[column]])


def read_axis(table: RawTable, column: str, axis: str) -> tuple[np.ndarray, np.ndarray]:
    """As `read_numbers`, of coordinates in degrees: also "48.86 N", degrees, minutes and seconds, columns of the
    hemisphere beside it. axis: "lat" or "lon". What is out of range is not judged.
    """
    reference, minutes, _ = columns = coordinate_columns(column, axis, tuple(table.columns))
    if reference is None and minutes is None and (values := _all_numbers(table.columns[column])) is not None:
        return values, np.zeros(len(values), bool)
    names = list(dict.fromkeys([column, *filter(None, columns)]))
    rows = zip(*(table.columns[name] for name in names), strict=True)
    read = [read_cells(dict(zip(names, row, strict=True)), column, axis, bounded=False) for row in rows]
    return _checked(table, column, read)


def _all_numbers(cells: list) -> np.ndarray | None:
    """The usual column, all at once."""
    try:
        values = np.array([np.nan if c is None or c == "" else c for c in cells], dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if values.ndim != 1:  # a list in every cell
        return None
    return None if any(isinstance(c, bool) for c in cells) else np.where(np.isfinite(values), values, np.nan)


def _checked(table: RawTable, column: str, read: list[float | str]) -> tuple[np.ndarray, np.ndarray]:
    values = np.array([np.nan if isinstance(value, str) else value for value in read], dtype=np.float64)
    bad = np.array([isinstance(value, str) and value not in (MISSING, NOT_FINITE) for value in read])
    if bad.any():
        i = int(np.argmax(bad))
        table.warn(f"{int(bad.sum())} values of {column} cannot be read, the first is {table.where(i)}: "
                   f"{table.columns[column][i]!r} ({read[i]})")  # fmt: skip
    return values, bad
