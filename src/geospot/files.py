"""Files that neither a crash nor a full disk leaves half-written: atomic JSON and folders, JSON lines, a lock.

Everything a run writes goes through here, so that what was saved stays whole whatever stops the next write.
"""

import errno
import fcntl
import json
import os
import re
import shutil
import socket
import warnings
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

from geospot.errors import RunError

_SPACE_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_LEFTOVER = re.compile(r"^(?P<name>.+)\.(?P<kind>tmp|old)-\d+$")
_LOCKED_HERE: set[Path] = set()  # POSIX locks do not exclude within one process: this does


def cache_folder() -> Path:
    """Where made data is kept: $GEOSPOT_CACHE, or ~/.cache/geospot."""
    return Path(os.environ.get("GEOSPOT_CACHE") or Path.home() / ".cache" / "geospot")


def free_space(path: str | Path) -> str:
    """Free space on the disk that holds (or would hold) `path`, for people: '12.3 MB'."""
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    return f"{free / 1e9:.1f} GB" if free >= 1e9 else f"{free / 1e6:.2f} MB"


def write_error(path: str | Path, cause: BaseException) -> OSError:
    """The error for a write that failed for want of room: names the path, the reason, the free space and the remedy."""
    code = getattr(cause, "errno", None) or errno.EIO
    reason = os.strerror(cause.errno) if isinstance(cause, OSError) and cause.errno else str(cause)
    return OSError(
        code,
        f"cannot write {path}: {reason} ({free_space(path)} free on that disk). What was saved before is whole: "
        "make room, then start the same command again to resume",
    )


def is_space_error(error: BaseException) -> bool:
    """Whether `error` is the system's word for 'no room': disk full, quota used up, file size limit."""
    return isinstance(error, OSError) and error.errno in _SPACE_ERRNOS


def write_json_atomic(path: str | Path, value: object) -> None:
    """Write `value` as strict JSON (no NaN) so that `path` holds the old text or the new one, never a part."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes_atomic(path, text.encode(errors="backslashreplace"))  # a file's name need not be UTF-8: "\\udcff"


def write_bytes_atomic(path: str | Path, data: bytes) -> None:
    """Write to a temporary neighbour, fsync, rename over `path`, fsync the folder."""
    path = Path(path)
    temp = _temp_name(path)
    try:
        with open(temp, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temp, path)
        _sync(path.parent)
    except BaseException as error:
        failure = write_error(path, error) if is_space_error(error) else None
        with suppress(OSError):
            temp.unlink()
        if failure:
            raise failure from error
        raise


@contextmanager
def atomic_folder(path: str | Path) -> Generator[Path]:
    """Yield a temporary folder that becomes `path` when the block ends well; on any error `path` stays as it was.

    A folder already at `path` is replaced whole. Parents are made. A block that fails for want of room raises an
    OSError with path and free space; any other error passes through with a note that names the path.
    """
    path = Path(path).absolute()
    temp = _temp_name(path)
    try:
        shutil.rmtree(temp, ignore_errors=True)
        temp.mkdir(parents=True)
        yield temp
        for folder, _, names in os.walk(temp):
            for place in (Path(folder), *(Path(folder, name) for name in names)):
                if not place.is_symlink():
                    _sync(place)
        _swap_in(temp, path)
    except BaseException as error:
        note = f"while writing {path} ({free_space(path)} free on that disk); what was there before is untouched"
        failure = write_error(path, error) if is_space_error(error) else None
        shutil.rmtree(temp, ignore_errors=True)
        if failure:
            raise failure from error
        error.add_note(note)
        raise


def _swap_in(temp: Path, path: Path) -> None:
    """Rename `temp` to `path`; a folder there is moved aside first and put back if the rename fails.

    No rename replaces a folder that is not empty. A kill between the two renames leaves only the folder moved
    aside, which `remove_leftovers` puts back.
    """
    aside = path.with_name(f"{path.name}.old-{os.getpid()}")
    existed = path.exists()
    if existed:
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(path, aside)
    try:
        os.rename(temp, path)
    except BaseException:
        if existed:
            os.rename(aside, path)
        raise
    _sync(path.parent)
    if existed:
        shutil.rmtree(aside, ignore_errors=True)


def remove_tree(path: Path) -> None:
    """Delete a folder so that a kill midway leaves a leftover, never a half-empty folder under its real name."""
    doomed = _temp_name(path)
    os.rename(path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def remove_leftovers(root: str | Path) -> list[Path]:
    """Clear what killed writers left below `root`; call it only while holding the lock of `root`.

    The lock, not the pid in the name, says that the writer is dead: in containers every run may have the same pid.
    Returns the paths removed or put back.
    """
    found = []
    for folder, dirs, names in os.walk(root):
        for name in [*dirs, *names]:
            match = _LEFTOVER.match(name)
            if not match:
                continue
            path, home = Path(folder, name), Path(folder, match["name"])
            if match["kind"] == "old" and not home.exists():
                os.rename(path, home)
            elif path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            found.append(path)
        dirs[:] = [name for name in dirs if not _LEFTOVER.match(name)]
    return found


def _temp_name(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp-{os.getpid()}")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class JsonLines:
    """An append-only file of one JSON object a line; a write that fails is taken back, a torn last line dropped."""

    def __init__(self, path: str | Path) -> None:
        """Open `path` for appending, making it if need be, and repair a last line torn by a kill."""
        self.path = Path(path)
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        data = self.path.read_bytes()
        _, whole = _parse_lines(data, self.path)
        if whole < len(data):
            warnings.warn(
                f"{self.path}: the last line was cut off (the run was killed while writing): dropped "
                f"{data[whole:][:80]!r}",
                RuntimeWarning,
                stacklevel=2,
            )
            os.ftruncate(self._handle, whole)
        elif data and not data.endswith(b"\n"):
            self._write(b"\n")  # a whole object that lost only its line end

    def append(self, record: dict, *, sync: bool = False) -> None:
        """Append one object; `sync` also waits for the disk."""
        self._write(json.dumps(record, allow_nan=False).encode() + b"\n")
        if sync:
            self.sync()

    def sync(self) -> None:
        """Wait until the disk has all lines."""
        os.fsync(self._handle)

    def read(self) -> list[dict]:
        """All objects."""
        return read_jsonl(self.path)

    def rewrite(self, records: Iterable[dict]) -> None:
        """Replace all lines at once, atomically."""
        lines = (json.dumps(record, allow_nan=False).encode() + b"\n" for record in records)
        write_bytes_atomic(self.path, b"".join(lines))
        os.close(self._handle)  # it points at the file that was replaced
        self._handle = os.open(self.path, os.O_RDWR | os.O_APPEND)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _write(self, line: bytes) -> None:
        size = os.fstat(self._handle).st_size
        try:
            rest = line
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except BaseException as error:
            os.ftruncate(self._handle, size)  # a full disk takes part of a line: no torn line stays
            if isinstance(error, OSError):
                raise write_error(self.path, error) from error
            raise


def read_jsonl(path: str | Path) -> list[dict]:
    """All objects of a JSON lines file, also while it is written; a last line not yet whole is left out."""
    path = Path(path)
    return _parse_lines(path.read_bytes(), path)[0]


def _parse_lines(data: bytes, path: Path) -> tuple[list[dict], int]:
    """The objects and the count of bytes they fill; only the last line may be broken."""
    records, position = [], 0
    lines = data.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            # A cut-off object is never valid JSON, so one that parses is whole even without its line end.
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("not an object")
        except ValueError as error:
            if number == len(lines):
                break
            raise RunError(
                f"{path} line {number} is not a JSON object ({error}): {line[:80]!r}. Only the last line may be cut "
                "off by a kill; repair or delete this line by hand"
            ) from error
        records.append(record)
        position += len(line)
    return records, position


class FolderLock:
    """One writer for a folder: a POSIX lock on `folder/lock`, which the system drops when the process dies.

    A record lock rather than flock: a worker forked by this process does not inherit it, so an orphaned data
    worker cannot keep a killed run's folder locked.
    """

    def __init__(self, folder: str | Path) -> None:
        """Take the lock or raise RunError with the holder's pid."""
        self.path = Path(folder).resolve() / "lock"
        if self.path in _LOCKED_HERE:
            raise RunError(f"{folder} is already open in this process (pid {os.getpid()}); close() it first")
        self._file = open(self.path, "a+")  # noqa: SIM115  held open as long as the lock
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown pid"
            self._file.close()
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise RunError(f"{folder}: this file system takes no locks ({error}); use a local disk") from error
            raise RunError(
                f"{folder} is being written by another process ({holder}); wait for it, stop it, or use another folder"
            ) from error
        _LOCKED_HERE.add(self.path)
        with suppress(OSError):  # the pid is for the message only: a full disk must not refuse the lock
            self._file.truncate(0)
            self._file.write(f"pid {os.getpid()} on {socket.gethostname()}")
            self._file.flush()

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if not self._file.closed:
            with suppress(OSError):
                self._file.close()
            _LOCKED_HERE.discard(self.path)


