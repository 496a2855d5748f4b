"""Photos behind addresses: within a size and a time, from the public web alone, and nothing goes along."""

import contextlib
import io
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from geospot.asking.download import PhotoError, download, is_address, is_public, valid_address
from geospot.asking.photos import clean, find_photos, read_photos

PUBLIC = "93.184.215.14"


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG")
    return out.getvalue()


class Handler(BaseHTTPRequestHandler):
    """`/to/URL` redirects; the others are faults by name."""

    def do_GET(self) -> None:
        self.server.seen.append((self.path, dict(self.headers)))
        path = self.path.partition("?")[0]
        if path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", path.removeprefix("/to/"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if path == "/stall":
            self.server.over.wait(600)
            return
        if path == "/slow-head":
            self.drip(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 12_000)
            return
        body = (
            b"x" * 5000 if path == "/large" else b"<!DOCTYPE html><title>Log in</title>" if path == "/page" else png()
        )
        self.send_response(404 if path == "/gone" else 200)
        if path != "/endless":
            self.send_header("Content-Length", str(len(body) + (path == "/cut")))
        self.end_headers()
        if path in ("/slow", "/endless"):
            self.drip(body[:-1]) if path == "/slow" else self.drip(b"x" * 100_000, 0.002)
        else:
            self.wfile.write(body)

    def drip(self, data: bytes, pause_s: float = 0.05) -> None:
        with contextlib.suppress(OSError):
            for byte in data:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                if self.server.over.wait(pause_s):
                    return

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[tuple[str, list]]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads, server.seen, server.over = True, [], threading.Event()
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", server.seen
        server.over.set()
        server.shutdown()


@pytest.fixture
def server() -> Iterator[tuple[str, list]]:
    with serving() as both:
        yield both


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_a_picture_and_what_is_wrong_with_others(server):
    at, _ = server
    assert clean("p", download(f"{at}/p.png", allow_private=True)).picture
    for path, says in {"gone": "404", "cut": "cut off", "to/file:///etc/passwd": "not allowed|not a valid"}.items():
        with pytest.raises(PhotoError, match=says):
            download(f"{at}/{path}", allow_private=True)
    for path in ("large", "endless"):
        with pytest.raises(PhotoError, match="larger than"):
            download(f"{at}/{path}", max_bytes=100, allow_private=True)
    with pytest.raises(PhotoError, match="timed out"):
        download(f"{at}/stall", timeout_s=0.2, allow_private=True)
    gone, page = read_photos([f"{at}/gone", f"{at}/page"], None, allow_private=True)
    assert str(gone).startswith(f"{at}/gone: cannot be downloaded: 404")
    assert "is an HTML page" in str(page)


@pytest.mark.parametrize("path", ["slow", "slow-head", "stall", "endless"])
def test_the_whole_time_is_limited_however_often_a_byte_comes(server, path):
    started = time.monotonic()
    with pytest.raises(PhotoError, match=r"not there after 0\.2 s"):
        download(f"{server[0]}/{path}", total_s=0.2, allow_private=True)
    assert time.monotonic() - started < 200  # most of these pages take 600 s


def test_a_resolver_that_hangs_is_left_alone(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(30) and [])
    with pytest.raises(PhotoError, match="not there after"):
        download("http://example.com/a.jpg", total_s=0.3)
    over.set()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]"]
)
def test_this_machine_is_not_the_web(server, host):
    at, seen = server
    port = at.rpartition(":")[2]
    with pytest.raises(PhotoError, match=r"not on the public internet|cannot be downloaded"):
        download(f"http://{host}:{port}/p.png")
    assert not seen


@pytest.mark.parametrize(
    ("address", "public"),
    [
        *[(PUBLIC, True), ("8.8.8.8", True), ("2606:4700::1111", True), ("64:ff9b::808:808", True)],
        *[("10.1.2.3", False), ("172.16.0.1", False), ("192.168.1.1", False), ("169.254.169.254", False)],
        *[("100.64.0.1", False), ("127.1.2.3", False), ("0.0.0.0", False), ("224.0.0.1", False), ("240.0.0.1", False)],
        *[("255.255.255.255", False), ("::1", False), ("::", False), ("fe80::1%eth0", False), ("fc00::1", False)],
        *[("::ffff:10.0.0.1", False), ("::127.0.0.1", False), ("64:ff9b::7f00:1", False), ("2002:7f00:1::", False)],
        *[("ff02::1", False), ("fec0::1", False)],
    ],
)
def test_which_addresses_are_public(address, public):
    assert is_public(address) is public


