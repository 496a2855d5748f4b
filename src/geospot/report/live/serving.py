"""Listening: where the pages are, the key that others need, the browser of this desktop."""

import asyncio
import contextlib
import os
import secrets
import socket
import sys
import webbrowser
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from geospot.engine.serve.listening import bound, listener
from geospot.net.loopback import LOOPBACK, in_url

KEY = "GEOSPOT_KEY"


def site_key(host: str) -> str | None:
    """The key that a browser must bring: that of the environment, a new one where others can connect, or none."""
    return os.environ.get(KEY) or (None if host in LOOPBACK else secrets.token_urlsafe(24))


def serve_site(
    app: ASGIApp,
    host: str,
    port: int,
    key: str | None,
    *,
    say: str,
    show: bool,
    closing: Callable[[], None] | None = None,
) -> None:
    """Serve until Ctrl-C. `say`: what is there, for the line that names the address; `show`: open it in a browser;
    `closing`: called when it is stopped."""

    def started(url: str) -> None:
        print(f"{say}: {url}\n  Ctrl-C stops it.", flush=True)
        if show and has_desktop():
            webbrowser.open(url)

    with contextlib.suppress(KeyboardInterrupt), bound(host, port) as taken:
        asyncio.run(_listen(listener(app, host, port, grace_s=1, closing=closing), taken, host, key, started))


async def _listen(
    server: uvicorn.Server, taken: socket.socket, host: str, key: str | None, started: Callable[[str], None]
) -> None:
    task = asyncio.create_task(server.serve(sockets=[taken]))
    while not (server.started or task.done()):
        await asyncio.sleep(0.02)
    if server.started:
        number = taken.getsockname()[1]
        started(f"http://{in_url(host)}:{number}/{f'?key={key}' if key else ''}")
    await task


def has_desktop() -> bool:
    """Whether this process belongs to somebody who sits before a screen."""
    windows = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(windows) and sys.stdout.isatty() and not os.environ.get("SSH_CONNECTION")
