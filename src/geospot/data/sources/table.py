"""A CSV with pictures beside it: a file, or a folder in which one CSV names the pictures (Im2GPS3k, YFCC4k)."""

import warnings
from collections.abc import Iterator
from pathlib import Path

from geospot.data.fields import USUAL, Columns
from geospot.data.records import Source
from geospot.data.sources.beside import PicturesBeside
from geospot.data.sources.csvtable import SUFFIXES, open_csv, read_columns
from geospot.data.sources.listing import files_in, local_path
from geospot.data.sources.metadata import LINES, JsonTable
from geospot.data.sources.rows import TableSource, check_columns, has_coordinates, probe_rows
from geospot.errors import DataError
from geospot.pictures import PICTURE_SUFFIXES

EXAMPLE = "photos.csv, or a folder with a CSV that names its pictures (columns lat, lon, image)"


def matches(spec: str, columns: Columns = USUAL) -> bool:
    """A .csv or .tsv (.gz too), or a folder with one that has coordinates."""
    path = local_path(spec)
    if path is None:
        return spec.lower().endswith(SUFFIXES) and "://" not in spec
    if path.is_file():
        return path.name.lower().endswith(SUFFIXES)
    return not files_in(path, (".tar",)) and bool(tables_in(path, columns))


def open_source(spec: str, columns: Columns, revision: str | None) -> Source:
    """Records of a CSV's rows."""
    path = Path(spec).expanduser()
    if not path.exists():
        raise DataError("there is no such file or folder")
    return open_in_folder(spec, path, columns) if path.is_dir() else open_file(spec, path, columns)


def open_file(spec: str, path: Path, columns: Columns) -> TableSource:
    """Records of one table."""
    check_columns(read_columns(path, columns), columns, path.name)
    table = open_csv(path, columns)
    if not table.rows:
        raise DataError(f"{path.name} has a header and no rows")
    locate = PicturesBeside(path.parent, columns, table.columns, probe_rows(table))
    return TableSource(spec, table, columns, locate)


def tables_in(folder: Path, columns: Columns) -> list[Path]:
    """The folder's CSVs that have coordinates."""
    return [path for path in files_in(folder, SUFFIXES) if has_coordinates(_columns_or_none(path, columns), columns)]


def _columns_or_none(path: Path, columns: Columns) -> list[str]:
    try:
        return read_columns(path, columns)
    except DataError:
        return []


def open_in_folder(spec: str, folder: Path, columns: Columns) -> TableSource:
    """Records of the one table in a folder whose rows name files there; DataError where there are none or several."""
    there = files_in(folder, SUFFIXES)
    if not there:
        raise DataError(f"the folder {folder} holds no .csv or .tsv")
    tables = tables_in(folder, columns)
    if not tables:
        check_columns(read_columns(there[0], columns), columns, there[0].name)
    opened, failed = [], []
    for path in tables:
        try:
            opened.append(open_file(spec, path, columns))
        except DataError as error:
            failed.append(f"{path.name}: {error}")
    if not opened:
        raise DataError("; ".join(failed))
    if len(opened) > 1:
        names = ", ".join(source.table_name for source in opened)
        raise DataError(f"{len(opened)} tables in {folder} name its pictures: {names}. Give the path of one of them")
    if failed:
        warnings.warn(f"{spec}: {opened[0].table_name} is read; not {'; '.join(failed)}", stacklevel=2)
    return opened[0]


# --- tables in a folder of pictures that are not read as its metadata: the user is told why ---------------------------

_MOST = 5  # tables that are looked at
_JSON_BYTES = 64 << 20  # a larger one would take seconds to read


def warn_of_tables(folder: Path, columns: Columns, setting: str, instead: str) -> None:
    """One warning a table. setting: `data='...'`, for the message; instead: what the coordinates are read from."""
    for kind, path, names in _tables(folder, columns):
        try:
            check_columns(names, columns, path.name)
            mend = f"it is read by data={path}"
        except DataError as error:
            mend = f"{error}, or name it by {kind}:{path}"
        warnings.warn(f"{setting}: coordinates are read from {instead}, not from {path.name}: {mend}", stacklevel=4)


def _tables(folder: Path, columns: Columns) -> Iterator[tuple[str, Path, list[str]]]:
    """(kind, path, columns) of the first few."""
    for path in files_in(folder, SUFFIXES)[:_MOST]:
        try:
            yield "csv", path, read_columns(path, columns)
        except DataError as error:
            warnings.warn(str(error), stacklevel=5)
    alone = [path for path in files_in(folder, (".json", *LINES)) if not _is_sidecar(path)]
    for path in alone[:_MOST]:
        if path.stat().st_size <= _JSON_BYTES:
            try:
                names = JsonTable(path).columns
            except DataError:  # some other JSON
                continue
            if names:
                yield "json", path, names


def _is_sidecar(path: Path) -> bool:
    """Whether a JSON is about one picture (a.jpg.json, a.jpg.supplemental-metadata.json, a.json beside a.jpg)."""
    if any(f"{suffix}." in path.name.lower() for suffix in PICTURE_SUFFIXES):
        return True
    return any(path.with_suffix(suffix).exists() for suffix in PICTURE_SUFFIXES)
