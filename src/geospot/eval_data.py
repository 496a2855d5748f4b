"""Where `geospot eval` and `calibrate` get their samples: the one place that knows about sources of data."""

import tarfile
from collections.abc import Iterator
from itertools import islice

from geospot.data.samples import Sample, SkipCounter
from geospot.data.shards import DataError, find_shards, read_samples
from geospot.loop import held_out_sets


def eval_sources(config, zoom_km: float) -> dict[str, str]:
    """Name -> source of the sets that `data=` of a config stands for."""
    return held_out_sets(config.data, zoom_km)


def read_eval_samples(config, source: str, skipped: SkipCounter) -> Iterator[Sample]:
    """The first `eval_places` (0: all) good samples of a source, in its own order, one at a time."""
    empty = True
    for sample in islice(read_samples(find_shards(source), skipped), config.eval_places or None):
        empty = False
        yield sample
    if empty:
        raise DataError(f"no usable sample in {source}; skipped: {skipped}")


def count_samples(config, source: str) -> int | None:
    """How many samples there are at most, for the time left; None where counting would mean reading everything."""
    if config.eval_places:
        return config.eval_places
    total = 0
    for shard in find_shards(source):
        try:
            with tarfile.open(shard) as tar:  # seeks over the pictures
                total += sum(name.endswith(".json") for name in tar.getnames())
        except (tarfile.TarError, OSError):
            return None
    return total
