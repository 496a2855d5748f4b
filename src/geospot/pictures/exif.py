"""Where a photo was taken, as its metadata says: EXIF 2.32, section 4.6.6, and XMP's copy of it (XMP, part 2, 2.4).

The right place or none: what does not say its hemisphere, or contradicts itself, is refused, since half of what is
guessed there lies on the other side of the Earth.
"""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from geospot.errors import BadSample
from geospot.pictures.reading import open_file, open_image, read_exif

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

Tags = Mapping[int, object]  # of a GPS IFD

_GPS_IFD, _XMP_TAG = 0x8825, 0x02BC
# Tags of reference and value, words of + and -, degrees at most.
_AXES = {"lat": (1, 2, ("N", "NORTH"), ("S", "SOUTH"), 90), "lon": (3, 4, ("E", "EAST"), ("W", "WEST"), 180)}
_XMP_KEYS = {
    axis: re.compile(  # each part bounded: a hostile packet must not take quadratic time
        rf"""(?<![A-Za-z]){key}(?:\s{{0,9}}=\s{{0,9}}["']([^"'<>]{{0,99}})["']|(?:\s[^<>]{{0,99}})?>([^<>]{{0,99}})<)"""
    )
    for axis, key in (("lat", "GPSLatitude"), ("lon", "GPSLongitude"))
}
_XMP_VALUE = re.compile(r"\s*([\d.]+)(?:[, ]\s*([\d.]+))?(?:[, ]\s*([\d.]+))?\s*([NSEWnsew])\s*")
# DJI's drones write signed degrees under names of their own, one of them misspelled for years.
_DRONE_KEYS = {
    axis: re.compile(
        rf"""drone-dji:{key}\s{{0,9}}=\s{{0,9}}["']\s{{0,9}}([+-]\d{{1,3}}(?:\.\d{{1,15}})?)\s{{0,9}}["']"""
    )
    for axis, key in (("lat", "GpsLatitude"), ("lon", "GpsLongt?itude"))
}


def read_position(photo: str | Path | bytes) -> tuple[float, float]:
    """(lat, lon) in degrees from the header of a file or of encoded bytes; BadSample says why there is none."""
    if isinstance(photo, bytes):
        return _read(photo)
    with open_file(photo) as file:
        return _read(file)


def carries_position(photo: bytes) -> bool:
    """Whether a photo's metadata names a position, be it one that can be read or not."""
    try:
        with open_image(photo) as image:
            gps, xmp = _metadata(image)
    except BadSample:
        gps, xmp = {}, ""
    return (
        any(gps.get(value) is not None for _, value, *_ in _AXES.values())
        or b"gpslatitude" in (photo + xmp.encode()).lower()
    )


def _read(source: bytes | BinaryIO) -> tuple[float, float]:
    with open_image(source) as image:
        try:
            gps, xmp = _metadata(image)
        except BadSample:
            raise
        except Exception as error:  # Pillow raises whatever it runs into in damaged EXIF
            raise BadSample("EXIF cannot be read", f"{type(error).__name__}: {error}") from None
    try:
        return position_of(gps)
    except BadSample:
        if (found := position_in_xmp(xmp)) is None:
            raise
        return found


