"""A sample: the pictures of one place and where it is. Read from a WebDataset group, or refused with a reason."""

import io
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from geospot.earth.place import Place

PICTURE_SUFFIXES = ("jpg", "jpeg", "png", "webp")
_LAT_KEYS, _LON_KEYS = ("lat", "latitude"), ("lon", "lng", "longitude")
MAX_ASPECT = 200  # Qwen-VL's image processors refuse a longer strip, in the middle of a step
_UNKNOWN = {"", "nan", "none", "null", "unknown", "n/a"}


@dataclass(frozen=True)
class Sample:
    """One place: a key that is unique in its set, one or more encoded pictures, and the truth."""

    key: str
    pictures: tuple[bytes, ...]
    place: Place


class BadSample(ValueError):
    """A sample cannot be used; `reason` is one of a few fixed texts, for counting."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


def _number(fields: Mapping, names: tuple[str, ...]) -> float:
    for name in names:
        if fields.get(name) is not None:
            try:
                return float(fields[name])
            except (TypeError, ValueError):
                raise BadSample("coordinates are not numbers", f"{name}={fields[name]!r}") from None
    raise BadSample("no coordinates", f"no {' or '.join(names)}")


def read_coordinates(fields: Mapping) -> tuple[float, float]:
    """(lat, lon) in degrees of a sample's JSON; strings are read; BadSample where missing, NaN or out of range.

    (0, 0) is refused: no land lies there, and data sets use it as a filler.
    """
    lat, lon = _number(fields, _LAT_KEYS), _number(fields, _LON_KEYS)
    if not (math.isfinite(lat) and math.isfinite(lon)):
        raise BadSample("coordinates are not finite", f"({lat}, {lon})")
    if not (-90 <= lat <= 90 and -180 <= lon <= 180):
        raise BadSample("coordinates out of range", f"({lat}, {lon})")
    if lat == 0 and lon == 0:
        raise BadSample("coordinates are (0, 0)")
    return lat, lon


def _label(fields: Mapping, name: str) -> str | None:
    value = fields.get(name)
    if not isinstance(value, str) or (value.strip().lower() in _UNKNOWN):
        return None
    return value.strip()


def read_place(fields: Mapping) -> Place:
    """The place in a sample's JSON. Labels that are missing stay None."""
    lat, lon = read_coordinates(fields)
    return Place(lat, lon, *(_label(fields, name) for name in ("city", "region", "country")))


def check_picture(data: bytes) -> None:
    """Decode a picture to its end; BadSample where that fails, or where it is a strip that no model takes."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            size = image.size
    except Exception as error:  # Pillow raises whatever it runs into in a damaged file
        raise BadSample("unreadable image", str(error)) from None
    if max(size) > MAX_ASPECT * min(size):
        raise BadSample("picture too narrow", f"{size[0]}x{size[1]}")


def read_sample(group: Mapping) -> Sample:
    """A sample from a WebDataset group (`__key__`, `json`, one or more pictures such as `jpg` or `090.jpg`)."""
    key = group["__key__"]
    if "json" not in group:
        raise BadSample("no json", key)
    try:
        fields = json.loads(group["json"])
    except (ValueError, UnicodeDecodeError) as error:
        raise BadSample("json cannot be read", f"{key}: {error}") from None
    if not isinstance(fields, dict):
        raise BadSample("json cannot be read", f"{key}: not an object")
    place = read_place(fields)
    names = sorted(n for n in group if n.rsplit(".", 1)[-1].lower() in PICTURE_SUFFIXES)
    if not names:
        raise BadSample("no picture", key)
    for name in names:
        check_picture(group[name])
    return Sample(key, tuple(group[name] for name in names), place)


class SkipCounter(Counter):
    """How many samples were skipped, by reason; prints as 'unreadable image 3, no coordinates 1'."""

    def __str__(self) -> str:
        return ", ".join(f"{reason} {n}" for reason, n in self.most_common()) or "none"
