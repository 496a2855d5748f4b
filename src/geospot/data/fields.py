"""Metadata of any data set -> a place: keys found among the usual spellings, or named by hand."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields

from geospot.answer.places import MISSING, as_row, read_cells
from geospot.answer.spellings import SPELLINGS, find_column
from geospot.earth.place import Place
from geospot.errors import BadSample

_UNKNOWN = {"", "nan", "none", "null", "unknown", "n/a"}  # not "na": that is Namibia


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
    place: str | None = None

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

    def find(self, name: str, keys: Collection[str]) -> str | None:
        """The key that holds `name` ("lat", "image", ...) among these, or None."""
        if (chosen := getattr(self, name)) is not None:
            return chosen if chosen in keys else None
        if name in keys:  # the usual case, without folding every key
            return name
        return find_column(name, tuple(keys))


USUAL = Columns()


def read_degrees_of(fields: Mapping, axis: str, columns: Columns = USUAL) -> float:
    """One coordinate of a sample's metadata, in degrees; BadSample with the reason where it has none."""
    key = columns.find(axis, fields)
    if key is None:
        raise BadSample(MISSING, f"no {getattr(columns, axis) or ' or '.join(SPELLINGS[axis][:4])}")
    degrees = read_cells(fields, key, axis)
    if isinstance(degrees, str):
        raise BadSample(degrees, f"{key}={fields[key]!r}")
    return degrees


def read_coordinates(fields: Mapping, columns: Columns = USUAL) -> tuple[float, float]:
    """(lat, lon) in degrees of a sample's metadata, in whatever way it writes them (see `geospot.answer.places`).

    BadSample where they are missing, no numbers, out of range, or contradict their hemisphere. (0, 0) is refused: no
    land lies there, and data sets use it as a filler.
    """
    if columns.lat is None and columns.lon is None:
        fields = as_row(fields)
    lat, lon = read_degrees_of(fields, "lat", columns), read_degrees_of(fields, "lon", columns)
    if lat == 0 and lon == 0:
        raise BadSample("coordinates are (0, 0)")
    return lat, lon


def read_label(fields: Mapping, name: str, columns: Columns) -> str | None:
    """A label ("city", "region", "country"); None where it is missing or says that it is not known."""
    key = columns.find(name, fields)
    value = None if key is None else fields[key]
    if not isinstance(value, str) or (value.strip().lower() in _UNKNOWN):
        return None
    return value.strip()


def read_place(fields: Mapping, columns: Columns = USUAL) -> Place:
    """The place in a sample's metadata. Labels that are missing stay None."""
    if columns.lat is None and columns.lon is None:
        fields = as_row(fields)
    lat, lon = read_coordinates(fields, columns)
    return Place(lat, lon, *(read_label(fields, name, columns) for name in ("city", "region", "country")))


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
