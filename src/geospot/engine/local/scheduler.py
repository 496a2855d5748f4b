"""One thread that carries out what clients ask, in the order of asking, sample requests asked together as one batch."""

import sys
import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from geospot.engine.futures import LocalFuture
from geospot.engine.local.activity import Activity, attach
from geospot.errors import EngineGone, Interrupted

T = TypeVar("T")
Payload = TypeVar("Payload")
PATIENCE_S = 5.0  # of somebody who waits for the end, before a line says for what


@dataclass(eq=False)
class Job:
    """Something to do, and the future that answers it."""

    future: LocalFuture[Any]
    run: Callable[[list[Any]], Sequence[Any]]  # with the payloads of all that run with it
    batch_key: Hashable = None  # of a sample request: those of one key share a batch; None of an operation, alone
    payload: Any = None
    demanded: bool = False
    open_batch: Callable[[], Any] | None = None  # of a sample request that others may join later (`turns.Batch`)
    kept: bool = False  # done also after an interruption: what saves


class Scheduler:
    """Operations run in order as soon as it is their turn. Sample requests gather until somebody waits for one of
    them or asks for an operation behind them; those of the same weights then run as one batch."""

    def __init__(self, threads: int | None = None):
        self._jobs: deque[Job] = deque()
        self._by_future: dict[LocalFuture[Any], Job] = {}
        self._changed = threading.Condition()
        self._closed = self._dropping = self._interrupted = False
        self.activity = Activity()
        self._thread = threading.Thread(target=self._begin_work, args=(threads,), name="geospot-engine", daemon=True)
        self._thread.start()

    def submit(self, run: Callable[[], T], *, kept: bool = False) -> LocalFuture[T]:
        """Queue an operation; one that is `kept` is done also after an interruption."""
        future = LocalFuture[T](self._demand)
        self._add(Job(future, lambda _: [run()], kept=kept))
        return future

    def submit_sample(
        self,
        batch_key: Hashable,
        run_batch: Callable[[list[Payload]], Sequence[T | BaseException]],
        payload: Payload,
        open_batch: Callable[[], Any] | None = None,
    ) -> LocalFuture[T]:
        """Queue a sample request; `run_batch(payloads)` answers all requests of one key that are due together.

        An answer that is an exception fails that request alone; an exception raised fails them all. `open_batch` is for
        a scheduler that takes turns.
        """
        future = LocalFuture[T](self._demand)
        self._add(Job(future, run_batch, batch_key, payload, open_batch=open_batch))
        return future

    def interrupt(self) -> None:
        """Give up what runs, at its next checkpoint, and fail what is queued or asked for from now on: Interrupted.

        What saves is done nevertheless. There is no way back: whoever interrupts is about to end.
        """
        with self._changed:
            self._interrupted = self.activity.interrupted = True

    def close(self, *, finish: bool = True) -> None:
        """Finish what is queued, then stop the thread; without `finish` give up what runs, as `interrupt` does, and
        fail the rest. A line says what it waits for where that takes long."""
        with self._changed:
            self._closed = True
            self._dropping = not finish
            self.activity.interrupted |= self._dropping
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(PATIENCE_S)
            if self._thread.is_alive() and (what := self.activity.text):
                print(f"Waiting for the engine: {what}.", file=sys.stderr, flush=True)
            self._thread.join()

    def _add(self, job: Job) -> None:
        with self._changed:
            if self._closed:
                raise RuntimeError("the engine is closed")
            self._jobs.append(job)
            self._by_future[job.future] = job
            self._changed.notify()

    def _demand(self, future: LocalFuture[Any]) -> None:
        with self._changed:
            job = self._by_future.get(future)
            if job is not None and not job.demanded:
                job.demanded = True
                self._changed.notify()

    def _due(self) -> list[Job]:
        """The jobs to run now: an operation, or the leading sample requests once one is demanded or closed in."""
        samples = []
        for job in self._jobs:
            if job.batch_key is None:
                return samples or [job]
            samples.append(job)
        return samples if self._closed or any(job.demanded for job in samples) else []

    def _begin_work(self, threads: int | None) -> None:
        """What the thread runs: `_work` until the end, with its own number of threads for matrix products."""
        attach(self.activity)
        if threads:
            torch.set_num_threads(threads)  # OpenMP keeps this per thread
        self._work()

    def _work(self) -> None:
        while True:
            with self._changed:
                due = self._due()
                while not due:
                    if self._closed:
                        return
                    self._changed.wait()
                    due = self._due()
                for job in due:
                    self._jobs.popleft()
                    self._by_future.pop(job.future)
            self._run(due)

    def _run(self, due: list[Job]) -> None:
        groups: dict[Hashable, list[Job]] = {}
        for job in due:
            groups.setdefault(job.batch_key, []).append(job)
        for jobs in groups.values():
            try:
                self._begin(jobs[0])
                results = jobs[0].run([job.payload for job in jobs])
            except BaseException as error:
                for job in jobs:
                    job.future.fail(error)
            else:
                for job, result in zip(jobs, results, strict=True):
                    if isinstance(result, BaseException):
                        job.future.fail(result)
                    else:
                        job.future.finish(result)
            self.activity.begin()

    def _begin(self, job: Job) -> None:
        """Refuse a job that nobody wants any more; else what runs now is this one."""
        with self._changed:
            if self._dropping:
                raise EngineGone("the engine was closed before this was its turn")
            if self._interrupted and not job.kept:
                raise Interrupted("the engine was interrupted before this was its turn")
            self.activity.begin("saving" if job.kept else "")
