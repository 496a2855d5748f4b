"""The hub on loopback, for tests and benchmarks: listings, signed redirects to a second host, and faults on order.

    with serve({"a.tar": data}, faults=[Fault("drop", "a.tar", at=1000)]) as server:
        read(server.url("a.tar"))         # as the hub resolves it: 302 to a signed URL on another port
        read(server.plain("a.tar"))       # the same file on a plain web server
        server.delivered, server.log      # which faults were met, which requests were made

It speaks the API as huggingface_hub uses it: `/api/datasets/...` (info, tree, paths-info, auth-check), and
`/datasets/.../resolve/...`. Range, If-Range and ETag are as RFC 9110 has them, but for the faults.
"""

import hashlib
import hmac
import json
import os
import random
import re
import select
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

CUTS = ("drop", "reset", "stall", "change")  # end a response at a byte
KINDS = ("drop", "stall", "slow", "429", "503", "500", "too long", "too short", "expired", "ignore range")
SHAPES = {"too long", "too short", "ignore range", "no length"}  # of a whole response
SLOW_BYTES, SLOW_S = 20, 0.005


@dataclass
class Fault:
    """Something that goes wrong `times` times on files that match `path`.

    kind: an HTTP status ("503"); "drop" (the connection ends in good order), "reset", "stall", "slow" (drips for 0.1 s)
    or "change" (it ends, and the file is another one from then on) at the byte `at`; "too long" or "too short" for
    Content-Length, "ignore range" (200 and all of it), "no length" (chunked) for a request that starts at or behind
    `at`, or several of these joined by "+"; "expired" for a signed URL that is too old from the start.
    side: "data" (the bytes), "resolve", "tree" or "info" (statuses, "drop" and "stall" only).
    retry_after: the header that goes with a status.
    """

    kind: str
    path: str = "*"
    at: int = 0
    side: str = "data"
    times: int = 1
    retry_after: str | None = None
    stall_s: float = 60.0
    left: int = field(init=False, compare=False)

    def __post_init__(self):
        self.left = self.times
        if self.kind == "expired":
            self.side = "resolve"


@dataclass(frozen=True)
class Request:
    """One request as the server saw it."""

    side: str  # data, resolve, tree, info, paths-info, auth-check
    path: str
    headers: Mapping[str, str]
    query: str = ""
    connection: int = 0  # the client's port

    @property
    def range(self) -> str | None:
        """The Range header."""
        return self.headers.get("range")


class _Stored:
    """A file: bytes, a path on the disk, or a size (of zeros)."""

    def __init__(self, content: bytes | int | Path):
        self.content = content
        self.size = content if isinstance(content, int) else self._length(content)
        self.version = 0

    @staticmethod
    def _length(content: bytes | Path) -> int:
        return content.stat().st_size if isinstance(content, Path) else len(content)

    def etag(self, name: str) -> str:
        return hashlib.sha1(f"{name} {self.size} {self.version}".encode()).hexdigest()

    def send(self, connection: socket.socket, start: int, end: int) -> None:
        """Bytes [start, end)."""
        if isinstance(self.content, Path):
            with open(self.content, "rb") as file:
                connection.sendfile(file, start, end - start)
        elif isinstance(self.content, int):
            connection.sendall(bytes(end - start))
        else:
            part = memoryview(self.content)[start:end]
            connection.sendall(bytes(b ^ 0xFF for b in part) if self.version else part)


