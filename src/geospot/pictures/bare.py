"""JPEG and PNG without what describes the photo (EXIF, XMP, comments, previews, films behind it); the pixels stay.

Where a picture was taken must reach neither the model nor the service that runs it except through its pixels.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO

_SOI, _EOI, _SOS, _COM = 0xD8, 0xD9, 0xDA, 0xFE
_APP = range(0xE0, 0xF0)
_KEPT_APP = (0xE0, 0xEE)  # JFIF and Adobe: they say which colours the numbers mean
_SEQUENTIAL = (0xC0, 0xC1)
_ALONE = (0x00, 0x01, *range(0xD0, 0xD9))  # markers without a length
_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # the next marker behind entropy-coded data (T.81, B.1.1.5)
_PNG_SIGNATURE = 8
_PNG_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_PNG_TEXT = (b"eXIf", b"iTXt", b"tEXt", b"zTXt")


def bare(data: bytes) -> bytes:
    """A JPEG or PNG without metadata, anything else as it is: the same for copies of one file that were edited so."""
    if data.startswith(b"\xff\xd8"):
        return bare_jpeg(data)
    return bare_png(data) if data.startswith(b"\x89PNG") else data


def bare_jpeg(data: bytes) -> bytes:
    """The first picture in a JPEG file, without metadata; `data` itself where there is none."""
    parts, position = [data[:2]], 2
    for marker, start, end in _segments(data):
        position = end
        if marker != _COM and (marker not in _APP or marker in _KEPT_APP):
            parts.append(data[start:end])
        if marker == _SOS:
            break
    parts.append(data[position : _end_of_scans(data, position)])
    bare = b"".join(parts)
    return data if len(bare) == len(data) else bare


def _segments(data: bytes, position: int = 2) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of a JPEG's segments from a position on, EOI included; ends where they make no sense."""
    while (start := data.find(b"\xff", position)) >= 0 and start + 1 < len(data):
        marker = data[start + 1]
        position = start + 1
        if marker == 0xFF:  # a fill byte
            continue
        position = start + 2
        if marker in _ALONE:
            continue
        if marker == _EOI:
            yield marker, start, position
            return
        length = int.from_bytes(data[position : position + 2], "big")
        if length < 2 or position + length > len(data):
            return
        position += length
        yield marker, start, position


def _end_of_scans(data: bytes, position: int) -> int:
    """Where the picture ends whose first scan's data begins at `position`."""
    while match := _IN_SCAN.search(data, position):
        marker, start, end = next(_segments(data, match.start()), (0, 0, 0))
        if marker == _EOI:
            return end
        if start != match.start():
            break
        position = end
    return len(data)


def decodes_in_place(file: BinaryIO) -> bool:
    """Whether a JPEG can be decoded at a fraction of its size in a fraction of the memory.

    A progressive one, and one whose scans hold a colour each, is held whole in memory whatever is made of it.
    """
    position = file.tell()
    file.seek(0)
    data = file.read(64 << 20)
    file.seek(position)
    components = 0
    for marker, start, _ in _segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if marker not in _SEQUENTIAL:
                return False
            components = data[start + 9]
        if marker == _SOS:
            return data[start + 4] == components
    return False


def png_describes_itself(file: BinaryIO) -> bool:
    """Whether a PNG has a chunk of text or EXIF, wherever in the file; its place in the file stays."""
    place = file.tell()
    position = _PNG_SIGNATURE
    found = False
    while not found:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            break
        found = head[4:] in _PNG_TEXT
        position += 12 + int.from_bytes(head[:4], "big")
    file.seek(place)
    return found


def bare_png(data: bytes) -> bytes:
    """A PNG's pixels alone (of an animated one the first frame); `data` itself where there is nothing else."""
    parts, position = [data[:_PNG_SIGNATURE]], _PNG_SIGNATURE
    while position < len(data):
        name = data[position + 4 : position + 8]
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if name in _PNG_KEPT:
            parts.append(data[position:end])
        position = end
        if name == b"IEND":
            break
    bare = b"".join(parts)
    return data if len(bare) == len(data) else bare
