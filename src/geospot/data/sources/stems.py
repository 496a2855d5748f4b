"""Millions of pictures in zips and folders, found by name without suffix: 23 bytes each, mapped from the cache."""

import os
import warnings
import zipfile
from pathlib import Path

import numpy as np

from geospot.data.sources.kept import file_facts, find_sorted, kept_index, text_hash
from geospot.data.sources.listing import check_file
from geospot.data.stored import DEFLATED, STORED, StoredFile, ZipMember
from geospot.errors import DataError
from geospot.pictures import PICTURE_SUFFIXES, is_picture
from geospot.progress import Progress

_LAYOUT = 2
_SUFFIXES = (*PICTURE_SUFFIXES, *(suffix.upper() for suffix in PICTURE_SUFFIXES))
_IN_FOLDER = 255  # a "compression method" of our own: the offset is then the number of a suffix
_ENCRYPTED = 1
_FIELDS = {"hash": np.uint64, "offset": np.uint64, "size": np.uint32, "container": np.uint16, "method": np.uint8}


class PictureStems:
    """The pictures in the zips of a folder and in the folder itself, with all below it.

    Zips' directories are read once, by whoever opens this; a picture carries where it lies. Of two pictures of one name
    the first counts: zips before folders, in the order of their names.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._zips = sorted(folder.rglob("*.zip"))
        self._folders = [Path(root) for root, _, _ in sorted(os.walk(folder))]
        if len(self._zips) + len(self._folders) > np.iinfo(np.uint16).max:
            raise DataError(f"{folder} holds more than 65,535 zips and folders")
        made_from = [_LAYOUT, *map(file_facts, self._zips), *map(file_facts, self._folders)]
        self._arrays, facts = kept_index(made_from, self._make)
        self.unreadable = facts["unreadable"]
        for reason in self.unreadable:
            warnings.warn(f"a zip cannot be read, its pictures count as missing: {reason}", stacklevel=2)

    def __len__(self) -> int:
        return len(self._arrays["hash"])

    def find(self, stem: str) -> StoredFile | ZipMember | None:
        """The picture of this name, or None."""
        i = find_sorted(self._arrays["hash"], stem)
        if i is None:
            return None
        container, offset, method = (int(self._arrays[name][i]) for name in ("container", "offset", "method"))
        if method == _IN_FOLDER:
            folder = self._folders[container - len(self._zips)]
            return StoredFile(str(folder / (stem + _SUFFIXES[offset])))
        return ZipMember(str(self._zips[container]), offset, int(self._arrays["size"][i]), method, stem)

    def _make(self) -> tuple[dict[str, np.ndarray], dict]:
        chunks, unreadable = [], []
        with Progress(f"listing the pictures of {self.folder}", total=len(self._zips) + len(self._folders)) as bar:
            for i, path in enumerate(self._zips):
                try:
                    chunks.append(_columns(_zip_entries(path, i)))
                except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
                    unreadable.append(f"{path}: {error}")
                bar.advance(1)
            for i, path in enumerate(self._folders, len(self._zips)):
                chunks.append(_columns(_folder_entries(path, i)))
                bar.advance(1)
        columns = {name: np.concatenate([chunk.pop(name) for chunk in chunks]) for name in _FIELDS}
        _, first = np.unique(columns["hash"], return_index=True)  # sorted by hash, the first of each
        return {name: columns.pop(name)[first] for name in _FIELDS}, {"unreadable": unreadable}


def _columns(entries: list[tuple]) -> dict[str, np.ndarray]:
    columns = zip(*entries, strict=True) if entries else [()] * len(_FIELDS)
    return {name: np.array(column, kind) for (name, kind), column in zip(_FIELDS.items(), columns, strict=True)}


def _zip_entries(path: Path, container: int) -> list[tuple]:
    entries = []
    check_file(path, "a zip archive")
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.filename.rpartition("/")[2]
            if not is_picture(name) or info.flag_bits & _ENCRYPTED or info.compress_type not in (STORED, DEFLATED):
                continue
            stem = name.rpartition(".")[0]
            entries.append((text_hash(stem), info.header_offset, info.compress_size, container, info.compress_type))
    return entries


def _folder_entries(path: Path, container: int) -> list[tuple]:
    entries = []
    with os.scandir(path) as found:
        for entry in found:
            if not is_picture(entry.name):
                continue
            stem, suffix = os.path.splitext(entry.name)
            if suffix in _SUFFIXES:
                entries.append((text_hash(stem), _SUFFIXES.index(suffix), 0, container, _IN_FOLDER))
    return sorted(entries)  # scandir's order is the file system's
