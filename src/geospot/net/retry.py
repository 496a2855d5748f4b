"""Patience with a network: how often something is tried again, how long apart, and what is said when it is over."""

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

_counting = threading.Lock()  # a Counter is shared by the threads that read
_RATE_LIMIT = re.compile(r"r\s*=\s*0\s*;\s*t\s*=\s*(\d+)")


class RemoteError(OSError):
    """Something on the network cannot be read; the message has the URL without its query, what happened, how often.

    status: the HTTP status where a server refused, else None.
    """

    def __init__(self, message: str, *, status: int | None = None):
        super().__init__(message)
        self.status = status


class FileChanged(RemoteError):
    """A file is no longer the one whose first bytes were read."""


@dataclass(frozen=True)
class RetryPolicy:
    """When to try again. The defaults bear an outage of about two minutes."""

    retries: int = 8  # in a row without a byte of progress
    first_s: float = 0.5  # wait before the first of them; doubled for each that follows
    longest_s: float = 60.0  # ... up to this
    retry_after_s: float = 300.0  # a server's own Retry-After is obeyed up to this
    connect_s: float = 10.0  # to a connection
    stall_s: float = 30.0  # without a byte: that is a failure


PATIENT = RetryPolicy()


class Attempts:
    """The failures in a row of one piece of work."""

    def __init__(
        self,
        what: str,
        policy: RetryPolicy = PATIENT,
        counts: Counter | None = None,
        stop: threading.Event | None = None,
    ):
        """`what` is named in the error; retries are counted in `counts`; `stop`, an Event, ends a wait."""
        self.what, self.policy, self.counts = what, policy, counts
        self.failures = 0  # set it to 0 after progress
        self._stop = stop or threading.Event()

    def failed(self, reason: str, detail: str = "", *, asked_s: float | None = None, status: int | None = None) -> None:
        """Wait, then return for another try; RemoteError where there were enough of them.

        reason: one of a few fixed texts, for counting; detail: for the error. asked_s: what the server asked to wait.
        """
        self.failures += 1
        if self.failures > self.policy.retries:
            raise RemoteError(
                f"{self.what}: {detail or reason} ({self.failures} failures in a row, given up)", status=status
            )
        if self.counts is not None:
            with _counting:
                self.counts[f"retry: {reason}"] += 1
        self._stop.wait(self._wait_s(asked_s))

    def _wait_s(self, asked_s: float | None) -> float:
        policy = self.policy
        wait = min(policy.longest_s, policy.first_s * 2 ** (self.failures - 1))
        wait *= random.Random().uniform(0.75, 1.25)  # else all workers come back in the same instant
        return wait if asked_s is None else max(wait, min(asked_s, policy.retry_after_s))


def asked_wait_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that a response with status 429 or 503 asks to wait, or None.

    Retry-After, seconds or a date (RFC 9110, 10.2.3), else the hub's `RateLimit: "api";r=0;t=55`.
    """
    value = headers.get("retry-after", "").strip()
    if value.isdigit():
        return float(value)
    if value:
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
        except (ValueError, OverflowError):
            return None
    limit = _RATE_LIMIT.search(headers.get("ratelimit", ""))
    return float(limit[1]) if limit else None


def is_passing(status: int) -> bool:
    """Whether a refusal with this HTTP status is worth another try."""
    return status in (408, 425, 429) or (status >= 500 and status not in (501, 505))


def without_secrets(url: str) -> str:
    """A URL as it may be shown: no query (signatures), no user and password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
