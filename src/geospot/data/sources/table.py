"""A CSV with pictures beside it: a file, or a folder in which one CSV names the pictures (Im2GPS3k, YFCC4k)."""

import warnings
from pathlib import Path

from geospot.data.fields import USUAL, Columns
from geospot.data.records import Source
from geospot.data.sources.beside import PicturesBeside
from geospot.data.sources.csvtable import SUFFIXES, CsvTable, read_columns
from geospot.data.sources.listing import files_in, local_path
from geospot.data.sources.rows import TableSource, check_columns, has_coordinates, probe_rows
from geospot.errors import DataError

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
    table = CsvTable(path, columns)
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