def test_a_name_of_which_one_address_is_private_is_refused_and_none_is_looked_up_twice(monkeypatch, server):
    at, seen = server
    port, asked = int(at.rpartition(":")[2]), []
    answers = [[PUBLIC, "127.0.0.1"], ["127.0.0.1"]]  # a name that rebinds: public when checked, private when used

    def resolve(host: str, port: int, *_: object, **__: object) -> list:
        if host.replace(".", "").isdecimal():
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in answers[len(asked) - 1]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(PhotoError, match=r"photos\.example \(127\.0\.0\.1\) is not on the public internet"):
        download(f"http://photos.example:{port}/p.png")
    assert not seen
    assert download(f"http://photos.example:{port}/p.png", allow_private=True) == png()
    assert asked == ["photos.example"] * 2


def test_a_redirect_to_this_machine_is_refused_where_the_first_address_was_public(monkeypatch, server):
    """The first host counts as public here, though it is a loopback server."""
    at, seen = server
    with serving() as (elsewhere, secret):
        port = at.rpartition(":")[2]
        resolve, connect = socket.getaddrinfo, socket.create_connection

        def resolved(host: str, *args: object, **kwargs: object) -> list:
            return resolve("127.0.0.9" if host == "photos.example" else host, *args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", resolved)
        monkeypatch.setattr(socket, "create_connection", lambda place, *args: connect(("127.0.0.1", place[1]), *args))
        monkeypatch.setattr("geospot.asking.download.is_public", lambda ip: ip == "127.0.0.9")
        for target in (f"{elsewhere}/p.png", elsewhere.replace("127.0.0.1", "localhost"), "http://169.254.169.254/x"):
            with pytest.raises(PhotoError, match="not on the public internet"):
                download(f"http://photos.example:{port}/to/{target}")
        assert len(seen) == 3
        assert not secret


def test_a_redirect_carries_nothing_to_another_host(server):
    at, first = server
    with serving() as (elsewhere, second):
        assert download(f"{at}/to/{elsewhere}/p.png?token=SECRET", allow_private=True) == png()
    assert "SECRET" in first[0][0]
    [(path, headers)] = second
    assert path == "/p.png"
    assert not {"authorization", "cookie", "referer"} & {name.lower() for name in headers}
    assert "SECRET" not in str(headers)


def test_redirects_end(server):
    at, _ = server
    loop = f"{at}/to/{at}/loop"
    assert download(loop, allow_private=True)  # one redirect
    with pytest.raises(PhotoError, match="cannot be downloaded") as refused:
        download(f"{at}/to//to//to//to//to//to//to//to//to/x", allow_private=True)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "bad",
    [
        *["http://[::1", "http://", "https:///a.jpg", "http://host:99999/a.jpg", "http://host:port/a.jpg"],
        *["http://ho st/a.jpg", "http://a..b/c.jpg", "http://\u2100.com/a.jpg", "http://" + "a" * 70],
        *["http://name:password@example.com/a.jpg", "HTTP://\x00/a.jpg", "http://a/\udcff.jpg"],
    ],
)
def test_a_bad_address_is_one_sentence(bad, tmp_path):
    assert is_address(bad)
    with pytest.raises(PhotoError, match=r"is not a valid web address|has a user name"):
        download(bad)
    good = tmp_path / "good.png"
    good.write_bytes(png())
    error, photo = read_photos(find_photos([bad, str(good)]), None)
    assert isinstance(error, PhotoError)
    assert "\n" not in str(error)
    assert photo.picture


def test_addresses_of_people_who_type(server):
    at, seen = server
    assert download(f"{at}/Übersicht 1.jpg?größe=1#top", allow_private=True) == png()
    assert seen[0][0] == "/%C3%9Cbersicht%201.jpg?gr%C3%B6%C3%9Fe=1"
    assert valid_address("https://bücher.example/a%20b") == "https://xn--bcher-kva.example/a%20b"
    assert not is_address(str(Path("http") / "a.jpg"))
