"""What a server holds for its clients: sessions, models in training, samplers, and checkpoints on the disk."""

import json
import re
import shutil
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from geospot.engine.futures import LocalFuture
from geospot.engine.local.options import NetworkSpec
from geospot.engine.local.sampling import LocalSamplingClient
from geospot.engine.local.state import read_spec
from geospot.engine.local.training import LocalTrainingClient
from geospot.engine.serve.wire import Refused
from geospot.errors import RunError
from geospot.files import write_json_atomic

SESSION_TIMEOUT_S = 600.0  # a client sends a heartbeat every ten seconds
KEPT_SAMPLERS = 4  # unnamed snapshots a session may hold: each is a copy of what is trained
_PATH = re.compile(
    r"tinker://(?P<model>[A-Za-z0-9][\w.:-]*)/(?P<kind>weights|sampler_weights|external_weights)/(?P<name>[A-Za-z0-9][\w.-]*)"
)
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass
class Sampler:
    """One sampling session: whose weights, and the engine's client for them."""

    session_id: str
    base_model: str | None
    client: LocalFuture[LocalSamplingClient]
    model_path: str | None = None


@dataclass
class Session:
    """One client."""

    seen_at: float = field(default_factory=time.monotonic)
    models: dict[str, LocalFuture[LocalTrainingClient]] = field(default_factory=dict)  # model id -> training client
    samplers: OrderedDict[str, Sampler] = field(default_factory=OrderedDict)


class Sessions:
    """The sessions by id; those whose client is gone are dropped with all that they hold."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

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
        """Drop a session, its models and its samplers."""
        self._sessions.pop(session_id, None)

    def model(self, model_id: str) -> LocalFuture[LocalTrainingClient]:
        """The future of a model's training client."""
        session = self.get(model_id.partition(":")[0])
        if model_id not in session.models:
            raise Refused(404, f"model {model_id!r} is not known here")
        return session.models[model_id]

    def add_sampler(self, sampler: Sampler, sampler_id: str) -> None:
        """Keep a sampler; of the unnamed snapshots of a session the least recently used are dropped."""
        samplers = self.get(sampler.session_id).samplers
        samplers[sampler_id] = sampler
        unnamed = [key for key, kept in samplers.items() if kept.model_path is None]
        for key in unnamed[:-KEPT_SAMPLERS]:
            del samplers[key]

    def sampler(self, sampler_id: str | None) -> Sampler:
        """The sampler, marked as used just now."""
        samplers = self.get((sampler_id or "").partition(":")[0]).samplers
        if sampler_id not in samplers:
            raise Refused(404, f"sampling session {sampler_id!r} is not known here: newer snapshots took its place")
        samplers.move_to_end(sampler_id)
        return samplers[sampler_id]

    def _drop_silent(self) -> None:
        before = time.monotonic() - SESSION_TIMEOUT_S
        for session_id in [key for key, session in self._sessions.items() if session.seen_at < before]:
            del self._sessions[session_id]


class Checkpoints:
    """Folders below `root`, known to clients as tinker://MODEL/KIND/NAME, and when they expire."""

    def __init__(self, root: str | Path):
        self.root = Path(root).absolute()

    def folder_name(self, model_id: str, kind: str, name: str | None) -> str:
        """Where a checkpoint of this name lies, relative to `root`; Refused for a name that is no plain name."""
        if not name or not _NAME.fullmatch(name):
            raise Refused(422, f"checkpoint name {name!r}: letters, digits, '.', '_' and '-' only")
        return f"{model_id.replace(':', '_')}/{kind}/{name}"

    def find(self, path: str) -> Path:
        """The folder behind a tinker:// path; Refused where it is no such path or is not there."""
        match = _PATH.fullmatch(path)
        if match is None:
            raise Refused(422, f"{path!r} is no path of a checkpoint (tinker://MODEL/weights/NAME)")
        self.remove_expired()
        folder = self.root / self.folder_name(match["model"], match["kind"], match["name"])
        if not folder.is_dir():
            raise Refused(404, f"there is no checkpoint {path}: it expired, or another server has it")
        return folder

    def spec(self, path: str) -> NetworkSpec:
        """What the checkpoint belongs to."""
        try:
            return read_spec(self.find(path))[0]
        except RunError as error:
            raise Refused(422, str(error)) from None

    def note(self, folder: str | Path, ttl_seconds: int | None, user_metadata: dict | None) -> None:
        """Write beside the folder when it expires and what its owner says of it."""
        expires = None if ttl_seconds is None else time.time() + ttl_seconds
        note = {"saved": time.time(), "expires": expires, "user_metadata": user_metadata}
        folder = Path(folder)
        write_json_atomic(folder.parent / f".{folder.name}.json", note)  # no checkpoint's name starts with a dot

    def remove_expired(self) -> int:
        """Delete what has expired; returns how many."""
        count = 0
        for note in self.root.glob("*/*/.*.json"):
            try:
                expires = json.loads(note.read_text()).get("expires")
            except (OSError, ValueError):
                continue
            if expires is not None and expires < time.time():
                shutil.rmtree(note.parent / note.stem[1:], ignore_errors=True)
                note.unlink(missing_ok=True)
                count += 1
        return count
