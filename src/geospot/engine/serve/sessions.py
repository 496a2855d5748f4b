"""What a server holds for its clients: sessions and their models in training."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from geospot.engine.futures import LocalFuture
from geospot.engine.local.training import LocalTrainingClient
from geospot.engine.serve.wire import Refused

SESSION_TIMEOUT_S = 600.0  # a client sends a heartbeat every ten seconds


@dataclass
class Session:
    """One client."""

    seen_at: float = field(default_factory=time.monotonic)
    models: dict[str, LocalFuture[LocalTrainingClient]] = field(default_factory=dict)  # model id -> training client


class Sessions:
    """The sessions by id; those whose client is gone are dropped with all that they hold."""

    def __init__(self, on_drop: Callable[[str], None]) -> None:
        """on_drop: called with the id of each session that ends, for what others hold for it."""
        self._sessions: dict[str, Session] = {}
        self._on_drop = on_drop

    def __len__(self) -> int:
        return len(self._sessions)

    def create(self) -> str:
        """A new session's id."""
        self._drop_silent()
        session_id = uuid.uuid4().hex[:16]
        self._sessions[session_id] = Session()
        return session_id

    def get(self, session_id: str | None) -> Session:
        """The session, marked as alive; Refused where there is none."""
        session = self._sessions.get(session_id or "")
        if session is None:
            raise Refused(404, f"session {session_id!r} is not known here: it ended, or the server was restarted")
        session.seen_at = time.monotonic()
        return session

    def finish(self, session_id: str) -> None:
        """Drop a session with all that is held for it."""
        if self._sessions.pop(session_id, None) is not None:
            self._on_drop(session_id)

    def model(self, model_id: str) -> LocalFuture[LocalTrainingClient]:
        """The future of a model's training client."""
        session = self.get(model_id.partition(":")[0])
        if model_id not in session.models:
            raise Refused(404, f"model {model_id!r} is not known here")
        return session.models[model_id]

    def _drop_silent(self) -> None:
        before = time.monotonic() - SESSION_TIMEOUT_S
        for session_id in [key for key, session in self._sessions.items() if session.seen_at < before]:
            self.finish(session_id)
