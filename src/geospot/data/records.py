"""What every source of data yields: records whose place and pictures are still unread, and where each one lies.

A source is a list of parts (shards, blocks of rows). Parts are what is shuffled and split over processes; inside a part
a cursor (a byte offset, a row number) says where to go on, so that a stream resumes without reading what came before.
"""

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from geospot.errors import DataError


class StoredPicture(Protocol):
    """An encoded picture that is read where it is decoded; small, and it can be sent to another process."""

    def read(self) -> bytes:
        """The encoded picture; OSError or BadSample where it cannot be read."""


@dataclass(frozen=True)
class Record:
    """One place as it is stored, nothing of it checked.

    key: what the data set calls it. fields: the metadata, or its JSON as stored (None: there is none).
    pictures: in the order of their names, encoded, or to be read by the worker that decodes them. names: theirs.
    start, end: the cursors of this record and of the one behind it in its part.
    """

    key: str
    fields: Mapping[str, object] | bytes | None
    pictures: tuple[bytes | StoredPicture, ...]
    names: tuple[str, ...]
    start: int = 0
    end: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of pictures held in memory."""
        return sum(len(picture) for picture in self.pictures if isinstance(picture, bytes))


@dataclass(frozen=True)
class Skip:
    """Something of a part that could not be read: `reason` is one of a few fixed texts, for counting."""

    reason: str
    detail: str = ""
    end: int = 0


class Source(ABC):
    """Where records come from.

    spec: what the user wrote. parts: names in a stable order, the same whenever the same data is opened again.
    remote: whether reading waits for a network. revision: of a hub's repository, pinned; a resumed run asks for it.
    retries: what the network made necessary so far, by reason. fetches_singly: whether `fetch` costs no more than its
    record; else a resume asks by `fetch_many`. exchange_mend: what a user can do where its
    latitudes and longitudes are exchanged; "": name the columns the other way round.
    """

    spec: str
    parts: Sequence[str]
    remote: bool = False
    revision: str | None = None
    retries: Counter | None = None
    fetches_singly: bool = True
    exchange_mend: str = ""

    @property
    def mend(self) -> str:
        """What a user can do where no sample of it is usable."""
        return ""

    @abstractmethod
    def read(self, part: int, start: int = 0) -> Generator[Record | Skip]:
        """The records of a part from a cursor on. What cannot be read comes as a Skip; nothing is dropped silently."""

    @abstractmethod
    def fetch(self, part: int, start: int, end: int) -> Record:
        """One record again, by the cursors that `read` gave it; OSError or DataError where it is gone."""

    def fetch_many(self, part: int, cursors: Sequence[tuple[int, int]]) -> Iterator[Record | None]:
        """The records at these (start, end) of a part, which are in order; None for one that is gone."""
        for start, end in cursors:
            try:
                yield self.fetch(part, start, end)
            except (OSError, DataError):
                yield None

    def close(self) -> None:  # noqa: B027 (most have nobody to wake)
        """Wake who waits for the network, from any thread: what is being read ends in an error."""

    def identity(self) -> str:
        """A digest of the parts: the same where a cursor saved earlier still means the same."""
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(part.encode() + b"\n")
        return digest.hexdigest()[:16]
