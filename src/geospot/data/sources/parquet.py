"""Parquet files: Hugging Face's image data sets, with the pictures in the rows, or tables with pictures beside them."""

import os
import re
from collections import Counter
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING

from geospot.data.fields import USUAL, Columns
from geospot.data.records import Source
from geospot.data.sources.beside import PicturesBeside
from geospot.data.sources.listing import files_in, local_path
from geospot.data.sources.rows import TableSource, check_columns, probe_rows
from geospot.data.sources.webdataset import WEB, RemoteFiles
from geospot.errors import DataError

if TYPE_CHECKING:
    import pyarrow

EXAMPLE = "train.parquet, 'data/train-*.parquet', or a folder of them (pictures in the rows, or beside the file)"
_SPLITS = re.compile(r"(?:^|[^a-z])(train|test|validation|valid|val|dev)(?:[^a-z]|$)", re.IGNORECASE)


def _picture_column(schema: "pyarrow.Schema", columns: Columns) -> str | None:
    """The column that holds pictures: the one called so, or where that holds none the first that does."""
    from geospot.data.sources.parquetrows import holds_pictures

    holding = [field.name for field in schema if holds_pictures(field.type)]
    called = columns.find("image", schema.names)
    if columns.image is not None:
        holding = [called] if called in holding else []
    return called if called in holding else next(iter(holding), None)


def _files(spec: str, revision: str | None, retries: Counter) -> tuple[list, str | None]:
    """The files behind a spec, and of the hub's the commit."""
    from geospot.data.lists import find_web_files
    from geospot.net.hub import HubFile, find_files, is_hub

    pinned = None
    if is_hub(spec):
        found = find_files(spec, revision, counts=retries)
        files, pinned = [file for file in found.files if file.name.endswith(".parquet")], found.revision
    elif spec.startswith(WEB):
        return find_web_files(spec, counts=retries), None
    else:
        files = [HubFile(path, path, None) for path in _on_disk(Path(spec).expanduser())]
    splits = {
        match[1].lower(): file for file in files if (match := _SPLITS.search("/".join(file.path.split("/")[-2:])))
    }
    if len(splits) > 1 and not has_magic(spec):
        example = splits[min(splits)].name
        raise DataError(
            f"there are the splits {', '.join(sorted(splits))}; say which by a path or a glob, "
            f"such as {re.sub(r'[0-9]+(-of-[0-9]+)?', '*', os.path.basename(example))!r} for {example}"
        )
    return files, pinned


def _on_disk(path: Path) -> list[str]:
    if path.is_dir():
        return [str(p) for p in files_in(path, (".parquet",)) or sorted(path.glob("data/*.parquet"))]
    return [str(path)] if path.is_file() else sorted(glob(str(path), recursive=True))


def matches(spec: str, columns: Columns = USUAL) -> bool:
    """A .parquet or a glob of them, here or elsewhere, or a folder with some (in it, or in its `data`)."""
    path = local_path(spec)
    if path is None or path.is_file():
        return spec.lower().split("?")[0].endswith(".parquet")
    return bool(files_in(path, (".parquet",))) or next(path.glob("data/*.parquet"), None) is not None


def open_source(spec: str, columns: Columns, revision: str | None) -> Source:
    """Records of the rows of one or more Parquet files of the same columns."""
    from geospot.data.sources.arrow import load_pyarrow
    from geospot.data.sources.parquetrows import ParquetPictures, read_parquet, read_row_groups

    load_pyarrow()
    retries: Counter = Counter()
    files, pinned = _files(spec, revision, retries)
    if not files:
        raise DataError("there is no such file or folder, or no .parquet in it")
    where = os.path.basename(files[0].name) if len(files) == 1 else f"{len(files)} Parquet files"
    remote = RemoteFiles(retries)
    groups, schema = read_row_groups(files, remote)
    check_columns(schema.names, columns, where)
    if not any(group.rows for group in groups):
        raise DataError(f"{where}: no rows")
    image = _picture_column(schema, columns)
    if image is not None:
        source = ParquetPictures(spec, groups, schema, columns, image, remote)
        source.revision, source.retries = pinned, retries
        return source
    if files[0].url.startswith(WEB):
        raise DataError(
            f"no column of {where} holds pictures: {', '.join(schema.names)}. Fetch the files and what is beside"
        )
    path = Path(files[0].url).parent if len(files) > 1 else Path(files[0].url)
    table = read_parquet(path, [file.url for file in files], schema, columns)
    folder = Path(files[0].url).parent
    return TableSource(spec, table, columns, PicturesBeside(folder, columns, table.columns, probe_rows(table)))