class HubServer:
    """What `serve` gives: addresses, the log and the faults. Lists grow while requests come in."""

    def __init__(
        self,
        content: Mapping[str, bytes | int | Path] | str | Path,
        *,
        faults: Iterable[Fault] = (),
        repo: str = "owner/name",
        tokens: Iterable[str] = (),
        gated: bool = False,
        page_size: int = 1000,
        url_life_s: float = 3600,
    ):
        if not isinstance(content, Mapping):
            root = Path(content)
            content = {str(p.relative_to(root)): p for p in sorted(root.rglob("*")) if p.is_file()}
        self.files = {name: _Stored(stored) for name, stored in content.items()}
        self.faults, self.delivered, self.log = list(faults), [], []
        self.leaks: list[Request] = []  # requests for data that carried a token
        self.repo, self.tokens, self.gated, self.page_size = repo, set(tokens), gated, page_size
        self.url_life_s = url_life_s
        self.commit = hashlib.sha1("\n".join(self.files).encode()).hexdigest()
        self.revisions = {"main", "v1", self.commit}
        self.closing = threading.Event()
        self._lock, self._key = threading.Lock(), os.urandom(16)
        self._servers = [_Server(("127.0.0.1", 0), handler) for handler in (_Api, _Data)]
        for server in self._servers:
            server.hub = self
        self.endpoint, self.cdn = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)

    def url(self, name: str) -> str:
        """A file by its hub address."""
        return f"{self.endpoint}/datasets/{self.repo}/resolve/{self.commit}/{quote(name)}"

    def plain(self, name: str) -> str:
        """A file on a plain web server."""
        return f"{self.cdn}/plain/{quote(name)}"

    def requests(self, side: str) -> list[Request]:
        """The log of one side."""
        return [request for request in self.log if request.side == side]

    def start(self) -> None:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.closing.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def sign(self, name: str, life_s: float) -> str:
        expires = f"{time.time() + life_s:.3f}"
        return f"Expires={expires}&Signature={self._signature(name, expires)}"

    def is_signed(self, name: str, query: str) -> bool:
        given = {key: values[0] for key, values in parse_qs(query).items()}
        expires = given.get("Expires", "0")
        signature = self._signature(name, expires)
        return hmac.compare_digest(signature, given.get("Signature", "")) and float(expires) > time.time()

    def _signature(self, name: str, expires: str) -> str:
        return hmac.new(self._key, f"{name} {expires}".encode(), "sha256").hexdigest()

    def take(self, side: str, path: str, wanted) -> Fault | None:
        """The next fault for this request that `wanted(fault)` accepts; it counts as delivered."""
        with self._lock:
            for fault in self.faults:
                if fault.left and fault.side == side and fnmatchcase(path, fault.path) and wanted(fault):
                    fault.left -= 1
                    self.delivered.append(fault)
                    return fault
        return None

    def cuts(self, path: str, start: int, end: int) -> int:
        """The first byte in [start, end) at which something happens to the body, or `end`."""
        with self._lock:
            pending = [f for f in self.faults if f.left and f.side == "data" and f.kind in (*CUTS, "slow")]
        return min((f.at for f in pending if start <= f.at < end and fnmatchcase(path, f.path)), default=end)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    hub: HubServer

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):  # a client that went away is no error here
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def hub(self) -> HubServer:
        return self.server.hub

    def log_message(self, *args):
        pass

    def note(self, side: str, path: str) -> Request:
        headers = {key.lower(): value for key, value in self.headers.items()}
        request = Request(side, path, headers, urlsplit(self.path).query, self.client_address[1])
        self.hub.log.append(request)
        return request

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_json(self, data: object, headers: Mapping[str, str] | None = None) -> None:
        self.answer(200, json.dumps(data).encode(), {"Content-Type": "application/json", **(headers or {})})

    def refuse(self, status: int, code: str = "", message: str = "", headers: Mapping[str, str] | None = None) -> None:
        told = {"X-Error-Code": code, "X-Error-Message": message} if code else {}
        self.answer(status, message.encode(), told | dict(headers or {}))

    def fails(self, side: str, path: str, start: int = 0) -> bool:
        """Deliver a status, or on the side of the API a drop or stall; whether the request is done with."""
        at_once = () if side == "data" else CUTS
        fault = self.hub.take(side, path, lambda f: (f.kind.isdigit() or f.kind in at_once) and start >= f.at)
        if fault is None:
            return False
        if fault.kind.isdigit():
            after = {"Retry-After": fault.retry_after} if fault.retry_after is not None else {}
            self.refuse(int(fault.kind), headers=after)
        else:
            self.cut(fault)
        return True

    def cut(self, fault: Fault) -> None:
        self.close_connection = True
        if fault.kind == "stall":
            until = time.monotonic() + fault.stall_s
            while time.monotonic() < until and not self.hub.closing.is_set():
                if select.select([self.connection], [], [], 0.05)[0]:
                    return  # the client has given up
        elif fault.kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()


