"""Photos from files, folders and web addresses, and what they would give away: metadata goes, a warning stays."""

import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from geospot._version import __version__
from geospot.data.heif import is_heif, register_heif
from geospot.errors import install_extra

SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "heic", "heif", "avif")
MAX_BYTES = 50 * 1024 * 1024  # of a download
TIMEOUT_S = 20.0  # without an answer
TOTAL_S = 120.0  # for the whole download
_GPS_IFD = 0x8825
_XMP_GPS = b"GPSLatitude"


class PhotoError(ValueError):
    """A photo cannot be used; the message says why."""


@dataclass(frozen=True)
class Photo:
    """A picture as the model may see it: upright, in RGB, as PNG without any metadata.

    `gps` is the position (lat, lon) that the file carried in its EXIF, `tells` whether it carried any at all (XMP too).
    """

    name: str
    picture: bytes
    gps: tuple[float, float] | None = None
    tells: bool = False

    @property
    def warning(self) -> str:
        """What to say of a photo that gives its position away; empty for any other."""
        if not self.tells:
            return ""
        where = f" ({self.gps[0]:.5f}, {self.gps[1]:.5f})" if self.gps else ""
        return f"{self.name} carries its position{where} in its metadata, which the model does not see"


def find_photos(paths: Sequence[str]) -> list[str]:
    """The files and addresses named, and the pictures in the folders named (sorted); FileNotFoundError for the rest."""
    found: list[str] = []
    for path in paths:
        if is_address(path):
            found.append(path)
        elif Path(path).expanduser().is_dir():
            folder = Path(path).expanduser()
            pictures = sorted(str(p) for p in folder.iterdir() if p.suffix.lower().lstrip(".") in SUFFIXES)
            if not pictures:
                raise FileNotFoundError(f"{path}: no picture in this folder ({', '.join(SUFFIXES)})")
            found += pictures
        elif Path(path).expanduser().is_file():
            found.append(str(Path(path).expanduser()))
        else:
            raise FileNotFoundError(f"{path}: no such file or folder")
    return found


def is_address(path: str) -> bool:
    """Whether it is a web address rather than a file."""
    return urlsplit(path).scheme.lower() in ("http", "https")


def read_photos(names: Sequence[str], max_pixels: int | None) -> Iterator[Photo | PhotoError]:
    """Each photo, or why it cannot be used; the error's message begins with its name."""
    for name in names:
        try:
            data = download(name) if is_address(name) else Path(name).read_bytes()
            yield clean(name, data, max_pixels)
        except (PhotoError, OSError) as error:
            yield PhotoError(f"{name}: {getattr(error, 'strerror', None) or error}")


def clean(name: str, data: bytes, max_pixels: int | None = None) -> Photo:
    """Decode, turn upright, scale down to `max_pixels` and write anew without metadata (PNG: nothing is lost)."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    if is_heif(data) and not register_heif():
        raise PhotoError(f"HEIC needs the extra heic: {install_extra('heic')}")
    try:
        with Image.open(io.BytesIO(data)) as image:
            gps, tells = _position(image, data)
            image = _flat(ImageOps.exif_transpose(image))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PhotoError(f"unreadable image: {error}") from None
    if max_pixels is not None and image.width * image.height > max_pixels:
        scale = (max_pixels / (image.width * image.height)) ** 0.5
        size = max(1, int(image.width * scale)), max(1, int(image.height * scale))
        image = image.resize(size, Image.Resampling.LANCZOS)
    out = io.BytesIO()
    bare = Image.new("RGB", image.size)  # a new picture: no chunk or segment of the old one can come along
    bare.paste(image)
    bare.save(out, "PNG")
    return Photo(name, out.getvalue(), gps, tells)


def _flat(image):
    """RGB, what is transparent on white."""
    from PIL import Image

    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, image).convert("RGB")
    return image.convert("RGB")


def _position(image, data: bytes) -> tuple[tuple[float, float] | None, bool]:
    """The position in the EXIF, if it can be read, and whether the file has one in EXIF or XMP."""
    try:
        gps = image.getexif().get_ifd(_GPS_IFD)
    except Exception:  # damaged EXIF, for which Pillow raises whatever it runs into: the pixels are still good
        gps = {}
    tells = 2 in gps or 4 in gps or _XMP_GPS in data
    try:
        lat, lon = _degrees(gps[2], gps.get(1), "S"), _degrees(gps[4], gps.get(3), "W")
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None, tells
    return ((lat, lon) if abs(lat) <= 90 and abs(lon) <= 180 else None), tells


def _degrees(parts, letter, negative: str) -> float:
    degrees, minutes, seconds = (float(part) for part in parts)
    letter = letter.decode("ascii", "ignore") if isinstance(letter, bytes) else str(letter or "")
    value = degrees + minutes / 60 + seconds / 3600
    if value != value:
        raise ValueError("no number")
    return -value if letter.strip("\0 ").upper() == negative else value


class _OnlyWeb(HTTPRedirectHandler):
    """Follows redirects, but not to another kind of address (file:, ftp:)."""

    max_redirections = 5

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not is_address(newurl):
            raise URLError(f"redirected to {newurl}, which is no web address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(
    address: str, *, max_bytes: int = MAX_BYTES, timeout_s: float = TIMEOUT_S, total_s: float = TOTAL_S
) -> bytes:
    """The bytes behind an http(s) address; PhotoError where it fails, stalls, is too slow or too large."""
    request = Request(address, headers={"User-Agent": f"geospot/{__version__}", "Accept": "image/*"})
    started, parts, size = time.monotonic(), [], 0
    try:
        with build_opener(_OnlyWeb).open(request, timeout=timeout_s) as answer:
            while part := answer.read(1 << 16):
                size += len(part)
                parts.append(part)
                if size > max_bytes:
                    raise PhotoError(f"larger than {max_bytes / 2**20:.0f} MiB")
                if time.monotonic() - started > total_s:
                    raise PhotoError(f"not there after {total_s:.0f} s")
            declared = answer.headers.get("Content-Length")
            if declared and declared.isdigit() and size < int(declared):
                raise PhotoError(f"cut off after {size:,} of {int(declared):,} bytes")
    except URLError as error:
        raise PhotoError(
            f"cannot be downloaded: {getattr(error, 'code', '') or ''} {error.reason}".replace("  ", " ")
        ) from None
    except (OSError, ValueError) as error:
        if isinstance(error, PhotoError):
            raise
        raise PhotoError(f"cannot be downloaded: {error}") from None
    except Exception as error:  # http.client has exceptions of its own
        raise PhotoError(f"cannot be downloaded: {type(error).__name__} {error}") from None
    return b"".join(parts)
