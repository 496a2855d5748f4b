"""WebDataset shards: a folder, a glob, braces, a list of them; on disk, over http(s) or on the Hugging Face hub."""

import os
import threading
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from geospot.data.fields import USUAL, Columns
from geospot.data.records import Record, Skip, Source
from geospot.data.sources.listing import some_pictures
from geospot.data.sources.rows import coordinates_mend
from geospot.data.tar import read_group, read_groups
from geospot.errors import DataError
from geospot.files import foreign_content
from geospot.net.patterns import expand_braces, parse_list
from geospot.net.retry import PATIENT, FileChanged, RemoteError, RetryPolicy

if TYPE_CHECKING:
    from geospot.net.hub import HubFile

EXAMPLE = "shards/, 'shards/{0000..0489}.tar', https://HOST/{00..99}.tar, hf://datasets/OWNER/NAME/FOLDER/*.tar"
WEB = ("http://", "https://")
READ_BYTES = 1 << 20
_PACKED = ("*.tar.gz", "*.tgz", "*.tar.zst", "*.tar.xz", "*.tar.bz2")


def matches(spec: str, columns: Columns = USUAL) -> bool:
    """Whether this is about tar files, or a .txt list of them; a data set of the hub is, unless it says otherwise."""
    if _is_hub(spec):
        return not spec.endswith((".parquet", ".csv", ".json"))
    path = Path(spec).expanduser()
    if path.is_dir():  # no deeper: a folder of pictures may hold millions
        if any(next(path.glob(pattern), None) for pattern in ("*.tar", "*/*.tar")):
            return True  # packed ones are refused with the remedy, unless they lie beside photos
        return any(next(path.glob(pattern), None) for pattern in _PACKED) and not some_pictures(path, 1)
    return ".tar" in spec or spec.endswith((".txt", ".tgz"))


def open_source(spec: str, columns: Columns = USUAL, revision: str | None = None) -> Source:
    """The shards; DataError where there are none."""
    retries: Counter = Counter()
    if _is_hub(spec):
        from geospot.net.hub import find_files

        found = find_files(spec, revision, counts=retries)
        if all(file.name.endswith(".parquet") for file in found.files):
            from geospot.data.sources import parquet

            return parquet.open_source(spec, columns, found.revision)
        return Shards(spec, found.files, columns=columns, revision=found.revision, retries=retries)
    if spec.startswith(WEB):
        from geospot.data.lists import find_web_files

        return Shards(spec, find_web_files(spec, counts=retries), columns=columns, retries=retries)
    return Shards(spec, find_shards(spec), columns=columns, retries=retries)


def _is_hub(spec: str) -> bool:
    if "://" not in spec:
        return False
    from geospot.net.hub import is_hub

    return is_hub(spec)


class Shard(NamedTuple):
    """url: an address, or a path on this machine. size: bytes, where it is known. As `geospot.net.hub.HubFile`."""

    name: str
    url: str
    size: int | None = None


def find_shards(spec: str) -> list[Shard]:
    """The shards behind a folder, a tar file, a glob, braces or a list file (.txt); DataError if there are none."""
    path = Path(spec).expanduser()
    listed = None
    if path.suffix == ".txt" and path.is_file():
        listed = _listed(path)
        shards, what = [shard.url for shard in listed], ""
    else:
        shards, what = _on_disk(path)
    if not shards:
        raise DataError(f"data={spec!r}: {what}. Give a folder of .tar shards or a glob such as 'shards/*.tar'")
    if missing := [shard for shard in shards if "://" not in shard and not Path(shard).is_file()]:
        raise DataError(f"data={spec!r}: {len(missing)} of {len(shards)} shards are missing, the first {missing[0]}")
    return listed or [Shard(shard, shard) for shard in shards]


def _listed(path: Path) -> list:
    try:
        text = path.read_bytes()
        lines = [] if foreign_content(text[:512]) else parse_list(text.decode())
    except (OSError, ValueError):
        lines = []
    if lines and not any("://" in line for line in lines):
        return [Shard(name, name) for line in lines for name in [str(path.parent / Path(line).expanduser())]]
    from geospot.data.lists import read_list  # it also says what is wrong with the file

    return read_list(str(path))


