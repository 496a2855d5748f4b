"""What the routes share: the engine, what is held for clients, and how a request is accepted once."""

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Protocol, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from tinker import types

from geospot._version import __version__
from geospot.engine.futures import LocalFuture
from geospot.engine.local.machine import held_bytes
from geospot.engine.local.options import MAX_CONTEXT
from geospot.engine.local.sampling import LocalSamplingClient
from geospot.engine.local.service import LocalServiceClient
from geospot.engine.local.training import LocalTrainingClient
from geospot.engine.serve.journal import Records
from geospot.engine.serve.metrics import Metrics, Moment
from geospot.engine.serve.pending import Gatherer, Pending, PendingStore
from geospot.engine.serve.request_log import RequestLog
from geospot.engine.serve.samplers import Sampler, Samplers
from geospot.engine.serve.sessions import Sessions
from geospot.engine.serve.store import Checkpoints
from geospot.engine.serve.wire import MAX_BODY_BYTES, MAX_WORDS_BYTES, Refused, decompress, too_large
from geospot.net.loopback import LOOPBACK_NAMES

T = TypeVar("T")
P = ParamSpec("P")
SWEEP_S = 1.0
IDLE_S = 30.0  # that a body may pause on its way
_LARGE_BYTES = 1 << 20
LONG_POLL_S = 25.0  # the SDK gives up a request after 45


@dataclass(frozen=True)
class ServeOptions:
    """What the server serves, and to whom."""

    model_name: str
    api_key: str | None = None  # None: anybody who can connect
    max_rank: int = 256
    max_context: int = MAX_CONTEXT  # tokens; what get_server_capabilities says
    hosts: tuple[str, ...] | None = LOOPBACK_NAMES  # names in a request's Host header; None: any
    client_config: dict = field(default_factory=dict)  # feature flags for the SDK beside the server's own
    request_log: RequestLog = field(default_factory=RequestLog)  # none by default


class Step(Protocol):
    """A request on a model in training: which model, and its place in the order of that model's requests."""

    @property
    def model_id(self) -> str: ...
    @property
    def seq_id(self) -> int | None: ...


class Core:
    """One engine, whose scheduler puts the requests of all clients in one order, and what is held for the clients."""

    def __init__(self, service: LocalServiceClient, options: ServeOptions):
        self.service, self.options = service, options
        self.metrics = Metrics(self.moment)
        self.pending, self.gatherer = PendingStore(self._cancel, self.metrics.count), Gatherer()
        self.samplers = Samplers(service)
        self.sessions = Sessions(on_drop=self._drop, was_open=self._was_open)
        self.checkpoints = Checkpoints(service.options.checkpoint_dir)
        self.records = Records(service.options.checkpoint_dir)

    def moment(self) -> Moment:
        """What the server is at, for whoever watches it."""
        waiting, turns = self.pending.waiting, self.service.turns
        options = self.service.options
        return Moment(
            about={"model": self.options.model_name, "device": options.device, "version": __version__},
            sessions=len(self.sessions),
            models=self.sessions.n_models,
            samplers=len(self.samplers),
            held_bytes=sum(pending.n_bytes for pending in waiting),
            waiting=Counter(pending.kind for pending in waiting),
            queue={} if turns is None else turns.depth,
            ran={} if turns is None else turns.ran,
            device_bytes=held_bytes(options.device),
        )

    def _cancel(self, future: LocalFuture[Any]) -> None:
        if self.service.turns is not None:
            self.service.turns.cancel(future)

    def _was_open(self, session_id: str) -> bool:
        return (self.records.session(session_id) or {}).get("status") == "active"

    def sampler(self, sampler_id: str) -> Sampler:
        """The sampler; one on a checkpoint or on the model as it is also outlives a restart of the server."""
        session_id = sampler_id.partition(":")[0]
        if sampler_id not in self.samplers:
            known = (self.records.session(session_id) or {}).get("samplers", {}).get(sampler_id)
            if known is not None and self._was_open(session_id):
                self.add_sampler(sampler_id, known["base_model"], known["model_path"])
        return self.samplers.get(sampler_id)

    def add_sampler(self, sampler_id: str, base_model: str | None, model_path: str | None) -> None:
        """A sampler on a checkpoint's weights or on the model as it is; Refused where it is not served."""
        if model_path is not None:
            base_model = self.checkpoints.spec(model_path).base_model
            self.check_model(base_model)
            folder = str(self.checkpoints.find(model_path))

            def load() -> LocalFuture[LocalSamplingClient]:
                return self.service.create_sampling_client(model_path=folder)

            self.samplers.add(Sampler(sampler_id, base_model, model_path, load(), load))
        elif base_model is not None:
            self.check_model(base_model)
            client = self.service.create_sampling_client(base_model=base_model)
            self.samplers.add(Sampler(sampler_id, base_model, None, client, is_base=True))
        else:
            raise Refused(422, "give base_model or model_path")

    def _drop(self, session_id: str) -> None:
        """What is held and done for a session ends with it."""
        self.pending.give_up_session(session_id)
        self.samplers.drop(session_id)

    async def sweep(self) -> None:
        """For ever: what is done for clients that show no sign of life is given up, and what has expired goes."""
        while True:
            await asyncio.sleep(SWEEP_S)
            for session_id in self.sessions.silent():
                self.pending.give_up_session(session_id)
            self.sessions.drop_silent()
            await asyncio.to_thread(self.checkpoints.remove_expired)

    def note_model(self, session_id: str, model_id: str, **known: Any) -> None:
        """Note a run and whose it is."""
        self.records.write_run(model_id, session_id=session_id, **known)
        models = (self.records.session(session_id) or {}).get("models", [])
        if model_id not in models:
            self.records.write_session(session_id, models=[*models, model_id])

    async def training(self, model_id: str) -> LocalTrainingClient:
        """The training client of a model."""
        return await asyncio.wrap_future(self.sessions.model(model_id).future())

    def check_model(self, base_model: str | None, *, status: int = 422) -> None:
        """Refused for a model that is not the one served."""
        if base_model is not None and base_model != self.options.model_name:
            words = f"model {base_model!r} is not served here: this server has {self.options.model_name}"
            raise Refused(status, f"{words} and its checkpoints")

    def check_context(self, model_input: types.ModelInput, max_tokens: int = 0) -> None:
        """Refused for more tokens than are announced; a picture that does not say how many it takes counts as one."""
        known = n_tokens(model_input)
        if known + max_tokens > self.options.max_context:
            asked = f" with max_tokens={max_tokens}" if max_tokens else ""
            raise Refused(422, f"{known} tokens{asked}: this server's context has {self.options.max_context}")

    async def result_or_gone(
        self, request: Request, pending: Pending, timeout_s: float | None
    ) -> bytes | dict[str, Any] | None:
        """The answer; None where the client's connection breaks first; TimeoutError after `timeout_s`."""
        result = asyncio.ensure_future(pending.result(timeout_s))
        broken = asyncio.ensure_future(disconnected(request))
        try:
            await asyncio.wait([result, broken], return_when=asyncio.FIRST_COMPLETED)
            return await result if result.done() else None
        finally:
            result.cancel()
            broken.cancel()

    def accept_step(
        self,
        wanted: Step,
        kind: str,
        start: Callable[[], LocalFuture[T]],
        pack: Callable[[T], bytes | dict[str, Any]],
        *,
        n_bytes: int = 0,
        tokens: dict[str, int] | None = None,
    ) -> Response:
        """Accept a request on a model in training; sent again, because its answer was lost, it is not done again."""
        if not wanted.seq_id:
            raise Refused(422, "seq_id is needed: the order of a model's requests")
        key = ("step", wanted.model_id, wanted.seq_id)
        return self.accept(key, kind, start, pack, model_id=wanted.model_id, n_bytes=n_bytes, tokens=tokens)

    def accept(
        self,
        key: Hashable,
        kind: str,
        start: Callable[[], LocalFuture[T]],
        pack: Callable[[T], bytes | dict[str, Any]],
        *,
        model_id: str,
        n_bytes: int = 0,
        tokens: dict[str, int] | None = None,
    ) -> Response:
        """Start what is asked, unless a request with this key came before; answers the promise."""
        known = self.pending.known(key)
        if known is None:
            self.pending.check_room(n_bytes)
            known = Pending(
                session_id=model_id.partition(":")[0],
                kind=kind,
                futures=[submitted(start)],
                pack=lambda results: pack(results[0]),
                n_bytes=n_bytes,
                tokens=tokens or {},
                extra={"model_id": model_id},
            )
            self.pending.add(key, known).start()
        return Promise(known)


