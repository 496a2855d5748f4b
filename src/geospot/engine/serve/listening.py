"""The socket: uvicorn with a limit to how many connect, and to how long a request may take to arrive."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from geospot.errors import GeospotError

HEADER_S = 10.0  # that a request's head may take to arrive
KEEP_ALIVE_S = 75
MOST_CONNECTIONS = 1000


class Connection(H11Protocol):
    """One connection: closed where a request's head does not come to its end in time, or where too many are open."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """uvicorn calls this."""
        if len(self.server_state.connections) >= MOST_CONNECTIONS:
            transport.close()
            return
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """uvicorn calls this."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """uvicorn calls this."""
        if self._timer is not None:
            self._timer.cancel()
        if hasattr(self, "flow"):  # else it was refused
            super().connection_lost(exc)

    def _watch(self) -> None:
        """A clock runs while a head is on its way."""
        waiting = self.cycle is None or self.cycle.response_complete
        if waiting and self._timer is None:
            self._timer = self.loop.call_later(HEADER_S, self._give_up)
        elif not waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self.transport.close()


def bound(host: str, port: int) -> socket.socket:
    """A socket that takes connections (0: at any free port); GeospotError where none can be had."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition(" (while")[0]  # the address is named here
        raise GeospotError(
            f"host={host} port={port}: cannot listen there ({reason}); stop what does, or choose another port (0: any "
            "free one) or an address of this machine"
        ) from error


class Listener(uvicorn.Server):
    """A server that says when it is stopped, so that answers without an end may end."""

    closing: Callable[[], None] | None = None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn calls this."""
        if self.closing is not None:
            self.closing()
        await super().shutdown(sockets)


def listener(
    app: ASGIApp,
    host: str,
    port: int,
    *,
    log_level: str = "warning",
    grace_s: int = 2,
    closing: Callable[[], None] | None = None,
) -> Listener:
    """A server that is not running yet. grace_s: seconds that requests in progress may go on when it is stopped;
    closing: called at that moment."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=Connection,
        ws="none",
        log_level=log_level,
        access_log=False,
        timeout_graceful_shutdown=grace_s,
        timeout_keep_alive=KEEP_ALIVE_S,
        server_header=False,
    )
    server = Listener(config)
    server.closing = closing
    return server