def _on_disk(path: Path) -> tuple[list[str], str]:
    if path.is_dir():
        packed = sorted(p.name for pattern in _PACKED for p in path.rglob(pattern))
        also = f", but {len(packed)} packed ones such as {packed[0]}: unpack them (gunzip, unzstd)" if packed else ""
        return sorted(str(p) for p in path.rglob("*.tar")), f"the folder {path} holds no .tar file{also}"
    if path.is_file():
        return [str(path)], ""
    names = expand_braces(str(path))
    shards: list[str] = []
    for name in names:  # one that braces name must be there
        shards += [name] if len(names) > 1 and not has_magic(name) else sorted(glob(name, recursive=True))
    return shards, f"nothing matches {path}"


class Shards(Source):
    """Tar shards; a cursor is the byte at which a group begins."""

    def __init__(
        self,
        spec: str,
        shards: "Sequence[Shard | HubFile | str]",
        *,
        columns: Columns = USUAL,
        revision: str | None = None,
        retries: Counter | None = None,
        policy: RetryPolicy | None = None,
    ):
        files = [Shard(shard, shard) if isinstance(shard, str) else shard for shard in shards]
        self.spec, self.revision, self._files = spec, revision, files
        self.parts = [file.name for file in files]
        self.remote = any(file.url.startswith(WEB) for file in files)
        self.retries = Counter() if retries is None else retries
        self._columns = columns
        self._first: tuple[str, Any] | None = None
        self._policy = {} if policy is None else {"policy": policy}
        self._remote = RemoteFiles(self.retries)

    def read(self, part: int, start: int = 0) -> Generator[Record | Skip]:
        """The groups of a shard; one that cannot be read (further) is a Skip."""
        name = self.parts[part]
        try:
            with self._open(part) as file:
                for item in read_groups(file, name, start, self._path(part)):
                    if self._first is None and isinstance(item, Record):
                        self._first = f"The sample {item.key} of {name}", item.fields
                    yield item
        except FileNotFoundError:
            yield Skip("missing shard", name)
        except FileChanged as error:
            yield Skip("changed shard", str(error))
        except RemoteError as error:
            yield Skip("unreadable shard", str(error))
        except OSError as error:
            yield Skip("unreadable shard", f"{name}: {error}")

    def fetch(self, part: int, start: int, end: int) -> Record:
        """The group at these bytes."""
        name = self.parts[part]
        with self._open(part) as file:
            if self._path(part) is None:
                return read_group(file.fetch(start, end), name, start)
            found = next(read_groups(file, name, start, self._path(part)), None)
        if not isinstance(found, Record) or (found.start, found.end) != (start, end):
            raise OSError(f"{name}: no sample at byte {start}")
        return found

    def count(self) -> int:
        """How many samples there are at most: one pass over the headers, for shards on this machine."""
        return sum(isinstance(item, Record) for part in range(len(self.parts)) for item in self.read(part))

    def _path(self, part: int) -> str | None:
        """Where a shard lies on this machine."""
        url = self._files[part].url
        return None if url.startswith(WEB) else url

    def close(self) -> None:
        """Wake who reads from the network."""
        self._remote.close()

    @property
    def mend(self) -> str:
        """Of the first sample that was read."""
        return coordinates_mend(self._first[1], self._columns, self._first[0]) if self._first else ""

    @contextmanager
    def _open(self, part: int) -> Generator[Any]:
        shard = self._files[part]
        if self._path(part) is None:
            with self._remote.open(shard.url, shard.size, **self._policy) as file:
                yield file
            return
        with open(shard.url, "rb", buffering=READ_BYTES) as file:
            if hasattr(os, "posix_fadvise"):  # not on a Mac
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            yield file


# --- over a network --------------------------------------------------------------------------------------------------

# What reads from a network takes a second to import: it is left to those who do.


class RemoteFiles:
    """Opens files by their addresses, with the hub's token where they are the hub's. retries: counted by reason."""

    def __init__(self, retries: Counter):
        self._retries = retries
        self._open: set = set()
        self._lock = threading.RLock()  # a generator that is collected within closes its file in the same thread

    @contextmanager
    def open(self, url: str, size: int | None = None, policy: RetryPolicy = PATIENT) -> Generator:
        """A `geospot.net.http.RemoteFile`, until the end of the block or `close`."""
        from geospot.net.http import open_url
        from geospot.net.hub import hub_headers

        with open_url(url, headers=hub_headers(url), counts=self._retries, size=size, policy=policy) as file:
            with self._lock:
                self._open.add(file)
            try:
                yield file
            finally:
                with self._lock:
                    self._open.discard(file)

    def close(self) -> None:
        """Close what is open: a thread that waits for its bytes ends in an error. What is opened later is read."""
        with self._lock:
            files = list(self._open)
        for file in files:
            file.close()
