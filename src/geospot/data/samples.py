"""A sample: the pictures of one place and where it is, read from a record or refused with a reason."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from geospot.data.fields import USUAL, BadSample, Columns, read_fields, read_place
from geospot.data.pictures import prepare_picture
from geospot.data.records import Record, StoredPicture
from geospot.earth.place import Place

EXAMPLES = 5


@dataclass(frozen=True)
class Sample:
    """One place: its key in its set, one or more encoded pictures, and the truth."""

    key: str
    pictures: tuple[bytes, ...]
    place: Place


@dataclass(frozen=True)
class ReadOptions:
    """How records become samples; it travels to the worker processes once.

    max_pixels: larger pictures are scaled down; None: never. refuse: gives the reason for which a place is not wanted
    (it is counted under that), or None; asked before the pictures are decoded.
    """

    max_pixels: int | None = None
    columns: Columns = USUAL
    refuse: Callable[[Place], str | None] | None = None


class SkipCounter(Counter):
    """How many samples (or shards) were skipped, by reason; prints as 'unreadable image 3, no coordinates 1'.

    `examples` holds the first few of each reason in words.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.examples: dict[str, list[str]] = {}

    def copy(self) -> "SkipCounter":
        """With the examples."""
        other = SkipCounter(self)
        other.examples = {reason: list(told) for reason, told in self.examples.items()}
        return other

    def count(self, reason: str, detail: str = "") -> None:
        """Count one; `detail` says which, as long as few of that reason have been kept."""
        self[reason] += 1
        told = self.examples.setdefault(reason, [])
        if detail and len(told) < EXAMPLES:
            told.append(detail)

    def count_bad(self, key: str, bad: BadSample) -> None:
        """Count a sample by what was wrong with it."""
        self.count(bad.reason, f"{key}: {bad.detail}" if bad.detail else key)

    def __str__(self) -> str:
        return ", ".join(f"{reason} {n}" for reason, n in self.most_common()) or "none"


def read_sample(record: Record, options: ReadOptions = ReadOptions()) -> Sample:
    """Read a record's place, then decode its pictures to their end; BadSample with the reason where either fails."""
    place = read_place(read_fields(record.fields), options.columns)
    if options.refuse and (reason := options.refuse(place)):
        raise BadSample(reason)
    if not record.pictures:
        raise BadSample("no picture")
    return Sample(
        record.key, tuple(prepare_picture(stored_bytes(p), options.max_pixels)[0] for p in record.pictures), place
    )


def stored_bytes(stored: bytes | StoredPicture) -> bytes:
    """The encoded bytes of a record's picture; BadSample where they cannot be read."""
    if isinstance(stored, bytes):
        return stored
    try:
        return stored.read()
    except FileNotFoundError as error:
        raise BadSample("picture file missing", str(error)) from None
    except OSError as error:
        raise BadSample("picture file unreadable", str(error)) from None
