"""Where `geospot eval` and `calibrate` get their samples: the one place that knows about sources of data."""

from collections.abc import Iterator
from contextlib import closing
from itertools import islice

from geospot.data.fields import Columns
from geospot.data.records import Source
from geospot.data.samples import ReadOptions, Sample, SkipCounter
from geospot.data.sets import held_out_sets, worker_count
from geospot.data.sources.webdataset import Shards
from geospot.data.stream import read_all, read_places
from geospot.earth.place import Place
from geospot.errors import DataError


def eval_sources(config, zoom_km: float) -> dict[str, Source]:
    """Name -> source of the sets that `data=` of a config stands for."""
    return held_out_sets(config, zoom_km)


def read_eval_samples(config, source: Source, skipped: SkipCounter) -> Iterator[Sample]:
    """The first `eval_places` (0: all) good samples of a source, in its own order, one at a time."""
    options = ReadOptions(max_pixels=config.max_pixels, columns=Columns.parse(config.columns))
    samples = read_all(source, options, skipped=skipped, views=config.views, workers=worker_count(config))
    with closing(samples):
        yield from _some(samples, config.eval_places, source, skipped)


def read_eval_places(config, source: Source, skipped: SkipCounter) -> Iterator[tuple[str, Place]]:
    """(key, place) of the first `eval_places` (0: all) records of a source; their pictures are not decoded."""
    with closing(read_places(source, Columns.parse(config.columns), skipped, config.views)) as found:
        yield from _some(found, config.eval_places, source, skipped)


def _some(items: Iterator, limit: int, source: Source, skipped: SkipCounter) -> Iterator:
    empty = True
    for item in islice(items, limit or None):
        empty = False
        yield item
    if empty:
        raise DataError(f"no usable sample in {source.spec}; skipped: {skipped}")


def count_samples(config, source: Source) -> int | None:
    """How many samples there are at most, for the time left; None where counting would mean reading everything."""
    if config.eval_places:
        return config.eval_places
    if not isinstance(source, Shards) or source.remote:
        return None
    return source.count()
