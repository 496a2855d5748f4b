"""A folder of geotagged photos, sub-folders included; where each was taken is read when it is its turn.

It is in the photo's EXIF or XMP, else in the JSON that Google Takeout writes beside it.
"""

import hashlib
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import orjson

from geospot.data.fields import USUAL, Columns, read_coordinates
from geospot.data.records import Record, Skip, Source
from geospot.data.sources.blocks import BlockSource
from geospot.data.sources.listing import local_path, pictures_under, some_pictures
from geospot.data.stored import StoredFile
from geospot.errors import BadSample, DataError
from geospot.pictures import is_picture, read_file, read_position

EXAMPLE = "a folder of photos with GPS in their EXIF or in Google Takeout's JSON (JPEG, PNG; HEIC with the extra heic)"
_NO_GPS = (
    "These photos carry no GPS in their EXIF or XMP, and no JSON of Google Takeout lies beside them: name them "
    "LAT,LON.jpg, or give a CSV with columns lat, lon, image."
)
_LOOK_AT = 200  # photos, before it is said that none has a position
_TAKEOUT = ".supplemental-metadata"
_TAKEOUT_STEM = 46  # characters of a file's name that Takeout keeps before .json
_NUMBERED = re.compile(r"(?P<stem>.+)(?P<number>\(\d+\))(?P<suffix>\.\w+)")
_EDITED = "-edited"  # a copy with changes, which has no JSON of its own


class Photos(BlockSource):
    """Photos by their paths under `folder`, sorted. Memory: their names."""

    def __init__(self, spec: str, folder: Path, names: list[str], columns: Columns):
        super().__init__(spec, folder, len(names), digest_of(names))
        self._folder, self._names = folder, names
        self._lat, self._lon = columns.lat or "lat", columns.lon or "lon"

    @property
    def mend(self) -> str:
        """Of the first photos; "" where one says where it was taken, or where none is there to be read."""
        reasons = set()
        for name in self._names[:_LOOK_AT]:
            try:
                lat, lon = position_of_file(self._folder / name)
                read_coordinates({"lat": lat, "lon": lon})
                return ""
            except BadSample as error:
                reasons.add(error.reason)
            except OSError:
                continue
        return _NO_GPS if "no coordinates" in reasons else ""

    def load(self, first: int, stop: int) -> Iterator[Record | Skip]:
        """The photos' records; one without a position is a Skip."""
        for name in self._names[first:stop]:
            path = self._folder / name
            try:
                lat, lon = position_of_file(path)
            except BadSample as error:
                yield Skip(error.reason, f"{path}: {error.detail or error}")
            except FileNotFoundError:
                yield Skip("picture file missing", str(path))
            except OSError as error:
                yield Skip("picture file unreadable", str(error))
            else:
                yield Record(name, {self._lat: lat, self._lon: lon}, (StoredFile(str(path)),), (path.name,))


def position_of_file(path: Path) -> tuple[float, float]:
    """(lat, lon) as the camera wrote it, else as Google Takeout's JSON has it; BadSample where neither says."""
    try:
        return read_position(path)
    except BadSample as error:
        if error.reason in ("unreadable image", "not a regular file") or (beside := _takeout_json(path)) is None:
            raise
        try:
            return _takeout_position(beside)
        except BadSample as none:
            raise (none if error.reason == "no coordinates" else error) from None


def takeout_names(picture: str) -> Iterator[str]:
    """What Google Takeout may call the JSON of a picture, most telling first.

    `a.jpg.supplemental-metadata.json`, cut anywhere where the name is long, `a.jpg.json` before 2024; of `a(1).jpg`
    also `a.jpg.supplemental-metadata(1).json` and `a.jpg(1).json`; of `a-edited.jpg` those of `a.jpg`.
    """
    bases = [(picture, "")]
    if numbered := _NUMBERED.fullmatch(picture):
        bases.append((numbered["stem"] + numbered["suffix"], numbered["number"]))
    stems = [(base.rpartition("."), number) for base, number in bases]
    bases += [
        (stem.removesuffix(_EDITED) + dot + suffix, number)
        for (stem, dot, suffix), number in stems
        if stem.endswith(_EDITED)
    ]
    for base, number in bases:
        whole = base + _TAKEOUT
        for length in range(len(whole), min(len(base), _TAKEOUT_STEM) - 1, -1):
            yield f"{whole[:length]}{number}.json"
    yield picture.rpartition(".")[0] + ".json"  # the oldest, of which only those with `geoData` count


def _takeout_json(path: Path) -> Path | None:
    there = _json_names(path.parent, path.parent.stat().st_mtime_ns)
    return next((path.with_name(name) for name in takeout_names(path.name) if name in there), None)


@lru_cache(maxsize=16)
def _json_names(folder: Path, changed_ns: int) -> frozenset[str]:
    """Of a folder, listed once while nothing is added to it: its photos are read one behind the other."""
    return frozenset(path.name for path in folder.iterdir() if path.name.endswith(".json"))


def _takeout_position(path: Path) -> tuple[float, float]:
    try:
        told = orjson.loads(read_file(path))
    except (OSError, ValueError) as error:  # BadSample is one
        raise BadSample("json cannot be read", f"{path.name}: {error}") from None
    for key in ("geoDataExif", "geoData"):  # the camera's, then what Google or the owner has put there
        place = told.get(key) if isinstance(told, dict) else None
        if isinstance(place, dict) and (place.get("latitude") or place.get("longitude")):
            return read_coordinates({"lat": place.get("latitude"), "lon": place.get("longitude")})
    raise BadSample("no coordinates", f"neither the photo nor {path.name} has a position")


def digest_of(names: list[str]) -> str:
    """Of a list of names: another where one was added, removed or renamed."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()[:24]


def matches(spec: str, columns: Columns = USUAL) -> bool:
    """A folder with a picture somewhere in it, or one picture."""
    path = local_path(spec)
    return path is not None and (bool(some_pictures(path, 1)) if path.is_dir() else is_picture(path.name))


def open_source(spec: str, columns: Columns, revision: str | None) -> Source:
    """Records of a folder's photos, or of one photo."""
    path = Path(spec).expanduser()
    if not path.exists():
        raise DataError("there is no such file or folder")
    folder, names = (path, list(pictures_under(path))) if path.is_dir() else (path.parent, [path.name])
    if not names:
        raise DataError(f"the folder {path} holds no JPEG, PNG, WebP, HEIC, AVIF, TIFF, BMP or GIF")
    return Photos(spec, folder, names, columns)
