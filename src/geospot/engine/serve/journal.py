"""What a server knows of its clients' sessions and runs, on the disk beside their checkpoints."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geospot.engine.serve.store import is_run, run_folder
from geospot.files import write_json_atomic

SESSIONS, RUN = ".sessions", "run.json"


class Records:
    """Small JSON files below the checkpoint folder: one a session, one a run (a model in training)."""

    def __init__(self, root: str | Path):
        self.root = Path(root).absolute()

    def session(self, session_id: str) -> dict[str, Any] | None:
        """What is known of a session; None where there was none of this id."""
        return _read(self.root / SESSIONS / f"{session_id}.json") if session_id.isalnum() else None

    def run(self, model_id: str) -> dict[str, Any] | None:
        """What is known of a run."""
        return _read(self.run_folder(model_id) / RUN) if is_run(model_id) else None

    def write_session(self, session_id: str, **changes: Any) -> None:
        """Note a session, or what has changed of it."""
        start = {"session_id": session_id, "created": time.time(), "status": "active", "models": [], "samplers": {}}
        _write(self.root / SESSIONS / f"{session_id}.json", start, changes)

    def write_run(self, model_id: str, **changes: Any) -> None:
        """Note a run, or what has changed of it."""
        start = {"training_run_id": model_id, "created": time.time()}
        _write(self.run_folder(model_id) / RUN, start, {"last_request": time.time(), **changes})

    def run_folder(self, model_id: str) -> Path:
        """Where a run's checkpoints are."""
        return self.root / run_folder(model_id)

    def sessions(self) -> list[dict[str, Any]]:
        """All sessions, the newest first."""
        return _newest(_read(path) for path in (self.root / SESSIONS).glob("*.json"))

    def runs(self) -> list[dict[str, Any]]:
        """All runs, the newest first."""
        return _newest(_read(path) for path in self.root.glob(f"*/{RUN}"))


def _newest(found: Iterator[dict[str, Any] | None]) -> list[dict[str, Any]]:
    return sorted((record for record in found if record), key=lambda r: -r.get("created", 0))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _write(path: Path, start: dict[str, Any], changes: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json_atomic(path, {**start, **(_read(path) or {}), **changes})