def _metadata(image: "PillowImage") -> tuple[Tags, str]:
    """The GPS IFD and the XMP packet; either may be empty."""
    exif = read_exif(image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged EXIF
        gps = dict(exif.get_ifd(_GPS_IFD))
        xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or exif.get(_XMP_TAG) or b""
    return gps, _packet_text(bytes(xmp)) if isinstance(xmp, bytes | tuple) else str(xmp)


def _packet_text(packet: bytes) -> str:
    """An XMP packet as text: UTF-8, or UTF-16 or 32, which where its zeros lie before the first "<" says."""
    at = packet.find(b"<")
    for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        letter = "<".encode(encoding)
        start = at - letter.index(b"<")
        if start >= 0 and start % len(letter) == 0 and packet[start : start + len(letter)] == letter:
            return packet.decode(encoding, "replace")
    return packet.decode("utf-8", "replace")


def position_of(gps: Tags) -> tuple[float, float]:
    """(lat, lon) from the tags of a GPS IFD: degrees, minutes, seconds, and the letters N, S, E, W beside them.

    EXIF's numbers have no sign: without its letter a coordinate may lie in either hemisphere and is refused.
    """
    if not gps or any(gps.get(value) is None for _, value, *_ in _AXES.values()):
        raise BadSample("no coordinates", "no GPS position in the EXIF")
    return _coordinate(gps, "lat"), _coordinate(gps, "lon")


def position_in_xmp(xmp: str) -> tuple[float, float] | None:
    """(lat, lon) from an XMP packet, whose values are like `33,51.4S` and `33,51,24S`; None where it has none.

    BadSample where it names two places, or one that cannot be read.
    """
    found = {axis: set(map(str.strip, chain(*key.findall(xmp)))) - {""} for axis, key in _XMP_KEYS.items()}
    if not all(found.values()):
        return _of_drone(xmp)
    if any(len(values) > 1 for values in found.values()):
        raise BadSample("coordinates contradict each other", f"the XMP names several places: {found}")
    place = []
    for axis, [value] in found.items():
        if not (match := _XMP_VALUE.fullmatch(value)):
            raise BadSample("no hemisphere in the EXIF", f"XMP {axis}={value!r}")
        *numbers, letter = match.groups()
        place.append(_degrees(axis, [_number(n) for n in numbers if n is not None], letter))
    return place[0], place[1]


def _of_drone(xmp: str) -> tuple[float, float] | None:
    found = [_DRONE_KEYS[axis].search(xmp) for axis in ("lat", "lon")]
    if not all(found):
        return None
    lat, lon = (float(match[1]) for match in found if match)
    return _degrees("lat", [abs(lat)], "S" if lat < 0 else "N"), _degrees("lon", [abs(lon)], "W" if lon < 0 else "E")


def _coordinate(gps: Tags, axis: str) -> float:
    reference_tag, value_tag, *_ = _AXES[axis]
    value = gps[value_tag]
    single = isinstance(value, str) or not isinstance(value, Sequence)
    parts = [_number(part) for part in ([value] if single else value)]
    # 0/0 seconds, or minutes: what cameras write that give decimal minutes, or decimal degrees.
    if len(parts) == 3 and math.isnan(parts[2]) and (not math.isnan(parts[1]) or parts[0] % 1):
        parts[1:] = [0.0 if math.isnan(part) else part for part in parts[1:]]
    if not parts or math.isnan(parts[0]):
        raise BadSample("no coordinates", f"GPS {axis} is empty ({value!r})")
    reference = gps.get(reference_tag)
    word = reference.decode("ascii", "replace") if isinstance(reference, bytes) else str(reference or "")
    return _degrees(axis, parts, word.split("\0")[0].strip())


def _degrees(axis: str, parts: Sequence[float], word: str) -> float:
    """Degrees with the sign of the hemisphere that `word` names; `parts` are degrees, minutes and seconds."""
    *_, plus, minus, most = _AXES[axis]
    if not 1 <= len(parts) <= 3 or not all(map(math.isfinite, parts)):
        raise BadSample("coordinates are not finite", f"GPS {axis}={tuple(parts)}")
    if word.upper() not in (*plus, *minus):
        raise BadSample("no hemisphere in the EXIF", f"GPS {axis} has {word!r} beside it, not {plus[0]} or {minus[0]}")
    south_or_west = word.upper() in minus
    lead = next((part for part in parts if part), 0.0)
    rest = [part for part in parts if part][1:]
    if lead < 0:  # some write -33 with an S: the same thing said twice; with an N it is a contradiction
        if not south_or_west or (min(rest, default=0) < 0 < max(rest, default=0)):
            raise BadSample("coordinates contradict each other", f"GPS {axis}={tuple(parts)} with {word!r}")
    elif min(rest, default=0) < 0:
        raise BadSample("coordinates contradict each other", f"GPS {axis}={tuple(parts)}")
    sizes = [abs(part) for part in parts]
    split = any(abs(a - round(a)) > 1e-6 and any(sizes[i + 1 :]) for i, a in enumerate(sizes))
    if split or any(part > 60 for part in sizes[1:]):  # 60 itself is rounding
        raise BadSample("coordinates contradict each other", f"GPS {axis}={tuple(parts)}, as degrees, minutes, seconds")
    degrees = sum(part / 60**i for i, part in enumerate(sizes))
    if degrees > most:
        raise BadSample("coordinates out of range", f"GPS {axis}={tuple(parts)}")
    return -degrees if south_or_west else degrees


def _number(part: Any) -> float:
    try:
        return float(part[0]) / float(part[1]) if isinstance(part, tuple) else float(part)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return math.nan
