"""What lies in a folder, for finding out what kind of data it is: little of it is read, however much there is."""

import os
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from geospot.errors import BadSample, did_you_mean, mean_path
from geospot.files import foreign_content
from geospot.pictures import is_picture, open_file

_LOOK_AT = 2000  # entries of a folder

WORDS = ("bluemarble", "cells", "auto", "none")  # what a key of data may say in place of a source


def local_path(spec: str) -> Path | None:
    """The path that a spec names, where it exists."""
    path = Path(spec).expanduser()
    try:
        return path if spec and path.exists() else None
    except (OSError, ValueError):  # a name too long, a NUL
        return None


def files_in(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files of a folder, not of those below, whose names end so; sorted. None where it is no folder."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.name.lower().endswith(suffixes) and not e.name.startswith(".")]
    return sorted(folder / name for name in names if (folder / name).is_file())


def check_file(path: str | Path, but: str = "") -> None:
    """BadSample, a ValueError, where a path is no regular file, or holds a pointer, a page or a packed file instead.

    Opening a FIFO would wait for its writer for ever. but: what `foreign_content` may call it.
    """
    with open_file(path, most=None) as file:
        foreign = foreign_content(file.read(512))
    if foreign is not None and foreign[0] != but:
        raise BadSample("unreadable file", f"{path} is {foreign[0]}: {foreign[1]}")


def pictures_under(folder: Path) -> Iterator[str]:
    """Relative paths of all that is called like a picture in a folder and below, sorted folder by folder.

    Links are followed, once. What is no regular file is among them: whoever reads it counts it by its name.
    """
    seen: set[tuple[int, int]] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        status = os.stat(root)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = os.path.relpath(root, folder)
        names += folders  # a folder called x.jpg is no picture, and is counted as what it is
        for name in sorted(filter(is_picture, names)):
            yield name if below == "." else os.path.join(below, name)


def some_pictures(folder: Path, n: int = 20) -> list[str]:
    """A few of the pictures under a folder."""
    return list(islice(pictures_under(folder), n))


def describe(spec: str) -> str:
    """What is found where a spec points, for people."""
    if "://" in spec:
        return "no kind reads this address: only tar shards, lists of them and Parquet are read over http(s) and hf://"
    path = local_path(spec)
    if path is None:
        parent = Path(spec).expanduser().parent
        known = "" if parent.is_dir() else f" (nor is there a folder {parent})"
        return f"there is no such file or folder{known}{mean_path(spec) or did_you_mean(spec, WORDS)}"
    if path.is_file():
        return f"no kind reads a file called {path.name}"
    if not path.is_dir():
        return f"{path} is neither a regular file nor a folder"
    with os.scandir(path) as entries:
        looked = list(islice(entries, _LOOK_AT))
    if not looked:
        return f"the folder {path} is empty"
    kinds = Counter(
        "folders" if os.path.isdir(e.path) else os.path.splitext(e.name)[1].lower() or "no suffix" for e in looked
    )
    return f"the folder {path} holds " + ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(6))
