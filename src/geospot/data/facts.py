"""What is known of a record without keeping its pictures: the place; sizes, formats and a hash of each picture."""

import hashlib
import io
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import NamedTuple

from geospot.data.decode import Decoder
from geospot.data.fields import Columns, read_fields, read_place
from geospot.data.pictures import prepare_picture
from geospot.data.records import Record
from geospot.data.samples import BadSample, ReadOptions
from geospot.earth.place import Place


class PictureFacts(NamedTuple):
    """One encoded picture: 64 bits of its hash, bytes, pixels as stored, and Pillow's name of its format."""

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


def read_facts(record: Record, columns: Columns, decode: bool) -> Facts:
    """BadSample where training would skip the record; `decode=False` reads no further than the pictures' headers."""
    place = read_place(read_fields(record.fields), columns)
    if not record.pictures:
        raise BadSample("no picture")
    return Facts(place, tuple(_picture_facts(picture, decode) for picture in record.pictures))


def _picture_facts(stored, decode: bool) -> PictureFacts:
    from PIL import Image

    if not isinstance(stored, bytes):
        try:
            stored = stored.read()
        except FileNotFoundError as error:
            raise BadSample("picture file missing", str(error)) from None
        except OSError as error:
            raise BadSample("picture file unreadable", str(error)) from None
    if decode:
        prepare_picture(stored)
    try:
        with Image.open(io.BytesIO(stored)) as image:
            return PictureFacts(digest(stored), len(stored), *image.size, image.format or "?")
    except Exception as error:  # Pillow raises whatever it runs into in a damaged file
        raise BadSample("unreadable image", str(error)) from None


Read = Facts | BadSample


def _read_batch(records: Sequence[Record], columns: Columns, decode: bool) -> list[tuple[Facts | None, str, str]]:
    """(facts, reason, detail) each."""
    results = []
    for record in records:
        try:
            results.append((read_facts(record, columns, decode), "", ""))
        except BadSample as error:
            results.append((None, error.reason, str(error).removeprefix(error.reason).removeprefix(": ")))
    return results


class FactReader(Decoder):
    """A `Decoder` whose batches come back as `Facts`: no picture travels from the workers."""

    def __init__(self, columns: Columns, decode: bool, workers: int):
        super().__init__(ReadOptions(columns=columns), workers)
        self._how = columns, decode

    def submit(self, records: Sequence[Record]) -> Callable[[], list[Read]]:
        """Begin a batch; call what this returns for the facts, one a record in their order."""
        if not self.workers:
            return lambda: _opened(_read_batch(records, *self._how))
        future = self._submit(records)
        return lambda: self._wait(records, future)

    def _submit(self, records: Sequence[Record]) -> Future:
        for _ in range(2):
            self._pool = self._pool or self._start()
            try:
                return self._pool.submit(_read_batch, records, *self._how)
            except BrokenProcessPool:
                self._pool = None
        raise RuntimeError("the processes that decode pictures die as they start; data_workers=0 does without them")

    def _wait(self, records: Sequence[Record], future: Future) -> list[Read]:
        try:
            return _opened(future.result())
        except BrokenProcessPool:
            return _opened([self._alone(record) for record in records])


def _opened(results: Sequence[tuple[Facts | None, str, str]]) -> list[Read]:
    return [BadSample(reason, detail) if facts is None else facts for facts, reason, detail in results]
