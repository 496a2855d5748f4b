"""OpenStreetView-5M as downloaded: train.csv and test.csv, and the pictures in images/{train,test}, zipped or not."""

import warnings
from collections.abc import Mapping
from pathlib import Path, PurePath

from geospot.data.fields import USUAL, Columns
from geospot.data.records import Skip, Source
from geospot.data.sources.beside import Located
from geospot.data.sources.csvtable import open_csv, read_columns
from geospot.data.sources.rows import TableSource, check_columns
from geospot.data.sources.stems import PictureStems
from geospot.errors import DataError
from geospot.pictures import is_picture

EXAMPLE = "osv5m/train: the split `train` of a folder osv5m with train.csv and images/train/*.zip (or unpacked)"
SPLITS = ("train", "test")


def _splits(root: Path) -> list[str]:
    return [split for split in SPLITS if (root / f"{split}.csv").is_file() and (root / "images" / split).is_dir()]


def _find(spec: str) -> tuple[Path, list[str]]:
    """The data set's folder and the splits meant: that of DIR/train or DIR/train.csv, or those there are in DIR."""
    path = Path(spec).expanduser()
    name = path.name.removesuffix(".csv")
    if name in SPLITS and name in _splits(path.parent):
        return path.parent, [name]
    return path, _splits(path)


def matches(spec: str, columns: Columns = USUAL) -> bool:
    """A folder with train.csv and images/train (or test), or a split of one."""
    return "://" not in spec and bool(_find(spec)[1])


def open_source(spec: str, columns: Columns, revision: str | None) -> Source:
    """Records of one split."""
    root, splits = _find(spec)
    if not splits:
        raise DataError(f"{root} holds no train.csv with images/train beside it (or test.csv with images/test)")
    if len(splits) > 1:
        raise DataError(f"{root} has a train and a test split; say {root / 'train'} or {root / 'test'}")
    [split] = splits
    path = root / f"{split}.csv"
    names = read_columns(path, columns)
    check_columns(names, columns, path.name)
    column = columns.find("key", names) or columns.find("image", names)
    if column is None:
        raise DataError(f"{path.name} has no column `id`; it has {', '.join(names)}. Say columns=key=COLUMN")
    table = open_csv(path, columns)
    stems = PictureStems(root / "images" / split)
    if not len(stems):
        why = "".join(f"; {reason}" for reason in stems.unreadable[:1])
        raise DataError(f"{root / 'images' / split} holds no picture, nor a zip of pictures{why}")
    if len(stems) < 0.99 * table.rows:
        warnings.warn(
            f"{stems.folder} holds {len(stems)} pictures for the {table.rows} rows of {path.name}", stacklevel=2
        )

    def locate(fields: Mapping) -> Located | Skip:
        value = str(fields.get(column, "")).strip()
        stem = PurePath(value).stem if is_picture(PurePath(value).name) else value
        picture = stems.find(stem)
        if picture is None:
            return Skip("picture file missing", f"{column}={value} is nowhere in {stems.folder}")
        return (picture,), (f"{stem}.jpg",)

    return TableSource(spec, table, columns, locate)
