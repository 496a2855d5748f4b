"""A file on a web server, read as if it lay on a disk. What survives the network is in `ranges`."""

import io
import threading
from collections import Counter
from collections.abc import Generator, Mapping

from geospot.net.ranges import ORPHANS, Ranges
from geospot.net.retry import PATIENT, FileChanged, RemoteError, RetryPolicy

__all__ = ["FileChanged", "RemoteError", "RemoteFile", "RetryPolicy", "open_url"]

WINDOW = 256 * 1024  # bytes asked for after a jump: most jumps are for less
READ_THROUGH = 1024 * 1024  # a jump ahead by less is read through: cheaper than a new connection
KEEP = 1024 * 1024  # a larger buffer is given away


def open_url(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    policy: RetryPolicy = PATIENT,
    counts: Counter | None = None,
    size: int | None = None,
) -> "RemoteFile":
    """A file to read from http or https; nothing is asked of the server before the first read.

    headers: for the URL's own host; Authorization is not sent on to another. counts: retries by reason, "retry: 503".
    size: in bytes where a listing says so: a file that ends earlier is then an error.
    """
    return RemoteFile(Ranges(url, headers=headers, policy=policy, counts=counts, size=size))


class RemoteFile(io.BufferedIOBase):
    """Read-only and seekable. One thread reads; `fetch` and `close` may be called from any.

    `read` raises RemoteError (an OSError) where the server refuses or the retries are used up, FileChanged where the
    file is another one than before, ValueError once closed. After an error the position is where it was.
    """

    def __init__(self, ranges: Ranges):
        self._ranges = ranges
        self._pos = self._start = 0
        self._buffer = b""  # the bytes from _start on
        self._stream: Generator[bytes] | None = None  # an open response, and where it stands
        self._stream_pos = 0
        self._reading = threading.Lock()

    @property
    def name(self) -> str:
        """The URL without its query."""
        return self._ranges.name

    @property
    def size(self) -> int | None:
        """Bytes in the file, asked for where not yet known; None where the server does not say."""
        if self._ranges.size is None:
            self.fetch(0, 1)
        return self._ranges.size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._pos

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = 0
        if whence == io.SEEK_CUR:
            base = self._pos
        elif whence == io.SEEK_END:
            base = self.size
            if base is None:
                raise io.UnsupportedOperation(f"{self.name}: the server does not tell the size")
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}, before the start of {self.name}")
        self._pos = base + offset
        return self._pos

    def read(self, n: int | None = -1) -> bytes:
        """`n` bytes, fewer only at the end of the file; all the rest where n is negative."""
        with self._reading:
            self._check_open()
            offset = self._pos - self._start
            if n is not None and n >= 0 and offset >= 0 and offset + n <= len(self._buffer):  # most reads of a tar
                self._pos += n
                return self._buffer[offset : offset + n]
            pieces, pos, missing = [], self._pos, float("inf") if n is None or n < 0 else n
            while missing and (piece := self._piece(pos, missing)):
                pieces.append(piece)
                pos += len(piece)
                missing -= len(piece)
            self._pos = pos
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read1(self, n: int = -1) -> bytes:
        """Up to `n` bytes without waiting for more than the next piece; b"" only at the end."""
        with self._reading:
            self._check_open()
            piece = self._piece(self._pos, float("inf") if n < 0 else n) if n else b""
            self._pos += len(piece)
            return piece

    def fetch(self, start: int, end: int) -> bytes:
        """Bytes [start, end) by one request of their own, fewer where the file ends; the position stays."""
        return b"".join(self._ranges.stream(start, end))

    def close(self) -> None:
        """From any thread: a read that waits ends soon, with ValueError."""
        if self.closed:
            return
        self._leave_to_parent()
        self._ranges.close()
        if self._reading.acquire(blocking=False):  # else the reader tidies up
            try:
                self._drop()
            finally:
                self._reading.release()
        super().close()

    def _check_open(self) -> None:
        try:
            self._ranges.check_open()
        except ValueError:
            self._drop()
            raise

    def _piece(self, pos: int, wanted: float) -> bytes:
        """Some bytes from `pos` on; b"" at the end."""
        self._check_open()
        if not self._start <= pos < self._start + len(self._buffer):
            self._fill(pos, wanted)
        offset = pos - self._start
        piece = self._buffer[offset : offset + int(min(wanted, len(self._buffer)))]
        if len(self._buffer) > KEEP and offset + len(piece) == len(self._buffer):
            self._start, self._buffer = pos + len(piece), b""
        return piece

    def _fill(self, pos: int, wanted: float) -> None:
        """Put bytes from `pos` on into the buffer: of the open response, of a new one, or of one bounded request."""
        self._leave_to_parent()
        if self._stream is not None and 0 <= pos - self._stream_pos <= READ_THROUGH:
            self._advance(pos)
        elif pos == self._start + len(self._buffer) or wanted == float("inf"):  # on from what was read: in sequence
            self._drop()
            self._stream, self._stream_pos = self._ranges.stream(pos), pos
            self._advance(pos)
        else:
            self._start, self._buffer = pos, self.fetch(pos, pos + max(int(wanted), WINDOW))

    def _advance(self, pos: int) -> None:
        """Take from the open response until the buffer holds `pos` or the file ends."""
        stream, self._stream = self._stream, None  # a generator that raised is over
        for chunk in stream or ():
            self._start, self._buffer = self._stream_pos, chunk
            self._stream_pos += len(chunk)
            if self._stream_pos > pos:
                self._stream = stream
                return
        self._start, self._buffer = pos, b""

    def _leave_to_parent(self) -> None:
        """In a forked child: what the parent has open stays as it is."""
        if self._ranges.left_behind():
            ORPHANS.append(self._stream)
            self._stream = None

    def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
