"""Several parts of a source read at once, their records dealt in turn: an order that no clock changes."""

import queue
import threading
import warnings
from collections.abc import Iterator, Sequence

from geospot.data.records import DataError, Record, Skip, Source
from geospot.data.samples import SkipCounter

BATCH_RECORDS = 32
BATCH_BYTES = 4 << 20
BATCHES_AHEAD = 1  # besides the one in hand and the one being read
# Parts in a row that give an error before their first record: then it is the network or the disk, not the parts.
MAX_DEAD_PARTS = 8
_UNREADABLE = ("unreadable shard", "missing shard")


def count_skip(skipped: SkipCounter, skip: Skip) -> None:
    """Count it; a shard that gives nothing, or not all of itself, is also warned of at once."""
    skipped.count(skip.reason, skip.detail)
    if skip.reason.endswith("shard"):
        warnings.warn(f"{skip.reason}, what cannot be read is skipped: {skip.detail}", stacklevel=2)


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
            for item in self._batch:
                return item
            if self._last:
                if self._error:
                    raise self._error
                raise StopIteration
            batch, self._error, self._last = self._queue.get()
            self._batch = iter(batch)

    def close(self) -> None:
        """Let the thread end; it does so at its next batch."""
        self._closed.set()
        while True:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                return


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
        self.source, self.order, self.skipped = source, order, skipped
        self._dead = 0
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
                    if isinstance(item, Skip):
                        self._count(item)
                        continue
                    lane.cursor, self._dead = item.end, 0
                    self._turn = (i + 1) % len(self._lanes)
                    return lane.part, item
                self._lanes[i] = self._following()
            self._turn = (i + 1) % len(self._lanes)
        raise StopIteration

    def _count(self, skip: Skip) -> None:
        count_skip(self.skipped, skip)
        if skip.reason in _UNREADABLE:
            self._dead += 1
            if self._dead >= MAX_DEAD_PARTS:
                raise DataError(
                    f"data={self.source.spec!r}: {self._dead} shards in a row could not be read, the last one: "
                    f"{skip.detail}. Nothing is lost: the same command goes on when they can be read again"
                )
