"""What is known of a record without keeping its pictures: the place; sizes, formats and a hash of each picture."""

import hashlib
import importlib.util
import io
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from geospot.data.decode import Decoder
from geospot.data.fields import BadSample, Columns, read_fields, read_place
from geospot.data.pictures import prepare_picture
from geospot.data.records import Record
from geospot.data.samples import stored_bytes
from geospot.earth.place import Place


class PictureFacts(NamedTuple):
    """One encoded picture: 64 bits of its hash, bytes, pixels as stored, and Pillow's name of its format.

    The light install has no Pillow to read a header with: 0 x 0 pixels, format "?".
    """

    digest: int
    nbytes: int
    width: int
    height: int
    format: str


@dataclass(frozen=True)
class Facts:
    """One good record."""

    place: Place
    pictures: tuple[PictureFacts, ...]


def digest(data: bytes) -> int:
    """64 bits of BLAKE2b: among 9 million, one chance in 500,000 that any two of them are taken for equal."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def has_pillow() -> bool:
    """Whether pictures can be opened here."""
    try:
        return importlib.util.find_spec("PIL") is not None
    except ImportError:
        return False


def read_facts(record: Record, columns: Columns, decode: bool) -> Facts:
    """BadSample where training would skip the record; `decode=False` reads no further than the pictures' headers."""
    place = read_place(read_fields(record.fields), columns)
    if not record.pictures:
        raise BadSample("no picture")
    return Facts(place, tuple(_picture_facts(picture, decode) for picture in record.pictures))


def _picture_facts(stored, decode: bool) -> PictureFacts:
    stored = stored_bytes(stored)
    if not has_pillow():
        return PictureFacts(digest(stored), len(stored), 0, 0, "?")
    from PIL import Image

    if decode:
        prepare_picture(stored)
    try:
        with Image.open(io.BytesIO(stored)) as image:
            return PictureFacts(digest(stored), len(stored), *image.size, image.format or "?")
    except Exception as error:  # Pillow raises whatever it runs into in a damaged file
        raise BadSample("unreadable image", str(error)) from None


def fact_decoder(columns: Columns, decode: bool, workers: int) -> Decoder[Facts]:
    """Records -> facts; no picture travels back from the workers."""
    return Decoder(partial(read_facts, columns=columns, decode=decode), workers)
