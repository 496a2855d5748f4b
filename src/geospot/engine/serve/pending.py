"""Requests that were accepted and not yet fetched: found by id, never done twice, forgotten late."""

import asyncio
import time
import uuid
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tinker import types

from geospot.engine.futures import LocalFuture
from geospot.engine.serve.wire import Refused

# How long an answer is kept: one that was sent, for a client whose connection broke in it; one that nobody asked for.
KEEP_SENT_S, KEEP_S, SWEEP_S = 120.0, 1800.0, 10.0
# What may wait for the engine, of all clients.
MOST_WAITING, MOST_BYTES = 4096, 1 << 30
GONE = 499  # the status of an answer that nobody waits for any more, in the log alone (as nginx has it)


@dataclass
class Pending:
    """One request of a session. `futures` are the engine's, which begins once `start` is called."""

    session_id: str
    kind: str  # "sample", "forward_backward", ...: what it is counted as
    futures: Sequence[LocalFuture[Any]]
    pack: Callable[[list[Any]], bytes | dict[str, Any]]  # their results as bytes (protobuf) or a JSON object
    n_bytes: int = 0  # that it holds while it waits
    tokens: dict[str, int] = field(default_factory=dict)  # that it brings, by what they are for
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    asked_at: float = field(default_factory=time.monotonic)
    done_at: float | None = None
    on_done: Callable[["Pending"], None] | None = None  # called once there is an answer or an error
    sent_at: float | None = None
    extra: dict = field(default_factory=dict)  # what goes into the promise beside the id
    n_sampled: Callable[[], int] | None = None  # tokens drawn by now, of one that is heard of while it is drawn

    @property
    def is_done(self) -> bool:
        """Whether there is an answer or an error."""
        return all(future.is_done for future in self.futures)

    def waited_s(self) -> float:
        """From its acceptance to its answer, or until now."""
        return (self.done_at or time.monotonic()) - self.asked_at

    def used(self) -> dict[str, int]:
        """Tokens by what they are for: those that it brought, and those that were sampled by now."""
        answer = self.futures[0].future().result() if self.is_done and self.error() is None else None
        if isinstance(answer, types.SampleResponse):
            return {**self.tokens, "sampled": sum(len(sequence.tokens) for sequence in answer.sequences)}
        return self.tokens if self.n_sampled is None else {**self.tokens, "sampled": self.n_sampled()}

    def error(self) -> BaseException | None:
        """What went wrong, of one that is done."""
        return next((error for future in self.futures if (error := future.future().exception()) is not None), None)

    def is_old(self, now: float) -> bool:
        """Whether nobody will ask for it any more; work in progress is never old."""
        if self.sent_at is not None:
            return now - self.sent_at > KEEP_SENT_S
        return now - self.asked_at > KEEP_S and self.is_done

    def start(self) -> None:
        """Let the engine begin; waiting for one of a batch starts all of it."""
        loop = asyncio.get_running_loop()

        def done(_: Future[Any]) -> None:
            if self.is_done:
                with suppress(RuntimeError):  # the server has ended
                    loop.call_soon_threadsafe(self._finish, time.monotonic())

        for future in self.futures:
            future.future().add_done_callback(done)

    def _finish(self, at: float) -> None:
        if self.finished.is_set():  # two of its futures ended at once
            return
        self.done_at = at
        self.finished.set()
        if self.on_done is not None:
            self.on_done(self)

    async def result(self, timeout_s: float | None) -> bytes | dict[str, Any]:
        """The packed answer; TimeoutError while it is not ready; raises what the engine raised."""
        async with asyncio.timeout(timeout_s):
            await self.finished.wait()
        self.sent_at = time.monotonic()
        return self.pack([future.result() for future in self.futures])


class PendingStore:
    """All requests of a server by id, and by what makes two messages the same request."""

    def __init__(
        self, cancel: Callable[[LocalFuture[Any]], None], on_done: Callable[[Pending], None] | None = None
    ) -> None:
        """cancel: how the engine is asked to give up a future; on_done: called with each request that is done."""
        self._by_id: dict[str, Pending] = {}
        self._swept_at = time.monotonic()
        self._by_key: dict[Hashable, Pending] = {}
        self._key_of: dict[str, Hashable] = {}
        self._waiting: dict[str, Pending] = {}
        self._cancel, self._on_done = cancel, on_done

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def waiting(self) -> list[Pending]:
        """The requests whose answers are not there yet."""
        for request_id in [key for key, pending in self._waiting.items() if pending.is_done]:
            del self._waiting[request_id]
        return list(self._waiting.values())

    def check_room(self, n_bytes: int) -> None:
        """Refused where the queue is full: the client is to come again."""
        waiting = self.waiting
        held = sum(pending.n_bytes for pending in waiting)
        if len(waiting) >= MOST_WAITING or (waiting and held + n_bytes > MOST_BYTES):
            raise Refused(
                429, f"the queue is full: {len(waiting)} requests of {held >> 20} MiB wait; come again", retry_after_s=1
            )

    def known(self, key: Hashable) -> Pending | None:
        """The request with this key, if it came before: a message that is sent twice is carried out once."""
        return self._by_key.get(key)

    def add(self, key: Hashable, pending: Pending) -> Pending:
        """Remember a request; `key` is None for one that cannot be told from another."""
        self._forget_old()
        pending.on_done = self._on_done
        self._by_id[pending.request_id] = self._waiting[pending.request_id] = pending
        if key is not None:
            self._by_key[key] = pending
            self._key_of[pending.request_id] = key
        return pending

    def get(self, request_id: str) -> Pending | None:
        """The request, or None where it was never made here or is forgotten."""
        return self._by_id.get(request_id)

    def give_up(self, pending: Pending) -> None:
        """Nobody waits for this any more: the engine is to stop it."""
        for future in pending.futures:
            self._cancel(future)

    def give_up_session(self, session_id: str) -> None:
        """The same for all that a session asked."""
        for pending in self.waiting:
            if pending.session_id == session_id:
                self.give_up(pending)

    def forget(self, request_id: str) -> None:
        """Drop a request and its answer."""
        if self._by_id.pop(request_id, None) is not None:
            self._by_key.pop(self._key_of.pop(request_id, None), None)

    def _forget_old(self) -> None:
        now = time.monotonic()
        if now - self._swept_at < SWEEP_S:
            return
        self._swept_at = now
        for request_id in [key for key, pending in self._by_id.items() if pending.is_old(now)]:
            self.forget(request_id)


class Gatherer:
    """Holds sample requests back for a moment, so that those sent together run as one batch."""

    def __init__(self, quiet_s: float = 0.03, at_most_s: float = 1.0):
        """Released after `quiet_s` seconds without another one, `at_most_s` after the first at the latest."""
        self.quiet_s, self.at_most_s = quiet_s, at_most_s
        self._waiting: list[Pending] = []
        self._last = 0.0
        self._task: asyncio.Task | None = None

    def add(self, pending: Pending) -> None:
        """Hold this one back."""
        self._waiting.append(pending)
        self._last = time.monotonic()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._release())

    async def _release(self) -> None:
        first = time.monotonic()
        while (now := time.monotonic()) - self._last < self.quiet_s and now - first < self.at_most_s:
            await asyncio.sleep(self.quiet_s / 2)
        waiting, self._waiting, self._task = self._waiting, [], None
        for pending in waiting:
            pending.start()  # whether or not its client asks for it yet
