"""Opens pictures: regular files only, formats by content, sizes judged by the header before anything is decoded."""

import errno
import io
import os
import re
import stat
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from geospot.errors import BadSample, install_extra
from geospot.files import foreign_content
from geospot.pictures.bare import decodes_in_place, png_describes_itself

if TYPE_CHECKING:
    from PIL.Image import Exif
    from PIL.Image import Image as PillowImage

HEIF_SUFFIXES = (".heic", ".heif")
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", *HEIF_SUFFIXES, ".avif", ".tif", ".tiff", ".bmp", ".gif")
MAX_ASPECT = 200  # Qwen-VL's image processors refuse a longer strip, in the middle of a step
MAX_DECODED_PIXELS = 90_000_000  # in memory at once; they take up to 4 bytes each, some modes two or three copies
MAX_STORED_PIXELS = 1_000_000_000  # of a JPEG that is decoded at a fraction of its size: this bounds the time
MAX_FILE_BYTES = 512 << 20
_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")  # never what Pillow hands to another program (EPS)
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}
# What lies in pictures' places, by how it begins behind white space; the reason for which it is counted, what to do.
_IMPOSTORS = (
    (rb"version https://git-lfs", "Git LFS pointer", "is a Git LFS pointer: run git lfs pull"),
    (rb"(\.\./)*\.git/annex/|/annex/objects/", "git-annex pointer", "is a git-annex pointer: run git annex get"),
    (rb"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!doctype html|<html|<head|<body)", "HTML page", "is an HTML page"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "unreadable image", "is PostScript, which is not run"),
    (rb"%PDF", "unreadable image", "is a PDF"),
    (rb"(<\?xml[^>]*>\s*)?(<![^>]*>\s*)*<svg", "unreadable image", "is an SVG drawing"),
    (rb"[\{\[<]", "unreadable image", "is JSON or XML, not a picture"),
)


def is_picture(name: str) -> bool:
    """Whether a file's name ends as a picture's does; what begins with a dot is none (`._a.jpg` of macOS)."""
    return name.lower().endswith(PICTURE_SUFFIXES) and not name.startswith(".")


@contextmanager
def open_file(path: str | Path, most: int | None = MAX_FILE_BYTES) -> Generator[BinaryIO]:
    """A regular file, for reading. BadSample for a FIFO, a socket, a device, a folder or a loop of links, at once.

    most: bytes; a larger file is refused.
    FileNotFoundError where there is nothing, another OSError where it may not be read.
    """
    try:
        _check_regular(os.stat(path), most)
        # Where a FIFO took the file's place in between, a plain open would wait for its writer.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BadSample("not a regular file", "is a loop of links") from None
        raise
    with os.fdopen(handle, "rb") as file:
        _check_regular(os.fstat(handle), most)
        yield file


def _check_regular(status: os.stat_result, most: int | None) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise BadSample("not a regular file", f"is {kind}")
    if most is not None and status.st_size > most:
        raise BadSample("picture too large", f"a file of {status.st_size / 2**20:,.0f} MiB")


def read_file(path: str | Path) -> bytes:
    """All bytes of a regular file; errors as of `open_file`."""
    with open_file(path) as file:
        return file.read(MAX_FILE_BYTES + 1)


def is_heif(data: bytes) -> bool:
    """Whether an encoded picture begins as HEIC or HEIF (ISO/IEC 23008-12) does; AVIF, its sibling, is none."""
    if data[4:8] != b"ftyp" or data[8:12] not in _HEIF_BRANDS:
        return False
    brands = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
    return b"avif" not in brands and b"avis" not in brands


