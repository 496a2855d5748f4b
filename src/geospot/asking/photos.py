"""Photos from files, folders and web addresses, and what they would give away: metadata goes, a warning stays."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from geospot.asking.download import PhotoError, download, is_address
from geospot.errors import BadSample
from geospot.pictures import PICTURE_SUFFIXES, carries_position, is_picture, prepare_picture, read_file, read_position

__all__ = ["Photo", "PhotoError", "clean", "find_photos", "read_photos"]


@dataclass(frozen=True)
class Photo:
    """A picture as the model sees it, the bytes that training and evaluation would show it too; without metadata.

    `gps` is the position (lat, lon) that the file carried, `tells` whether it carried any, be it one nobody can read.
    """

    name: str
    picture: bytes
    gps: tuple[float, float] | None = None
    tells: bool = False

    @property
    def warning(self) -> str:
        """What to say of a photo that gives its position away; empty for any other."""
        if not self.tells:
            return ""
        where = f" ({self.gps[0]:.5f}, {self.gps[1]:.5f})" if self.gps else ""
        return f"{self.name} carries its position{where} in its metadata, which the model does not see"


def find_photos(paths: Sequence[str]) -> list[str]:
    """The files and addresses named, and the pictures in the folders named (sorted).

    What is called like a picture and is none (a FIFO, a broken link) is among them, for `read_photos` to say so.
    FileNotFoundError where there is nothing.
    """
    found: list[str] = []
    for path in paths:
        if is_address(path):
            found.append(path)
            continue
        place = os.path.expanduser(path)
        if os.path.isdir(place):
            names = sorted(filter(is_picture, os.listdir(place)))
            if not names:
                raise FileNotFoundError(f"{path}: no picture in this folder ({', '.join(PICTURE_SUFFIXES)})")
            found += [os.path.join(place, name) for name in names]
        elif os.path.lexists(place):
            found.append(str(Path(place)))
        else:
            raise FileNotFoundError(f"{path}: no such file or folder")
    return found


def read_photos(
    names: Sequence[str], max_pixels: int | None, *, allow_private: bool = False
) -> Iterator[Photo | PhotoError]:
    """Each photo, or why it cannot be used; the error's message begins with its name."""
    for name in names:
        try:
            data = download(name, allow_private=allow_private) if is_address(name) else read_file(name)
            yield clean(name, data, max_pixels)
        except (PhotoError, BadSample, OSError) as error:
            yield PhotoError(f"{name}: {getattr(error, 'strerror', None) or error}")


def clean(name: str, data: bytes, max_pixels: int | None = None) -> Photo:
    """A photo made ready for the model as pictures of a data set are; PhotoError where it cannot be read."""
    try:
        picture, _ = prepare_picture(data, max_pixels)
    except BadSample as error:
        raise PhotoError(str(error)) from None
    try:
        gps = read_position(data)
    except BadSample:
        gps = None
    gps = None if gps == (0.0, 0.0) else gps  # written where there is no fix; data sets refuse it likewise
    return Photo(name, picture, gps, gps is not None or carries_position(data))
