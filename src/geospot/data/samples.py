"""A sample: the pictures of one place and where it is, read from a record or refused with a reason."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from geospot.data.fields import USUAL, Columns, read_fields, read_place
from geospot.data.records import Record, StoredPicture
from geospot.earth.place import Place
from geospot.errors import BadSample
from geospot.pictures import prepare_picture

EXAMPLES = 5
EACH = "each"  # of `views`: every picture is a sample of its own


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

    def __init__(self, *args: Any, **kwargs: Any):
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


# --- which of a place's pictures are shown: all headings together, a seeded choice of them, or each on its own -----


def check_views(views: str) -> str:
    """`views` as it is; ValueError unless it is a whole number from 1 on, or 'each'."""
    if views != EACH and not (views.isdecimal() and int(views) >= 1):
        raise ValueError(f"views={views!r}: must be how many pictures of a place are shown together (1, 4), or each")
    return views


def split_views(record: Record, views: str) -> list[tuple[int, ...] | None]:
    """The samples that a record gives, each as the positions of its pictures; None: left to `choose_views`."""
    if views == EACH and len(record.pictures) > 1:
        return [(i,) for i in range(len(record.pictures))]
    return [None]


def choose_views(record: Record, views: str, seed: Sequence[int]) -> tuple[int, ...]:
    """Positions of the pictures that a sample shows; where there are more than it takes, drawn by seed and key."""
    n = len(record.pictures)
    if views == EACH or n <= int(views):
        return tuple(range(n))
    drawn = random.Random(f"{'/'.join(map(str, seed))}/{record.key}").sample(range(n), int(views))
    return tuple(sorted(drawn))


def with_views(record: Record, chosen: tuple[int, ...], views: str) -> Record:
    """The record with these pictures alone; one of several samples of a place gets a key of its own."""
    if len(chosen) == len(record.pictures):
        return record
    key = record.key
    if views == EACH:
        key = f"{key}/{record.names[chosen[0]].partition('.')[0]}"
    pictures, names = tuple(record.pictures[i] for i in chosen), tuple(record.names[i] for i in chosen)
    return replace(record, key=key, pictures=pictures, names=names)
