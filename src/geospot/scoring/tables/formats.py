"""Files of rows -> columns of plain values: encodings, delimiters, broken lines."""

import codecs
import csv
import gzip
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from geospot.errors import TableError, install_extra

SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet", ".pq")
_DELIMITERS = ",;\t|"
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass
class RawTable:
    """Columns of N values each (str, number, bool, None or nested) and where each row stands in the file, from 1."""

    path: Path
    columns: dict[str, list]
    rows: list[int]
    warnings: list[str] = field(default_factory=list)
    decimal_comma: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def warn(self, text: str) -> None:
        """Something to tell the user, who sees it once."""
        self.warnings.append(f"{self.path.name}: {text}")

    def where(self, i: int) -> str:
        """Row i for people: the file's own line number."""
        return f"row {self.rows[i]}"


def read_raw(path: str | Path) -> RawTable:
    """Read a table by its suffix (a `.gz` behind it is unpacked); TableError where that cannot be done."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise TableError(f"{path}: no such file")
    suffixes = [s.lower() for s in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    kind = suffixes[-2 if packed else -1] if len(suffixes) > packed else ""
    if kind not in SUFFIXES:
        raise TableError(f"{path}: a table ends in {', '.join(SUFFIXES)}, not in {kind or 'nothing'!r}")
    if kind in (".parquet", ".pq"):
        return _read_parquet(path)
    try:
        data = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
    except (gzip.BadGzipFile, EOFError) as error:
        raise TableError(f"{path}: not a whole gzip file ({error})") from None
    table = RawTable(path, {}, [])
    text = decode(data, table)
    if not text.strip():
        raise TableError(f"{path}: the file is empty")
    if kind in (".jsonl", ".ndjson"):
        _fill(table, _json_lines(text, table))
    elif kind == ".json":
        _fill(table, _json_rows(text, table))
    else:
        _read_csv(text, table)
    if not table.rows:
        raise TableError(f"{path}: no row in it that can be read")
    return table


def decode(data: bytes, table: RawTable) -> str:
    """The text of a file in UTF-8, UTF-16 or, as a last resort, Windows' Latin-1; a guess is warned of."""
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
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            yield number, row
        else:
            broken.append(number)
    if broken:
        table.warn(f"{len(broken)} lines are no JSON objects and were left out, the first is row {broken[0]}")


def _json_rows(text: str, table: RawTable) -> Iterable[tuple[int, Mapping]]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise TableError(f"{table.path}: not JSON ({error}); a file with an object a line ends in .jsonl") from None
    if isinstance(value, dict) and value and all(isinstance(v, dict) for v in value.values()):
        value = [{"key": key, **row} for key, row in value.items()]
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise TableError(f"{table.path}: must hold a list of objects, or an object of objects by key")
    return enumerate(value, start=1)


def _read_csv(text: str, table: RawTable) -> None:
    first = text.lstrip("\ufeff").split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=first.count) if table.path.suffix != ".tsv" else "\t"
    table.decimal_comma = delimiter == ";"
    csv.field_size_limit(1 << 30)
    reader = csv.reader(io.StringIO(text.lstrip("\ufeff"), newline=""), delimiter=delimiter)
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
                ragged.append((reader.line_num, len(row)))
                continue
            for values, value in zip(columns, row, strict=True):
                values.append(value)
            table.rows.append(reader.line_num)
    except csv.Error as error:
        raise TableError(f"{table.path}: row {reader.line_num}: {error}") from None
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
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
        raise TableError(f"{path}: not a Parquet file that can be read ({error})") from None
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    return RawTable(path, columns, list(range(1, table.num_rows + 1)))
