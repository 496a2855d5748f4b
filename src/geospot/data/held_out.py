"""Held-out samples: the first so many good ones of a source, in its own order."""

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from typing import Protocol, TypeVar

from geospot.data.fields import Columns
from geospot.data.records import Source
from geospot.data.samples import ReadOptions, Sample, SkipCounter
from geospot.data.sets import ReadConfig, worker_count
from geospot.data.sources.webdataset import Shards
from geospot.data.stream import read_all, read_places
from geospot.earth.place import Place
from geospot.errors import DataError

Item = TypeVar("Item")


class HeldOutConfig(ReadConfig, Protocol):
    """What a configuration says of held-out samples; `eval_places`: how many, 0 for all."""

    @property
    def eval_places(self) -> int: ...
    @property
    def max_pixels(self) -> int: ...
    @property
    def views(self) -> str: ...


def held_out_samples(
    config: HeldOutConfig, source: Source, skipped: SkipCounter, refuse: Callable[[Place], str | None] | None = None
) -> Iterator[Sample]:
    """One sample at a time; DataError where there is none. `refuse` as in `ReadOptions`; `skipped` counts the bad."""
    options = ReadOptions(max_pixels=config.max_pixels, columns=Columns.parse(config.columns), refuse=refuse)
    samples = read_all(source, options, skipped=skipped, views=config.views, workers=worker_count(config))
    with closing(samples):
        yield from _first(samples, config.eval_places, source, skipped)


def held_out_places(config: HeldOutConfig, source: Source, skipped: SkipCounter) -> Iterator[tuple[str, Place]]:
    """(key, place) of the same samples; their pictures are not decoded."""
    with closing(read_places(source, Columns.parse(config.columns), skipped, config.views)) as found:
        yield from _first(found, config.eval_places, source, skipped)


def _first(items: Iterator[Item], limit: int, source: Source, skipped: SkipCounter) -> Iterator[Item]:
    empty = True
    for item in islice(items, limit or None):
        empty = False
        yield item
    if empty:
        raise DataError(f"no usable sample in {source.spec}; skipped: {skipped}")


def count_held_out(config: HeldOutConfig, source: Source) -> int | None:
    """How many samples there are at most, for the time left; None where counting would mean reading everything."""
    if config.eval_places:
        return config.eval_places
    if not isinstance(source, Shards) or source.remote:
        return None
    return source.count()
