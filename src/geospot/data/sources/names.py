"""Pictures whose file or folder is called after where they were taken: 48.8584,2.2945.jpg, 48.8584,2.2945/090.jpg."""

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path, PurePath

from geospot.data.fields import USUAL, Columns
from geospot.data.records import Record, Skip, Source
from geospot.data.sources.blocks import BlockSource
from geospot.data.sources.listing import local_path, pictures_under, some_pictures
from geospot.data.sources.photos import digest_of
from geospot.data.stored import StoredFile
from geospot.errors import DataError

EXAMPLE = "a folder of pictures called LAT,LON.jpg or LAT_LON_anything.jpg (or in folders called so)"

# A number stands alone: no letter, digit or point touches it (`v1.2`, `10.0.0.1` and `2024.05` are none), nor does what
# may be a minus or a hyphen (`photo-33.9,18.4`: which hemisphere?).
_LAT = r"(?<![A-Za-z0-9.+-])(?:lat(?:itude)?[=_ ]?)?(?<![0-9.])(?P<lat>[+-]?\d{1,3}(?:\.\d+)?)°?(?P<ns>[NSns])?"
_LON = r"(?:lon|lng|long|longitude)?[=_ ]?(?P<lon>[+-]?\d{1,3}(?:\.\d+)?)°?(?P<ew>[EWew])?(?![A-Za-z0-9]|\.\d)"
_PAIR = re.compile(rf"{_LAT}(?P<between>, ?|_){_LON}")
_MIN_DECIMALS = 3  # of one number of a pair around `_`: 20.05_12.30 is a day and a time of day
_HEADING = re.compile(r"\d{1,3}")


def parse_name(name: str) -> tuple[float, float] | None:
    """(lat, lon) in degrees that a file's stem or a folder's name carries, or None.

    The first pair `LAT,LON` in the name, or where there is none the first `LAT_LON`, that is in range. With a comma at
    least one of the numbers has a decimal point (`1920,1080` is a size); with `_` both have one, and one of them three
    decimals or more (`2024_05`, `20.05_12.30` are dates). A sign, or N/S and E/W behind the number; `lat`/`lon` before.
    """
    for comma in (True, False):
        start = 0
        while match := _PAIR.search(name, start):
            if match["between"].startswith(",") == comma and (found := _read(match, comma)):
                return found
            start = match.end("lat")
    return None


def _read(match: re.Match, comma: bool) -> tuple[float, float] | None:
    decimals = [len(match[axis].partition(".")[2]) for axis in ("lat", "lon")]
    if not (any(decimals) if comma else all(decimals) and max(decimals) >= _MIN_DECIMALS):
        return None
    lat, lon = float(match["lat"]), float(match["lon"])
    for letter, number, sign in ((match["ns"], match["lat"], "S"), (match["ew"], match["lon"], "W")):
        if letter and number[0] in "+-":
            return None
        if letter and letter.upper() == sign:
            lat, lon = (-lat, lon) if sign == "S" else (lat, -lon)
    if abs(lat) > 90 or abs(lon) > 180 or lat == lon == 0:
        return None
    return lat, lon


def parse_path(path: str) -> tuple[tuple[float, float], str] | None:
    """The coordinates in a relative path, and the path up to the name that carries them: the file's, or a folder's."""
    pure = PurePath(path)
    if found := parse_name(pure.stem):
        return found, path
    for folder in pure.parents:
        if folder.name and (found := parse_name(folder.name)):
            return found, str(folder)
    return None


def _place_of(path: str) -> str:
    """What pictures of one place share: a folder called after it, whose files are called after headings (090.jpg)."""
    if _HEADING.fullmatch(PurePath(path).stem) and int(PurePath(path).stem) < 360 and (found := parse_path(path)):
        return found[1]
    return path


class Named(BlockSource):
    """Places by the paths of their pictures; headings of one place are one record."""

    exchange_mend = "Call the pictures LAT,LON, latitude first; if they are right, say columns=lat=lat,lon=lon"

    def __init__(self, spec: str, folder: Path, names: list[str], columns: Columns):
        self._places = [tuple(group) for _, group in groupby(names, _place_of)]
        super().__init__(spec, folder, len(self._places), digest_of(names))
        self._folder, self._lat, self._lon = folder, columns.lat or "lat", columns.lon or "lon"

    def load(self, first: int, stop: int) -> Iterator[Record | Skip]:
        """The places' records; a name without coordinates is a Skip."""
        for paths in self._places[first:stop]:
            found = parse_path(paths[0])
            if found is None:
                yield Skip("no coordinates in the name", str(self._folder / paths[0]))
                continue
            (lat, lon), carrier = found
            pictures = tuple(StoredFile(str(self._folder / path)) for path in paths)
            key = str(PurePath(carrier).with_suffix("")) if carrier == paths[0] else carrier
            if len(paths) == 1 and carrier != paths[0]:
                key = str(PurePath(paths[0]).with_suffix(""))
            yield Record(key, {self._lat: lat, self._lon: lon}, pictures, tuple(PurePath(path).name for path in paths))


def matches(spec: str, columns: Columns = USUAL) -> bool:
    """A folder in which at least half of the first pictures carry coordinates in their names."""
    path = local_path(spec)
    if path is None or not path.is_dir():
        return False
    names = some_pictures(path)
    return bool(names) and 2 * sum(parse_path(name) is not None for name in names) >= len(names)


def open_source(spec: str, columns: Columns, revision: str | None) -> Source:
    """Records of a folder whose names carry coordinates."""
    path = Path(spec).expanduser()
    if not path.is_dir():
        raise DataError("there is no such folder")
    names = list(pictures_under(path))
    if not any(parse_path(name) for name in names):
        raise DataError(f"none of {len(names)} pictures' names carries coordinates as LAT,LON or LAT_LON")
    return Named(spec, path, names, columns)
