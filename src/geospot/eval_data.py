"""Where `geospot eval` and `calibrate` get their samples: the one place that knows about sources of data."""

import tarfile
from collections.abc import Iterator
from contextlib import closing
from itertools import islice

from geospot.data.decode import Decoder, decode_in_order
from geospot.data.fields import Columns, read_fields, read_place
from geospot.data.records import DataError, Record, Source
from geospot.data.samples import BadSample, ReadOptions, Sample, SkipCounter
from geospot.data.sets import held_out_sets, worker_count
from geospot.data.sources.webdataset import Shards
from geospot.data.stream import read_all, read_records
from geospot.earth.place import Place


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
    columns = Columns.parse(config.columns)

    def read(record: Record) -> Place:
        return read_place(read_fields(record.fields), columns)

    def places() -> Iterator[tuple[str, Place]]:
        with closing(read_records(source, skipped, config.views)) as records:
            for record, place in decode_in_order(records, Decoder(read)):
                if isinstance(place, BadSample):
                    skipped.count_bad(record.key, place)
                else:
                    yield record.key, place

    with closing(places()) as found:
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
    total = 0
    for shard in source.parts:
        try:
            with tarfile.open(shard) as tar:  # seeks over the pictures
                total += sum(name.endswith(".json") for name in tar.getnames())
        except (tarfile.TarError, OSError):
            return None
    return total
