"""The routes of the Tinker API that SDK 0.38 calls, over one local engine."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tinker import types

from geospot.engine.local.service import LocalServiceClient
from geospot.engine.serve.chat import ChatRoutes
from geospot.engine.serve.core import LONG_POLL_S, Core, ServeOptions, read_body
from geospot.engine.serve.gate import Gate, Handler
from geospot.engine.serve.metrics import is_users
from geospot.engine.serve.models import TrainingRoutes
from geospot.engine.serve.rest import ONE_USER, REFUSED, RestRoutes, refusing
from geospot.engine.serve.routes_sampling import SamplingRoutes
from geospot.engine.serve.routes_weights import WeightsRoutes
from geospot.engine.serve.status import StatusRoutes
from geospot.engine.serve.wire import Refused, read_model, read_text, unknown

log = logging.getLogger(__name__)
PREFIX = "/api/v1"

__all__ = ["ServeOptions", "make_app"]


class SessionRoutes:
    """Handlers of sessions, of what a client asks at its start, and of answers to be fetched."""

    def __init__(self, core: Core):
        self.core = core

    async def health(self, request: Request) -> Response:
        """The server lives."""
        # Accept-Encoding in an answer tells clients that they may compress requests (RFC 7694).
        return JSONResponse({"status": "ok"}, headers={"Accept-Encoding": "zstd"})

    async def client_config(self, request: Request) -> Response:
        """How the SDK shall send."""
        # Chunks of one forward_backward come one after the other: their order is the order of their sums.
        flags = {"pjwt_auth_enabled": False, "parallel_fwdbwd_chunks": False, "proto_compress_fwdbwd": True}
        return JSONResponse(flags | self.core.options.client_config)

    async def dynamic_config(self, request: Request) -> Response:
        """What of that may change."""
        return JSONResponse({"sample_cancel_enabled": True})

    async def capabilities(self, request: Request) -> Response:
        """The model that is served."""
        model = {"model_name": self.core.options.model_name, "max_context_length": self.core.options.max_context}
        return JSONResponse({"supported_models": [model | {"trainable": True, "sampleable": True}]})

    async def create_session(self, request: Request) -> Response:
        """A new client."""
        wanted = read_model(types.CreateSessionRequest, await read_body(request))
        if wanted.project_id is not None:
            raise Refused(422, f"project_id={wanted.project_id!r}: {ONE_USER}; leave it out")
        session_id = self.core.sessions.create()
        said = {"user_metadata": wanted.user_metadata, "display_name": wanted.display_name, "tags": wanted.tags}
        self.core.records.write_session(session_id, sdk_version=wanted.sdk_version, **said)
        return JSONResponse({"type": "create_session", "session_id": session_id})

    async def heartbeat(self, request: Request) -> Response:
        """The client lives."""
        self.core.sessions.get(read_text(await read_body(request), "session_id"))
        return JSONResponse({"type": "session_heartbeat"})

    async def finish_session(self, request: Request) -> Response:
        """The client goes; what it held goes with it."""
        await read_body(request)
        session_id = request.path_params["session_id"]
        self.core.sessions.finish(session_id)
        if self.core.records.session(session_id) is not None:
            self.core.records.write_session(session_id, status="finished")
        return JSONResponse({})

    async def telemetry(self, request: Request) -> Response:
        """Taken and thrown away."""
        await read_body(request, large=True)
        return JSONResponse({"status": "accepted"})

    async def retrieve_future(self, request: Request) -> Response:
        """The answer to an accepted request, or 408 while it is not ready."""
        request_id = read_text(await read_body(request), "request_id")
        pending = self.core.pending.get(request_id)
        if pending is None:
            raise unknown(f"request {request_id!r}", "it expired, or the server was restarted", status=410)
        request.state.pending = pending
        try:
            with self.core.sessions.waits(pending.session_id) as session:
                answer = await self.core.result_or_gone(request, pending, LONG_POLL_S)
                if answer is None and session is not None:
                    session.broken_at = time.monotonic()
        except TimeoutError:
            again = {"type": "try_again", "request_id": request_id, "queue_state": "active"}
            return JSONResponse(again, status_code=408)
        except Exception as error:
            category = "user" if is_users(error) else "server"
            if category == "server":
                log.error("a request failed", exc_info=error)
            return JSONResponse({"error": f"{type(error).__name__}: {error}", "category": category})
        if answer is None:
            return Response(status_code=408)  # to nobody
        if isinstance(answer, bytes):
            return Response(answer, media_type="application/x-protobuf")
        return JSONResponse(answer)

    async def cancel_future(self, request: Request) -> Response:
        """A client waits for it no longer."""
        request_id = read_text(await read_body(request), "request_id")
        if (pending := self.core.pending.get(request_id)) is not None:
            self.core.pending.give_up(pending)
        return JSONResponse({})


def make_app(service: LocalServiceClient, options: ServeOptions) -> Starlette:
    """The ASGI application."""
    core = Core(service, options)
    gate, status = Gate(core), StatusRoutes(core)
    session, training = SessionRoutes(core), TrainingRoutes(core)
    chat = ChatRoutes(core)
    weights, sampling, rest = WeightsRoutes(core), SamplingRoutes(core), RestRoutes(core)

    def at(method: str, path: str, handler: Handler, *, name: str | None = None, **how: bool) -> Route:
        return Route(path, gate.guarded(handler, path, **how), methods=[method], name=name)

    def route(method: str, path: str, handler: Handler) -> Route:
        return at(method, f"{PREFIX}/{path}", handler)

    def post(path: str, handler: Handler) -> Route:
        return route("POST", path, handler)

    def get(path: str, handler: Handler, *, name: str | None = None, open_to_all: bool = False) -> Route:
        return at("GET", f"{PREFIX}/{path}", handler, name=name, open_to_all=open_to_all)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        sweeping = asyncio.create_task(core.sweep())
        yield
        sweeping.cancel()

    checkpoint = "training_runs/{model_id}/checkpoints/{kind}/{name}"
    external = "training_runs/{model_id}/checkpoints/external_weights/{name}"
    app = Starlette(
        routes=[
            get("healthz", session.health, open_to_all=True),
            post("client/config", session.client_config),
            post("client/dynamic_config", session.dynamic_config),
            get("get_server_capabilities", session.capabilities),
            post("create_session", session.create_session),
            post("session_heartbeat", session.heartbeat),
            post("sessions/{session_id}/finish", session.finish_session),
            post("telemetry", session.telemetry),
            post("create_model", training.create_model),
            post("get_info", training.get_info),
            post("forward_backward", training.forward_backward),
            post("optim_step", training.optim_step),
            post("save_weights", weights.save_weights),
            post("save_weights_for_sampler", weights.save_weights_for_sampler),
            post("save_weights_external", weights.save_weights_external),
            post("load_weights", weights.load_weights),
            post("weights_info", weights.weights_info),
            get(f"{checkpoint}/external_weights_urls", weights.external_weights_urls),
            # The SDK's downloaders send no key to what should be a signed URL: the name in it is the secret.
            get(f"{external}/files/{{file}}", weights.external_file, name="file", open_to_all=True),
            post("create_sampling_session", sampling.create_sampling_session),
            get("samplers/{sampler_id}", sampling.get_sampler),
            post("asample", sampling.sample),
            post("retrieve_future", session.retrieve_future),
            post("cancel_future", session.cancel_future),
            get("training_runs", rest.runs),
            get("training_runs/{model_id}", rest.run),
            get("training_runs/{model_id}/checkpoints", rest.checkpoints_of_run),
            route("DELETE", f"{checkpoint}", rest.delete),
            route("PUT", f"{checkpoint}/ttl", rest.set_ttl),
            get("checkpoints", rest.checkpoints),
            get("sessions", rest.sessions),
            post("sessions/search", rest.search),
            get("sessions/{session_id}", rest.session),
            post("copy_weights", rest.copy_weights),
            at("GET", "/v1/models", chat.models),
            at("GET", "/v1/models/{name:path}", chat.model),
            at("POST", "/v1/chat/completions", chat.complete),
            at("GET", "/metrics", status.metrics, for_people=True),
            at("GET", "/", status.page, for_people=True),
            *(route(method, path, refusing(words)) for (method, path), words in REFUSED.items()),
        ],
        lifespan=lifespan,
        exception_handlers={404: gate.unknown, 405: gate.unknown},
    )
    app.state.core = core
    return app
