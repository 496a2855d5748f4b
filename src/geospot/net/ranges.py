"""The bytes of a file on a web server, by range requests: what the network breaks is taken up again where it broke."""

import atexit
import os
import re
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress

import httpx2

from geospot.net.retry import (
    PATIENT,
    Attempts,
    FileChanged,
    RemoteError,
    RetryPolicy,
    asked_wait_s,
    is_passing,
    without_secrets,
)

RENEWALS = 2  # refusals in a row at the end of a redirect, which the first URL may renew
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")

_client: httpx2.Client | None = None
_client_lock = threading.Lock()
ORPHANS: list[object] = []  # what a forked child has of its parent: to close it would touch the parent's locks


def _forget_client() -> None:
    """In a forked child: the connections are the parent's."""
    global _client, _client_lock
    ORPHANS.append(_client)
    _client, _client_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_client)


def shared_client() -> httpx2.Client:
    """The client of this process, for all threads: connections are kept alive. Headers come with each request."""
    global _client
    with _client_lock:
        if _client is None:
            limits = httpx2.Limits(max_connections=None, max_keepalive_connections=32)
            _client = httpx2.Client(follow_redirects=True, limits=limits)
            atexit.register(_client.close)
        return _client


class Ranges:
    """One file behind a URL. All methods may be called from any thread.

    size: bytes in the file, None while it is not known.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        policy: RetryPolicy = PATIENT,
        counts: Counter | None = None,
        size: int | None = None,
    ):
        self.url, self.name, self.size = url, without_secrets(url), size
        self._size_is_sure = size is not None
        self._headers = {**(headers or {}), "Accept-Encoding": "identity"}  # a range counts the stored bytes
        self._policy, self._counts = policy, counts
        self._timeout = httpx2.Timeout(policy.stall_s, connect=policy.connect_s, pool=None)
        self._marks: dict[str, str] = {}  # what the server calls this version of the file
        self._live: set[httpx2.Response] = set()
        self._stop, self._pid = threading.Event(), os.getpid()

    def stream(self, start: int, end: int | None = None) -> Generator[bytes]:
        """The bytes [start, end) in pieces, however often the connection breaks; `end` None: to the end of the file.

        RemoteError where the server refuses or the retries are used up, FileChanged where the file is another one
        than before, ValueError after `close`.
        """
        pos, renewals = start, 0
        attempts = Attempts(self.name, self._policy, self._counts, self._stop)
        while not self._is_over(pos, end):
            self.check_open()
            try:
                with self._request(pos, end) as response:
                    at, declared, received = self._accept(response, pos), _declared(response), 0
                    if at is None:
                        return
                    for chunk in response.iter_raw():
                        received += len(chunk)
                        skip = pos - at  # where the server ignored the range, it is read through to it
                        at += len(chunk)
                        if at <= pos:
                            continue
                        if skip or (end is not None and at > end):
                            chunk = chunk[skip : None if end is None else end - at + len(chunk)]
                        pos += len(chunk)
                        attempts.failures = renewals = 0
                        yield chunk
                        # What a server sends beyond the end is not the file's; what it only promised would be waited
                        # for. A body read to its declared end leaves the connection fit for the next request.
                        if received != declared and self._is_over(pos, end):
                            break
                    else:
                        if self.size is None:  # the body ended as it should, and its end is all that tells the size
                            self.size, self._size_is_sure = at, True
            except _Refused as refused:
                self.check_open()
                renewals += refused.after_redirect
                if not refused.passing and not (refused.after_redirect and renewals <= RENEWALS):
                    raise RemoteError(f"{self.name}: {refused.detail}", status=refused.status) from None
                attempts.failed(refused.reason, refused.detail, asked_s=refused.asked_s, status=refused.status)
            except httpx2.TransportError as error:
                self.check_open()
                reason, detail = _describe(error, self._policy)
                if reason is None:
                    raise RemoteError(f"{self.name}: {detail}") from error
                attempts.failed(reason, detail)
            except (httpx2.InvalidURL, httpx2.TooManyRedirects) as error:
                raise RemoteError(f"{self.name}: {error}") from None
            else:
                if not self._is_over(pos, end):
                    attempts.failed("cut short", f"ends at byte {pos:,} of {self.size:,}")

    def close(self) -> None:
        """A `stream` that waits for bytes or to try again ends at once, one that waits for an answer within stall_s."""
        self._stop.set()
        self.left_behind()
        for response in list(self._live):
            with suppress(OSError, KeyError, AttributeError):
                waiting = response.extensions["network_stream"].get_extra_info("socket")
                socket.socket.shutdown(waiting, socket.SHUT_RDWR)  # wakes it; a TLS socket's own would drop its keys

    def check_open(self) -> None:
        """ValueError after `close`, as every closed file raises it."""
        if self._stop.is_set():
            raise ValueError(f"read of closed file {self.name}")

    def left_behind(self) -> bool:
        """Whether this is a forked child's copy, asked the first time: open streams are the parent's."""
        if self._pid == os.getpid():
            return False
        ORPHANS.append(self._live)
        self._live, self._pid = set(), os.getpid()
        return True

    def _is_over(self, pos: int, end: int | None) -> bool:
        return (end is not None and pos >= end) or (self.size is not None and pos >= self.size)

    @contextmanager
    def _request(self, pos: int, end: int | None) -> Generator[httpx2.Response]:
        """A GET of the first URL, never of a remembered redirect: a signed one expires."""
        # A range even from 0: its answer tells the size twice, so that a wrong Content-Length is seen.
        headers = {**self._headers, "Range": f"bytes={pos}-{'' if end is None else end - 1}"}
        etag = self._marks.get("etag", "")
        if pos and etag.startswith('"'):  # a weak one is not allowed here
            headers["If-Range"] = etag
        client = shared_client()
        response = client.send(
            client.build_request("GET", self.url, headers=headers, timeout=self._timeout), stream=True
        )
        self._live.add(response)
        try:
            self.check_open()
            yield response
        finally:
            self._live.discard(response)
            response.close()

    def _accept(self, response: httpx2.Response, pos: int) -> int | None:
        """Where the body starts in the file, at `pos` or before; None where the file ends at `pos`."""
        status, told = response.status_code, _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        total = int(told[3]) if told and told[3] != "*" else None
        if status == 200:
            self._check_same(response, _declared(response), sure=False)
            return 0
        if status == 206 and told and told[1] and int(told[1]) <= pos:
            self._check_same(response, total, sure=True)
            return int(told[1])
        if status == 416 and pos >= (total if total is not None else self.size or 0):
            self._check_same(response, total, sure=True)
            return None
        raise _Refused(response)

    def _check_same(self, response: httpx2.Response, total: int | None, *, sure: bool) -> None:
        """FileChanged where this is not the version read before; else its marks and size are remembered.

        A Content-Length (sure=False) may be wrong, so it gives way to a listing, Content-Range and X-Linked-Size.
        """
        linked = {k: v for r in response.history for k, v in r.headers.items() if k.startswith("x-linked-")}
        if not sure and linked.get("x-linked-size", "").isdigit():
            total, sure = int(linked["x-linked-size"]), True
        marks = {}
        if response.status_code != 416:  # there they would be the refusal's
            headers = response.headers
            marks = {"linked": linked.get("x-linked-etag"), "etag": headers.get("etag")}
            marks["modified"] = headers.get("last-modified")
        told = next(((self._marks[k], marks[k]) for k in marks if marks[k] and k in self._marks), None)
        if told and told[0] != told[1]:
            raise FileChanged(f"{self.name}: the file changed while it was read ({told[0]} is now {told[1]})")
        if total is not None and self.size is not None and total != self.size:
            if sure == self._size_is_sure and (sure or not told):
                raise FileChanged(f"{self.name}: the file has {total:,} bytes and had {self.size:,}")
            total = total if sure or not self._size_is_sure else self.size
        if total is not None:
            self.size, self._size_is_sure = total, sure or self._size_is_sure
        self._marks |= {k: v for k, v in marks.items() if v}


class _Refused(Exception):
    """A response that is not the file."""

    def __init__(self, response: httpx2.Response):
        self.status = status = response.status_code
        self.after_redirect = bool(response.history) and status in (400, 401, 403)
        self.passing = is_passing(status) or status in (200, 206, 416)  # a range that was not asked for
        self.asked_s = asked_wait_s(response.headers) if status in (429, 503) else None
        self.reason = "expired redirect" if self.after_redirect else str(status)
        said = response.headers.get("x-error-message", "")
        self.detail = f"HTTP {status}{': ' if said else ''}{said}"
        if status in (401, 403):
            self.detail += (
                ". Set HF_TOKEN to a token that may read it (or run `hf auth login`), and where the data set is gated "
                "accept its terms on its page on the hub"
            )


def _declared(response: httpx2.Response) -> int | None:
    length = response.headers.get("content-length", "")
    return int(length) if length.isdigit() else None


def _describe(error: httpx2.TransportError, policy: RetryPolicy) -> tuple[str | None, str]:
    """(reason for counting, detail) of a broken connection; the reason is None where another try cannot help."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return None, f"{cause.verify_message}: the server's certificate is not trusted (SSL_CERT_FILE names others)"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)):
        return None, str(error)
    if isinstance(error, httpx2.ReadTimeout):
        return "stalled", f"no byte for {policy.stall_s:g} s"
    if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)):
        return "no connection", f"no connection ({str(error) or type(error).__name__})"
    return "dropped", f"the connection broke ({str(error) or type(error).__name__})"