def is_locked(folder: str | Path) -> bool:
    """Whether somebody writes in a folder now: holds its FolderLock."""
    path = Path(folder).resolve() / "lock"
    if path in _LOCKED_HERE:  # opening and closing the file here would drop this process's own lock
        return True
    with suppress(OSError), open(path, "r+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in (errno.EACCES, errno.EAGAIN)
    return False


# What a file may begin with that is not what its name says -> (what it is, what to do about it).
_FOREIGN = (
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer", "run git lfs pull"),
    (b"\x1f\x8b", "packed by gzip", "unpack it with gunzip"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd", "unpack it with unzstd"),
    (b"\xfd7zXZ\x00", "packed by xz", "unpack it with unxz"),
    (b"BZh", "packed by bzip2", "unpack it with bunzip2"),
    (b"\x04\x22\x4d\x18", "packed by lz4", "unpack it with unlz4"),
    (b"PK\x03\x04", "a zip archive", "unpack it with unzip"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it"),
    (b"\x1f\x9d", "packed by compress", "unpack it with uncompress"),
    (b"/annex/objects/", "a git-annex pointer", "run git annex get"),
    (b"<?xml", "an XML file", "fetch the file itself; it may say why it came in its place"),
)
_PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<!--.{0,500}?-->\s*)?<(?:!doctype html|html|head|body)", re.IGNORECASE | re.DOTALL
)


def foreign_content(head: bytes) -> tuple[str, str] | None:
    """(what it is, what to do) of a file that its first bytes (512 or so) tell to be something else: a Git LFS pointer,
    an HTML page, a packed file; None of any other.
    """
    if _PAGE.match(head):
        return "an HTML page", "fetch the file itself; the page may say why it came in its place"
    return next(((what, remedy) for magic, what, remedy in _FOREIGN if head.startswith(magic)), None)
