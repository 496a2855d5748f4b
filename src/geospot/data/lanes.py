"""Several parts of a source read at once, their records dealt in turn: an order that no clock changes."""

import queue
import threading
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress

from geospot.answer.places import as_row, find_exchange, read_cells
from geospot.answer.spellings import find_column
from geospot.data.fields import USUAL, BadSample, Columns, read_fields, read_label
from geospot.data.records import Record, Skip, Source
from geospot.data.samples import SkipCounter
from geospot.errors import DataError

BATCH_RECORDS = 32
BATCH_BYTES = 4 << 20
BATCHES_AHEAD = 1  # besides the one in hand and the one being read
# Parts in a row that give an error before their first record: then it is the network or the disk, not the parts.
MAX_DEAD_PARTS = 8
JUDGED_PLACES = 60  # as many as a stream holds before it yields the first
AXES = ("lat", "lon")
_UNREADABLE = ("unreadable shard", "missing shard", "no shard")


class Watch:
    """Counts what is skipped of a source, warns of shards at once, and stops where nothing can be read any more."""

    def __init__(self, source: Source, skipped: SkipCounter, columns: Columns = USUAL, *, judge: bool = True):
        """`judge`: whether the places are looked at; not in the middle of an epoch, whose first were judged before."""
        self.source, self.skipped, self.columns = source, skipped, columns
        self._dead = 0
        # Of the first records, until they are judged.
        self._places: list[tuple[float, float, str | None]] | None = [] if judge else None
        self._keys: tuple[str, ...] = ()

    def saw(self, item: Record | Skip) -> None:
        """DataError where this is the last of many parts in a row of which nothing could be read, or the last of the
        first places, and their latitude and longitude are exchanged.
        """
        if isinstance(item, Record):
            self._dead = 0
            if self._places is not None:
                self._note(item)
                if len(self._places) >= JUDGED_PLACES:
                    self.ended()
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

    def ended(self) -> None:
        """DataError where latitude and longitude of the first places are exchanged; judged once.

        Who names the usual keys by hand has said that they are right: a warning is all.
        """
        places, self._places = self._places, None
        found = find_exchange(*zip(*places, strict=True)) if places else None  # lat, lon, country
        if found is None:
            return
        lat, lon = self._keys
        mend = f"Exchange them by columns=lat={lon},lon={lat}; if they are right, say columns=lat={lat},lon={lon}"
        text = f"data={self.source.spec!r}: {found}. {self.source.exchange_mend or mend}"
        if (self.columns.lat, self.columns.lon) != tuple(find_column(axis, self._keys) for axis in AXES):
            raise DataError(text)
        warnings.warn(text, stacklevel=3)

    def _note(self, record: Record) -> None:
        """Keep what a record says of latitude and longitude, in range or not."""
        try:
            fields = read_fields(record.fields)
        except BadSample:
            return
        if self.columns.lat is None and self.columns.lon is None:
            fields = as_row(fields)
        keys = tuple(key for axis in AXES if (key := self.columns.find(axis, fields)) is not None)
        if len(keys) == len(AXES) and self._places is not None:
            lat, lon = (read_cells(fields, key, axis, bounded=False) for key, axis in zip(keys, AXES, strict=True))
            if isinstance(lat, float) and isinstance(lon, float):
                self._keys = keys
                self._places.append((lat, lon, read_label(fields, "country", self.columns)))


class ReadAhead:
    """An iterator run by a thread, at most three batches (of 32 records or 4 MB) ahead of who takes from it."""

    def __init__(self, items: Generator[Record | Skip]):
        self._queue: queue.Queue[tuple[list, BaseException | None, bool]] = queue.Queue(BATCHES_AHEAD)
        self._closed = threading.Event()
        self._batch: Iterator[Record | Skip] = iter(())
        self._last = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(items,), name="geospot-read", daemon=True)
        self._thread.start()

    def _run(self, items: Generator[Record | Skip]) -> None:
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
        self,
        source: Source,
        order: Sequence[int],
        width: int,
        skipped: SkipCounter,
        start: dict | None = None,
        columns: Columns = USUAL,
    ):
        self.source, self.order = source, order
        self._watch = Watch(source, skipped, columns, judge=start is None)
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
        self._watch.ended()
        raise StopIteration
