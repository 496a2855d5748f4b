"""The web application around the pages: who may see them, what a browser may do with them, their files."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cache
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from geospot.engine.serve.access import check_page, same_key
from geospot.errors import GeospotError, RunError
from geospot.report.live.borderlines import borderlines
from geospot.report.page import escape

COOKIE = "geospot-key"
MOST_BYTES = 10_000  # of a request that is JSON
KINDS = {"js": "text/javascript", "css": "text/css"}
# What every page begins with; then its own.
STYLES = ("report:style.css", "vendor/leaflet.css", "vendor/uplot.css", "live.css")
SCRIPTS = ("vendor/leaflet.js", "vendor/uplot.js", "vendor/preact.js", "base.js", "world.js")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:{}; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Json(JSONResponse):
    """JSON of any text: what models, file names and visitors say may hold halves of characters, which UTF-8 has not."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(
            "utf-8", "replace"
        )


class Guard:
    """Lets a request through that comes from this site's own pages and, where there is a key, brings the key.

    The key comes in the address once (`?key=...`) and in a cookie from then on.
    """

    def __init__(self, app: ASGIApp, key: str | None, hosts: tuple[str, ...] | None, images: str) -> None:
        self.app, self.key, self.hosts = app, key, hosts
        policy = HEADERS["Content-Security-Policy"].format(f" {images}" if images else "")
        self.headers = [
            (name.lower().encode(), value.encode())
            for name, value in (HEADERS | {"Content-Security-Policy": policy}).items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # there are no other sockets here
            raise HTTPException(403)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self.headers]
            await send(message)

        answer = self._refusal(Request(scope))
        await (self.app if answer is None else answer)(scope, receive, with_headers)

    def _refusal(self, request: Request) -> Response | None:
        if (refusal := check_page(request, self.hosts)) is not None or self.key is None:
            return refusal
        given = request.query_params.get("key")
        if given is not None and request.method == "GET" and same_key(given, self.key):
            answer = RedirectResponse(f"/{request.url.path.lstrip('/')}", status_code=303)
            answer.set_cookie(COOKIE, given, httponly=True, samesite="strict", secure=request.url.scheme == "https")
            return answer
        if same_key(request.cookies.get(COOKIE, ""), self.key):
            return None
        return Json({"detail": "open the address with the key (?key=...) that the command printed"}, 401)


async def _error(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 503 if isinstance(error, RunError) else 422)  # 503: may be read later
    return Json({"detail": str(getattr(error, "detail", None) or error)}, status_code=status)


def make_site(
    routes: Sequence[BaseRoute],
    *,
    key: str | None = None,
    hosts: tuple[str, ...] | None,
    lifespan: Callable[[Any], AbstractAsyncContextManager[None]] | None = None,
    images: str = "",
) -> Starlette:
    """The application. `hosts`: by which names it may be called (None: any); `images`: another origin of pictures."""
    return Starlette(
        routes=[Route("/static/{name:path}", _static), Route("/api/borders", _borders), *routes],
        middleware=[Middleware(Guard, key, hosts, images)],
        exception_handlers={HTTPException: _error, GeospotError: _error},
        lifespan=lifespan,
    )


@cache
def static_text(name: str) -> str:
    """A file of the pages: `report:NAME` of the reports, whose style sheet the pages share, else one of this folder."""
    package = "geospot.report" if name.startswith("report:") else "geospot.report.live"
    return resources.files(package).joinpath(name.removeprefix("report:")).read_text(encoding="utf-8")


def _names(scripts: Sequence[str]) -> tuple[str, ...]:
    return (*STYLES, *SCRIPTS, *scripts)


OF_PAGES = "frames.js curves.js store.js watch.js views.js summary.js play.js intake.js photo.js"
SERVED = {*_names(()), *OF_PAGES.split()}


def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in SERVED:
        raise HTTPException(404, f"no file {name}")
    return Response(static_text(name), media_type=KINDS[name.rpartition(".")[2]])


async def read_body(request: Request, most: int) -> bytes:
    """The body; a refusal where it is larger than `most` bytes, as soon as that is seen."""
    declared = request.headers.get("content-length", "")
    body = bytearray()
    if not (declared.isdecimal() and int(declared) > most):
        async for part in request.stream():
            body += part
            if len(body) > most:
                break
        else:
            return bytes(body)
    raise HTTPException(413, f"too large: more than {most / 1e6:,.0f} MB" if most >= 1e6 else f"more than {most} bytes")


async def read_json(request: Request) -> dict[str, Any]:
    """The body; a refusal where it is no object, or too large."""
    try:
        found = json.loads(await read_body(request, MOST_BYTES))
    except (ValueError, RecursionError):
        raise HTTPException(422, "the body must be JSON") from None
    if not isinstance(found, dict):
        raise HTTPException(422, "the body must be an object")
    return found


async def _borders(request: Request) -> Response:
    return Response(await run_in_threadpool(borderlines), media_type="application/octet-stream")


def page_html(title: str, scripts: Sequence[str], data: str = "{}") -> str:
    """The page for a browser: everything by address. `data` is JSON that the scripts read at once."""
    links = "".join(f'<link rel="stylesheet" href="/static/{name}">' for name in STYLES)
    loaded = "".join(f'<script src="/static/{name}" defer></script>' for name in (*SCRIPTS, *scripts))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title>{links}{loaded}</head><body>"
        f'<script type="application/json" id="data">{in_script(data)}</script><main id="app" class="live">'
        "<noscript>This page needs JavaScript, all of which comes from this machine.</noscript></main></body></html>\n"
    )


def in_script(json_text: str) -> str:
    """JSON that stands inside of a script element: nothing in it can end the element."""
    return json_text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
