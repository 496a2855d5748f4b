"""One file that is stored in pieces, as `split` makes them: x.tar.aa, x.tar.ab, ... or x.tar.00, x.tar.01, ..."""

import io
import os
import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from geospot.errors import DataError

PIECE_NAME = re.compile(r"(?P<base>.+\.tar)[._-]?(?:part)?[._-]?(?P<number>[a-z]{2,4}|\d+)", re.IGNORECASE)
_PACKED = (
    "gz",
    "bz",
    "xz",
    "zst",
    "lz",
    "bz2",
    "tgz",
    "zstd",
    "lzma",
    "txt",
    "md",
    "part",
    "json",
    "csv",
    "idx",
    "tmp",
    "sha",
)


def find_pieces(folder: Path) -> dict[str, list[Path]]:
    """The tars of a folder that lie there in pieces: name -> pieces in order. DataError where one is missing."""
    found: dict[str, list[tuple[int, Path]]] = {}
    with os.scandir(folder) as entries:
        for name in sorted(entry.name for entry in entries):
            match = PIECE_NAME.fullmatch(name)
            if match and match["number"].lower() not in _PACKED and (folder / name).is_file():
                found.setdefault(match["base"], []).append((_number(match["number"]), folder / name))
    for base, pieces in found.items():
        pieces.sort()
        numbers = [number for number, _ in pieces]
        headless = numbers[0] > (1 if pieces[0][1].name[-1].isdigit() else 0)  # numbers may begin with 1
        if headless or (gaps := set(range(numbers[0], numbers[-1] + 1)) - set(numbers)):
            missing = "the first" if headless else f"{len(gaps)} in the middle"
            have = f"{pieces[0][1].name} to {pieces[-1][1].name}"
            raise DataError(f"{folder / base} lies in {len(pieces)} pieces, {have}, and {missing} missing; fetch them")
    return {base: [path for _, path in pieces] for base, pieces in found.items()}


def _number(text: str) -> int:
    if text.isdigit():
        return int(text)
    number = 0
    for letter in text.lower():
        number = number * 26 + ord(letter) - ord("a")
    return number


class Pieces(io.RawIOBase):
    """The pieces as one seekable, read-only file. For one thread; each opens its own."""

    def __init__(self, paths: Sequence[Path]):
        self._paths = list(paths)
        self._edges = [0, *accumulate(os.path.getsize(path) for path in self._paths)]
        self._at, self._open = 0, -1
        self._file: Any = None

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self._edges[-1]

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of any file."""
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence])
        return self._at

    def tell(self) -> int:
        """The position in the whole."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """At most to the end of a piece."""
        if self._at >= self.size:
            return 0
        piece = bisect_right(self._edges, self._at) - 1
        if piece != self._open:
            self._close_piece()
            self._file, self._open = open(self._paths[piece], "rb", buffering=0), piece  # noqa: SIM115
        self._file.seek(self._at - self._edges[piece])
        n = self._file.readinto(memoryview(buffer)[: self._edges[piece + 1] - self._at])
        if n == 0:
            raise OSError(f"{self._paths[piece]} is shorter than it was")
        self._at += n
        return n

    def close(self) -> None:
        """Closes the piece that is open."""
        self._close_piece()
        super().close()

    def _close_piece(self) -> None:
        if self._file:
            self._file.close()
        self._file, self._open = None, -1
