"""A real server on loopback for the tests, with faults to order, and a client of the real SDK."""

import asyncio
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass

from geospot.engine.local.options import MAX_CONTEXT
from geospot.engine.local.service import LocalOptions, LocalServiceClient
from geospot.engine.serve.app import ServeOptions, make_app
from geospot.engine.serve.listening import listener


@dataclass
class Fault:
    """What happens to the next `times` requests whose path ends with `path`."""

    path: str
    kind: str  # "500", "429", ...: refused before anything is done; "drop": done, then half an answer; "slow"
    times: int = 1
    seconds: float = 0.0


class Faulty:
    """An ASGI application with faults in front of it; counts requests and the bytes of their bodies."""

    def __init__(self, app):
        self.app, self.faults, self.seen, self.bytes = app, [], Counter(), Counter()

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path = scope["path"].rsplit("/", 1)[-1]
        self.seen[path] += 1

        async def counting():
            message = await receive()
            self.bytes[path] += len(message.get("body", b""))
            return message

        fault = next((f for f in self.faults if f.times and f.path == path), None)
        if fault is None:
            return await self.app(scope, counting, send)
        fault.times -= 1
        if fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
            return await self.app(scope, counting, send)
        if fault.kind == "drop":
            # The request is carried out, and its answer breaks off: uvicorn closes the connection on too short a body.
            async def swallow(message):
                pass

            await self.app(scope, counting, swallow)
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"999")]})
            return await send({"type": "http.response.body", "body": b"{"})
        await send({"type": "http.response.start", "status": int(fault.kind), "headers": [(b"content-length", b"2")]})
        return await send({"type": "http.response.body", "body": b"{}"})


class Serving:
    """`with Serving(model, folder) as server:` listens on a free port in a thread of its own."""

    def __init__(self, model_name: str, folder, *, batch_invariant: bool = False, **options):
        self.model_name, self.options = model_name, options
        self.local = LocalOptions(
            checkpoint_dir=str(folder),
            threads=1,
            batch_invariant=batch_invariant,
            takes_turns=True,
            max_context=MAX_CONTEXT,
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self.stop()

    @property
    def faults(self) -> list:
        return self.app.faults

    def start(self):
        self.service = LocalServiceClient(self.local)
        self.app = Faulty(make_app(self.service, ServeOptions(self.model_name, **self.options)))
        self.server = listener(self.app, "127.0.0.1", self.port, log_level="critical", grace_s=1)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        deadline = time.monotonic() + 120
        while not self.server.started:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.01)

    def stop(self):
        self.server.should_exit = True
        self.thread.join(120)
        assert not self.thread.is_alive(), "the server did not stop"
        self.service.close()

    def restart(self):
        self.stop()
        self.start()


def connect(server: Serving, **options):
    """A client of the engine `tinker`."""
    from geospot.engine.tinker.checks import Server
    from geospot.engine.tinker.service import TinkerOptions, TinkerServiceClient

    return TinkerServiceClient(TinkerOptions(Server.find(server.url), **options))
