"""Numbered shards written sample by sample, so that a killed writer goes on at the byte where it was last safe."""

import io
import os
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geospot.data.facts import digest
from geospot.data.samples import Sample
from geospot.data.tar import pack_samples, read_groups
from geospot.errors import DataError
from geospot.files import is_space_error, write_error

END = bytes(tarfile.BLOCKSIZE * 2)  # two blocks of zeros end a tar; tarfile pads it to a whole record
PARTIAL = ".partial"
RECENT = 100_000


class ShardWriter:
    """`folder/name-000000.tar`, `-000001.tar` ...: each of `shard_samples` samples, the last of what is left.

    The shard at hand is `*.tar.partial`. `sync` makes what was written safe; `state` then says where that is, and a
    writer made with `start=state` goes on there, whatever was written behind it.
    """

    def __init__(self, folder: Path, name: str, shard_samples: int, start: dict | None = None):
        start = start or {"shard": 0, "samples": 0, "bytes": 0, "total": 0, "pictures": 0}
        self.folder, self.name, self.shard_samples = folder, name, shard_samples
        self._shard, self._samples, self._bytes = start["shard"], start["samples"], start["bytes"]
        self.total, self.pictures = start["total"], start["pictures"]
        self._file: Any = None
        if self._bytes:
            self._open(self._bytes)

    @property
    def shards(self) -> list[str]:
        """Names of the finished ones."""
        return [self._name(i) for i in range(self._shard)]

    def write(self, samples: Sequence[Sample]) -> bool:
        """Append samples; whether a shard was finished."""
        finished = False
        while samples:
            now, samples = samples[: self.shard_samples - self._samples], samples[self.shard_samples - self._samples :]
            if not self._file:
                self._open(0)
            data = _members(now)
            self._guard(self._file.write, data)
            self._bytes += len(data)
            self._samples += len(now)
            self.total += len(now)
            self.pictures += sum(len(sample.pictures) for sample in now)
            if self._samples == self.shard_samples:
                self.finish()
                finished = True
        return finished

    def finish(self) -> None:
        """End the shard at hand, if there is one."""
        if self._file is None:
            return
        padding = -(self._bytes + len(END)) % tarfile.RECORDSIZE
        self._guard(self._file.write, END + bytes(padding))
        self.sync()
        self._file.close()
        self._file = None
        final = self.folder / self._name(self._shard)
        os.replace(self._partial(), final)
        self._shard, self._samples, self._bytes = self._shard + 1, 0, 0

    def sync(self) -> None:
        """Wait until the disk has what was written."""
        if self._file:
            self._guard(self._file.flush)
            self._guard(os.fsync, self._file.fileno())

    def state(self) -> dict:
        """JSON: where the writer is."""
        return {
            "shard": self._shard,
            "samples": self._samples,
            "bytes": self._bytes,
            "total": self.total,
            "pictures": self.pictures,
        }

    def close(self) -> None:
        """Close the file; the shard at hand stays partial."""
        if self._file:
            self._file.close()
            self._file = None

    def _open(self, size: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        partial, final = self._partial(), self.folder / self._name(self._shard)
        if size and not partial.exists() and final.exists():
            os.replace(final, partial)  # it was finished after its state was saved
        if not size:
            partial.write_bytes(b"")
        have = partial.stat().st_size if partial.exists() else 0
        if have < size:
            raise DataError(
                f"{partial} has {have} of the {size} bytes that were safe when packing stopped; delete {self.folder} "
                "and pack again"
            )
        os.truncate(partial, size)
        self._file = open(partial, "ab")  # noqa: SIM115  open as long as the shard is at hand

    def _guard(self, call: Callable, *args: Any) -> None:
        try:
            call(*args)
        except OSError as error:
            if is_space_error(error):
                raise write_error(self._partial(), error) from error
            raise

    def _name(self, shard: int) -> str:
        return f"{self.name}-{shard:06d}.tar"

    def _partial(self) -> Path:
        return self.folder / (self._name(self._shard) + PARTIAL)


def _members(samples: Sequence[Sample]) -> bytes:
    """The samples' part of a tar, without its end."""
    packed = pack_samples(samples)
    [*_, last] = read_groups(io.BytesIO(packed), "packed")
    return packed[: last.end]


class SeenHashes:
    """A growing set of 64-bit hashes, 8 bytes of memory each; kept in a file for those who resume."""

    def __init__(self, path: Path, n: int = 0):
        """`n`: how many of the file's hashes are from before the resume."""
        path.touch()
        if path.stat().st_size < 8 * n:
            raise DataError(f"{path} is cut off; delete {path.parent.parent} and pack again")
        os.truncate(path, 8 * n)
        self._sorted = np.sort(np.fromfile(path, "<u8"))
        self._file = open(path, "ab")  # noqa: SIM115  held open as long as the object
        self._recent: set[int] = set()
        self.n = n

    def __contains__(self, hashed: int) -> bool:
        i = np.searchsorted(self._sorted, np.uint64(hashed))
        return hashed in self._recent or bool(i < len(self._sorted) and self._sorted[i] == hashed)

    def add(self, hashed: int) -> None:
        """Keep one more."""
        self._recent.add(hashed)
        self._file.write(hashed.to_bytes(8, "little"))
        self.n += 1
        if len(self._recent) >= RECENT:
            self._sorted = np.sort(np.concatenate([self._sorted, np.array(list(self._recent), np.uint64)]))
            self._recent = set()

    def sync(self) -> None:
        """Wait until the disk has them."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class UniqueKeys:
    """Gives every sample of a set a key of its own."""

    def __init__(self, given: SeenHashes):
        self._given = given
        self._next: dict[str, int] = {}

    def take(self, key: str) -> str:
        """The key without dots, which end a key in a shard; with `-2`, `-3` ... where it was given before."""
        key = key.replace(".", "_")
        key = f"{key}sample" if not key or key.endswith("/") else key
        free, number = key, self._next.get(key, 2)
        while (hashed := digest(free.encode())) in self._given:
            free, number = f"{key}-{number}", number + 1
        if free != key:
            self._next[key] = number
        self._given.add(hashed)
        return free
