"""Futures with a time limit of our own: the SDK alone waits five minutes for a server that is gone."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import httpx

from geospot.engine.futures import EngineFuture
from geospot.engine.tinker.refusals import translate
from geospot.errors import EngineGone

T = TypeVar("T")

PING_EVERY_S, PING_TIMEOUT_S = 3.0, 8.0  # a dead server is noticed at most their sum after the limit


class Watch:
    """Asks the server for its health while somebody waits, and fails what is waited for once it has been silent.

    `silent_s`: seconds without any answer after which a server counts as dead.
    """

    def __init__(self, base_url: str, silent_s: float):
        self.base_url, self.silent_s = base_url, silent_s
        self._waiting: set[WatchedFuture[Any]] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def ping(self, timeout_s: float = 10.0) -> httpx.Response:
        """The server's answer to a health check; httpx.HTTPError where there is none or it is a 5xx."""
        response = httpx.get(f"{self.base_url}/api/v1/healthz", timeout=timeout_s)
        if response.status_code >= 500:
            response.raise_for_status()
        return response

    def add(self, future: "WatchedFuture[Any]") -> None:
        """Watch the server for as long as this future is not done."""
        with self._changed:
            self._waiting.add(future)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="geospot-watch", daemon=True)
                self._thread.start()
            self._changed.notify()

    def remove(self, future: "WatchedFuture[Any]") -> None:
        """It is done."""
        with self._changed:
            self._waiting.discard(future)

    def close(self) -> None:
        """Stop watching."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _work(self) -> None:
        every_s = min(PING_EVERY_S, self.silent_s / 4)
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
            heard, reason = time.monotonic(), ""
            while self._waiting and not self._closed:
                try:
                    self.ping(timeout_s=max(1.0, min(PING_TIMEOUT_S, self.silent_s / 2)))
                    heard = time.monotonic()
                except (httpx.HTTPError, OSError) as error:
                    reason = str(error) or type(error).__name__
                if time.monotonic() - heard >= self.silent_s:
                    self._fail(f"{self.base_url} has not answered for {self.silent_s:.0f} s ({reason})")
                    break
                time.sleep(every_s)

    def _fail(self, reason: str) -> None:
        with self._changed:
            waiting, self._waiting = self._waiting, set()
        error = EngineGone(
            f"{reason}. What was saved is whole: start the same command again to go on once the server is back"
        )
        for future in waiting:
            future.fail(error)


class WatchedFuture(EngineFuture[T]):
    """Follows a future of the SDK; it fails early where the server is dead, and its errors say what to do."""

    def __init__(self, inner: Future[Any], watch: Watch, convert: Callable[[Any], T] = lambda result: result):
        super().__init__()
        self._inner, self._watch, self._convert = inner, watch, convert
        self._lock = threading.Lock()
        watch.add(self)
        inner.add_done_callback(self._follow)

    def _follow(self, inner: Future[Any]) -> None:
        self._watch.remove(self)
        try:
            result = self._convert(inner.result())
        except BaseException as error:
            self.fail(translate(error, self._watch.base_url))
        else:
            with self._lock:
                if not self._future.done():
                    self._future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """End with this error, unless it has ended."""
        with self._lock:
            if not self._future.done():
                self._future.set_exception(error)
        self._inner.cancel()
