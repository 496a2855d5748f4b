"""The routes of the Tinker API that SDK 0.38 calls, over one local engine."""

import asyncio
import hmac
import itertools
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from tinker import types

from geospot.engine.futures import LocalFuture
from geospot.engine.local.service import LocalServiceClient
from geospot.engine.local.state import CheckpointError
from geospot.engine.serve.pending import Gatherer, Pending, PendingStore
from geospot.engine.serve.sessions import Checkpoints, Sampler, Sessions
from geospot.engine.serve.wire import (
    MAX_BODY_BYTES,
    Refused,
    decompress,
    pack_forward_backward,
    pack_sample,
    read_forward_backward,
    read_json,
    read_model,
)
from geospot.models.loading import ModelError

log = logging.getLogger(__name__)
LONG_POLL_S = 25.0  # the SDK gives up a request after 45
PREFIX = "/api/v1"
# What no model here does: asked for, it is refused rather than left out of the answer.
_NOT_SERVED = ("topk_prompt_logprobs", "topk_sample_logprobs", "target_prompt_logprobs", "prompt_alt_tokens_k")


@dataclass(frozen=True)
class ServeOptions:
    """What the server serves, and to whom."""

    model_name: str
    api_key: str | None = None  # None: anybody who can connect
    max_rank: int = 256
    max_context: int = 32_768  # tokens; what get_server_capabilities says
    client_config: dict = field(default_factory=dict)  # feature flags for the SDK beside the server's own


