"""A scheduler for a server: sampling goes on in slices between the operations, and what is asked later may join it."""

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from geospot.engine.futures import LocalFuture
from geospot.engine.local.scheduler import Job, Scheduler
from geospot.errors import Cancelled, EngineGone

SLICE_S = 0.2  # of sampling, while something else waits
MOST_OPEN = 8  # batches of different weights that are sampled in turn


class Batch(Protocol):
    """Requests that are sampled together, of which others may join and any may be let go."""

    def add(self, payload: Any) -> Hashable: ...
    def drop(self, ticket: Hashable) -> None: ...
    def advance(self, stop: Callable[[], bool]) -> dict[Hashable, Any]: ...
    @property
    def is_idle(self) -> bool: ...


@dataclass
class _Open:
    batch: Batch
    jobs: dict[Hashable, Job] = field(default_factory=dict)  # by ticket


class Turns(Scheduler):
    """Operations run in order, one at a time; after each, and between the parts of a long one (`breathe`), the batches
    of sample requests are sampled in turn for `SLICE_S` seconds. A request joins the batch of its weights at once.
    """

    def __init__(self, threads: int | None = None):
        self._open: dict[Hashable, _Open] = {}  # the one whose turn is next first
        self._cancelled: set[LocalFuture[Any]] = set()
        self._running: list[Job] = []  # the operation that is carried out
        self.ran = {"operations": 0, "batches": 0, "samples": 0}  # since the start
        super().__init__(threads)

    def cancel(self, future: LocalFuture[Any]) -> None:
        """Give up a request: at once where it waits, with the next token or part of its work where it is running."""
        with self._changed:
            job = self._by_future.pop(future, None)
            if job is not None:
                self._jobs.remove(job)
                future.fail(Cancelled("cancelled before it was its turn"))
            elif not future.is_done:
                self._cancelled.add(future)
            self._changed.notify()

    def breathe(self) -> bool:
        """Called by a long operation between its parts: a slice of sampling, if any is due.

        Returns whether there was one, after which other weights are active. Raises Cancelled where the operation itself
        is no longer wanted.
        """
        if threading.current_thread() is not self._thread:
            return False
        with self._changed:
            given_up = [job.future for job in self._running if job.future in self._cancelled]
            joining = self._take_samples()
        if given_up and len(given_up) == len(self._running):
            raise Cancelled("cancelled in the middle")
        self._join(joining)
        return self._slice()

    @property
    def depth(self) -> dict[str, int]:
        """How many operations and sample requests wait, and how many are being sampled."""
        with self._changed:
            samples = sum(job.open_batch is not None for job in self._jobs)
            sampled = sum(len(o.jobs) for o in list(self._open.values()))
            return {"operations": len(self._jobs) - samples, "samples": samples, "sampled": sampled}

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (self._open or self._closed or any(self._is_due(job) for job in self._jobs)):
                    self._changed.wait()
                if self._closed and not (self._open or self._jobs):
                    return
                joining, operations = self._take_samples(), self._take_operations()
            if self._closed and self._dropping:
                self._fail_all([*joining, *operations])
                continue
            self._join(joining)
            if operations:
                self._running = operations
                self._run(operations)
                self.ran["operations"] += len(operations)
                self._running = []
                self._cancelled.difference_update(job.future for job in operations)
            self._slice()

    def _is_due(self, job: Job) -> bool:
        return job.batch_key is None or job.demanded or self._closed

    def _take(self, jobs: Sequence[Job]) -> list[Job]:
        for job in jobs:
            self._jobs.remove(job)
            self._by_future.pop(job.future)
        return list(jobs)

    def _take_samples(self) -> list[Job]:
        """The requests that can join now: all that wait, once somebody waits for one of them."""
        waiting = [job for job in self._jobs if job.open_batch is not None]
        if not any(self._is_due(job) for job in waiting):
            return []
        free, new = MOST_OPEN - len(self._open), set()
        for job in waiting:
            if job.batch_key not in self._open and len(new) < free:
                new.add(job.batch_key)
        return self._take([job for job in waiting if job.batch_key in self._open or job.batch_key in new])

    def _take_operations(self) -> list[Job]:
        """The next operation, or the next requests of one key that are answered in one go."""
        others = [job for job in self._jobs if job.open_batch is None]
        if not others or not self._is_due(others[0]):
            others = [job for job in others if self._is_due(job)]
        if not others:
            return []
        first = others[0]
        alike = [first] if first.batch_key is None else [j for j in others if j.batch_key == first.batch_key]
        return self._take(alike)

    def _join(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            assert job.open_batch is not None
            try:
                if job.batch_key not in self._open:
                    self._open[job.batch_key] = _Open(job.open_batch())
                    self.ran["batches"] += 1
                into = self._open[job.batch_key]
                into.jobs[into.batch.add(job.payload)] = job
                self.ran["samples"] += 1
            except BaseException as error:
                job.future.fail(error)
            if (found := self._open.get(job.batch_key)) and found.batch.is_idle:
                del self._open[job.batch_key]

    def _slice(self) -> bool:
        """Let the batch whose turn it is go on, for ever or while nothing else waits; whether there was one."""
        self._drop_cancelled()
        if not self._open:
            return False
        key = next(iter(self._open))
        current = self._open[key] = self._open.pop(key)  # behind the others
        end = time.monotonic() + SLICE_S
        nested, others = bool(self._running), len(self._open) > 1

        def stop() -> bool:
            if self._cancelled:
                return True
            waits = nested or others or bool(self._jobs) or self._closed
            return waits and (time.monotonic() >= end or any(map(self._joins, tuple(self._jobs))))

        try:
            finished = current.batch.advance(stop)
        except BaseException as error:
            del self._open[key]
            for job in current.jobs.values():
                job.future.fail(error)
            return True
        for ticket, answer in finished.items():
            job = current.jobs.pop(ticket)
            job.future.fail(answer) if isinstance(answer, BaseException) else job.future.finish(answer)
        if current.batch.is_idle:
            del self._open[key]
        return True

    def _joins(self, job: Job) -> bool:
        return (
            job.open_batch is not None and job.demanded and (job.batch_key in self._open or len(self._open) < MOST_OPEN)
        )

    def _drop_cancelled(self) -> None:
        for open_ in self._open.values():
            for ticket in [t for t, job in open_.jobs.items() if job.future in self._cancelled]:
                job = open_.jobs.pop(ticket)
                open_.batch.drop(ticket)
                job.future.fail(Cancelled("cancelled while it was being sampled"))
        running = {job.future for job in self._running}
        with self._changed:
            self._cancelled &= running
        self._open = {key: open_ for key, open_ in self._open.items() if open_.jobs}

    def _fail_all(self, jobs: Sequence[Job]) -> None:
        for job in [*jobs, *(job for open_ in self._open.values() for job in open_.jobs.values())]:
            job.future.fail(EngineGone("the engine was closed before this was its turn"))
        self._open = {}
