"""Records become samples (or whatever else is read from them): in worker processes, batches in order, or here."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from typing import Any, Generic, TypeVar

from geospot.data.records import Record
from geospot.data.samples import BadSample, ReadOptions, Sample, read_sample, stored_bytes

T = TypeVar("T")
PILLOW_BLOCKS = 8  # that each worker keeps (its reference, "Block allocator")
Sent = tuple[Any, str, str]  # (what was read or None, reason, detail): an exception would lose its reason on the way

_read_one: Callable[[Record], Any]  # of a worker process


def _start_worker(read_one: Callable[[Record], Any]) -> None:
    from PIL import Image

    global _read_one
    _read_one = read_one
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle
    # Pillow gives an image's memory back to the system at once, which costs more than some pictures' decoding.
    Image.core.set_blocks_max(PILLOW_BLOCKS)
    # A worker whose parent was killed would wait for work for ever.
    if parent := multiprocessing.parent_process():
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _read_batch(records: Sequence[Record]) -> list[Sent]:
    """In a worker."""
    results: list[Sent] = []
    for record in records:
        read = _guarded(_read_one, record)
        results.append((None, read.reason, read.detail) if isinstance(read, BadSample) else (read, "", ""))
    return results


def _guarded(read: Callable[[Record], Any], record: Record) -> Any:
    """What `read` makes of a record, or BadSample, whatever a strange record makes it raise: one never ends a run."""
    try:
        return read(record)
    except BadSample as error:
        return error
    except Exception as error:
        return BadSample("sample cannot be read", f"{type(error).__name__}: {error}"[:500])


class Decoder(Generic[T]):
    """Reads batches of records with `workers` processes (0: in this one, when the result is asked for).

    `read` makes of a record what is wanted, or raises BadSample. It travels to the workers once, and what it returns
    travels back; there `receive(record, result)`, if given, completes it.

    A worker that dies (a decoder's crash, the system out of memory) is replaced, and what it had is read again record
    by record; the one that kills a worker twice comes back as BadSample.
    """

    def __init__(
        self,
        read: Callable[[Record], Any],
        workers: int = 0,
        receive: Callable[[Record, Any], T] | None = None,
    ):
        self.workers = workers
        self._read, self._receive = read, receive or (lambda record, result: result)
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, records: Sequence[Record]) -> Callable[[], list[T | BadSample]]:
        """Begin a batch; the result, one a record in their order, is waited for by calling what this returns."""
        if not self.workers:
            return lambda: [self._here(record) for record in records]
        future = self._submit(records)
        return lambda: self._wait(records, future)

    def close(self) -> None:
        """End the workers; what they have in hand is dropped."""
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _here(self, record: Record) -> T | BadSample:
        read = _guarded(self._read, record)
        return read if isinstance(read, BadSample) else self._receive(record, read)

    def _start(self) -> ProcessPoolExecutor:
        # Forked from a server that holds neither torch nor threads: starting a worker is quick and safe.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["geospot.data.decode", "PIL.JpegImagePlugin"])
        return ProcessPoolExecutor(self.workers, mp_context=context, initializer=_start_worker, initargs=(self._read,))

    def _submit(self, records: Sequence[Record]) -> Future:
        for _ in range(2):
            self._pool = self._pool or self._start()
            try:
                return self._pool.submit(_read_batch, records)
            except BrokenProcessPool:
                self._pool = None
        raise RuntimeError("the processes that decode pictures die as they start; data_workers=0 does without them")

    def _wait(self, records: Sequence[Record], future: Future) -> list[T | BadSample]:
        try:
            results = future.result()
        except BrokenProcessPool:
            results = [self._alone(record) for record in records]
        return [
            BadSample(reason, detail) if reason else self._receive(record, result)
            for record, (result, reason, detail) in zip(records, results, strict=True)
        ]

    def _alone(self, record: Record) -> Sent:
        for _ in range(2):  # a pool may also break while it stands idle, through what another batch did
            try:
                return self._submit([record]).result()[0]
            except BrokenProcessPool:
                self._pool = None
        return None, "picture crashed the decoder", ""


def sample_decoder(options: ReadOptions, workers: int) -> Decoder[Sample]:
    """Records -> samples; a picture that needed no change does not travel back."""
    if not workers:
        return Decoder(partial(read_sample, options=options))
    return Decoder(partial(_read_lean, options=options), workers, _with_pictures)


def _read_lean(record: Record, options: ReadOptions) -> Sample:
    sample = read_sample(record, options)
    return replace(
        sample, pictures=tuple(b"" if a is b else a for a, b in zip(sample.pictures, record.pictures, strict=True))
    )


def _with_pictures(record: Record, sample: Sample) -> Sample:
    if b"" not in sample.pictures:
        return sample
    kept = zip(sample.pictures, record.pictures, strict=True)
    return replace(sample, pictures=tuple(a or stored_bytes(b) for a, b in kept))


def decode_in_order(
    records: Iterator[Record], decoder: Decoder[T], batch: int = 16
) -> Iterator[tuple[Record, T | BadSample]]:
    """Every record and what was read of it, in order, with a bounded number of batches ahead."""
    ahead: deque[tuple[list[Record], Callable[[], list]]] = deque()
    depth = 3 * decoder.workers
    held: list[Record] = []

    def first() -> Iterator[tuple[Record, T | BadSample]]:
        batch_records, result = ahead.popleft()
        return zip(batch_records, result(), strict=True)

    for record in records:
        held.append(record)
        if len(held) == batch:
            ahead.append((held, decoder.submit(held)))
            held = []
        if len(ahead) > depth:
            yield from first()
    if held:
        ahead.append((held, decoder.submit(held)))
    while ahead:
        yield from first()