class Server:
    """The handlers. One engine, whose scheduler puts the requests of all clients in one order."""

    def __init__(self, service: LocalServiceClient, options: ServeOptions):
        self.service, self.options = service, options
        self.sessions, self.pending, self.gatherer = Sessions(), PendingStore(), Gatherer()
        self.checkpoints = Checkpoints(service.options.checkpoint_dir)
        self._numbers = itertools.count()

    # -- sessions -------------------------------------------------------------------------------------------------

    async def health(self, request: Request) -> Response:
        # Accept-Encoding in an answer tells clients that they may compress requests (RFC 7694).
        return JSONResponse({"status": "ok"}, headers={"Accept-Encoding": "zstd"})

    async def client_config(self, request: Request) -> Response:
        # Chunks of one forward_backward come one after the other: their order is the order of their sums.
        flags = {"pjwt_auth_enabled": False, "parallel_fwdbwd_chunks": False, "proto_compress_fwdbwd": True}
        return JSONResponse(flags | self.options.client_config)

    async def dynamic_config(self, request: Request) -> Response:
        return JSONResponse({"sample_cancel_enabled": False})

    async def capabilities(self, request: Request) -> Response:
        model = {"model_name": self.options.model_name, "max_context_length": self.options.max_context}
        return JSONResponse({"supported_models": [model | {"trainable": True, "sampleable": True}]})

    async def create_session(self, request: Request) -> Response:
        read_model(types.CreateSessionRequest, await _body(request))
        return JSONResponse({"type": "create_session", "session_id": self.sessions.create()})

    async def heartbeat(self, request: Request) -> Response:
        self.sessions.get(read_json(await _body(request)).get("session_id"))
        return JSONResponse({"type": "session_heartbeat"})

    async def finish_session(self, request: Request) -> Response:
        self.sessions.finish(request.path_params["session_id"])
        return JSONResponse({})

    async def telemetry(self, request: Request) -> Response:
        return JSONResponse({"status": "accepted"})  # and thrown away

    # -- models in training -----------------------------------------------------------------------------------------

    async def create_model(self, request: Request) -> Response:
        wanted = read_model(types.CreateModelRequest, await _body(request))
        session, model_id = self.sessions.get(wanted.session_id), f"{wanted.session_id}:train:{wanted.model_seq_id}"
        lora = wanted.lora_config or types.LoraConfig(rank=32)
        self._check_model(wanted.base_model)
        if not 0 <= lora.rank <= self.options.max_rank:
            raise Refused(422, f"lora rank {lora.rank}: 0 (all weights) to {self.options.max_rank}")
        if wanted.optimizer_config.type != "adamw":
            raise Refused(422, f"optimizer {wanted.optimizer_config.type!r}: only adamw is served")

        def start() -> LocalFuture:
            session.models[model_id] = self.service.create_lora_training_client(
                wanted.base_model,
                rank=lora.rank,
                seed=lora.seed,
                train_mlp=lora.train_mlp,
                train_attn=lora.train_attn,
                train_unembed=lora.train_unembed,
            )
            return session.models[model_id]

        return self._accept(
            ("create", model_id), start, lambda _: {"type": "create_model", "model_id": model_id}, model_id=model_id
        )

    def _check_model(self, base_model: str | None) -> None:
        if base_model is not None and base_model != self.options.model_name:
            raise Refused(422, f"model {base_model!r} is not served here: this server has {self.options.model_name}")

    async def get_info(self, request: Request) -> Response:
        model_id = read_model(types.GetInfoRequest, await _body(request)).model_id
        info = (await self._client(model_id)).get_info()
        data = {"arch": "transformers", "model_name": info.model_name, "tokenizer_id": info.model_name}
        rank = {"is_lora": info.is_lora, "lora_rank": info.lora_rank}
        return JSONResponse(
            {"type": "get_info", "model_data": data, "model_id": model_id, "model_name": info.model_name, **rank}
        )

    async def _client(self, model_id: str):
        return await asyncio.wrap_future(self.sessions.model(model_id).future())

    async def forward_backward(self, request: Request) -> Response:
        message, data, config = read_forward_backward(await _body(request))
        training = await self._client(message.model_id)
        method = training.forward if message.forward_only else training.forward_backward
        return self._accept_step(message, lambda: method(data, message.loss_fn, config), pack_forward_backward)

    async def optim_step(self, request: Request) -> Response:
        wanted = read_model(types.OptimStepRequest, await _body(request))
        if not isinstance(wanted.optim_params, types.AdamParams):
            raise Refused(422, "only Adam's parameters are served")
        training = await self._client(wanted.model_id)
        return self._accept_step(
            wanted, lambda: training.optim_step(wanted.optim_params), lambda answer: {"metrics": answer.metrics}
        )

    # -- checkpoints ----------------------------------------------------------------------------------------------

    async def save_weights(self, request: Request) -> Response:
        wanted = read_model(types.SaveWeightsRequest, await _body(request))
        training = await self._client(wanted.model_id)
        name = self.checkpoints.folder_name(wanted.model_id, "weights", wanted.path)

        def pack(answer) -> dict:
            self.checkpoints.note(answer.path, wanted.ttl_seconds, wanted.user_metadata)
            return {"type": "save_weights", "path": f"tinker://{wanted.model_id}/weights/{wanted.path}"}

        return self._accept_step(wanted, lambda: training.save_state(name, overwrite=wanted.overwrite), pack)

    async def save_weights_for_sampler(self, request: Request) -> Response:
        wanted = read_model(types.SaveWeightsForSamplerRequest, await _body(request))
        training = await self._client(wanted.model_id)
        if wanted.kind != "snapshot":
            raise Refused(422, f"kind {wanted.kind!r}: only snapshots are served")
        if wanted.path is not None:
            name = self.checkpoints.folder_name(wanted.model_id, "sampler_weights", wanted.path)

            def pack(answer) -> dict:
                self.checkpoints.note(answer.path, wanted.ttl_seconds, wanted.user_metadata)
                path = f"tinker://{wanted.model_id}/sampler_weights/{wanted.path}"
                return {"type": "save_weights_for_sampler", "path": path}

            return self._accept_step(wanted, lambda: training.save_weights_for_sampler(name), pack)
        session_id = wanted.model_id.partition(":")[0]
        sampler_id = f"{session_id}:sample:{next(self._numbers)}"

        def start() -> LocalFuture:
            client = training.save_weights_and_get_sampling_client()
            base_model = training.get_info().model_name
            self.sessions.add_sampler(Sampler(session_id, base_model, client), sampler_id)
            return client

        return self._accept_step(
            wanted, start, lambda _: {"type": "save_weights_for_sampler", "sampling_session_id": sampler_id}
        )

    async def save_weights_external(self, request: Request) -> Response:
        from geospot.engine.export import write_external

        wanted = read_model(types.SaveWeightsExternalRequest, await _body(request))
        training = await self._client(wanted.model_id)
        if wanted.age_encryption_recipients:
            raise Refused(422, "age_encryption_recipients: this server does not encrypt")
        folder = self.checkpoints.root / self.checkpoints.folder_name(wanted.model_id, "external_weights", wanted.path)
        if folder.exists():
            raise Refused(422, f"external weights named {wanted.path!r} exist: choose another name")
        # Saved as the engine does, then written in PEFT's form from there: both in the engine's own thread.
        temporary = self.checkpoints.folder_name(wanted.model_id, "sampler_weights", f"export-{uuid.uuid4().hex}")

        def start() -> LocalFuture:
            saved = training.save_weights_for_sampler(temporary)
            return self.service.scheduler.submit(lambda: write_external(saved.result().path, folder, discard=True))

        def pack(_) -> dict:
            self.checkpoints.note(folder, wanted.ttl_seconds, None)
            path = f"tinker://{wanted.model_id}/external_weights/{wanted.path}"
            return {"type": "save_weights_external", "path": path}

        return self._accept_step(wanted, start, pack)

    async def external_weights_urls(self, request: Request) -> Response:
        where = request.path_params
        folder = self.checkpoints.find(f"tinker://{where['model_id']}/external_weights/{where['name']}")
        urls = {path.name: f"{request.url_for('file', **where, file=path.name)}" for path in sorted(folder.iterdir())}
        return JSONResponse({"urls": urls, "expires": (datetime.now(UTC) + timedelta(hours=1)).isoformat()})

    async def external_file(self, request: Request) -> Response:
        where = request.path_params
        folder = self.checkpoints.find(f"tinker://{where['model_id']}/external_weights/{where['name']}")
        if where["file"] not in {path.name for path in folder.iterdir()}:
            raise Refused(404, f"no file {where['file']!r}")
        return FileResponse(folder / where["file"])

    async def load_weights(self, request: Request) -> Response:
        wanted = read_model(types.LoadWeightsRequest, await _body(request))
        model_id = wanted.model_id or f"{wanted.session_id}:train:{wanted.model_seq_id}"
        session = self.sessions.get(model_id.partition(":")[0])
        self._check_model(wanted.base_model)
        self._check_model(self.checkpoints.spec(wanted.path).base_model)
        folder = str(self.checkpoints.find(wanted.path))

        def start() -> LocalFuture:
            make = self.service.create_training_client_from_state
            if wanted.optimizer:
                make = self.service.create_training_client_from_state_with_optimizer
            session.models[model_id] = make(folder)
            return session.models[model_id]

        return self._accept(
            ("load", model_id, wanted.seq_id),
            start,
            lambda _: {"type": "load_weights", "path": wanted.path},
            model_id=model_id,
        )

    async def weights_info(self, request: Request) -> Response:
        spec = self.checkpoints.spec(read_json(await _body(request)).get("tinker_path", ""))
        trained = {name: getattr(spec, name) for name in ("train_unembed", "train_mlp", "train_attn")}
        rank = {"is_lora": spec.lora_rank > 0, "lora_rank": spec.lora_rank}
        return JSONResponse({"base_model": spec.base_model, **rank, **trained})

    # -- sampling -------------------------------------------------------------------------------------------------

    async def create_sampling_session(self, request: Request) -> Response:
        wanted = read_model(types.CreateSamplingSessionRequest, await _body(request))
        self.sessions.get(wanted.session_id)
        sampler_id = f"{wanted.session_id}:sample:client-{wanted.sampling_session_seq_id}"
        base_model = wanted.base_model
        self._check_model(base_model)
        if wanted.model_path is not None:
            base_model = self.checkpoints.spec(wanted.model_path).base_model
            self._check_model(base_model)
            client = self.service.create_sampling_client(model_path=str(self.checkpoints.find(wanted.model_path)))
        elif base_model is not None:
            client = self.service.create_sampling_client(base_model=base_model)
        else:
            raise Refused(422, "give base_model or model_path")
        named = wanted.model_path or f"base:{base_model}"
        self.sessions.add_sampler(Sampler(wanted.session_id, base_model, client, named), sampler_id)
        return JSONResponse({"type": "create_sampling_session", "sampling_session_id": sampler_id})

    async def get_sampler(self, request: Request) -> Response:
        sampler_id = request.path_params["sampler_id"]
        sampler = self.sessions.sampler(sampler_id)
        path = sampler.model_path if sampler.model_path and "://" in sampler.model_path else None
        return JSONResponse({"sampler_id": sampler_id, "base_model": sampler.base_model, "model_path": path})

    async def sample(self, request: Request) -> Response:
        wanted = read_model(types.SampleRequest, await _body(request))
        if wanted.sampling_session_id is None or wanted.seq_id is None:
            raise Refused(422, "sampling_session_id and seq_id are needed: requests belong to a sampling session")
        for name in _NOT_SERVED:
            if getattr(wanted, name):
                raise Refused(422, f"{name} is not served here")
        key = ("sample", wanted.sampling_session_id, wanted.seq_id)
        if (known := self.pending.known(key)) is not None:
            return self._promise(known)
        loading = self.sessions.sampler(wanted.sampling_session_id).client.future()
        try:
            client = await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(loading)), LONG_POLL_S)
        except TimeoutError:  # a large model is on its way from the disk: the SDK asks again after 429
            raise Refused(429, "the weights are still being loaded") from None
        if (known := self.pending.known(key)) is not None:  # it was sent again meanwhile
            return self._promise(known)
        futures = [_submitted(lambda: client.sample(wanted.prompt, wanted.num_samples, wanted.sampling_params))]
        if wanted.prompt_logprobs:
            futures.append(_submitted(lambda: client.compute_logprobs(wanted.prompt)))
        pending = Pending(
            start=lambda: _all(futures),
            pack=lambda answers: pack_sample(answers[0].sequences, answers[1] if len(answers) > 1 else None),
            extra={"sample_sequence_ids": [uuid.uuid4().hex for _ in range(wanted.num_samples)]},
        )
        self.gatherer.add(self.pending.add(key, pending))
        return self._promise(pending)

    # -- futures --------------------------------------------------------------------------------------------------

    def _accept_step(self, wanted, start: Callable[[], LocalFuture], pack) -> Response:
        """Accept a request on a model in training; the same one sent again (its answer was lost) is not done again."""
        if not wanted.seq_id:
            raise Refused(422, "seq_id is needed: the order of a model's requests")
        return self._accept(("step", wanted.model_id, wanted.seq_id), start, pack, model_id=wanted.model_id)

    def _accept(self, key, start: Callable[[], LocalFuture], pack, **extra) -> Response:
        known = self.pending.known(key)
        if known is None:
            future = _submitted(start)
            known = self.pending.add(key, Pending(start=future.future, pack=pack, extra=extra))
            known.released.set()
        return self._promise(known)

    @staticmethod
    def _promise(pending: Pending) -> Response:
        return JSONResponse({"request_id": pending.request_id, **pending.extra})

    async def retrieve_future(self, request: Request) -> Response:
        request_id = read_json(await _body(request)).get("request_id")
        pending = self.pending.get(str(request_id))
        if pending is None:
            raise Refused(410, f"request {request_id!r} is not known here: it expired, or the server was restarted")
        try:
            answer = await pending.result(LONG_POLL_S)
        except TimeoutError:
            again = {"type": "try_again", "request_id": request_id, "queue_state": "active"}
            return JSONResponse(again, status_code=408)
        except Exception as error:
            user = isinstance(error, ValueError | FileExistsError | FileNotFoundError)
            if not user:
                log.error("a request failed", exc_info=error)
            category = "user" if user else "server"
            return JSONResponse({"error": f"{type(error).__name__}: {error}", "category": category})
        if isinstance(answer, bytes):
            return Response(answer, media_type="application/x-protobuf")
        return JSONResponse(answer)


