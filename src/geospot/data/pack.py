"""Any source written as WebDataset shards: decoded and scaled in parallel, labelled, shuffled, split by place.

The folder is built so that a kill at any moment loses nothing: what is in the shards, which keys were given and where
the stream stands are made safe together, every few seconds, and the same command goes on from there. The same source,
settings and seed give the same bytes, whatever the number of workers and however often it was stopped.
"""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

from geospot._version import __version__
from geospot.data.facts import digest
from geospot.data.fields import Columns
from geospot.data.inspect import finished
from geospot.data.labels import LabelFiller
from geospot.data.records import Record, Skip, Source
from geospot.data.samples import ReadOptions, Sample, SkipCounter
from geospot.data.shard_writer import SeenHashes, ShardWriter, UniqueKeys
from geospot.data.splits import REASONS, CellSplit
from geospot.data.stream import SampleStream
from geospot.earth.place import Place
from geospot.earth.truth import LEVELS
from geospot.errors import DataError
from geospot.files import FolderLock, write_bytes_atomic, write_json_atomic

SAFE_S = 10.0  # seconds between two states
BATCH = 64
WORK, DONE = ".pack", "pack.json"
DUPLICATE = "same picture as one on the other side"
PART = 1 << 48  # a cursor of `InOrder` is the part's number times this, plus the cursor in it


@dataclass(frozen=True)
class PackSettings:
    """What decides the bytes of the shards; a folder is only added to with the same settings."""

    shard_samples: int = 1000
    max_pixels: int | None = None
    views: str = "4"
    columns: str = ""
    fill_labels: bool = True
    shuffle: bool = True
    shuffle_buffer: int = 1000
    seed: int = 0
    eval_fraction: float = 0.0
    cell_km: float = 100.0
    holdout_km: float = 1.0

    @property
    def split(self) -> CellSplit | None:
        """Which cells of the map are held out."""
        if not self.eval_fraction:
            return None
        return CellSplit(self.eval_fraction, self.cell_km, self.holdout_km, self.seed)


@dataclass(frozen=True)
class NoRim:
    """Refuses places on the rim of a held-out cell: they belong to neither side."""

    split: CellSplit

    def __call__(self, place: Place) -> str | None:
        """The reason, or None."""
        return REASONS["rim"] if self.split.side(place.lat, place.lon) == "rim" else None


@dataclass(frozen=True)
class Packed:
    """What a folder holds, as `pack.json` says it. skipped: with examples of this session's."""

    told: dict
    skipped: SkipCounter
    was_there: bool = False


def saved_revision(out: str | Path) -> str | None:
    """The revision of a hub's repository that a pack in `out` was begun with."""
    for name in (f"{WORK}/state.json", DONE):
        if (path := Path(out) / name).is_file():
            return _read_json(path)["source"]["revision"]
    return None


def _read_json(path: Path) -> dict:
    return json.loads(path.read_bytes())


def pack(
    source: Source,
    out: str | Path,
    settings: PackSettings,
    *,
    workers: int = 0,
    advance: Callable[[int, int, int], None] = lambda *_: None,
) -> Packed:
    """Write the source's good samples to `out`, or go on where that was stopped.

    advance: told (parts read to their end, places written, samples skipped). DataError where `out` holds something
    else, or was begun with other settings or other data.
    """
    out = Path(out)
    about = {"spec": source.spec, "revision": source.revision, "identity": source.identity()}
    check_folder(out, about, settings)
    (out / WORK).mkdir(parents=True, exist_ok=True)
    lock = FolderLock(out / WORK)
    try:
        known = check_folder(out, about, settings)  # another process may have ended meanwhile
        if known and "places" in known:
            packed = Packed(known, SkipCounter(known["skipped"]), was_there=True)
        else:
            with closing(_Packer(source, out, settings, about, workers)) as packer:
                packed = packer.run(advance)
        shutil.rmtree(out / WORK)
    finally:
        lock.release()
    return packed


