"""Indexes of large data, made once and kept in the cache as arrays that are mapped, not read, by later runs."""

import fcntl
import hashlib
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np

from geospot.files import atomic_folder, cache_folder

KEEP_AFTER_S = 1.0  # an index made faster is made again
T = TypeVar("T")
Index = tuple[dict[str, np.ndarray], dict]  # arrays by name, and facts that JSON can say


def kept_index(made_from: Sequence[object], make: Callable[[], Index]) -> Index:
    """The index that `make` gives, kept under what it is made from: paths, sizes, times of change, a layout number."""
    with _locked(made_from) as folder:
        return _load(folder) or _make_and_keep(folder, make)


def kept_folder(made_from: Sequence[object], fill: Callable[[Path], None], load: Callable[[Path], T]) -> T:
    """What `load` opens of the folder that `fill` wrote its files to, kept as an index is."""
    with _locked(made_from) as folder:
        try:
            if not folder.is_dir():
                with atomic_folder(folder) as temp:
                    fill(temp)
        except OSError as error:
            warnings.warn(f"{folder} cannot be written ({error}): its files are made at every start", stacklevel=3)
            with tempfile.TemporaryDirectory() as passing:  # what is mapped stays when the names are gone
                fill(Path(passing))
                return load(Path(passing))
        return load(folder)


@contextmanager
def _locked(made_from: Sequence[object]) -> Generator[Path]:
    """A folder of the cache; of several processes one at a time makes it, the others wait for it."""
    name = hashlib.sha256(json.dumps(list(made_from)).encode()).hexdigest()[:24]
    folder = cache_folder() / "index" / name
    with ExitStack() as held:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context(open(folder.with_suffix(".lock"), "w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            pass  # nowhere to keep it: said by who tries
        yield folder


def _make_and_keep(folder: Path, make: Callable[[], Index]) -> Index:
    start = time.monotonic()
    arrays, facts = make()
    if time.monotonic() - start < KEEP_AFTER_S:
        return arrays, facts
    try:
        with atomic_folder(folder) as temp:
            for key, array in arrays.items():
                np.save(temp / f"{key}.npy", array)
            (temp / "facts.json").write_text(json.dumps({"arrays": list(arrays), **facts}))
    except OSError as error:
        warnings.warn(f"an index cannot be kept in {folder} ({error}): it is made again at every start", stacklevel=2)
        return arrays, facts
    return _load(folder) or (arrays, facts)  # what was made is freed


def file_facts(path: Path) -> list:
    """By what a file is known again on this machine."""
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def _load(folder: Path) -> Index | None:
    try:
        facts = json.loads((folder / "facts.json").read_text())
        return {key: np.load(folder / f"{key}.npy", mmap_mode="r") for key in facts.pop("arrays")}, facts
    except (OSError, ValueError, KeyError, EOFError):
        return None


def text_hash(text: str) -> int:
    """64 bits of a text: of 5 million texts, two share them with a chance of 1 in a million."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def find_sorted(hashes: np.ndarray, text: str) -> int | None:
    """Where a text's hash lies in a sorted array of them, or None."""
    wanted = np.uint64(text_hash(text))
    i = int(np.searchsorted(hashes, wanted))
    return i if i < len(hashes) and hashes[i] == wanted else None
