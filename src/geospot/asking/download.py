"""A photo behind a web address: within a size and a time, from the public web alone, and nothing goes along with it."""

import http.client
import ipaddress
import re
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import IO, Any
from urllib.error import URLError
from urllib.parse import quote, urlsplit, urlunsplit
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from geospot._version import __version__
from geospot.errors import DataError
from geospot.net.loopback import in_url

MAX_BYTES = 50 * 1024 * 1024
TIMEOUT_S = 20.0  # without an answer
TOTAL_S = 120.0  # for everything: names, redirects, the last byte
_HEADERS = {"User-Agent": f"geospot/{__version__}", "Accept": "image/*"}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # IPv4 behind IPv6 (RFC 6052)
_IN_URL = "!#$%&'()*+,-./:;=?@[]_~"


class PhotoError(DataError, ValueError):
    """A photo cannot be used; the message says why."""


def is_address(path: str) -> bool:
    """Whether it is a web address rather than a file."""
    return path.lower().startswith(("http://", "https://"))


def download(
    address: str,
    *,
    max_bytes: int = MAX_BYTES,
    timeout_s: float = TIMEOUT_S,
    total_s: float = TOTAL_S,
    allow_private: bool = False,
) -> bytes:
    """The bytes behind an http(s) address; PhotoError where it fails, stalls, is too slow or too large.

    Hosts that are not on the public internet, redirects to them included, are refused unless `allow_private`.
    """
    url, fetch = valid_address(address), _Fetch(timeout_s, allow_private)
    result: Future[bytes] = Future()
    # In a thread of its own: neither a resolver nor a server that sends a byte now and then can be waited for so long.
    threading.Thread(target=_settle, args=(result, partial(fetch, url, max_bytes)), daemon=True).start()
    try:
        return result.result(total_s)
    except TimeoutError:
        raise PhotoError(f"not there after {total_s:g} s") from None
    finally:
        fetch.stop()


def valid_address(address: str) -> str:
    """The address as it goes over the wire; PhotoError where it is none."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
        name = host if ":" in host else host.encode("idna").decode("ascii")
        path, query = quote(parts.path, _IN_URL), quote(parts.query, _IN_URL)
    except ValueError as error:  # UnicodeError is one
        raise PhotoError(f"is not a valid web address ({error})") from None
    if not is_address(address) or not re.fullmatch(r"[\w.:%-]+", name):
        raise PhotoError("is not a valid web address (http://HOST/PATH or https://HOST/PATH)")
    if parts.username is not None:
        raise PhotoError("has a user name or a password in its address, which is not supported; download it first")
    place = in_url(name) + ("" if port is None else f":{port}")
    return urlunsplit((parts.scheme, place, path, query, ""))


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, whatever other address it carries inside."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if ip.version == 6:
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner:
            return is_public(str(inner))
        if ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _settle(result: Future, work: Callable[[], bytes]) -> None:
    try:
        result.set_result(work())
    except BaseException as error:
        result.set_exception(error)


class _Fetch:
    """One download, which another thread may stop."""

    def __init__(self, timeout_s: float, allow_private: bool):
        self.timeout_s, self.allow_private = timeout_s, allow_private
        self._stopped = threading.Event()
        self._sockets: list[socket.socket] = []  # a second handle of each connection, to end it by
        self._lock = threading.Lock()

    def __call__(self, address: str, max_bytes: int) -> bytes:
        opener = build_opener(_Redirects, _Http(self), _Https(self))
        try:
            with opener.open(Request(address, headers=_HEADERS), timeout=self.timeout_s) as answer:
                return self._body(answer, max_bytes)
        except PhotoError:
            raise
        except URLError as error:
            said = f"{getattr(error, 'code', '') or ''} {error.reason}"
        except (OSError, ValueError) as error:
            said = str(error)
        except Exception as error:  # http.client has exceptions of its own
            said = f"{type(error).__name__} {error}"
        raise PhotoError("cannot be downloaded: " + " ".join(said.split()))

    def _body(self, answer: http.client.HTTPResponse, max_bytes: int) -> bytes:
        declared = answer.headers.get("Content-Length", "")
        if declared.isdigit() and int(declared) > max_bytes:
            raise PhotoError(f"larger than {max_bytes / 2**20:.0f} MiB")
        parts, size = [], 0
        while not self._stopped.is_set() and (part := answer.read1(1 << 16)):
            parts.append(part)
            size += len(part)
            if size > max_bytes:
                raise PhotoError(f"larger than {max_bytes / 2**20:.0f} MiB")
        if declared.isdigit() and size < int(declared):
            raise PhotoError(f"cut off after {size:,} of {int(declared):,} bytes")
        return b"".join(parts)

    def addresses(self, url: str) -> list[tuple[str, int]]:
        """Where a host is, each checked; PhotoError where one of them is not on the public internet."""
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
        hosts = list(dict.fromkeys(str(place[0]) for *_, place in found))
        private = [host for host in hosts if not is_public(host)]
        if private and not self.allow_private:
            where = "" if private[0] == parts.hostname else f" ({private[0]})"
            raise PhotoError(f"{parts.hostname}{where} is not on the public internet; allow_private=true takes it")
        return [(host, port) for host in hosts]

    def connect(self, places: list[tuple[str, int]], *_: object) -> socket.socket:
        """To the first of the checked addresses that answers; a name is never looked up a second time."""
        for i, place in enumerate(places):
            try:
                connection = socket.create_connection(place, self.timeout_s)
                break
            except OSError:
                if i == len(places) - 1:
                    raise
        else:
            raise OSError("no address")
        with self._lock:
            self._sockets.append(connection.dup())
        if self._stopped.is_set():
            self.stop()
        return connection

    def stop(self) -> None:
        """End every connection."""
        self._stopped.set()
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for one in sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


class _Redirects(HTTPRedirectHandler):
    """Follows a few redirects to other web addresses; of the first request nothing is carried on."""

    max_redirections = 5

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> Request:
        try:
            return Request(valid_address(newurl), headers=_HEADERS, origin_req_host=req.origin_req_host)
        except PhotoError as error:
            raise PhotoError(f"is redirected to {newurl[:200]!r}, which {error}") from None


class _Checked:
    """Opens http(s) addresses on hosts that were looked up and checked before."""

    def __init__(self, fetch: _Fetch):
        super().__init__()
        self._fetch = fetch

    def _connection(self, kind: type, request: Request) -> Callable[..., http.client.HTTPConnection]:
        target = urlsplit(request.full_url)
        proxied = request.host != target.netloc  # then the proxy looks the name up, and is where the connection goes
        try:
            places = self._fetch.addresses(request.full_url)
        except OSError:
            if not proxied:
                raise
        if proxied:
            proxy = urlsplit(f"//{request.host}")
            places = [(proxy.hostname or "", proxy.port or 80)]

        def make(host: str, **options: Any) -> http.client.HTTPConnection:
            connection = kind(host, **options)
            connection._create_connection = partial(self._fetch.connect, places)
            return connection

        return make


class _Http(_Checked, HTTPHandler):
    def http_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection(http.client.HTTPConnection, req), req)


class _Https(_Checked, HTTPSHandler):
    def https_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection(http.client.HTTPSConnection, req), req)
