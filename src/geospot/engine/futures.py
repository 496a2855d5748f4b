"""Futures of the engines, as the Tinker SDK has them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import tinker

T = TypeVar("T")


class EngineFuture(tinker.APIFuture[T]):
    """The SDK's `APIFuture` over a `concurrent.futures.Future`."""

    def __init__(self) -> None:
        self._future: Future[T] = Future()
        self._future.set_running_or_notify_cancel()  # a wait that is given up must not cancel the work

    def future(self) -> Future[T]:
        """The underlying future."""
        return self._future

    def result(self, timeout: float | None = None) -> T:
        """Wait for the answer; raises what the operation raised, or `TimeoutError` after `timeout` seconds."""
        return self.future().result(timeout)

    async def result_async(self, timeout: float | None = None) -> T:
        """Like `result`, without blocking the event loop."""
        async with asyncio.timeout(timeout):
            return await asyncio.wrap_future(self.future())


class LocalFuture(EngineFuture[T]):
    """A future of the local engine: work starts when somebody waits, so that what is asked together runs together.

    `demand` is called when somebody first waits. Until then sample requests gather: which of them share a batch depends
    on what was asked before the first wait and never on timing, which keeps runs reproducible.
    """

    def __init__(self, demand: Callable[["LocalFuture[Any]"], None]):
        super().__init__()
        self._demand = demand

    def finish(self, result: T) -> None:
        """For the engine: here is the answer."""
        self._future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """For the engine: this is what went wrong."""
        self._future.set_exception(error)

    @property
    def is_done(self) -> bool:
        """Whether there is an answer or an error; asking does not count as waiting."""
        return self._future.done()

    def on_done(self, call: Callable[[], None]) -> None:
        """Call this once there is an answer or an error; it does not count as waiting."""
        self._future.add_done_callback(lambda _: call())

    def future(self) -> Future[T]:
        """The underlying future; asking for it counts as waiting."""
        self._demand(self)
        return self._future
