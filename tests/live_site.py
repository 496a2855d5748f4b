"""Live pages for tests: a run folder that grows as a training run's does, a server in a thread, a real browser."""

import asyncio
import contextlib
import json
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from made import until

from geospot.runs.folder import RunFolder

HOSTILE = "</script><img src=x onerror=alert(1)>{}"  # what a model or a file may say
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
PLACES = [("Lyon", "France", 45.76, 4.84), ("Lima", "Peru", -12.05, -77.04), ("Cairo", "Egypt", 30.04, 31.24)]


class GrowingRun:
    """A run of made-up answers: three pictures with four answers each a step, nearer with each."""

    def __init__(self, folder: Path, max_steps: int = 10, said: str = "City: {}"):
        self.path, self.said, self.steps = folder, said, 0
        config = {"command": "train", "model_name": "geospot/tiny", "max_steps": max_steps, "data": "<b>made</b>"}
        self.run = RunFolder.create(folder, config, command=["geospot", "train"])

    def step(self) -> int:
        """Log one."""
        step, km = self.steps, 900.0 / (self.steps + 1)
        rows = [
            {"split": "train", "sample_key": f"key-{g}", "group_index": g, "member_index": m,
             "text": self.said.format(city), "true_lat": lat, "true_lon": lon, "true_city": city,
             "true_country": country,
             "lat": None if m == 3 else lat + km / 111 * (m + 1) / 4, "lon": None if m == 3 else lon,
             "error": "no latitude" if m == 3 else None, "distance_km": None if m == 3 else km * (m + 1) / 4,
             "reward": 0.9 - m / 4, "parts": {"coordinate": 0.5, "country": 1.0}, "advantage": 0.3 - m / 5,
             "n_tokens": 9}
            for g, (city, country, lat, lon) in enumerate(PLACES) for m in range(4)
        ]  # fmt: skip
        self.run.add_rollouts(step, rows)
        evaluated = {"eval/median_km": km, "eval/median_km_low": km / 2, "eval/median_km_high": km * 2}
        self.run.log(step, {"reward": 0.1 * step, "tau_km": 2000.0 / (step + 1), "time/step": 2.0, **evaluated})
        self.steps += 1
        return step

    def back_to(self, step: int) -> None:
        """As a run that was killed and resumed."""
        self.run.rewind(step)
        self.steps = step


@contextlib.contextmanager
def serving(app: Any, port: int = 0, closing: Callable[[], None] | None = None) -> Generator[str]:
    """The address of an application that is served while the block runs."""
    from geospot.engine.serve.listening import listener

    server = listener(app, "127.0.0.1", port, grace_s=30 if closing else 0, closing=closing)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    until(lambda: server.started or not thread.is_alive())
    assert server.started
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def get(address: str, **headers: str) -> tuple[int, str, Any]:
    """(status, body, headers) of a GET."""
    return _request(urllib.request.Request(address, headers=headers))


def post(address: str, value: object, **headers: str) -> tuple[int, Any]:
    """(status, JSON) of a POST of JSON, or of bytes."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    status, text, _ = _request(urllib.request.Request(address, data=body, headers=headers, method="POST"))
    return status, json.loads(text)


def _request(request: urllib.request.Request) -> tuple[int, str, Any]:
    opener = urllib.request.build_opener(_Stay)
    try:
        with opener.open(request, timeout=600) as answer:
            return answer.status, answer.read().decode("utf-8", "replace"), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("utf-8", "replace"), error.headers


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        return None


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser for the tests of a module: as long as it is there `asyncio.run` is refused in this thread."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium on this machine")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens addresses in windows of their own. A page that logs an error or asks another host fails the test.

    Each page's `responses` are all that came to the browser.
    """
    pages: list[Any] = []

    def open_(address: str, *, width: int = 1280, height: int = 900, dark: bool = False, touch: bool = False) -> Any:
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", has_touch=touch,
        )  # fmt: skip
        context.set_default_timeout(120_000)
        page = context.new_page()
        page.trouble, page.responses = [], []
        page.on("response", lambda response: page.responses.append(response))
        page.on("pageerror", lambda error: page.trouble.append(str(error)))
        page.on("console", lambda said: page.trouble.append(said.text) if is_trouble(said) else None)
        page.on("request", lambda r: page.trouble.append(r.url) if not r.url.startswith(_OWN) else None)
        pages.append(page)
        page.goto(address)
        return page

    yield open_
    for page in pages:
        page.context.close()
        assert page.trouble == [], page.trouble


@pytest.fixture
def in_browser(open_page: Callable[..., Any]) -> Callable[..., Any]:
    """What the body of an async function returns in a page of a file. The page's own policy stays in force."""

    def run(path: Path, script: str, *, width: int = 1280, dark: bool = False) -> Any:
        page = open_page(path.resolve().as_uri(), width=width, dark=dark)
        return page.evaluate(f"async () => {{ {script} }}")

    return run


def is_trouble(said: Any) -> bool:
    """Whether a page has logged an error; that its server was stopped is none."""
    return said.type == "error" and not any(sign in said.text for sign in ("INCOMPLETE_CHUNKED", "CONNECTION_"))


_OWN = ("http://127.0.0.1:", "data:", "blob:", "file:")