def check_folder(out: Path, about: dict, settings: PackSettings) -> dict | None:
    """The state or the result that lies in `out`, None where there is none; DataError where it does not fit."""
    if out.exists() and not out.is_dir():
        raise DataError(f"out={str(out)!r}: is a file; give a folder")
    found = next((path for path in (out / DONE, out / WORK / "state.json") if path.is_file()), None)
    if found is None:
        if out.is_dir() and any(path.name != WORK for path in out.iterdir()):
            if (out / WORK).is_dir():  # killed before its first state
                return None
            raise DataError(f"out={str(out)!r}: holds files that this command did not write; give an empty folder")
        return None
    known = _read_json(found)
    theirs, ours = known["settings"], asdict(settings)
    if differ := [f"{key}={theirs.get(key)!r}, not {ours[key]!r}" for key in ours if theirs.get(key) != ours[key]]:
        raise DataError(
            f"out={str(out)!r}: was packed with {'; '.join(differ)}. Give the same settings or another folder"
        )
    if known["source"]["identity"] != about["identity"]:
        raise DataError(
            f"out={str(out)!r}: was packed from {known['source']['spec']!r}, whose parts are not those of "
            f"{about['spec']!r} now. Give another folder, or delete it"
        )
    return known


class InOrder(Source):
    """A source as one part, its parts one behind the other: what a stream reads of it is in the source's own order."""

    def __init__(self, source: Source):
        self.source = source
        self.spec, self.remote, self.revision = source.spec, source.remote, source.revision
        self.retries = source.retries
        self.parts = [source.identity()]

    def read(self, part: int, start: int = 0) -> Generator[Record | Skip]:
        """All records from a cursor on."""
        first, cursor = divmod(start, PART)
        for i in range(first, len(self.source.parts)):
            for item in self.source.read(i, cursor):
                yield (
                    replace(item, start=i * PART + item.start, end=i * PART + item.end)
                    if isinstance(item, Record)
                    else item
                )
            cursor = 0

    def fetch(self, part: int, start: int, end: int) -> Record:
        """One record again."""
        i, cursor = divmod(start, PART)
        return replace(self.source.fetch(i, cursor, end - i * PART), start=start, end=end)


