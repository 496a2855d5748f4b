"""What is known of a record without keeping its pictures: the place; sizes, formats and a hash of each picture."""

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from geospot.data.decode import Decoder
from geospot.data.fields import Columns, read_fields, read_place
from geospot.data.records import Record, StoredPicture
from geospot.data.samples import stored_bytes
from geospot.earth.place import Place
from geospot.errors import BadSample
from geospot.pictures import bare, prepare_picture, read_header


class PictureFacts(NamedTuple):
    """One encoded picture: 64 bits of its hash, bytes, pixels as stored, and Pillow's name of its format.

    The light install has no Pillow to read a header with: 0 x 0 pixels, format "?".
    Metadata is left out of the hash: a copy without it (`data pack` makes such) is the same picture.
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


def _picture_facts(stored: bytes | StoredPicture, decode: bool) -> PictureFacts:
    data = stored_bytes(stored)
    if not has_pillow():
        return PictureFacts(digest(data), len(data), 0, 0, "?")
    if decode:
        prepare_picture(data)
    return PictureFacts(digest(bare(data)), len(data), *read_header(data))


def fact_decoder(columns: Columns, decode: bool, workers: int) -> Decoder[Facts]:
    """Records -> facts; no picture travels back from the workers."""
    return Decoder(partial(read_facts, columns=columns, decode=decode), workers)