class _Api(_Handler):
    """What huggingface.co answers itself."""

    def do_HEAD(self):
        self.do_GET()

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        self.body = self.rfile.read(length)
        self.do_GET()

    def do_GET(self):
        path, hub = unquote(urlsplit(self.path).path), self.hub
        if not path.startswith((f"/api/datasets/{hub.repo}", f"/datasets/{hub.repo}/")):
            # The hub does not tell strangers whether a repository exists.
            self.refuse(404 if self.has_token() else 401, "RepoNotFound", "Repository not found")
        elif path.startswith("/datasets/"):
            self.resolve(path.removeprefix(f"/datasets/{hub.repo}/resolve/"))
        else:
            what, _, rest = path.removeprefix(f"/api/datasets/{hub.repo}").lstrip("/").partition("/")
            side = {"": "info", "revision": "info"}.get(what, what)
            self.note(side, rest)
            if self.fails(side, rest):
                return
            if hub.tokens and not hub.gated and not self.has_token():
                self.refuse(401, "RepoNotFound", "Invalid username or password.")
            else:
                getattr(self, side.replace("-", "_"), self.unknown)(rest)

    def unknown(self, rest: str):
        self.refuse(404, message="no such page")

    def has_token(self) -> bool:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") in self.hub.tokens

    def may_read(self) -> bool:
        return self.has_token() or not (self.hub.tokens or self.hub.gated)

    def refuse_reader(self):
        if self.hub.gated:
            message = "Access to dataset is restricted. You must be authenticated to access it."
            self.refuse(403 if "Authorization" in self.headers else 401, "GatedRepo", message)
        else:
            self.refuse(401, "RepoNotFound", "Invalid username or password.")

    def known(self, revision: str) -> bool:
        if revision in self.hub.revisions:
            return True
        self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return False

    def info(self, revision: str):
        hub = self.hub
        if self.known(revision or "main"):
            told = {"_id": "1", "id": hub.repo, "sha": hub.commit, "private": bool(hub.tokens) and not hub.gated}
            self.answer_json(told | {"gated": "auto" if hub.gated else False, "tags": []})

    def auth_check(self, rest: str):
        self.answer_json({}) if self.may_read() else self.refuse_reader()

    def entry(self, name: str) -> dict:
        stored = self.hub.files[name]
        etag = stored.etag(name)
        lfs = {"oid": etag * 2, "size": stored.size, "pointerSize": 134}
        return {"type": "file", "oid": etag, "size": stored.size, "path": name, "lfs": lfs}

    def tree(self, rest: str):
        revision, _, folder = rest.partition("/")
        if not self.known(revision):
            return
        query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        prefix, entries = f"{folder}/" if folder else "", {}
        for name in self.hub.files:
            if name.startswith(prefix):
                parts = name[len(prefix) :].split("/")
                for i in range(1, len(parts) if query.get("recursive") == "true" else min(2, len(parts))):
                    path = prefix + "/".join(parts[:i])
                    entries[path] = {"type": "directory", "oid": "0", "size": 0, "path": path}
                if len(parts) == 1 or query.get("recursive") == "true":
                    entries[name] = self.entry(name)
        if not entries:
            self.refuse(404, "EntryNotFound", f"{folder} does not exist on {revision}")
            return
        entries = [entries[path] for path in sorted(entries)]
        start = int(query.get("cursor", 0))
        stop = start + self.hub.page_size
        more = {}
        if stop < len(entries):
            where = f"{self.hub.endpoint}{urlsplit(self.path).path}?recursive={query.get('recursive')}&cursor={stop}"
            more = {"Link": f'<{where}>; rel="next"'}
        self.answer_json(entries[start:stop], more)

    def paths_info(self, revision: str):
        if self.known(revision):
            told = []
            for path in parse_qs(self.body.decode()).get("paths", []):
                if path in self.hub.files:
                    told.append(self.entry(path))
                elif any(name.startswith(f"{path}/") for name in self.hub.files):
                    told.append({"type": "directory", "oid": "0", "size": 0, "path": path})
            self.answer_json(told)

    def resolve(self, rest: str):
        revision, _, name = rest.partition("/")
        self.note("resolve", name)
        if self.fails("resolve", name):
            return
        if not self.may_read():
            self.refuse_reader()
        elif self.known(revision):
            stored = self.hub.files.get(name)
            if stored is None:
                self.refuse(404, "EntryNotFound", "Entry not found")
                return
            expired = self.hub.take("resolve", name, lambda f: f.kind == "expired")
            signed = self.hub.sign(name, -1 if expired else self.hub.url_life_s)
            told = {"X-Repo-Commit": self.hub.commit, "X-Linked-Size": str(stored.size)}
            told["X-Linked-Etag"] = f'"{stored.etag(name)}"'
            self.answer(302, headers=told | {"Location": f"{self.hub.cdn}/blobs/{quote(name)}?{signed}"})


