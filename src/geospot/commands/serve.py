"""`geospot serve`: the local engine for clients of the Tinker SDK, on this machine or a GPU box of one's own.

With TINKER_API_KEY in its environment the server wants that key of its clients.
"""

import asyncio
import contextlib
import os
import socket
import threading
from typing import TYPE_CHECKING

from geospot.config import ServeConfig
from geospot.engine.open import local_engine
from geospot.errors import EngineError
from geospot.net.loopback import LOOPBACK, in_url, served_names

if TYPE_CHECKING:
    from uvicorn import Server

CLOSE_S = 10.0  # how long requests in progress may go on after Ctrl-C


def run(config: ServeConfig) -> None:
    """Listen until Ctrl-C."""
    key = server_key(config.host)
    from geospot.engine.serve.app import ServeOptions, make_app
    from geospot.engine.serve.listening import bound, listener
    from geospot.engine.serve.request_log import RequestLog

    taken = bound(config.host, config.port)  # before minutes of loading
    request_log = RequestLog(config.request_log)
    service = local_engine(config, checkpoint_dir=config.checkpoint_dir, for_clients=True)
    print(f"loading {config.model_name} on {service.options.device} ...", flush=True)
    service.create_sampling_client(base_model=config.model_name).result()
    service.announces = set()
    hosts = served_names(key)
    options = ServeOptions(
        config.model_name, api_key=key, max_rank=config.max_rank, hosts=hosts, request_log=request_log
    )
    app = make_app(service, options)
    server = listener(app, config.host, config.port)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_listen(server, taken, config, keyed=key is not None))
    finally:
        print("stopping ...", flush=True)
        thread = threading.Thread(target=service.close, args=("interrupted",), daemon=True)
        thread.start()
        thread.join(CLOSE_S)
    print(f"stopped; checkpoints are in {config.checkpoint_dir}")


def server_key(host: str) -> str | None:
    """The key that clients must give; EngineError where others could connect without one."""
    key = os.environ.get("TINKER_API_KEY") or None
    if host not in LOOPBACK and key is None:
        raise EngineError(f"host={host!r} can be reached by others: set TINKER_API_KEY=tml-..., or host=127.0.0.1")
    if key is not None and not key.startswith("tml-"):
        raise EngineError("TINKER_API_KEY must start with tml-, or clients of the SDK cannot send it")
    return key


async def _listen(server: "Server", taken: socket.socket, config: ServeConfig, *, keyed: bool) -> None:
    """Run the server, and say where it is once it listens."""
    task = asyncio.create_task(server.serve(sockets=[taken]))
    while not (server.started or task.done()):
        await asyncio.sleep(0.05)
    if server.started:
        print(startup_text(config, server.servers[0].sockets[0].getsockname()[1], keyed=keyed), flush=True)
    await task


def startup_text(config: ServeConfig, port: int, *, keyed: bool) -> str:
    """What a person reads once the server listens."""
    url = f"http://{in_url(config.host)}:{port}"
    who = "the TINKER_API_KEY set here" if keyed else "none: anyone on this machine may use it"
    return "\n".join(
        [
            f"serving {config.model_name} at {url} (protocol of the Tinker SDK 0.38)",
            f"  key          {who}",
            f"  checkpoints  {config.checkpoint_dir}",
            f"  status       {url}/ for people, {url}/metrics for Prometheus",
            f"  a client     geospot train engine=tinker base_url={url} model_name={config.model_name}",
            "  Ctrl-C stops it.",
        ]
    )
