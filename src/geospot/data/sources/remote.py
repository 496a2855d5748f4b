"""The files of a source that are open over the network, which any thread can close."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from geospot.net.retry import PATIENT, RetryPolicy

WEB = ("http://", "https://")

# What reads from a network takes a second to import: it is left to those who do.


class RemoteFiles:
    """Opens files by their addresses, with the hub's token where they are the hub's. retries: counted by reason."""

    def __init__(self, retries: Counter):
        self._retries = retries
        self._open: set = set()
        self._lock = threading.RLock()  # a generator that is collected within closes its file in the same thread

    @contextmanager
    def open(self, url: str, size: int | None = None, policy: RetryPolicy = PATIENT) -> Iterator:
        """A `geospot.net.http.RemoteFile`, until the end of the block or `close`."""
        from geospot.net.http import open_url
        from geospot.net.hub import hub_headers

        with open_url(url, headers=hub_headers(url), counts=self._retries, size=size, policy=policy) as file:
            with self._lock:
                self._open.add(file)
            try:
                yield file
            finally:
                with self._lock:
                    self._open.discard(file)

    def close(self) -> None:
        """Close what is open: a thread that waits for its bytes ends in an error. What is opened later is read."""
        with self._lock:
            files = list(self._open)
        for file in files:
            file.close()
