"""What a run trains on and what it is evaluated on, opened by their names and kept apart."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

from geospot.data.fields import Columns
from geospot.data.records import Source
from geospot.data.samples import ReadOptions, Sample, SkipCounter
from geospot.data.sources import open_source
from geospot.data.sources.webdataset import Shards
from geospot.data.splits import CellSplit, NearHeldOut, OneSide
from geospot.data.stream import read_all, read_places
from geospot.data.world.bluemarble import ensure_shards
from geospot.data.world.mosaic import WorldConfig
from geospot.earth.place import Place
from geospot.errors import DataError

MAX_WORKERS = 8
Item = TypeVar("Item")


class ReadConfig(Protocol):
    """What of a configuration decides how a source is read."""

    @property
    def data(self) -> str | None: ...
    @property
    def columns(self) -> str: ...
    @property
    def data_workers(self) -> int: ...


class SetsConfig(ReadConfig, Protocol):
    """What of a run's configuration decides its sets; `geospot.config.LoopConfig` says what each key means."""

    @property
    def eval_data(self) -> str: ...
    @property
    def max_pixels(self) -> int | None: ...
    @property
    def holdout_km(self) -> float: ...
    @property
    def cell_km(self) -> float: ...
    @property
    def eval_fraction(self) -> float: ...
    @property
    def train_places(self) -> int: ...
    @property
    def zoom_km(self) -> float: ...


@dataclass(frozen=True)
class Sets:
    """The source to train on, the held-out ones by name, and the split by cells where both are one source."""

    train: Source
    held_out: Mapping[str, Source] = field(default_factory=dict)
    split: CellSplit | None = None

    def revisions(self) -> dict[str, str | None]:
        """Of the hub's repositories behind the sets, for a resumed run to ask for."""
        return {"train": self.train.revision} | {name: source.revision for name, source in self.held_out.items()}


def open_sets(config: SetsConfig, revisions: Mapping[str, str | None] | None = None) -> Sets:
    """The sets of a `LoopConfig`; makes the Blue Marble's shards if need be. DataError with the remedy."""
    pinned, columns = dict(revisions or {}), Columns.parse(config.columns)
    folders: dict[str, str] = {}
    spec = config.data or "bluemarble"
    if spec == "bluemarble":
        world = WorldConfig(width_km=config.zoom_km)
        folders = {name: str(path) for name, path in ensure_shards(world, n_train=config.train_places).items()}
        spec = folders.pop("train")
    train = open_source(spec, columns, pinned.get("train"))
    if config.eval_data == "cells":
        split = CellSplit(config.eval_fraction, config.cell_km, config.holdout_km)
        return Sets(train, {"eval": train}, split)
    if config.eval_data not in ("auto", "none"):
        folders = {"eval": config.eval_data}
    elif config.eval_data == "none":
        folders = {}
    elif not folders:
        print("no held-out set: give eval_data=SOURCE, or cells, to see how the model does on unseen pictures")
    held_out = {name: open_source(s, columns, pinned.get(name), key="eval_data") for name, s in folders.items()}
    for source in held_out.values():
        check_apart(config, train, source)
    return Sets(train, held_out)


def check_apart(config: SetsConfig, train: Source, held_out: Source) -> None:
    """DataError where a held-out part is trained on too (a folder is searched with all below it)."""
    theirs = {_resolved(part) for part in held_out.parts}
    if both := [part for part in train.parts if _resolved(part) in theirs]:
        raise DataError(
            f"data={config.data!r}: {len(both)} of its shards are held out by eval_data={config.eval_data!r}, the "
            f"first {both[0]}; give a folder, glob or list without them, or eval_data=cells to hold out places of it"
        )


def _resolved(part: str) -> str:
    return part if "://" in part else str(Path(part).resolve())


def eval_options(config: SetsConfig, sets: Sets) -> ReadOptions:
    """How held-out records are read."""
    return _options(config, OneSide(sets.split, "eval") if sets.split else None)


def train_options(config: SetsConfig, sets: Sets, held_out: Sequence[Sample]) -> ReadOptions:
    """How records to train on are read: what lies in a held-out cell, or near a held-out place, is refused.

    held_out: the samples that are evaluated on. Of sources on this machine every place is kept away from, of others
    these alone: to know the rest they would have to be read to their end.
    """
    if sets.split:
        return _options(config, OneSide(sets.split, "train"))
    places = [sample.place for sample in held_out]
    if config.holdout_km and config.data != "bluemarble":  # whose places are far apart as they are made
        for source in sets.held_out.values():
            if not source.remote:
                places += [place for _, place in read_places(source, Columns.parse(config.columns), SkipCounter())]
    return _options(config, NearHeldOut(places, config.holdout_km) if places and config.holdout_km else None)


def _options(config: SetsConfig, refuse: Callable[[Place], str | None] | None) -> ReadOptions:
    return ReadOptions(max_pixels=config.max_pixels, columns=Columns.parse(config.columns), refuse=refuse)


def worker_count(config: ReadConfig) -> int:
    """Processes that decode: as asked, or all cores but one; none for the Blue Marble's small pictures."""
    if config.data_workers >= 0:
        return config.data_workers
    return 0 if config.data == "bluemarble" else min(MAX_WORKERS, max(1, (os.cpu_count() or 1) - 1))


def held_out_sets(config: ReadConfig, zoom_km: float) -> dict[str, Source]:
    """Name -> source of what `geospot eval data=...` evaluates on; `zoom_km` is of the Blue Marble's pictures."""
    columns = Columns.parse(config.columns)
    if config.data in (None, "bluemarble"):
        folders = ensure_shards(WorldConfig(width_km=zoom_km), n_train=0)
        return {name: open_source(str(path), columns) for name, path in folders.items()}
    return {"eval": open_source(config.data, columns)}


class HeldOutConfig(ReadConfig, Protocol):
    """What a configuration says of held-out samples; `eval_places`: how many, 0 for all."""

    @property
    def eval_places(self) -> int: ...
    @property
    def max_pixels(self) -> int | None: ...
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