class _Packer:
    """The stream, the writers and the keys, and their state as one."""

    def __init__(self, source: Source, out: Path, settings: PackSettings, about: dict, workers: int):
        self.out, self.settings, self.about = out, settings, about
        self._state_path = out / WORK / "state.json"
        state = _read_json(self._state_path) if self._state_path.is_file() else {}
        self._n_parts = len(source.parts)
        self._stack = ExitStack()
        split = settings.split
        options = ReadOptions(settings.max_pixels, Columns.parse(settings.columns), NoRim(split) if split else None)
        self.stream = self._stack.enter_context(
            SampleStream(
                source if settings.shuffle else InOrder(source),
                seed=settings.seed,
                buffer=settings.shuffle_buffer if settings.shuffle else 1,
                open_parts=4 if settings.shuffle else 1,
                options=options,
                views=settings.views,
                workers=workers,
                epochs=1,
                start=state.get("stream"),
            )
        )
        writers = state.get("writers", {})
        folders = {"train": out / "train", "eval": out / "eval"} if split else {"train": out}
        self.writers = {
            side: ShardWriter(folder, side, settings.shard_samples, writers.get(side))
            for side, folder in folders.items()
        }
        self._hashes = {name: SeenHashes(out / WORK / name, n) for name, n in self._kept(state).items()}
        self._keys = UniqueKeys(self._hashes["keys"])
        self.renamed, self.repeated = state.get("renamed", 0), state.get("repeated", 0)
        self.labels: Counter = Counter(state.get("labels", {}))
        self._filler = LabelFiller() if settings.fill_labels else None
        for thing in (*self.writers.values(), *self._hashes.values()):
            self._stack.callback(thing.close)

    def _kept(self, state: dict) -> dict[str, int]:
        """The files of hashes, of keys and of each side's pictures, and how many each holds."""
        return {"keys": 0} | {f"pictures {side}": 0 for side in self.writers} | state.get("hashes", {})

    def close(self) -> None:
        """End the workers, close the files."""
        self._stack.close()

    def run(self, advance: Callable[[int, int, int], None]) -> Packed:
        """Write all that is left."""
        self._save()
        advance(self._parts_read(), self._written(), self.stream.skipped.total())
        saved = time.monotonic()
        while samples := list(islice(self.stream, BATCH)):
            finished_one = self._write(samples)
            if finished_one or time.monotonic() - saved > SAFE_S:
                self._save()
                saved = time.monotonic()
            advance(self._parts_read(), self._written(), self.stream.skipped.total())
        if not self._written():
            raise DataError(
                f"data={self.about['spec']!r}: there is no usable sample in it; skipped: {self.stream.skipped}"
            )
        for writer in self.writers.values():
            writer.finish()
            if writer.total:
                write_bytes_atomic(writer.folder / "shards.txt", "".join(f"{s}\n" for s in writer.shards).encode())
        told = self._told()
        write_json_atomic(self.out / DONE, told)
        return Packed(told, self.stream.skipped)

    def _write(self, samples: list[Sample]) -> bool:
        if self._filler:
            samples = self._filler(samples)
        split = self.settings.split
        sides: dict[str, list[Sample]] = {side: [] for side in self.writers}
        for sample in samples:
            side = split.side(sample.place.lat, sample.place.lon) if split else "train"
            if self._may_be_on(side, sample):
                key = self._keys.take(sample.key)
                self.renamed += key != sample.key.replace(".", "_")
                sides[side].append(replace(sample, key=key))
        finished = [writer.write(sides[side]) for side, writer in self.writers.items()]
        return any(finished)

    def _may_be_on(self, side: str, sample: Sample) -> bool:
        """Whether none of its pictures is on the other side: so no picture is both trained on and held out."""
        digests = [digest(picture) for picture in sample.pictures]
        if any(d in self._hashes[f"pictures {other}"] for d in digests for other in self.writers if other != side):
            self.stream.skipped.count(DUPLICATE, sample.key)
            return False
        here = self._hashes[f"pictures {side}"]
        new = [d for d in dict.fromkeys(digests) if d not in here]
        self.repeated += not new
        for d in new:
            here.add(d)
        return True

    def _save(self) -> None:
        """Make all that was written safe, then say so."""
        for thing in (*self.writers.values(), *self._hashes.values()):
            thing.sync()
        state = {
            "source": self.about,
            "settings": asdict(self.settings),
            "writers": {side: writer.state() for side, writer in self.writers.items()},
            "hashes": {name: hashes.n for name, hashes in self._hashes.items()},
            "renamed": self.renamed,
            "repeated": self.repeated,
            "labels": self._labels(),
            "stream": self.stream.state(),
        }
        write_json_atomic(self._state_path, state)
        self._lanes = state["stream"]["lanes"]

    def _labels(self) -> dict[str, int]:
        """Counts such as 'country filled', those from before a resume included."""
        counts = Counter(self.labels)
        if self._filler:
            report = self._filler.report
            for name in ("given", "filled", "unknown", "disagree"):
                for level in LEVELS:
                    counts[f"{level} {name}"] += getattr(report, name)[level]
        return dict(counts)

    def _parts_read(self) -> int:
        """As of the last state."""
        if self.settings.shuffle:
            return finished(self._lanes)
        [lane] = self._lanes["open"]
        return self._n_parts if lane is None else lane[1] // PART

    def _written(self) -> int:
        return sum(writer.total for writer in self.writers.values())

    def _told(self) -> dict:
        return {
            "source": self.about,
            "settings": asdict(self.settings),
            "places": {side: writer.total for side, writer in self.writers.items()},
            "pictures": {side: writer.pictures for side, writer in self.writers.items()},
            "shards": {side: len(writer.shards) for side, writer in self.writers.items()},
            "skipped": dict(self.stream.skipped),
            "keys renamed": self.renamed,
            "pictures again": self.repeated,
            "labels": self._labels(),
            "geospot": __version__,
        }
