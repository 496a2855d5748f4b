"""Where a row of any table or JSON file lies: one reader of coordinates and of shapes, for data and for truths."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from geospot.answer.coordinates import (
    CONTRADICTION,
    LATITUDE_RANGE,
    LONGITUDE_RANGE,
    NOT_A_NUMBER,
    plain,
    read_coordinate,
    read_pair,
    wrap_longitude,
)
from geospot.answer.languages import hemisphere, to_english
from geospot.answer.links import ISO_6709, LINK, PLUS_CODE, WKT, read_link, read_standard
from geospot.answer.regex import lazy
from geospot.answer.spellings import coordinate_columns, find_column, near_columns

MISSING = "no coordinates"
NOT_NUMBERS = "coordinates are not numbers"
NOT_FINITE = "coordinates are not finite"
OUT_OF_RANGE = "coordinates out of range"
CONTRADICTORY = "coordinates contradict their hemisphere"
NO_HEMISPHERE = "coordinates without their hemisphere"
_REASONS = {LATITUDE_RANGE: OUT_OF_RANGE, LONGITUDE_RANGE: OUT_OF_RANGE, CONTRADICTION: CONTRADICTORY}

_BLANK = {"", "nan", "none", "null", "n/a", "na", "-", "unknown"}
_DECIMAL = lazy(r"[+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?")
_NUMBER = r"[0-9]{1,2}(?:\.[0-9]+)?"
# Degrees, minutes and seconds with spaces, colons or (XMP) commas between them -> as they are read everywhere.
_BARE_DMS = (
    lazy(rf"([+-]?[0-9]{{1,3}})[ :]([0-9]{{1,2}})[ :]({_NUMBER}) ?([NSEW]?)", re.IGNORECASE),
    lazy(r"([+-]?[0-9]{1,3}),([0-9]{1,2}),([0-9]{1,2}(?:\.[0-9]+)?) ?([NSEW])", re.IGNORECASE),
    lazy(r"([+-]?[0-9]{1,3})(?: |,(?=[0-9]+\.))([0-9]{1,2}(?:\.[0-9]+)?)() ?([NSEW])", re.IGNORECASE),
)
_TWO = lazy(r"[,;]\s|;|[.,][0-9]+[^.,]*[.,][0-9]")  # both coordinates in one cell
_WORDS = lazy(r"(?i:north|south|east|west|degrees?|degs?|minutes?|mins?|seconds?|secs?|(?<![a-z])[nsewdms](?![a-z]))")
_SIGNS = lazy(r"""[0-9\s.,+\-°'"():]*""")
_LETTER = lazy(r"(?i:(?<![a-z])([nsew])(?:orth|outh|ast|est)?(?![a-z]))")


def read_degrees(value: object, axis: str, reference: object = "") -> float | str:
    """Degrees of a cell in range, as `read_signed` reads it: a longitude of up to 360 is turned into -180..180."""
    degrees = read_signed(value, axis, reference)
    if isinstance(degrees, str):
        return degrees
    if abs(degrees) > (90 if axis == "lat" else 360):
        return OUT_OF_RANGE
    return degrees + 0.0 if abs(degrees) <= 180 else wrap_longitude(degrees)


def read_signed(value: object, axis: str, reference: object = "") -> float | str:
    """Signed degrees of a cell: 48.86, "48,86", "48.86 N", 48°51'24"N, "33 51 24 S"; or the reason why it has none.

    axis: "lat" or "lon". reference: what the cell of a reference column says ("S", "South"); "" where there is no such
    column, None where it says nothing: a number without a sign is then refused, since half of the Earth is no guess.
    So is a sign or letter that contradicts another. A plain number may be out of range.
    """
    letter = _hemisphere(reference, axis)
    own = ""
    if isinstance(value, str):
        text = plain(value).strip().replace('""', '"')
        text = text if _DECIMAL.fullmatch(text) else to_english(text).strip()
        if text.lower() in _BLANK:
            return NOT_FINITE if text.lower() == "nan" else MISSING
        degrees = _read_text(text, axis)
        found = None if _DECIMAL.fullmatch(text) else _LETTER.search(text)  # the e of 1e-5 is no east
        own = found[1].upper() if found else ""
    else:
        degrees = _read_number(value)
    if isinstance(degrees, str):
        return degrees
    if own and own in "NSEW" and ((degrees > 0 and own in "SW") or (degrees < 0 and own in "NE")):
        return CONTRADICTORY  # the letter was not read with the number
    if letter and (letter not in ("NS" if axis == "lat" else "EW") or (own and own != letter)):
        return CONTRADICTORY
    if letter and not own:
        if degrees < 0 and letter in "NE":
            return CONTRADICTORY
        degrees = -abs(degrees) if letter in "SW" else degrees
    return NO_HEMISPHERE if reference is None and not own and degrees > 0 else degrees


def _hemisphere(reference: object, axis: str) -> str:
    """N, S, E or W, or "" where a reference names none of them; a sign alone says it of its axis."""
    if not isinstance(reference, str):
        return ""
    word = plain(reference).strip(" \t\r\n\0.")
    if word in ("+", "-"):
        return {"lat": "NS", "lon": "EW"}[axis][word == "-"]
    first, _, rest = word.partition(" ")  # "North latitude"
    return hemisphere(first if rest.lower().startswith(("lat", "lon")) else word) or ""


def _read_number(value: object) -> float | str:
    if value is None:
        return MISSING
    try:
        if isinstance(value, bool):
            raise TypeError
        degrees = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return NOT_NUMBERS
    return degrees if math.isfinite(degrees) else NOT_FINITE


def _read_text(text: str, axis: str) -> float | str:
    if _DECIMAL.fullmatch(text):
        return _read_number(float(text.replace(",", ".")))
    if text.lower().lstrip("+-") in ("inf", "infinity"):
        return NOT_FINITE
    if len(text) > 100 or not _SIGNS.fullmatch(_WORDS.sub("", text)):
        return NOT_NUMBERS
    for pattern in _BARE_DMS:
        if found := pattern.fullmatch(text):
            degrees, minutes, seconds, letter = found.groups()
            text = f"{degrees}°{minutes}'" + (f'{seconds}"' if seconds else "") + letter
            break
    if _TWO.search(text):
        return NOT_NUMBERS
    degrees = read_coordinate(text, axis)
    if isinstance(degrees, float):
        return degrees
    return MISSING if degrees is None else _REASONS.get(degrees, NOT_NUMBERS)


def read_cells(fields: Mapping[str, object], column: str, axis: str, *, bounded: bool = True) -> float | str:
    """Degrees of a row's `column`, completed by its columns of the hemisphere, of minutes and seconds; or the reason.

    bounded: as `read_degrees` reads it; else as `read_signed` does.
    """
    reference, minutes, seconds = coordinate_columns(column, axis, tuple(fields))
    value: object = fields.get(column)
    says: object = ""
    if reference is not None:
        says = fields[reference] if _hemisphere(fields[reference], axis) else None
    else:  # lat_card: what a column of nearly this name holds tells whether it is one
        near = [fields[name] for name in near_columns(column, axis, tuple(fields))]
        says = next((cell for cell in near if _hemisphere(cell, axis)), None if "O" in near else "")  # east or west?
    if minutes is not None and (degrees := _short(value)):
        value = f"{degrees}°{_short(fields[minutes]) or 0}'"
        value += f'{_short(fields[seconds])}"' if seconds and _short(fields[seconds]) else ""
    return (read_degrees if bounded else read_signed)(value, axis, says)


def _short(value: object) -> str:
    """A number without the `.0` that a spreadsheet puts behind it."""
    text = "" if value is None else str(value).strip()
    return text.removesuffix(".0")


# --- JSON ---------------------------------------------------------------------------------------------------------

# Folded as names of columns are, the best first: Mapillary's own position is the computed one.
_LAT_FIRST, _LON_FIRST = ("latlng", "latlon", "latlong"), ("lnglat", "lonlat", "longlat")
_NESTED = ("computedgeometry", "geometry", "location", "position", "coordinates", "coords", *_LAT_FIRST, *_LON_FIRST,
           "gps", "gpsposition", "gpscoordinates", "geo", "geom", "wkt", "point", "pluscode")  # fmt: skip
_STANDARD = lazy(rf"(?:SRID=[0-9]{{1,6}};)?(?P<form>{WKT}|{ISO_6709})", re.IGNORECASE)
_LINKED = lazy(rf"{LINK}|{PLUS_CODE}")
_PAIR_TEXT = lazy(r"\s*[(\[]?\s*([^,;]{1,40})[,;]\s*([^,;]{1,40}?)\s*[)\]]?\s*")


def as_row(value: Any) -> Any:
    """An object with its place on top, under lat and lon: GeoJSON's Feature and Point, Mapillary's computed_geometry,
    {"location": {"lat": .., "lng": ..}}. What has them on top, and what is no object, comes back as it is.
    """
    if not isinstance(value, Mapping) or has_place(value):
        return value
    row = dict(value)
    properties = row.pop("properties", None)
    if isinstance(properties, Mapping):
        row = {**properties, **row}
        if has_place(row):
            return row
    if (point := place_in(row)) is not None:
        return {**{k: v for k, v in row.items() if k not in ("type", "coordinates")}, **point}
    for name, key in _nested(tuple(row)):
        held = row[key]
        if (point := place_in(held) or _written_pair(held, name)) is not None:
            return {**row, **point}
    return value


@lru_cache(maxsize=1024)
def _nested(names: tuple[object, ...]) -> tuple[tuple[str, str], ...]:
    """Of an object's keys those that may hold its place, each behind its name in _NESTED, the best first."""
    folded = {"".join(c for c in name.lower() if c.isalnum()): name for name in names if isinstance(name, str)}
    return tuple((name, folded[name]) for name in _NESTED if name in folded)


def _written_pair(value: object, name: str) -> dict[str, object] | None:
    """lat and lon of a text that holds both, and of [40.7, -74.0] where its key says the order; of others nobody knows
    it. A text is a pair ("40.7, -74.0", "40°42'N 74°W"), a WKT point, a geo: address, a map link or a Plus Code.
    """
    lon_first = name in _LON_FIRST
    if isinstance(value, str):
        return _of_text(value.strip(), lon_first)
    if (lon_first or name in _LAT_FIRST) and isinstance(value, list) and is_pair(value):
        return {"lat": value[lon_first], "lon": value[not lon_first]}
    return None


def _of_text(text: str, lon_first: bool) -> dict[str, object] | None:
    pair: tuple[object, object] | None = None
    if standard := _STANDARD.match(text):
        pair = read_standard(standard["form"])
    elif _LINKED.fullmatch(text):
        pair = read_link(text)
    elif found := _PAIR_TEXT.fullmatch(text):
        pair = (found[2], found[1]) if lon_first else (found[1], found[2])
    else:
        pair = read_pair(plain(text), lon_first)
    if pair is None or CONTRADICTION in pair or NOT_A_NUMBER in pair:
        return None
    return {"lat": pair[0], "lon": pair[1]}


def has_place(row: Mapping) -> bool:
    """Whether an object has a latitude and a longitude of its own."""
    names = tuple(row)
    return find_column("lat", names) is not None and find_column("lon", names) is not None


def place_in(value: object) -> dict[str, object] | None:
    """lat and lon of a GeoJSON Point (longitude first, by RFC 7946), or of an object that holds both."""
    if not isinstance(value, Mapping):
        return None
    at = value.get("coordinates")
    if value.get("type") == "Point" and isinstance(at, Sequence) and not isinstance(at, str) and len(at) >= 2:
        return {"lat": at[1], "lon": at[0]}
    names = tuple(value)
    lat, lon = find_column("lat", names), find_column("lon", names)
    return None if lat is None or lon is None else {"lat": value[lat], "lon": value[lon]}


def is_pair(value: object) -> bool:
    """Whether it is a list of two numbers."""
    return isinstance(value, list) and len(value) == 2 and all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in value
    )  # fmt: skip


