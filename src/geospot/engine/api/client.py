"""A patient client of an API: many requests at once, none more often than needed, none beyond what it may cost."""

import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from geospot.answer.reply import Reply
from geospot.engine.api.addresses import ApiModel, unknown_model
from geospot.engine.api.exchange import ApiProtocol, Options, Wanted, open_protocol
from geospot.engine.api.prices import Budget
from geospot.engine.api.trouble import Trouble, trouble_of, without_key
from geospot.errors import EngineError, EngineGone
from geospot.net.retry import PATIENT, Attempts, RemoteError, RetryPolicy

Key = TypeVar("Key")
POLICY = PATIENT
QUICK = RetryPolicy(retries=2, longest_s=2.0, retry_after_s=30.0)  # for the first requests to a server
IN_A_ROW = 8  # requests that fail for good, or as many as are in flight: then the rest is not tried


class Gate:
    """Where all requests wait while the server asks for it: a rate limit is of the key, not of one request."""

    def __init__(self) -> None:
        self._lock, self._until = threading.Lock(), 0.0

    def hold(self, seconds: float) -> None:
        """Nobody passes before this many seconds."""
        with self._lock:
            self._until = max(self._until, time.monotonic() + seconds)

    def wait(self, stop: threading.Event) -> None:
        """Until it is open, or `stop` is set."""
        while not stop.is_set() and (left := self._until - time.monotonic()) > 0:
            stop.wait(left)


class ApiClient:
    """Requests to one model, `concurrency` at a time; a context manager. `retried` counts what was tried again.

    EngineError where the environment has no key.
    """

    def __init__(self, model: ApiModel, options: Options, *, concurrency: int = 8, budget: Budget | None = None):
        self.model, self.concurrency, self.budget = model, concurrency, budget or Budget()
        self.retried: Counter[str] = Counter()
        self._secret = model.key()
        self._protocol: ApiProtocol = open_protocol(model, options)
        self._gate, self._stop = Gate(), threading.Event()
        self._answered = False  # by now, at least once

    def __enter__(self) -> "ApiClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._protocol.close()

    @property
    def left_out(self) -> set[str]:
        """Parameters that the server refused."""
        return getattr(self._protocol, "left_out", set())

    def served(self, policy: RetryPolicy = QUICK) -> list[str]:
        """The names of the models that the server lists; EngineGone where it does not answer."""
        attempts = Attempts(self.model.where, policy, self.retried, self._stop)
        while True:
            try:
                return self._protocol.served()
            except Exception as error:
                trouble = trouble_of(error, self._secret)
                self._again(attempts, trouble)

    def ask(self, wanted: Mapping[Key, Wanted], *, policy: RetryPolicy | None = None) -> Iterator[tuple[Key, Reply]]:
        """The reply to each, as it arrives. One that failed for good has finish "error" and says why.

        EngineGone where the server refuses the key or the model, or too many failed in a row; CostReached. Before
        either is raised, what is still in flight is waited for and given out.
        """
        todo: queue.SimpleQueue = queue.SimpleQueue()
        done: queue.SimpleQueue = queue.SimpleQueue()
        for item in wanted.items():
            todo.put(item)
        halt = threading.Event()
        workers = min(self.concurrency, len(wanted))
        for _ in range(workers):  # daemons: a Ctrl-C does not wait for answers that are on their way
            threading.Thread(target=self._work, args=(todo, done, halt, policy or POLICY), daemon=True).start()
        trouble, in_a_row = None, 0
        try:
            while workers:
                found = done.get()
                if found is None:
                    workers -= 1
                    continue
                key, reply, fatal, taken = found
                trouble = trouble or fatal
                if reply is None:
                    continue
                in_a_row = in_a_row + 1 if reply.finish == "error" else 0
                if in_a_row >= max(IN_A_ROW, self.concurrency):
                    halt.set()
                    trouble = trouble or EngineGone(
                        f"{self.model.where}: {in_a_row} requests in a row failed, the last with: {reply.detail}"
                    )
                yield key, reply
                taken.set()
        finally:
            halt.set()
        if trouble is not None:
            raise trouble

    def _work(
        self, todo: queue.SimpleQueue, done: queue.SimpleQueue, halt: threading.Event, policy: RetryPolicy
    ) -> None:
        """Take requests and answer them until there are none, or no more are wanted; None says that this one left."""
        try:
            while not (halt.is_set() or self._stop.is_set()):
                try:
                    key, wanted = todo.get_nowait()
                except queue.Empty:
                    return
                try:
                    with self.budget.spending() as spent:
                        spent.reply = reply = self._ask(wanted, policy)
                    taken = threading.Event()
                    done.put((key, reply, None, taken))
                    while not (taken.wait(0.2) or halt.is_set()):  # whoever asked has it, on the disk
                        pass
                except EngineError as error:  # for this one and for all behind it
                    halt.set()
                    done.put((key, None, error, None))
                except Exception as error:
                    halt.set()
                    wrong = EngineError(f"{self.model.where}: {without_key(repr(error), self._secret)}")
                    done.put((key, None, wrong, None))
        finally:
            done.put(None)

    def _ask(self, wanted: Wanted, policy: RetryPolicy) -> Reply:
        attempts = Attempts(self.model.where, policy, self.retried, self._stop)
        while True:
            self._gate.wait(self._stop)
            if self._stop.is_set():
                raise EngineGone(f"{self.model.where}: given up")
            try:
                reply = self._clean(self._protocol.ask(wanted))
                self._answered = True
                return reply
            except Exception as error:
                trouble = trouble_of(error, self._secret)
                if trouble.ends:
                    return Reply("", trouble.ends, trouble.detail)
                if not trouble.passing and not trouble.fatal:
                    return Reply("", "error", str(trouble))
                try:
                    self._again(attempts, trouble)
                except RemoteError:
                    return Reply("", "error", str(trouble))

    def _again(self, attempts: Attempts, trouble: Trouble) -> None:
        """Wait for another try; EngineGone where none would help, RemoteError where there were enough."""
        if not trouble.passing:
            if trouble.status == 404:
                raise EngineGone(f"{self._unknown()} ({trouble.detail})")
            raise EngineGone(f"{self.model.where}: {trouble}")
        if trouble.status in (429, 503) and trouble.asked_s:
            self._gate.hold(min(trouble.asked_s, attempts.policy.retry_after_s))
        if not self._answered and trouble.status != 429 and attempts.failures >= QUICK.retries:
            raise RemoteError(f"{self.model.where} does not answer: {trouble}")  # it is not there, or down for long
        try:
            attempts.failed(trouble.reason, str(trouble), asked_s=trouble.asked_s, status=trouble.status)
        except RemoteError as error:
            raise RemoteError(f"{self.model.where} does not answer: {trouble}", status=trouble.status) from error

    def _unknown(self) -> str:
        try:
            served = self._protocol.served()
        except Exception:  # the refusal of the name is what is reported
            served = []
        return unknown_model(self.model, served)

    def _clean(self, reply: Reply) -> Reply:
        """Without the key, should a server send it back."""
        text, detail, thoughts = (without_key(t, self._secret) for t in (reply.text, reply.detail, reply.thoughts))
        return replace(reply, text=text, detail=detail, thoughts=thoughts)
