"""In front of every route: who may ask, what is refused in which words, and what is counted and logged of each."""

import base64
import binascii
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from geospot.engine.serve.access import check_page, same_key
from geospot.engine.serve.core import Core, Promise
from geospot.engine.serve.metrics import outcome
from geospot.engine.serve.pending import GONE, Pending
from geospot.engine.serve.streams import Events
from geospot.engine.serve.wire import Refused
from geospot.errors import ModelError, RunError

Handler = Callable[[Request], Awaitable[Response]]
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})


class Gate:
    """Wraps the handlers of one `Core`."""

    def __init__(self, core: Core):
        self.core = core
        self.log = core.options.request_log

    def guarded(
        self, handler: Handler, endpoint: str, *, open_to_all: bool = False, for_people: bool = False
    ) -> Handler:
        """The handler behind the key (unless it is `open_to_all`), its refusals as answers.

        for_people: a browser or Prometheus asks, which may send the key as a password (HTTP Basic).
        """

        async def handle(request: Request) -> Response:
            started = time.monotonic()
            status = 500
            response: Response | None = None
            try:
                response = self._refusal(request, open_to_all, for_people) or await self._answer(handler, request)
                status = response.status_code
                if isinstance(response, Events):
                    response.on_end = partial(self._note, request, endpoint, status, response, started)
                return response
            finally:
                if not isinstance(response, Events):
                    self._note(request, endpoint, status, response, started)

        return handle

    async def unknown(self, request: Request, error: Exception) -> Response:
        """The answer at a path that is none."""
        status = getattr(error, "status_code", 404)
        words = f"{request.method} {request.url.path} is no endpoint of this server (Tinker SDK 0.38, OpenAI's chat)"
        response = refusal(request, words, status)
        self._note(request, "unknown", status, response, time.monotonic())
        return response

    def _refusal(self, request: Request, open_to_all: bool, for_people: bool) -> Response | None:
        wanted = self.core.options.api_key
        given = _given_key(request, with_password=for_people)
        if wanted and not open_to_all and not same_key(given, wanted):
            asks = {"WWW-Authenticate": 'Basic realm="geospot serve: the key as password"'} if for_people else None
            words = "this server wants another API key (TINKER_API_KEY)"
            return refusal(request, words, 401, asks)
        return check_page(request, self.core.options.hosts)

    @staticmethod
    async def _answer(handler: Handler, request: Request) -> Response:
        try:
            return await handler(request)
        except Refused as error:
            return refusal(request, str(error), error.status, error.headers)
        except (ValueError, ModelError, RunError, OSError) as error:  # of the request's model or checkpoint
            return refusal(request, str(error), 422)

    def _note(self, request: Request, endpoint: str, status: int, response: Response | None, started: float) -> None:
        """Nothing that a client wrote goes into a label or a line: neither its path nor its query nor a header."""
        method = request.method if request.method in _METHODS else "other"
        self.core.metrics.http.labels(endpoint, method, status).inc()
        promised = response.pending if isinstance(response, Promise) else getattr(request.state, "pending", None)
        gone = status == GONE or (isinstance(response, Events) and not response.is_whole)
        self.log.write(
            method=method,
            endpoint=endpoint,
            status=status,
            ms=round(1000 * (time.monotonic() - started), 1),
            client=request.client.host if request.client else None,
            body_bytes=getattr(request.state, "body_bytes", None),
            **_said_of(promised, gone=gone),
        )


def refusal(request: Request, words: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """A refusal as the clients of a path read it: those of OpenAI's look for "error", the Tinker SDK for "detail"."""
    body: dict[str, object] = {"detail": words}
    if request.url.path.startswith("/v1/"):
        kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
        body = {"error": {"message": words, "type": kind, "param": None, "code": None}}
    return JSONResponse(body, status_code=status, headers=headers)


def _said_of(pending: Pending | None, *, gone: bool) -> dict[str, object]:
    """Of a request to the engine; gone: its client was, before it had the answer."""
    if pending is None:
        return {}
    said = {"session": pending.session_id, "kind": pending.kind, "request_id": pending.request_id}
    became = "client gone" if gone else outcome(pending)
    if became == "waiting":
        return {**said, "outcome": became}
    return {**said, "outcome": became, "waited_ms": round(1000 * pending.waited_s(), 1), "tokens": pending.used()}


def _given_key(request: Request, *, with_password: bool) -> str:
    """The key that a request shows, or ""."""
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    if with_password and scheme.lower() == "basic":
        try:
            return base64.b64decode(rest, validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return request.headers.get("x-api-key", rest if scheme == "Bearer" else "")
