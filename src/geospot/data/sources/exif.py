"""Where a photo was taken, as its EXIF says (the GPS attributes of EXIF 2.32, section 4.6.6)."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

from geospot.data.heif import HEIF_SUFFIXES, register_heif

_GPS_IFD = 0x8825
_AXES = {"lat": (1, 2, "N", "S"), "lon": (3, 4, "E", "W")}  # tags of reference and value, letters of + and -


class NoPosition(ValueError):
    """A photo does not say where it was taken; `reason` is one of a few fixed texts, for counting."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(detail or reason)
        self.reason = reason


def read_position(path: str | Path) -> tuple[float, float]:
    """(lat, lon) in degrees from a photo's header, its range unchecked; NoPosition says why there is none."""
    from PIL import Image, UnidentifiedImageError

    heif = Path(path).suffix.lower() in HEIF_SUFFIXES
    if heif and not register_heif():
        raise NoPosition("HEIC needs the extra heic", "install geospot[heic] (pillow-heif)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF and of size, which whoever decodes the photo judges
            with Image.open(path) as image:
                gps = dict(image.getexif().get_ifd(_GPS_IFD))
    except FileNotFoundError:
        raise
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise NoPosition("unreadable image", str(error)) from None
    except Exception as error:  # Pillow raises whatever it runs into in damaged EXIF
        raise NoPosition("EXIF cannot be read", f"{type(error).__name__}: {error}") from None
    return position_of(gps)


def position_of(gps: dict) -> tuple[float, float]:
    """(lat, lon) from the tags of a GPS IFD: degrees, minutes, seconds as rationals, and the letters N, S, E, W.

    EXIF's numbers have no sign: without its letter a coordinate may lie in either hemisphere and is refused.
    """
    if not gps or any(gps.get(value) is None for _, value, _, _ in _AXES.values()):
        raise NoPosition("no coordinates", "no GPS position in the EXIF")
    return _degrees(gps, "lat"), _degrees(gps, "lon")


def _degrees(gps: dict, axis: str) -> float:
    reference_tag, value_tag, plus, minus = _AXES[axis]
    value = gps[value_tag]
    parts = [
        _number(part) for part in (value if isinstance(value, Sequence) and not isinstance(value, str) else [value])
    ]
    if len(parts) == 3 and math.isnan(parts[2]) and parts[1] >= 0:
        parts[2] = 0.0  # 0/0 seconds: what cameras write that give decimal minutes
    if not 1 <= len(parts) <= 3 or not all(map(math.isfinite, parts)):
        if not parts or math.isnan(parts[0]):
            raise NoPosition("no coordinates", f"GPS {axis} is empty ({value!r})")
        raise NoPosition("coordinates are not finite", f"GPS {axis}={value!r}")
    reference = gps.get(reference_tag)
    letter = reference.decode("ascii", "ignore") if isinstance(reference, bytes) else str(reference or "")
    letter = letter.strip("\0 ").upper()[:1]
    if letter not in (plus, minus):
        raise NoPosition("no hemisphere in the EXIF", f"GPS {axis} has no {plus} or {minus} beside it")
    degrees = sum(part / 60**i for i, part in enumerate(parts))
    return -degrees if letter == minus else degrees


def _number(part) -> float:
    try:
        return float(part[0]) / float(part[1]) if isinstance(part, tuple) else float(part)
    except (TypeError, ValueError, ZeroDivisionError):
        return math.nan
