"""Records become samples: in worker processes, batches in order, or here."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

from geospot.data.records import Record
from geospot.data.samples import BadSample, ReadOptions, Sample, read_sample

Read = Sample | BadSample

_options = ReadOptions()  # of a worker process


def _start_worker(options: ReadOptions) -> None:
    global _options
    _options = options
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle
    # A worker whose parent was killed would wait for work for ever.
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _read(record: Record, options: ReadOptions) -> Read:
    try:
        return read_sample(record, options)
    except BadSample as error:
        return error


def _read_batch(records: Sequence[Record]) -> list[tuple[Sample | None, str, str]]:
    """In a worker: (sample, reason, detail) each. A picture that needed no change is not sent back, but left empty."""
    results = []
    for record in records:
        read = _read(record, _options)
        if isinstance(read, BadSample):
            results.append((None, read.reason, str(read)))
        else:
            pictures = tuple(b"" if a is b else a for a, b in zip(read.pictures, record.pictures, strict=True))
            results.append((replace(read, pictures=pictures), "", ""))
    return results


def _joined(record: Record, result: tuple[Sample | None, str, str]) -> Read:
    sample, reason, detail = result
    if sample is None:
        return BadSample(reason, detail.removeprefix(f"{reason}: "))
    if b"" in sample.pictures:
        pictures = tuple(a or b for a, b in zip(sample.pictures, record.pictures, strict=True))
        sample = replace(sample, pictures=pictures)
    return sample


class Decoder:
    """Reads batches of records into samples with `workers` processes (0: in this one, when the result is asked for).

    A worker that dies (a decoder's crash, the system out of memory) is replaced, and what it had is read again record
    by record; the one that kills a worker twice comes back as BadSample.
    """

    def __init__(self, options: ReadOptions, workers: int = 0):
        self.options, self.workers = options, workers
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, records: Sequence[Record]) -> Callable[[], list[Read]]:
        """Begin a batch; the result, one a record in their order, is waited for by calling what this returns."""
        if not self.workers:
            return lambda: [_read(record, self.options) for record in records]
        future = self._submit(records)
        return lambda: self._wait(records, future)

    def close(self) -> None:
        """End the workers; what they have in hand is dropped."""
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _start(self) -> ProcessPoolExecutor:
        # Forked from a server that holds neither torch nor threads: starting a worker is quick and safe.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["geospot.data.decode", "PIL.JpegImagePlugin"])
        return ProcessPoolExecutor(
            self.workers, mp_context=context, initializer=_start_worker, initargs=(self.options,)
        )

    def _submit(self, records: Sequence[Record]) -> Future:
        for _ in range(2):
            self._pool = self._pool or self._start()
            try:
                return self._pool.submit(_read_batch, records)
            except BrokenProcessPool:
                self._pool = None
        raise RuntimeError("the processes that decode pictures die as they start; data_workers=0 does without them")

    def _wait(self, records: Sequence[Record], future: Future) -> list[Read]:
        try:
            results = future.result()
        except BrokenProcessPool:
            results = [self._alone(record) for record in records]
        return [_joined(record, result) for record, result in zip(records, results, strict=True)]

    def _alone(self, record: Record) -> tuple[Sample | None, str, str]:
        for _ in range(2):  # a pool may also break while it stands idle, through what another batch did
            try:
                return self._submit([record]).result()[0]
            except BrokenProcessPool:
                self._pool = None
        return None, "picture crashed the decoder", ""


def decode_in_order(records: Iterator[Record], decoder: Decoder, batch: int = 16) -> Iterator[Read]:
    """Every record read, in order, with a bounded number of batches ahead."""
    ahead: deque[Callable[[], list[Read]]] = deque()
    depth = 3 * decoder.workers
    held: list[Record] = []
    for record in records:
        held.append(record)
        if len(held) == batch:
            ahead.append(decoder.submit(held))
            held = []
        if len(ahead) > depth:
            yield from ahead.popleft()()
    if held:
        ahead.append(decoder.submit(held))
    while ahead:
        yield from ahead.popleft()()
