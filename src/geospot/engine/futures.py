"""Futures of the local engine: work starts when somebody waits, so that what is asked together runs together."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import tinker


class LocalFuture(tinker.APIFuture):
    """The `APIFuture` of the Tinker SDK over a `concurrent.futures.Future`.

    `demand` is called when somebody first waits. Until then sample requests gather: which of them share a batch depends
    on what was asked before the first wait and never on timing, which keeps runs reproducible.
    """

    def __init__(self, demand: Callable[["LocalFuture"], None]):
        self._future: Future = Future()
        self._future.set_running_or_notify_cancel()  # a wait that is given up must not cancel the work
        self._demand = demand

    def finish(self, result: Any) -> None:
        """For the engine: here is the answer."""
        self._future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """For the engine: this is what went wrong."""
        self._future.set_exception(error)

    def future(self) -> Future:
        """The underlying future; asking for it counts as waiting."""
        self._demand(self)
        return self._future

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the answer; raises what the operation raised, or `TimeoutError` after `timeout` seconds."""
        return self.future().result(timeout)

    async def result_async(self, timeout: float | None = None) -> Any:
        """Like `result`, without blocking the event loop."""
        async with asyncio.timeout(timeout):
            return await asyncio.wrap_future(self.future())

    def __await__(self):
        return self.result_async().__await__()