# --- latitude and longitude exchanged -----------------------------------------------------------------------------

_FEWEST, _FEW = 4, 8  # places that say something; of a few all must
_MOST = 0.8  # of them must be good when exchanged
_ANTARCTICA = "AQ"  # land on which New York lies where latitude and longitude are exchanged


@dataclass(frozen=True)
class Exchange:
    """Of `n` places, how many lie on land as they stand and how many where latitude and longitude are exchanged."""

    n: int
    as_is: int
    exchanged: int

    def __str__(self) -> str:
        return (
            f"latitude and longitude look exchanged: of {self.n} places {self.as_is} lie on land as they stand, and "
            f"{self.exchanged} the other way round"
        )


def find_exchange(lat: Sequence[float], lon: Sequence[float], countries: Sequence[str | None] = ()) -> Exchange | None:
    """The evidence that (N,) numbers, read as latitude and longitude in degrees, are the other way round; else None.

    Numbers may be out of range. A place is good with a country's land below it; at sea, on Antarctica or out of range
    it is not. Exchanged are those of which far more are good the other way round, and hardly any is not.
    countries: (N,) labels; where one is known, only land of that country is good (Italy exchanged lies in Ethiopia).
    """
    first, second = np.asarray(lat, np.float64), np.asarray(lon, np.float64)
    n = len(first)
    if n < _FEWEST or np.mean((np.abs(second) <= 90) & (np.abs(first) <= 180)) < _MOST:
        return None  # without a look at the map
    labels = list(countries) or [None] * n
    found = Exchange(n, _on_land(first, second, labels), _on_land(second, first, labels))
    gained, few = found.exchanged - found.as_is, n < _FEW
    return found if gained >= (0.5 if few else 0.3) * n and found.exchanged >= (1 if few else _MOST) * n else None


def _on_land(lat: np.ndarray, lon: np.ndarray, labels: Sequence[str | None]) -> int:
    from geospot.earth.gazetteer import Gazetteer

    there = np.flatnonzero((np.abs(lat) <= 90) & (np.abs(lon) <= 180))
    if not len(there):
        return 0
    gazetteer = Gazetteer.load()
    said = [gazetteer.country_code(labels[i]) if labels[i] else None for i in there.tolist()]
    here = gazetteer.locate(lat[there], lon[there]).country.tolist()
    return sum(
        at is not None and (at == code if code else at != _ANTARCTICA) for at, code in zip(here, said, strict=True)
    )
