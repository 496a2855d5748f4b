"""A folder of geotagged photos, sub-folders included; where each was taken is in its EXIF, read when it is its turn."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from geospot.data.fields import USUAL, BadSample, Columns, read_coordinates
from geospot.data.records import Record, Skip, Source
from geospot.data.sources.blocks import BlockSource
from geospot.data.sources.exif import NoPosition, read_position
from geospot.data.sources.listing import is_picture, local_path, pictures_under, some_pictures
from geospot.data.stored import StoredFile
from geospot.errors import DataError

EXAMPLE = "a folder of photos with GPS in their EXIF (JPEG, PNG, WebP; HEIC with the extra `heic`)"
_NO_GPS = "These photos carry no GPS in their EXIF: name them LAT,LON.jpg, or give a CSV with columns lat, lon, image."
_LOOK_AT = 200  # photos, before it is said that none has a position


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
                lat, lon = read_position(self._folder / name)
                read_coordinates({"lat": lat, "lon": lon})
                return ""
            except (NoPosition, BadSample) as error:
                reasons.add(error.reason)
            except FileNotFoundError:
                continue
        return _NO_GPS if "no coordinates" in reasons else ""

    def load(self, first: int, stop: int) -> Iterator[Record | Skip]:
        """The photos' records; one without a position is a Skip."""
        for name in self._names[first:stop]:
            path = self._folder / name
            try:
                lat, lon = read_position(path)
            except NoPosition as error:
                yield Skip(error.reason, f"{path}: {error}")
                continue
            except FileNotFoundError:
                yield Skip("picture file missing", str(path))
                continue
            yield Record(name, {self._lat: lat, self._lon: lon}, (StoredFile(str(path)),), (path.name,))


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
        raise DataError(f"the folder {path} holds no JPEG, PNG, WebP or HEIC")
    return Photos(spec, folder, names, columns)
