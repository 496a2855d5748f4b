"""Metadata of any data set -> a place: the spellings of keys that are in use, or names given by hand."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache

from geospot.earth.place import Place

# What each thing is called out there, most telling first; compared without case, spaces, `-`, `_` and a `gps` before.
SPELLINGS = {
    "lat": ("lat", "latitude", "lat_deg", "latitude_deg", "decimal_latitude", "y_lat"),
    "lon": ("lon", "lng", "long", "longitude", "lon_deg", "lng_deg", "longitude_deg", "decimal_longitude", "x_lon"),
    "city": ("city", "town", "locality", "closest_city", "nearest_city"),
    "region": ("region", "state", "province", "admin1", "admin_1", "unique_region"),
    "country": (
        "country",
        "country_code",
        "country_name",
        "country_iso_alpha2",
        "country_iso2",
        "country_iso",
        "iso_alpha2",
        "iso2",
        "iso_a2",
        "cc",
        "countrycode",
        "unique_country",
    ),
    "image": ("image", "image_path", "img_file", "file_name", "filename", "file", "path", "img_path", "img", "picture"),
    "key": ("key", "id", "img_id", "image_id", "__key__", "pano_id", "panoid", "uuid"),
}
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d{1,3},\d+\s*")  # as spreadsheets of many countries write it
_UNKNOWN = {"", "nan", "none", "null", "unknown", "n/a"}  # not "na": that is Namibia


class BadSample(ValueError):
    """A sample cannot be used; `reason` is one of a few fixed texts, for counting."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Columns:
    """Keys named by hand where a data set calls them otherwise; None: found among the usual spellings."""

    lat: str | None = None
    lon: str | None = None
    city: str | None = None
    region: str | None = None
    country: str | None = None
    image: str | None = None
    key: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Columns":
        """From 'lat=y,lon=x,image=photo'; ValueError that says what is allowed."""
        allowed = [field.name for field in fields(cls)]
        given: dict[str, str] = {}
        for pair in filter(None, (part.strip() for part in text.split(","))):
            name, equals, column = (word.strip() for word in pair.partition("="))
            if not equals or not column or name not in allowed or name in given:
                raise ValueError(
                    f"columns={text!r}: {pair!r} must be NAME=KEY with NAME one of {', '.join(allowed)}, each once"
                )
            given[name] = column
        return cls(**given)

    def find(self, name: str, keys: Mapping[str, object] | list[str]) -> str | None:
        """The key that holds `name` ("lat", "image", ...) among these, or None."""
        if (chosen := getattr(self, name)) is not None:
            return chosen if chosen in keys else None
        if name in keys:  # the usual case, without folding every key
            return name
        return _find_spelling(name, tuple(keys))


def _fold(key: str) -> str:
    folded = "".join(c for c in key.lower() if c not in " -_")
    return folded.removeprefix("gps") or folded


@lru_cache(maxsize=4096)  # the samples of a set share their keys
def _find_spelling(name: str, keys: tuple) -> str | None:
    folded = {_fold(key): key for key in reversed(keys) if isinstance(key, str)}
    return next((folded[s] for s in _FOLDED[name] if s in folded), None)


_FOLDED = {name: tuple(dict.fromkeys(_fold(s) for s in spellings)) for name, spellings in SPELLINGS.items()}
USUAL = Columns()


def _number(fields: Mapping, name: str, columns: Columns) -> float:
    key = columns.find(name, fields)
    value = None if key is None else fields[key]
    if value is None or (isinstance(value, str) and not value.strip()):
        raise BadSample("no coordinates", f"no {getattr(columns, name) or ' or '.join(SPELLINGS[name][:4])}")
    if isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value):
        value = value.replace(",", ".")
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise BadSample("coordinates are not numbers", f"{key}={value!r}") from None


def read_coordinates(fields: Mapping, columns: Columns = USUAL) -> tuple[float, float]:
    """(lat, lon) in degrees of a sample's metadata; strings are read; BadSample where missing, NaN or out of range.

    (0, 0) is refused: no land lies there, and data sets use it as a filler.
    """
    lat, lon = _number(fields, "lat", columns), _number(fields, "lon", columns)
    if not (math.isfinite(lat) and math.isfinite(lon)):
        raise BadSample("coordinates are not finite", f"({lat}, {lon})")
    if not (-90 <= lat <= 90 and -180 <= lon <= 180):
        raise BadSample("coordinates out of range", f"({lat}, {lon})")
    if lat == 0 and lon == 0:
        raise BadSample("coordinates are (0, 0)")
    return lat, lon


def _label(fields: Mapping, name: str, columns: Columns) -> str | None:
    key = columns.find(name, fields)
    value = None if key is None else fields[key]
    if not isinstance(value, str) or (value.strip().lower() in _UNKNOWN):
        return None
    return value.strip()


def read_place(fields: Mapping, columns: Columns = USUAL) -> Place:
    """The place in a sample's metadata. Labels that are missing stay None."""
    lat, lon = read_coordinates(fields, columns)
    return Place(lat, lon, *(_label(fields, name, columns) for name in ("city", "region", "country")))


def read_fields(stored: Mapping | bytes | None) -> Mapping:
    """A record's metadata as a mapping; BadSample where there is none or its JSON is not an object."""
    if stored is None:
        raise BadSample("no json")
    if isinstance(stored, Mapping):
        return stored
    try:
        fields = json.loads(stored)
    except (ValueError, RecursionError) as error:
        raise BadSample("json cannot be read", str(error)) from None
    if not isinstance(fields, dict):
        raise BadSample("json cannot be read", "not an object")
    return fields
