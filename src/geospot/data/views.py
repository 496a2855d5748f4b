"""Which of a place's pictures are shown: all headings together, a seeded choice of them, or each on its own."""

import random
from collections.abc import Sequence
from dataclasses import replace

from geospot.data.records import Record

EACH = "each"


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
    pictures, names = (tuple(of[i] for i in chosen) for of in (record.pictures, record.names))
    return replace(record, key=key, pictures=pictures, names=names)
