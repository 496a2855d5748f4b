"""What lies in a folder, for finding out what kind of data it is: little of it is read, however much there is."""

import os
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from geospot.data.pictures import PICTURE_SUFFIXES

_LOOK_AT = 2000  # entries of a folder


def local_path(spec: str) -> Path | None:
    """The path that a spec names, where it exists."""
    path = Path(spec).expanduser()
    try:
        return path if spec and path.exists() else None
    except (OSError, ValueError):  # a name too long, a NUL
        return None


def is_picture(name: str) -> bool:
    """Whether a file's name ends as a picture's does; what begins with a dot is none (`._a.jpg` of macOS)."""
    return name.lower().endswith(PICTURE_SUFFIXES) and not name.startswith(".")


def files_in(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files of a folder, not of those below, whose names end so; sorted."""
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.name.lower().endswith(suffixes) and not e.name.startswith(".")]
    return sorted(folder / name for name in names if (folder / name).is_file())


def pictures_under(folder: Path) -> Iterator[str]:
    """Relative paths of all pictures in a folder and below, sorted folder by folder; links are followed, once."""
    seen: set[tuple[int, int]] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        status = os.stat(root)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = os.path.relpath(root, folder)
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
        return f"there is no such file or folder{known}"
    if path.is_file():
        return f"no kind reads a file called {path.name}"
    with os.scandir(path) as entries:
        looked = list(islice(entries, _LOOK_AT))
    if not looked:
        return f"the folder {path} is empty"
    kinds = Counter("folders" if e.is_dir() else os.path.splitext(e.name)[1].lower() or "no suffix" for e in looked)
    return f"the folder {path} holds " + ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(6))
