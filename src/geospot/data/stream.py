"""An endless, seeded stream of samples from any source, which goes on exactly where a checkpoint saw it.

    parts (new order each epoch) -> lanes, read ahead -> shuffle buffer of raw records -> decoded in order -> samples

The buffer holds records as they are stored: where each one lies is all that a checkpoint keeps of it, so a resumed
stream fetches what was in the buffer and nothing else. docs/data.md says what bounds the memory.
"""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from geospot.data.decode import Decoder, decode_in_order, sample_decoder
from geospot.data.fields import Columns, read_fields, read_place
from geospot.data.lanes import Lanes, ReadAhead, Watch
from geospot.data.records import Record, Skip, Source
from geospot.data.samples import (
    BadSample,
    ReadOptions,
    Sample,
    SkipCounter,
    check_views,
    choose_views,
    split_views,
    with_views,
)
from geospot.earth.place import Place
from geospot.errors import DataError

FIRST_FILL = 64  # records in the buffer before the first is drawn; it grows by one a draw to its full size
DECODE_BATCH = 8
FETCH_THREADS = 16
LOST = "lost since the checkpoint"
_GONE = object()  # in place of a record that was asked for and is not there


@dataclass
class _Held:
    """A record in the buffer or on its way through the decoder: where it lies, and, once it is there, the record."""

    part: int
    start: int
    end: int
    views: tuple[int, ...] | None
    record: Any = None  # a Record, the Future of one, _GONE, or None

    def ref(self) -> list:
        return [self.part, self.start, self.end, self.views and list(self.views)]