async def disconnected(request: Request) -> None:
    """Wait until the client's connection breaks."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _length(chunk: types.ModelInputChunk) -> int:
    return (chunk.expected_tokens or 1) if isinstance(chunk, types.ImageChunk) else chunk.length


class Promise(JSONResponse):
    """What a client fetches the answer with."""

    def __init__(self, pending: Pending):
        self.pending = pending
        super().__init__({"request_id": pending.request_id, **pending.extra})


def check_optimizer(wanted: types.OptimizerConfig | None) -> None:
    """Refused for any but Adam, and for settings that it does not have."""
    if wanted is not None and not isinstance(wanted, types.AdamOptimizerConfig):
        raise Refused(422, f"optimizer_config={wanted!r}: only adamw is served, which has no settings here")


def n_tokens(model_input: types.ModelInput) -> int:
    """How many tokens an input has; a picture that does not say how many it takes counts as one."""
    return sum(_length(chunk) for chunk in model_input.chunks)


def submitted(ask: Callable[[], LocalFuture[T]]) -> LocalFuture[T]:
    """The engine's future; one that has failed already where the engine refuses at once."""
    try:
        return ask()
    except ValueError as error:
        future = LocalFuture[T](lambda _: None)
        future.fail(error)
        return future


async def read_body(request: Request, *, large: bool = False) -> bytes:
    """The body of a request, decompressed; counted as it comes, whatever its head says.

    large: it may bring data; else it names things, whose names and metadata are kept.
    """
    most = MAX_BODY_BYTES if large else MAX_WORDS_BYTES
    if int(request.headers.get("content-length") or 0) > most:
        raise too_large(most)
    parts, held = [], 0
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(IDLE_S):
                part = await anext(stream, None)
        except TimeoutError:
            raise Refused(
                408, f"nothing of the body came for {IDLE_S:.0f} s", headers={"Connection": "close"}
            ) from None
        except ClientDisconnect:
            raise Refused(400, "the body broke off") from None
        if part is None:
            break
        held += len(part)
        if held > most:
            raise too_large(most)
        parts.append(part)
    request.state.body_bytes = held
    return await in_thread(held, decompress, b"".join(parts), request.headers.get("content-encoding", ""), most)


async def in_thread(n_bytes: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `work` on so many bytes: where these are many, without holding up the other clients."""
    if n_bytes < _LARGE_BYTES:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)
