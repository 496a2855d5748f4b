"""Tables that lie in a folder of pictures and are not read as its metadata: the user is told why."""

import warnings
from collections.abc import Iterator
from pathlib import Path

from geospot.data.fields import Columns
from geospot.data.sources.csvtable import SUFFIXES, read_columns
from geospot.data.sources.listing import PICTURE_SUFFIXES, files_in
from geospot.data.sources.metadata import LINES, JsonTable
from geospot.data.sources.rows import check_columns
from geospot.errors import DataError

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
