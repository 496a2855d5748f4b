"""Finds the picture files that the rows of a table name: by a path, or by a key and a picture's suffix."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from geospot.data.fields import Columns
from geospot.data.records import Skip, StoredPicture
from geospot.data.stored import StoredFile
from geospot.errors import DataError
from geospot.pictures import PICTURE_SUFFIXES, is_picture

Located = tuple[tuple[StoredPicture, ...], tuple[str, ...]]  # pictures and their names

_SUFFIXES = (*PICTURE_SUFFIXES, *(suffix.upper() for suffix in PICTURE_SUFFIXES))
_MAX_FOLDERS = 100
_MAX_MISSES = 64  # rows that are sought everywhere; each costs thousands of looks

# How a value may be written on disk. Flickr sets (MP16, YFCC4k) write IMG_ID=a/b/c.jpg and store a_b_c.jpg.
_WAYS: dict[str, Callable[[str], str]] = {
    "as it is": lambda value: value,
    "with _ for /": lambda value: value.replace("/", "_"),
    "its last part": lambda value: PurePosixPath(value).name,
}


@dataclass(frozen=True)
class _Rule:
    column: str
    folder: str
    way: str
    suffix: str

    def path(self, fields: Mapping) -> str | None:
        cell = fields.get(self.column)
        if not isinstance(cell, str | int) or not (value := str(cell).strip()):
            return None
        value = value.replace("\\", "/")
        if is_picture(PurePosixPath(value).name) == bool(self.suffix):  # "./0.jpg" is one
            return None
        return os.path.join(self.folder, _WAYS[self.way](value) + self.suffix)


class PicturesBeside:
    """Where the pictures of a table's rows are: the rules that find some of its rows' files, the usual ones first.

    A table names its pictures in one way, or in a few (one a folder): all that is tried is learnt from `probe`, rows
    from all over the table, so that a row is found or missing whatever was read before it. DataError if none is found.
    """

    def __init__(self, folder: Path, columns: Columns, names: list[str], probe: Iterable[Mapping]):
        sources = [columns.find(name, names) for name in ("image", "key")]
        self._columns = [name for name in dict.fromkeys(sources) if name is not None]
        if not self._columns:
            raise DataError(
                f"no column names the pictures; there are {', '.join(names)}. Say columns=image=COLUMN (paths of "
                "files), or columns=key=COLUMN (file names without suffix)"
            )
        folders = list(picture_folders(folder))
        hits: Counter[_Rule] = Counter()
        probe = list(probe)
        misses = 0
        for fields in probe:
            if misses == _MAX_MISSES:
                break
            misses += 1
            if rule := next((r for r in self._candidates(folders, hits) if _is_file(r.path(fields))), None):
                hits[rule] += 1
                misses -= 1
        self._rules = [rule for rule, _ in hits.most_common()]
        if not self._rules:
            first = next(iter(probe), {})
            if any(str(first.get(column)).startswith(("http://", "https://")) for column in self._columns):
                raise DataError(
                    "its pictures are addresses on the web; fetch them first, and name their files in a column"
                )
            shown = ", ".join(f"{column}={first.get(column)!r}" for column in self._columns)
            raise DataError(
                f"none of {misses} rows' pictures is found (the first: {shown}); looked in "
                f"{', '.join(map(str, folders[:6]))}{' and others' if len(folders) > 6 else ''}. Put the pictures "
                "there, or say columns=image=COLUMN"
            )

    def _candidates(self, folders: list[Path], hits: Counter) -> Iterator[_Rule]:
        yield from list(hits)
        for column in self._columns:
            for folder in folders:
                for way in _WAYS:
                    yield from (_Rule(column, str(folder), way, suffix) for suffix in ("", *_SUFFIXES))

    def __call__(self, fields: Mapping) -> Located | Skip:
        """The row's picture, or why there is none."""
        paths = [path for rule in self._rules if (path := rule.path(fields))]
        for path in paths:
            if os.path.isfile(path):
                return (StoredFile(path),), (os.path.basename(path),)
        if not paths:
            return Skip("no picture", f"no picture's name in {' or '.join(self._columns)}")
        if odd := next(filter(os.path.lexists, paths), None):
            return Skip("not a regular file", odd)
        return Skip("picture file missing", paths[0])


def picture_folders(folder: Path) -> Iterator[Path]:
    """Where a table's pictures may lie: beside it, in folders below, in a sibling `images`; at most a hundred."""
    yield folder
    below = list(_folders(folder))
    below += [deeper for upper in below for deeper in _folders(upper)]
    yield from below[:_MAX_FOLDERS]
    for name in ("images", "image", "img", "imgs", "photos", "pictures"):
        if (sibling := folder.parent / name).is_dir():
            yield sibling


def _folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        found = islice(
            (e.name for e in entries if os.path.isdir(e.path) and not e.name.startswith(".")), 50 * _MAX_FOLDERS
        )
        return [folder / name for name in sorted(found)[:_MAX_FOLDERS]]


def _is_file(path: str | None) -> bool:
    return path is not None and os.path.isfile(path)