class SampleStream:
    """Samples without end, or of so many `epochs`; an iterator and a context manager.

    `state()` is the position behind the sample yielded last; a stream made with `start=state` goes on with the next.
    The sequence depends on seed, buffer, open_parts, views, rank and world alone, not on the number of workers.

    rank, world: this process of so many that share the parts; where there are fewer parts than processes, records are
    dealt out instead. Raises DataError where `start` is of other data, or where an epoch holds no usable sample.
    """

    def __init__(
        self,
        source: Source,
        *,
        seed: int,
        buffer: int = 1000,
        options: ReadOptions = ReadOptions(),  # noqa: B008 (frozen)
        views: str = "4",
        workers: int = 0,
        open_parts: int = 4,
        rank: int = 0,
        world: int = 1,
        epochs: int | None = None,
        start: dict | None = None,
    ):
        if not 0 <= rank < world:
            raise ValueError(f"rank={rank}: must be from 0 to {world - 1} (world={world})")
        self.source, self.seed, self.buffer, self.views = source, seed, buffer, check_views(views)
        self.open_parts, self.rank, self.world, self.epochs = open_parts, rank, world, epochs
        self._over = self._closed = False
        self._decoder, self._columns = sample_decoder(options, workers), options.columns
        self._ahead = 3 * workers + 1  # batches
        self._batch = DECODE_BATCH if workers else 1
        self._fetchers: ThreadPoolExecutor | None = None
        self._ready: deque[tuple[list[_Held], Callable]] = deque()  # batches in the decoder
        self._results: deque[tuple[_Held, Sample | BadSample]] = deque()  # of the batch at hand
        self.skipped = SkipCounter()
        self._epoch, self._draws, self._good, self._held = 0, 0, 0, []
        self._dealt = 0
        lanes = None
        if start is not None:
            lanes = self._restore(start)
        self._begin_epoch(lanes)

    # -- what a user sees

    def __iter__(self):
        return self

    def __enter__(self) -> "SampleStream":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __next__(self) -> Sample:
        try:
            return self._next()
        except (CancelledError, OSError, ValueError):
            if not self._closed:
                raise
        raise ValueError("the stream is closed")

    def _next(self) -> Sample:
        while True:
            if self._closed:
                raise ValueError("the stream is closed")
            while self._results:
                held, read = self._results.popleft()
                if isinstance(read, Sample):
                    self._good += 1
                    return read
                self.skipped.count_bad(held.record.key, read)
            while len(self._ready) < self._ahead:
                if not (held := self._draw_batch()):
                    break
                self._ready.append((held, self._decoder.submit([self._shown(one) for one in held])))
            if not self._ready:
                if self._over:
                    raise StopIteration
                raise DataError(self._nothing())
            held, result = self._ready.popleft()
            self._results.extend(zip(held, result(), strict=True))

    def take(self, n: int) -> list[Sample]:
        """The next `n` samples; fewer only behind the last epoch."""
        return list(islice(self, n))

    def state(self) -> dict:
        """JSON: the epoch, where its parts are read, what the buffer holds and what was drawn but not yet yielded."""
        drawn = [one for held, _ in self._ready for one in held]
        return self._settings() | {
            "revision": self.source.revision,
            "epoch": self._epoch,
            "draws": self._draws,
            "good": self._good,
            "dealt": self._dealt,
            "lanes": self._lanes.state(),
            "held": [one.ref() for one in self._held],
            "drawn": [one.ref() for one, _ in self._results] + [one.ref() for one in drawn],
            "skipped": dict(self.skipped),
        }

    def _settings(self) -> dict:
        """What a state means something with; buffer, open_parts and workers may change."""
        return {
            "identity": self.source.identity(),
            "seed": self.seed,
            "views": self.views,
            "rank": self.rank,
            "world": self.world,
        }

    def close(self) -> None:
        """End the threads and worker processes; another thread that waits for a sample gets a ValueError."""
        self._closed = True
        self._lanes.close()
        if self._fetchers:
            self._fetchers.shutdown(wait=False, cancel_futures=True)
        self.source.close()
        self._decoder.close()

    def _nothing(self) -> str:
        told = "; ".join(
            f"{reason} {n:,}, such as {self._example(reason)}" for reason, n in self.skipped.most_common(4)
        )
        return f"data={self.source.spec!r}: no usable sample. Skipped: {told or 'nothing'}. {self.source.mend}".rstrip()

    def _example(self, reason: str) -> str:
        return next(iter(self.skipped.examples.get(reason, ())), "one")

    # -- epochs and the buffer

    def _begin_epoch(self, lanes: dict | None = None) -> None:
        rng = np.random.default_rng([self.seed, self._epoch, 0])
        order = rng.permutation(len(self.source.parts))
        self._deals = len(order) < self.world
        if not self._deals:
            order = order[self.rank :: self.world]
        self._lanes = Lanes(self.source, order.tolist(), self.open_parts, self.skipped, lanes, self._columns)
        self._rng = np.random.Generator(np.random.PCG64([self.seed, self._epoch, self.rank, 1]).advance(self._draws))

    def _fill(self) -> None:
        """Read into the buffer: to its size, or to where it should be by this draw at the start of an epoch."""
        want = min(self.buffer, FIRST_FILL + self._draws)
        while len(self._held) < want:
            part, record = next(self._lanes, (0, None))
            if record is None:
                return
            self._dealt += 1
            if self._deals and (self._dealt - 1) % self.world != self.rank:
                continue
            for chosen in split_views(record, self.views):
                self._held.append(_Held(part, record.start, record.end, chosen, record))

    def _draw(self) -> _Held | None:
        while True:
            self._fill()
            if self._held:
                break
            if self.epochs is not None and self._epoch + 1 >= self.epochs:
                self._over = True
                return None
            if self._good == 0:  # nothing there, or not decoded yet
                return None
            self._epoch, self._draws, self._good, self._dealt = self._epoch + 1, 0, 0, 0
            self._begin_epoch()
        # One number a draw, whatever the buffer's size: a resume advances the generator by as many.
        i = int(self._rng.random() * len(self._held))
        self._draws += 1
        self._held[i], self._held[-1] = self._held[-1], self._held[i]
        return self._held.pop()

    def _draw_batch(self) -> list[_Held]:
        batch: list[_Held] = []
        while len(batch) < self._batch and (held := self._draw()):
            if self._load(held):
                if held.views is None:
                    held.views = choose_views(held.record, self.views, (self.seed, self._epoch))
                batch.append(held)
        return batch

    def _shown(self, held: _Held) -> Record:
        return with_views(held.record, held.views or (), self.views)

    # -- resuming

    def _restore(self, start: dict) -> dict:
        if start["identity"] != self.source.identity():
            raise DataError(
                f"data={self.source.spec!r}: its parts are not those that the checkpoint was taken with (there are "
                f"{len(self.source.parts)} now), so it cannot go on from its place in them; restore them, or start a "
                "new run from the checkpoint's weights"
            )
        for key, value in self._settings().items():
            if start[key] != value:
                raise DataError(f"{key}={value!r}: the checkpoint was taken with {key}={start[key]!r}; set it back")
        self._epoch, self._draws, self._good = start["epoch"], start["draws"], start["good"]
        self._dealt = start["dealt"]
        self.skipped.update(start["skipped"])
        self._held = [self._unread(ref) for ref in start["held"]]
        drawn = [self._unread(ref) for ref in start["drawn"]]
        if not self.source.fetches_singly:
            self._fetch_by_part([*drawn, *self._held])
        elif self.source.remote:
            self._fetchers = ThreadPoolExecutor(FETCH_THREADS, thread_name_prefix="geospot-fetch")
            for held in [*drawn, *self._held]:
                held.record = self._fetchers.submit(self.source.fetch, held.part, held.start, held.end)
        for i in range(0, len(drawn), self._batch):
            batch = [held for held in drawn[i : i + self._batch] if self._load(held)]
            self._ready.append((batch, self._decoder.submit([self._shown(held) for held in batch])))
        return start["lanes"]

    def _fetch_by_part(self, held: list[_Held]) -> None:
        """Read every record at once, each part in one go; what is gone stays away and is counted when it is drawn."""
        by_part: dict[int, list[_Held]] = {}
        for one in sorted(held, key=lambda one: (one.part, one.start)):
            by_part.setdefault(one.part, []).append(one)
        for part, ones in by_part.items():
            cursors = list(dict.fromkeys((one.start, one.end) for one in ones))
            found = dict(zip(cursors, self.source.fetch_many(part, cursors), strict=True))
            for one in ones:
                one.record = found[one.start, one.end] or _GONE

    @staticmethod
    def _unread(ref: list) -> _Held:
        part, start, end, views = ref
        return _Held(part, start, end, None if views is None else tuple(views))

    def _load(self, held: _Held) -> bool:
        """Have the record at hand; False, counted, where it can no longer be read."""
        record = held.record
        if isinstance(record, Record):
            return True
        if record is _GONE:
            self.skipped.count(LOST, self.source.parts[held.part])
            return False
        try:
            waits = record is None or record.cancel()  # not fetched yet: at once, not behind the others
            held.record = self.source.fetch(held.part, held.start, held.end) if waits else record.result()
        except (OSError, DataError) as error:
            self.skipped.count(LOST, f"{self.source.parts[held.part]}: {error}")
            return False
        return True


