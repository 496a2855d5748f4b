"""Which column of a table, or key of a metadata object, holds what: the spellings in use, for data and predictions."""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from geospot.answer.regex import lazy

# What each thing is called out there, most telling first; compared as `fold_name` writes them.
SPELLINGS: dict[str, tuple[str, ...]] = {
    "lat": (
        "lat",
        "latitude",
        "latdeg",
        "latitudedeg",
        "decimallatitude",
        "latitudewgs84",
        "latwgs84",
        "ylat",
        "latitud",
        "latitudine",
        "breitengrad",
        "широта",
        "纬度",
        "緯度",
    ),
    "lon": (
        "lon",
        "lng",
        "long",
        "longitude",
        "londeg",
        "lngdeg",
        "longitudedeg",
        "decimallongitude",
        "longitudewgs84",
        "lonwgs84",
        "xlon",
        "longitud",
        "longitudine",
        "längengrad",
        "долгота",
        "经度",
        "経度",
    ),
    "city": ("city", "town", "locality", "closestcity", "nearestcity", "uniquecity"),
    "region": ("region", "state", "province", "admin1", "uniqueregion"),
    "country": (
        "country",
        "countrycode",
        "countryname",
        "countryisoalpha2",
        "countryiso2",
        "countryiso",
        "isoalpha2",
        "iso2",
        "isoa2",
        "cc",
        "uniquecountry",
    ),
    "image": (
        "image",
        "imagepath",
        "imgfile",
        "filename",
        "file",
        "path",
        "imgpath",
        "img",
        "picture",
        "imagename",
        "imagefile",
        "imgname",
        "photo",
        "photoname",
        "sourcefile",  # exiftool
    ),
    "key": ("key", "id", "imgid", "imageid", "panoid", "uuid", "photoid", "samplekey"),
    "place": ("place", "placeid", "locationid", "clusterid"),
}
# What a column called so says of the one that `{}` stands for: north or south, east or west.
_SAYS = ("ref", "reference", "dir", "direction", "hemisphere", "hemi", "hem", "cardinal", "quadrant", "sign")
_REFERENCES = (*(f"{{}}{word}" for word in _SAYS), "{}ns", "{}ew", *(f"{word}{{}}" for word in _SAYS))
_BARE_REFERENCES = {"lat": ("ns", "northsouth"), "lon": ("ew", "eastwest")}
_TOOLS = lazy("(?:exif|composite|xmp|gps)+(?=.)")  # EXIF:GPSLatitude, as programs write what they read
_DEGREES = ("degrees", "degree", "deg", "d")
# Behind the stem of a column of whole degrees, those of its minutes and its seconds.
_PARTS = (("minutes", "minute", "mins", "min", "m"), ("seconds", "second", "secs", "sec", "s"))


@lru_cache(maxsize=65_536)
def fold_name(name: str) -> str:
    """A name in small letters, without spaces, marks and a `gps` or `exif` before it."""
    folded = "".join(c for c in name.lower() if c.isalnum())
    return _TOOLS.sub("", folded, count=1) if _TOOLS.match(folded) else folded


@lru_cache(maxsize=4096)  # the samples of a set share their keys
def _folded(names: tuple[object, ...]) -> dict[str, str]:
    return {fold_name(name): name for name in reversed(names) if isinstance(name, str)}


def first_of(spellings: Iterable[str], names: Sequence[object]) -> str | None:
    """The first of the names that is spelled in one of these ways, the ways in order of preference."""
    folded = _folded(tuple(names))
    return next((folded[spelling] for spelling in spellings if spelling in folded), None)


def find_column(thing: str, names: Sequence[object]) -> str | None:
    """The name that holds `thing` ("lat", "image", ...), or None."""
    return first_of(SPELLINGS[thing], names)


@lru_cache(maxsize=4096)
def coordinate_columns(column: str, axis: str, names: tuple[str, ...]) -> tuple[str | None, str | None, str | None]:
    """(reference, minutes, seconds): the columns that complete `column`, where there are any.

    axis: "lat" or "lon". A reference says N or S, E or W of unsigned numbers; minutes and seconds belong to a column of
    whole degrees (lat_deg beside lat_min).
    """
    folded = fold_name(column)
    stem = next((folded.removesuffix(end) for end in _DEGREES if folded.endswith(end) and folded != end), folded)
    stems = [folded, stem]
    if folded in SPELLINGS[axis]:
        stems += SPELLINGS[axis]
    patterns = [pattern.format(one) for one in dict.fromkeys(stems) for pattern in _REFERENCES]
    if folded in SPELLINGS[axis]:
        patterns += _BARE_REFERENCES[axis]
    others = tuple(name for name in names if name != column)
    minutes = seconds = None
    if stem != folded and first_of([f"{stem}max"], others) is None:  # lat_min beside lat_max bounds a box
        minutes, seconds = (first_of([stem + part for part in parts], others) for parts in _PARTS)
    return first_of(patterns, others), minutes, seconds if minutes else None


@lru_cache(maxsize=4096)
def near_columns(column: str, axis: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Columns that may be about `column` by their names (lat_card, side_of_lat): what they hold tells."""
    stems = SPELLINGS[axis][:4]
    others = [name for name in names if name != column and fold_name(name) not in SPELLINGS[axis]]
    return tuple(name for name in others if fold_name(name).startswith(stems) or fold_name(name).endswith(stems))