@lru_cache(maxsize=1)
def register_heif() -> bool:
    """Teach Pillow HEIC in this process; False where pillow-heif is not installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


@contextmanager
def open_image(source: bytes | BinaryIO) -> Generator["PillowImage"]:
    """A picture of one of the raster formats wanted here, not yet decoded; of an animation the first frame.

    BadSample where it is none, is too narrow or far too large, and in place of whatever Pillow raises inside the block.
    """
    from PIL import Image

    file = io.BytesIO(source) if isinstance(source, bytes) else source
    head = file.read(1024)
    file.seek(0)
    _check_head(head)
    try:
        with _open(file, head) as image:
            _check_shape(image)
            yield image
    except BadSample:
        raise
    except Image.DecompressionBombError as error:
        raise BadSample("picture too large", str(error)) from None
    except Image.UnidentifiedImageError:
        raise BadSample(
            "unreadable image", f"cannot be opened as {', '.join(_FORMATS)} or HEIC; it begins with {head[:12]!r}"
        ) from None
    except Exception as error:  # Pillow raises whatever it runs into in a damaged file
        detail = re.sub(r"<[\w. ]+ at 0x[0-9a-f]+>", "the picture", str(error))
        raise BadSample("unreadable image", detail or type(error).__name__) from None


def _check_head(head: bytes) -> None:
    if not head:
        raise BadSample("unreadable image", "it is empty (0 bytes)")
    if len(head) > 16 and not head.strip(b"\0"):
        raise BadSample("unreadable image", "it holds zero bytes where a picture would begin")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for pattern, reason, words in _IMPOSTORS:
        if re.match(pattern, text, re.IGNORECASE | re.DOTALL):
            raise BadSample(reason, words)
    if (foreign := foreign_content(head)) is not None:
        raise BadSample("unreadable image", f"is {foreign[0]}: {foreign[1]}")
    if is_heif(head) and not register_heif():
        raise BadSample("HEIC needs the extra heic", install_extra("heic"))


def _open(file: BinaryIO, head: bytes) -> "PillowImage":
    from PIL import Image, JpegImagePlugin

    wanted = ["HEIF"] if is_heif(head) else _formats()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of size, which is judged here, and of damaged metadata
        try:
            return Image.open(file, formats=wanted)
        except Image.DecompressionBombError:
            if not head.startswith(b"\xff\xd8"):
                raise
            file.seek(0)  # Pillow judges a JPEG before it can know at which fraction of its size it will be decoded
            return JpegImagePlugin.jpeg_factory(file)


@lru_cache(maxsize=1)
def _formats() -> list[str]:
    """Those that this Pillow reads; `Image.init` would take a second to import fifty others."""
    from PIL import AvifImagePlugin, Image, TiffImagePlugin, WebPImagePlugin  # noqa: F401 (they register themselves)

    Image.preinit()
    return [name for name in _FORMATS if name in Image.OPEN]


def _check_shape(image: "PillowImage") -> None:
    width, height = image.size
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BadSample("picture too narrow", f"{width}x{height}")
    if width * height > (MAX_STORED_PIXELS if image.format in ("JPEG", "MPO") else MAX_DECODED_PIXELS):
        raise BadSample("picture too large", f"{width}x{height}")


def draft(image: "PillowImage", mode: str, size: tuple[int, int]) -> None:
    """Have a JPEG decoded at 1/2, 1/4 or 1/8, where that is still at least `size`."""
    stored, file = image.width * image.height, getattr(image, "fp", None)
    if stored <= MAX_DECODED_PIXELS or (file is not None and decodes_in_place(file)):
        image.draft(mode, size)


def load(image: "PillowImage") -> None:
    """Decode to the end; BadSample where that would take too much memory."""
    if image.width * image.height > MAX_DECODED_PIXELS:
        raise BadSample("picture too large", f"{image.width}x{image.height}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image.load()


def read_exif(image: "PillowImage") -> "Exif":
    """The EXIF of a picture, empty where it has none; Pillow raises whatever it runs into where it is damaged."""
    from PIL.Image import Exif

    file = getattr(image, "fp", None)
    if image.format == "PNG" and file is not None:  # not decoded yet; its EXIF may stand behind the pixels
        if not png_describes_itself(file):
            return Exif()
        load(image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return image.getexif()


def read_header(data: bytes) -> tuple[int, int, str]:
    """(width, height, Pillow's name of the format) as stored; BadSample where there is no picture."""
    with open_image(data) as image:
        return *image.size, image.format or "?"


def image_size(data: bytes) -> tuple[int, int]:
    """(width, height) of an encoded picture; BadSample, a ValueError, where it cannot be read to its end."""
    with open_image(data) as image:
        size = image.size
        draft(image, "L", (1, 1))  # a JPEG's data is read to its end, but only an eighth of its pixels computed
        load(image)
        return size


def decode_image(data: bytes) -> np.ndarray:
    """uint8 (height, width, 3) RGB of a prepared picture; BadSample where it cannot be decoded to its end."""
    with open_image(data) as image:
        load(image)
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
