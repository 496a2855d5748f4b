"""A line of JSON for each HTTP request: what was asked by whom, and what became of it. Never a header or a body."""

import logging
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from geospot.errors import EngineError

log = logging.getLogger(__name__)
STDOUT = "-"


class RequestLog:
    """Appends to a file, or writes to standard output; a disk that is full costs lines and no answers."""

    def __init__(self, path: str | None = None):
        """path: a file, `-` for standard output, None for no log. EngineError where it cannot be written."""
        self._file: int | None = None
        self._failed = False
        if path == STDOUT:
            self._file = sys.stdout.fileno()
        elif path is not None:
            try:
                Path(path).expanduser().parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(Path(path).expanduser(), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            except OSError as error:
                raise EngineError(f"request_log={path!r} cannot be written: {error}; name another file, or -") from None

    def write(self, **record: Any) -> None:
        """One line, with the time; what is None is left out."""
        if self._file is None:
            return
        stamp = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
        said = {key: value for key, value in record.items() if value is not None}
        try:
            os.write(self._file, orjson.dumps({"time": stamp, **said}, option=orjson.OPT_APPEND_NEWLINE))
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.error("the request log cannot be written: %s", error)
            self._failed = True
