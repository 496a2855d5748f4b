"""What a server holds for its clients: sessions and their models in training."""

import time
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from geospot.engine.futures import LocalFuture
from geospot.engine.local.training import LocalTrainingClient
from geospot.engine.serve.wire import Refused, unknown

# A client sends a heartbeat every ten seconds. Silent for so long it has no use for its work; for so long, for what it
# holds; after a connection broke on which it waited for an answer, so long.
SILENT_S, SESSION_TIMEOUT_S, BROKEN_S = 60.0, 600.0, 15.0
MOST_SESSIONS = 1000


@dataclass
class Session:
    """One client."""

    seen_at: float = field(default_factory=time.monotonic)
    broken_at: float | None = None  # when a connection broke on which it waited
    n_waiting: int = 0  # connections on which it waits
    models: dict[str, LocalFuture[LocalTrainingClient]] = field(default_factory=dict)  # model id -> training client

    def is_silent(self, now: float) -> bool:
        """Whether the client seems to be gone."""
        if self.n_waiting:
            return False
        return now - self.seen_at > SILENT_S or (self.broken_at is not None and now - self.broken_at > BROKEN_S)


class Sessions:
    """The sessions by id; those whose client is gone are dropped with all that they hold."""

    def __init__(self, on_drop: Callable[[str], None], was_open: Callable[[str], bool]) -> None:
        """on_drop: called with the id of each session that ends, for what others hold for it.

        was_open: whether a session was open when an earlier server ended.
        """
        self._sessions: dict[str, Session] = {}
        self._on_drop, self._was_open = on_drop, was_open

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[tuple[str, Session]]:
        return iter(list(self._sessions.items()))

    @property
    def n_models(self) -> int:
        """How many models are in training."""
        return sum(len(session.models) for session in self._sessions.values())

    def create(self) -> str:
        """A new session's id."""
        self.drop_silent()
        if len(self._sessions) >= MOST_SESSIONS:
            raise Refused(429, f"{MOST_SESSIONS} sessions are open, which is the most; come again", retry_after_s=10)
        session_id = uuid.uuid4().hex[:16]
        self._sessions[session_id] = Session()
        return session_id

    def get(self, session_id: str | None) -> Session:
        """The session, marked as alive; Refused where there is none."""
        session = self._sessions.get(session_id or "")
        if session is None and session_id and len(self._sessions) < MOST_SESSIONS and self._was_open(session_id):
            session = self._sessions[session_id] = Session()
        if session is None:
            raise unknown(f"session {session_id!r}", "it has ended")
        session.seen_at, session.broken_at = time.monotonic(), None
        return session

    @contextmanager
    def waits(self, session_id: str) -> Generator[Session | None]:
        """While a client waits on a connection it is alive."""
        session = self._sessions.get(session_id)
        if session is None:
            yield None
            return
        session.n_waiting += 1
        try:
            yield session
        finally:
            session.n_waiting -= 1
            session.seen_at = time.monotonic()

    def silent(self) -> list[str]:
        """The sessions whose clients seem to be gone."""
        now = time.monotonic()
        return [key for key, s in self._sessions.items() if s.is_silent(now)]

    def finish(self, session_id: str) -> None:
        """Drop a session with all that is held for it."""
        if self._sessions.pop(session_id, None) is not None:
            self._on_drop(session_id)

    def model(self, model_id: str) -> LocalFuture[LocalTrainingClient]:
        """The future of a model's training client."""
        session = self.get(model_id.partition(":")[0])
        if model_id not in session.models:
            raise unknown(
                f"model {model_id!r}",
                "what was in training when a server ended is gone; go on from its last checkpoint",
            )
        return session.models[model_id]

    def drop_silent(self) -> None:
        """End the sessions that have been silent for long."""
        before = time.monotonic() - SESSION_TIMEOUT_S
        for session_id in [k for k, s in self._sessions.items() if s.seen_at < before and not s.n_waiting]:
            self.finish(session_id)