class _Data(_Handler):
    """The host where the bytes are, which must never see a token."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        parts = urlsplit(self.path)
        _, folder, name = unquote(parts.path).split("/", 2)
        request = self.note("data", name)
        if "authorization" in request.headers:
            self.hub.leaks.append(request)
        stored = self.hub.files.get(name)
        if folder != "plain" and not self.hub.is_signed(name, parts.query):
            self.refuse(403, message="Request has expired")
        elif stored is None:
            self.refuse(404, message="Not Found")
        else:
            self.send_file(name, stored, request)

    def send_file(self, name: str, stored: _Stored, request: Request) -> None:
        etag = f'"{stored.etag(name)}"'
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.range or "")
        if asked and request.headers.get("if-range", etag) != etag:
            asked = None
        start, end = 0, stored.size
        if asked:
            start = int(asked[1] or max(0, end - int(asked[2] or 0)))
            end = min(end, int(asked[2]) + 1) if asked[1] and asked[2] else end
        if self.fails("data", name, start):
            return
        if asked and start >= stored.size:
            self.refuse(416, headers={"Content-Range": f"bytes */{stored.size}"})
            return
        fault = self.hub.take("data", name, lambda f: not SHAPES.isdisjoint(f.kind.split("+")) and start >= f.at)
        shapes = set(fault.kind.split("+")) if fault else set()
        if "ignore range" in shapes:
            asked, start, end = None, 0, stored.size
        length = end - start
        length += 1000 if "too long" in shapes else -min(1000, length) if "too short" in shapes else 0
        self.send_response(206 if asked else 200)
        self.send_header("ETag", etag)
        self.send_header("Last-Modified", formatdate(1e9 + stored.version, usegmt=True))
        self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{stored.size}")
        chunked = "no length" in shapes
        self.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(length))))
        if shapes & {"too long", "too short"}:
            # And closes it: what is sent beyond the length would be taken for the answer to the next request.
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.send_body(name, stored, start, end, chunked)

    def send_body(self, name: str, stored: _Stored, start: int, end: int, chunked: bool) -> None:
        while start < end:
            stop = self.hub.cuts(name, start, end)
            if chunked and stop > start:
                self.wfile.write(f"{stop - start:x}\r\n".encode())
            stored.send(self.connection, start, stop)
            if chunked and stop > start:
                self.wfile.write(b"\r\n")
            start = stop
            if stop < end:
                fault = self.hub.take("data", name, lambda f, at=stop: f.at == at and f.kind in (*CUTS, "slow"))
                if fault and fault.kind == "slow" and not chunked:
                    start = min(stop + SLOW_BYTES, self.hub.cuts(name, stop, end))
                    for i in range(stop, start):
                        stored.send(self.connection, i, i + 1)
                        time.sleep(SLOW_S)
                elif fault and fault.kind != "slow":
                    stored.version += fault.kind == "change"
                    self.cut(fault)
                    return
        if chunked:
            self.wfile.write(b"0\r\n\r\n")


@contextmanager
def serve(content: Mapping[str, bytes | int | Path] | str | Path, **options) -> Iterator[HubServer]:
    """A server of a folder, or of names -> bytes, paths or sizes, in threads of this process. Options: HubServer's."""
    server = HubServer(content, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def use_hub(monkeypatch, server: HubServer, token: str | None = None) -> None:
    """Point the installed huggingface_hub at the server, as HF_ENDPOINT would have at its import."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
    template = f"{server.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    else:
        monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", token is None)  # nor that of a login here


def plan_faults(sizes: Mapping[str, int], n: int, seed: int, kinds: Iterable[str] = KINDS) -> list[Fault]:
    """`n` passing faults, as many of each kind as can be, spread over files so that one read of each file meets all.

    At most four go to one file, so that no policy of the usual patience gives up.
    """
    rng, kinds = random.Random(seed), list(kinds)
    names = rng.sample(sorted(sizes), len(sizes))
    load, shaped = dict.fromkeys(names, 0), set()
    once = SHAPES | {"expired"}  # a response has but one shape, so a second might be left over; renewals are few
    faults: list[Fault] = []
    while len(faults) < n:
        kind = kinds.pop(0)
        kinds.append(kind)
        cost = 2 if kind == "ignore range" else 1  # only the request after a break has a range to ignore
        room = [name for name in names if load[name] + cost <= 4 and not (kind in once and name in shaped)]
        if not room or len(faults) + cost > n:
            kind, cost = "drop", 1
            room = [name for name in names if load[name] < 4]
        if not room:
            raise ValueError(f"{n} faults are too many for {len(sizes)} files")
        name = min(room, key=load.get)
        load[name] += cost
        at = rng.randrange(1, max(2, sizes[name] - 1))
        if kind in once:
            shaped.add(name)
        if kind == "ignore range":
            faults.append(Fault("drop", name, at=at))
        inside = at if kind in (*CUTS, "slow") else int(kind == "ignore range")
        faults.append(Fault(kind, name, at=inside, retry_after="0" if kind == "429" else None))
    return faults


@contextmanager
def serve_apart(content: Mapping[str, bytes | int | Path] | str | Path, **options) -> Iterator["ServerApart"]:
    """As `serve`, in a process of its own, so that a benchmark's time is not the server's."""
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_serve_apart, args=(theirs, content, options), daemon=True)
    process.start()
    try:
        yield ServerApart(ours, *ours.recv())
    finally:
        ours.send(None)
        process.join()


class ServerApart:
    """A server in another process."""

    def __init__(self, pipe, endpoint: str, cdn: str, repo: str, commit: str):
        self._pipe, self.endpoint, self.cdn, self.repo, self.commit = pipe, endpoint, cdn, repo, commit

    url, plain, requests = HubServer.url, HubServer.plain, HubServer.requests

    def _ask(self, name: str):
        self._pipe.send(name)
        return self._pipe.recv()

    @property
    def delivered(self) -> list[Fault]:
        return self._ask("delivered")

    @property
    def log(self) -> list[Request]:
        return self._ask("log")

    @property
    def leaks(self) -> list[Request]:
        return self._ask("leaks")


def _serve_apart(pipe, content, options) -> None:
    with serve(content, **options) as server:
        pipe.send((server.endpoint, server.cdn, server.repo, server.commit))
        while asked := pipe.recv():
            pipe.send(list(getattr(server, asked)))