def read_records(
    source: Source, skipped: SkipCounter, columns: Columns, views: str = "4", seed: int = 0
) -> Generator[Record]:
    """Every record of a source once, in its own order, with the pictures that `views` shows; nothing is decoded."""
    watch = Watch(source, skipped, columns)
    for part in range(len(source.parts)):
        items = ReadAhead(source.read(part)) if source.remote else source.read(part)
        with closing(items):
            for item in items:
                watch.saw(item)
                if isinstance(item, Skip):
                    continue
                for chosen in split_views(item, views):
                    yield with_views(item, chosen or choose_views(item, views, (seed,)), views)
    watch.ended()


def read_places(
    source: Source, columns: Columns, skipped: SkipCounter, views: str = "4"
) -> Generator[tuple[str, Place]]:
    """(key, place) of every record that has one, in the source's own order; no picture is decoded."""
    decoder = Decoder(lambda record: read_place(read_fields(record.fields), columns))
    with closing(read_records(source, skipped, columns, views)) as records:
        for record, read in decode_in_order(records, decoder):
            if isinstance(read, BadSample):
                skipped.count_bad(record.key, read)
            else:
                yield record.key, read


def read_all(
    source: Source,
    options: ReadOptions = ReadOptions(),  # noqa: B008 (frozen)
    *,
    skipped: SkipCounter,
    views: str = "4",
    workers: int = 0,
    seed: int = 0,
) -> Generator[Sample]:
    """Every good sample of a source once, in its own order; the others are counted."""
    decoder = sample_decoder(options, workers)
    with closing(decoder), closing(read_records(source, skipped, options.columns, views, seed)) as records:
        for record, read in decode_in_order(records, decoder):
            if isinstance(read, BadSample):
                skipped.count_bad(record.key, read)
            else:
                yield read
