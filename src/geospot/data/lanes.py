"""Several parts of a source read at once, their records dealt in turn: an order that no clock changes."""

import queue
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress

from geospot.data.records import Record, Skip, Source
from geospot.data.samples import SkipCounter
from geospot.errors import DataError

BATCH_RECORDS = 32
BATCH_BYTES = 4 << 20
BATCHES_AHEAD = 1  # besides the one in hand and the one being read
# Parts in a row that give an error before their first record: then it is the network or the disk, not the parts.
MAX_DEAD_PARTS = 8
_UNREADABLE = ("unreadable shard", "missing shard")


class Watch:
    """Counts what is skipped of a source, warns of shards at once, and stops where nothing can be read any more."""

    def __init__(self, source: Source, skipped: SkipCounter):
        self.source, self.skipped = source, skipped
        self._dead = 0

    def saw(self, item: Record | Skip) -> None:
        """DataError where this is the last of many parts in a row of which nothing could be read."""
        if isinstance(item, Record):
            self._dead = 0
            return
        self.skipped.count(item.reason, item.detail)
        if item.reason.endswith("shard"):
            warnings.warn(f"{item.reason}, what cannot be read is skipped: {item.detail}", stacklevel=2)
        if item.reason in _UNREADABLE:
            self._dead += 1
            if self._dead >= MAX_DEAD_PARTS:
                raise DataError(
                    f"data={self.source.spec!r}: {self._dead} shards in a row could not be read, the last one: "
                    f"{item.detail}. The same command goes on from the last checkpoint when they can be read again"
                )


class ReadAhead:
    """An iterator run by a thread, at most three batches (of 32 records or 4 MB) ahead of who takes from it."""

    def __init__(self, items: Iterator[Record | Skip]):
        self._queue: queue.Queue[tuple[list, BaseException | None, bool]] = queue.Queue(BATCHES_AHEAD)
        self._closed = threading.Event()
        self._batch: Iterator[Record | Skip] = iter(())
        self._last, self._error = False, None
        self._thread = threading.Thread(target=self._run, args=(items,), name="geospot-read", daemon=True)
        self._thread.start()

    def _run(self, items: Iterator[Record | Skip]) -> None:
        batch: list[Record | Skip] = []
        size, error = 0, None
        try:
            for item in items:
                batch.append(item)
                size += item.nbytes if isinstance(item, Record) else 0
                if len(batch) >= BATCH_RECORDS or size >= BATCH_BYTES:
                    if not self._put((batch, None, False)):
                        items.close()  # frees the file
                        return
                    batch, size = [], 0
        except BaseException as raised:
            error = raised
        self._put((batch, error, True))

    def _put(self, batch: tuple) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(batch, timeout=0.5)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self):
        return self

    def __next__(self) -> Record | Skip:
        while True:
            if self._closed.is_set():
                raise ValueError("this reader is closed")
            for item in self._batch:
                return item
            if self._last:
                if self._error:
                    raise self._error
                raise StopIteration
            batch, self._error, self._last = self._queue.get()
            self._batch = iter(batch)

    def close(self) -> None:
        """Let the thread end, which it does at its next batch, and wake who waits for one."""
        self._closed.set()
        with suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        with suppress(queue.Full):
            self._queue.put_nowait(([], None, True))


class _Lane:
    def __init__(self, part: int, cursor: int, items: ReadAhead):
        self.part, self.cursor, self.items = part, cursor, items


class Lanes:
    """The records of the parts in `order`: `width` of them are open at once and give a record each in turn.

    `state()` is the position behind the record given last; what it holds is bounded by `width`.
    """

    def __init__(
        self, source: Source, order: Sequence[int], width: int, skipped: SkipCounter, start: dict | None = None
    ):
        self.source, self.order = source, order
        self._watch = Watch(source, skipped)
        start = start or {"next": 0, "turn": 0, "open": [None] * width}
        self._next, self._turn = start["next"], start["turn"]
        self._lanes = [None if cursor is None else self._open(*cursor) for cursor in start["open"]]
        for i, lane in enumerate(self._lanes):  # the first lanes of an epoch all begin at once
            if lane is None:
                self._lanes[i] = self._following()

    def state(self) -> dict:
        """Where to go on: JSON."""
        cursors = [None if lane is None else [lane.part, lane.cursor] for lane in self._lanes]
        return {"next": self._next, "turn": self._turn, "open": cursors}

    def close(self) -> None:
        """Let all threads end."""
        for lane in self._lanes:
            if lane:
                lane.items.close()

    def _open(self, part: int, cursor: int) -> _Lane:
        return _Lane(part, cursor, ReadAhead(self.source.read(part, cursor)))

    def _following(self) -> _Lane | None:
        if self._next >= len(self.order):
            return None
        self._next += 1
        return self._open(int(self.order[self._next - 1]), 0)

    def __iter__(self):
        return self

    def __next__(self) -> tuple[int, Record]:
        """(part, record)."""
        for _ in range(len(self._lanes)):
            i = self._turn
            while (lane := self._lanes[i]) is not None:
                for item in lane.items:
                    self._watch.saw(item)
                    if isinstance(item, Skip):
                        continue
                    lane.cursor = item.end
                    self._turn = (i + 1) % len(self._lanes)
                    return lane.part, item
                self._lanes[i] = self._following()
            self._turn = (i + 1) % len(self._lanes)
        raise StopIteration