def _submitted(ask: Callable[[], LocalFuture]) -> LocalFuture:
    """The engine's future; one that has failed already where the engine refuses at once."""
    try:
        return ask()
    except ValueError as error:
        future = LocalFuture(lambda _: None)
        future.fail(error)
        return future


def _all(futures: list[LocalFuture]) -> Future:
    """A future of all results in order; asking for it starts the work."""
    out: Future = Future()
    inner = [future.future() for future in futures]

    def done(_: Future) -> None:
        if not all(f.done() for f in inner) or out.done():
            return
        errors = [f.exception() for f in inner if f.exception() is not None]
        if errors:
            out.set_exception(errors[0])
        else:
            out.set_result([f.result() for f in inner])

    for future in inner:
        future.add_done_callback(done)
    return out


async def _body(request: Request) -> bytes:
    """The body of a request, decompressed."""
    if int(request.headers.get("content-length") or 0) > MAX_BODY_BYTES:
        raise Refused(413, f"the body is larger than {MAX_BODY_BYTES >> 20} MiB")
    return decompress(await request.body(), request.headers.get("content-encoding", ""))


def make_app(service: LocalServiceClient, options: ServeOptions) -> Starlette:
    """The ASGI application."""
    server = Server(service, options)

    def guarded(handler: Callable[[Request], Awaitable[Response]], open_to_all: bool = False):
        async def handle(request: Request) -> Response:
            given = request.headers.get("x-api-key", "")
            if (
                options.api_key
                and not open_to_all
                and not hmac.compare_digest(given.encode(), options.api_key.encode())
            ):
                return JSONResponse({"detail": "this server wants another API key (TINKER_API_KEY)"}, status_code=401)
            started = time.monotonic()
            try:
                response = await handler(request)
            except Refused as error:
                response = JSONResponse({"detail": str(error)}, status_code=error.status)
            except (ValueError, ModelError, CheckpointError, OSError) as error:  # of the request's model or checkpoint
                response = JSONResponse({"detail": str(error)}, status_code=422)
            took_ms = 1000 * (time.monotonic() - started)
            log.debug("%s %s %d %.0f ms", request.method, request.url.path, response.status_code, took_ms)
            return response

        return handle

    def post(path: str, handler) -> Route:
        return Route(f"{PREFIX}/{path}", guarded(handler), methods=["POST"])

    def get(path: str, handler, **kwargs) -> Route:
        open_to_all = kwargs.pop("open_to_all", False)
        return Route(f"{PREFIX}/{path}", guarded(handler, open_to_all), methods=["GET"], **kwargs)

    weights = "training_runs/{model_id}/checkpoints/external_weights/{name}"
    app = Starlette(
        routes=[
            get("healthz", server.health, open_to_all=True),
            post("client/config", server.client_config),
            post("client/dynamic_config", server.dynamic_config),
            get("get_server_capabilities", server.capabilities),
            post("create_session", server.create_session),
            post("session_heartbeat", server.heartbeat),
            post("sessions/{session_id}/finish", server.finish_session),
            post("telemetry", server.telemetry),
            post("create_model", server.create_model),
            post("get_info", server.get_info),
            post("forward_backward", server.forward_backward),
            post("optim_step", server.optim_step),
            post("save_weights", server.save_weights),
            post("save_weights_for_sampler", server.save_weights_for_sampler),
            post("save_weights_external", server.save_weights_external),
            post("load_weights", server.load_weights),
            post("weights_info", server.weights_info),
            get(f"{weights}/external_weights_urls", server.external_weights_urls),
            # The SDK's downloaders send no key to what should be a signed URL: the name in it is the secret.
            get(f"{weights}/files/{{file}}", server.external_file, name="file", open_to_all=True),
            post("create_sampling_session", server.create_sampling_session),
            get("samplers/{sampler_id}", server.get_sampler),
            post("asample", server.sample),
            post("retrieve_future", server.retrieve_future),
        ]
    )
    app.state.server = server
    return app
