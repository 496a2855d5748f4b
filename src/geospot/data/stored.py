"""Pictures that are still where they are stored (a file, a tar, a zip): small, picklable, read by who decodes them."""

import os
import struct
import zlib
from dataclasses import dataclass

from geospot.pictures import read_file

_LOCAL_HEADER = struct.Struct("<4s5H3L2H")  # PKWARE APPNOTE 4.3.7
STORED, DEFLATED = 0, 8  # compression methods that every reader of zips knows


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file on disk."""

    path: str

    def read(self) -> bytes:
        """The file's bytes; OSError where it is gone, BadSample where it is no regular file."""
        return read_file(self.path)


@dataclass(frozen=True, slots=True)
class StoredSlice:
    """Bytes of a file on disk: a member of a tar that is not compressed."""

    path: str
    offset: int
    size: int

    def read(self) -> bytes:
        """The bytes; OSError where the file is gone or shorter."""
        with open(self.path, "rb", buffering=0) as file:
            data = os.pread(file.fileno(), self.size, self.offset)
        if len(data) < self.size:
            raise OSError(f"{self.path}: {len(data)} of {self.size} bytes at {self.offset}; the file has changed")
        return data


@dataclass(frozen=True, slots=True)
class ZipMember:
    """A member of a zip, read at its place: who decodes it needs no zip's directory (OSV-5M's have 5 million entries).

    offset: of the local header. size: compressed bytes. method: STORED or DEFLATED. stem: the member's name without
    folder and suffix, against which the header is held.
    """

    path: str
    offset: int
    size: int
    method: int
    stem: str

    def read(self) -> bytes:
        """The member's bytes; OSError where the zip is gone, has changed or is damaged."""
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.offset)
            head = file.read(_LOCAL_HEADER.size)
            if len(head) < _LOCAL_HEADER.size or not head.startswith(b"PK\3\4"):
                raise OSError(f"{self.path}: no member at byte {self.offset}; the zip is damaged or has changed")
            name_bytes, extra_bytes = _LOCAL_HEADER.unpack(head)[-2:]
            body = file.read(name_bytes + extra_bytes + self.size)
        name, data = body[:name_bytes], body[name_bytes + extra_bytes :]
        if name.rpartition(b"/")[2].rpartition(b".")[0] != self.stem.encode():
            raise OSError(
                f"{self.path}: {name!r} lies at byte {self.offset} in place of {self.stem}; the zip has changed"
            )
        if len(data) < self.size:
            raise OSError(f"{self.path}: {self.stem} has {len(data)} of {self.size} bytes; the zip was cut off")
        if self.method == STORED:
            return data
        try:
            return zlib.decompress(data, -zlib.MAX_WBITS)
        except zlib.error as error:
            raise OSError(f"{self.path}: {self.stem} cannot be unpacked: {error}") from None
