"""What the page of `geospot watch` asks for: the runs, their curves and answers, and each step as it is logged."""

import asyncio
import contextlib
import json
import math
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from geospot.errors import RunError
from geospot.report.atlas import country_rings
from geospot.report.live.answers import counts, packed, picture
from geospot.report.live.following import FollowedRun, followed_runs, shown_path
from geospot.report.live.panels import panels_json
from geospot.report.live.site import Json, page_html

POLL_S = 0.4  # between two looks at the files, however many watch; at most this and the reading delay a step
DISCOVER_S = 5.0  # between two searches for new runs
SILENCE_S = 15.0  # after which a watcher is sent a comment, so that a connection that is gone is noticed
BLOCK_ANSWERS = 60_000  # in one response, unless a single step has more
SCRIPTS = ("frames.js", "curves.js", "store.js", "watch.js")


@cache
def land_json() -> list[list[list[float]]]:
    """The outlines of the countries as closed rings of [lat, lon]."""
    return [ring.round(2).tolist() for rings in country_rings().values() for ring in rings]


class Watch:
    """The runs at or below a folder, and those who watch them. All files are read by one thread at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs: dict[str, FollowedRun] = {}
        self._watchers: set[asyncio.Queue[dict[str, Any] | None]] = set()
        self._reading = threading.Lock()
        self._owed: dict[str, int] = {}  # by run, from which step on answers could not be read
        self._discovered = -DISCOVER_S

    def look(self) -> list[dict[str, Any]]:
        """Read what is new; the messages for those who watch."""
        with self._reading:
            if time.monotonic() - self._discovered >= DISCOVER_S:
                self._discovered = time.monotonic()
                with contextlib.suppress(OSError):  # a folder that goes while it is searched
                    self.runs = {run.name: run for run in followed_runs(self.root, list(self.runs.values()))}
            return [message for run in self.runs.values() if (message := self._news(run)) is not None]

    def _news(self, run: FollowedRun) -> dict[str, Any] | None:
        """What is new of a run. Answers that cannot be read now are part of a later message."""
        epoch, n = run.epoch, len(run.rows)
        if not run.poll() and run.name not in self._owed:
            return None
        begin = n if run.epoch == epoch else 0
        new, answers = run.rows[begin:], {}
        steps = [row["step"] for row in new[:1]] + [self._owed.pop(run.name, math.inf)]
        if (first := min(steps)) < math.inf:
            try:
                answers = counts(run.path, int(first), wait_s=POLL_S)
            except RunError:
                self._owed[run.name] = int(first)
                if not new:
                    return None
        return run.summary() | {"from": begin, "new": new, "answers": answers}

    async def refresh(self) -> None:
        """Look, and send what is new to those who watch."""
        for message in await run_in_threadpool(self.look):
            for queue in self._watchers:
                queue.put_nowait(message)

    async def follow(self) -> None:
        """Look again and again while somebody watches."""
        while True:
            if self._watchers:
                await self.refresh()
            await asyncio.sleep(POLL_S)

    def close(self) -> None:
        """End the streams of those who watch, as the server is stopped."""
        for queue in self._watchers:
            queue.put_nowait(None)

    def run(self, request: Request) -> FollowedRun:
        """The run that a request names."""
        name = request.query_params.get("run", "")
        if name not in self.runs:
            raise HTTPException(404, f"no run {name!r} here")
        return self.runs[name]

    # --- handlers ---

    async def page(self, request: Request) -> Response:
        """The page."""
        name = shown_path(self.root.name)
        about = json.dumps({"panels": panels_json(), "land": land_json(), "root": name})
        return HTMLResponse(page_html(f"{name}: geospot watch", SCRIPTS, about))

    async def list_runs(self, request: Request) -> Response:
        """A line per run."""
        await self.refresh()
        return Json([run.summary() for run in self.runs.values()])

    async def one_run(self, request: Request) -> Response:
        """The curves of a run, what it is, and how many answers each step has."""
        run = self.run(request)
        answers = await run_in_threadpool(counts, run.path)
        return Json(run.summary() | {"metrics": run.rows, "about": run.about(), "answers": answers})

    async def answers(self, request: Request) -> Response:
        """The numbers of the answers of a span of steps; of a long one only its last steps."""
        run, split, first, last = self.run(request), *_span(request)
        steps = (await run_in_threadpool(counts, run.path, first)).get(split, [])
        n = 0
        for step, count in reversed([pair for pair in steps if pair[0] <= last]):
            if n and n + count > BLOCK_ANSWERS:
                break
            first, n = step, n + count
        return Json(await run_in_threadpool(packed, run.path, split, first, last))

    async def picture(self, request: Request) -> Response:
        """One picture's answers in words."""
        run, split, step, _ = self.run(request), *_span(request)
        try:
            group = int(request.query_params.get("group", ""))
        except ValueError:
            raise HTTPException(422, "group: must be a whole number") from None
        found = await run_in_threadpool(picture, run.path, split, step, group)
        if found is None:
            raise HTTPException(404, f"no picture {group} in step {step} of {split}")
        return Json(found)

    async def events(self, request: Request) -> Response:
        """Server-sent events: a message per run that has something new."""
        return StreamingResponse(self._messages(), media_type="text/event-stream")

    async def _messages(self) -> AsyncIterator[str]:
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._watchers.add(queue)
        try:
            yield "retry: 500\nevent: hello\ndata: {}\n\n"
            while True:
                try:
                    if (message := await asyncio.wait_for(queue.get(), SILENCE_S)) is None:
                        return
                    yield f"data: {json.dumps(message)}\n\n"
                except TimeoutError:
                    yield ": still here\n\n"
        finally:
            self._watchers.discard(queue)

    def routes(self) -> list[Route]:
        """Of the application."""
        return [
            Route("/", self.page),
            Route("/api/runs", self.list_runs),
            Route("/api/run", self.one_run),
            Route("/api/answers", self.answers),
            Route("/api/picture", self.picture),
            Route("/api/events", self.events),
        ]

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object) -> AsyncGenerator[None]:
        """Follows the runs while the application is up."""
        following = asyncio.create_task(self.follow())
        try:
            yield
        finally:
            following.cancel()


def _span(request: Request) -> tuple[str, int, int]:
    """(split, first step, last step) of a request."""
    query = request.query_params
    try:
        first = int(query.get("step", ""))
        last = int(query.get("to", first))
    except ValueError:
        raise HTTPException(422, "step, to: must be whole numbers") from None
    if not 0 <= first <= last < 1 << 53:
        raise HTTPException(422, f"step={first}, to={last}: must be 0 or above, in order")
    return query.get("split", ""), first, last
