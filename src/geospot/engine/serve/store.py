"""Checkpoints on the disk, by the paths that clients know them by."""

import json
import re
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from geospot.engine.local.options import NetworkSpec
from geospot.engine.local.state import read_spec
from geospot.engine.serve.wire import Refused, unknown
from geospot.errors import RunError
from geospot.files import atomic_folder, write_json_atomic

_PATH = re.compile(
    r"tinker://(?P<model>[A-Za-z0-9][\w:-]*)/(?P<kind>weights|sampler_weights|external_weights)/(?P<name>[A-Za-z0-9][\w.-]*)"
)
LEAST_TTL_S, MOST_TTL_S = 3600, 3650 * 86_400
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,199}")
_RUN = re.compile(r"[A-Za-z0-9][\w:-]{0,99}")  # ids of runs (models in training): SESSION:train:NUMBER
KINDS = {"weights": "training", "sampler_weights": "sampler", "external_weights": "external"}


def is_run(model_id: str) -> bool:
    """Whether this is the id of a run, and so the name of a folder and no way out of it."""
    return _RUN.fullmatch(model_id) is not None


def run_folder(model_id: str) -> str:
    """The name of the folder of a run's checkpoints; Refused for what is no id."""
    if not is_run(model_id):
        raise Refused(422, f"model_id {model_id[:100]!r}: letters, digits, ':', '_' and '-' only, 100 of them at most")
    return model_id.replace(":", "_")


def check_ttl(ttl_seconds: int | None) -> None:
    """Refused outside of what the service takes."""
    if ttl_seconds is not None and not LEAST_TTL_S <= ttl_seconds <= MOST_TTL_S:
        raise Refused(
            422, f"ttl_seconds={ttl_seconds}: from {LEAST_TTL_S} (1 hour) to {MOST_TTL_S} (10 years), or none for ever"
        )


class Checkpoints:
    """Folders below `root`, known to clients as tinker://MODEL/KIND/NAME, and when they expire."""

    def __init__(self, root: str | Path):
        self.root = Path(root).absolute()

    def folder_name(self, model_id: str, kind: str, name: str | None) -> str:
        """Where a checkpoint of this name lies, relative to `root`; Refused for a name that is no plain name."""
        if not name or not _NAME.fullmatch(name):
            raise Refused(422, f"checkpoint name {name!r}: letters, digits, '.', '_' and '-' only")
        return f"{run_folder(model_id)}/{kind}/{name}"

    def find(self, path: str) -> Path:
        """The folder behind a tinker:// path; Refused where it is no such path or is not there."""
        match = _PATH.fullmatch(path)
        if match is None:
            raise Refused(422, f"{path!r} is no path of a checkpoint (tinker://MODEL/weights/NAME)")
        self.remove_expired()
        folder = self.root / self.folder_name(match["model"], match["kind"], match["name"])
        if not folder.is_dir():
            raise unknown(f"checkpoint {path}", "it expired, or another server has it")
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
        write_json_atomic(_note(Path(folder)), note)

    def set_ttl(self, path: str, ttl_seconds: int | None) -> None:
        """Let a checkpoint expire so many seconds from now, or never."""
        note = _note(self.find(path))
        expires = None if ttl_seconds is None else time.time() + ttl_seconds
        write_json_atomic(note, {**_read(note), "expires": expires})

    def delete(self, path: str) -> None:
        """A checkpoint goes."""
        folder = self.find(path)
        shutil.rmtree(folder, ignore_errors=True)
        _note(folder).unlink(missing_ok=True)

    def copy(self, path: str, model_id: str, ttl_seconds: int | None) -> str:
        """The same checkpoint under another run; returns its path."""
        source = self.find(path)
        kind, name = source.parent.name, source.name
        target = self.root / self.folder_name(model_id, kind, name)
        if target.exists():
            raise Refused(422, f"tinker://{model_id}/{kind}/{name} exists")
        with atomic_folder(target) as temp:
            shutil.copytree(source, temp, dirs_exist_ok=True)
        self.note(target, ttl_seconds, _read(_note(source)).get("user_metadata"))
        return f"tinker://{model_id}/{kind}/{name}"

    def of_run(self, model_id: str) -> list[dict[str, Any]]:
        """What the API says of each checkpoint of a run, the oldest first."""
        self.remove_expired()
        if not is_run(model_id):
            return []
        found = [
            self._described(model_id, kind, folder)
            for kind in KINDS
            for folder in (self.root / run_folder(model_id) / kind).glob("[!.]*")
            if folder.is_dir() and _NAME.fullmatch(folder.name) and ".tmp-" not in folder.name
        ]
        return sorted(found, key=lambda c: c["time"])

    def everything(self) -> list[dict[str, Any]]:
        """The same of all runs."""
        folders = [path.name for path in self.root.glob("[!.]*") if path.is_dir()]
        return [c for name in folders for c in self.of_run(name.replace("_train_", ":train:"))]

    def _described(self, model_id: str, kind: str, folder: Path) -> dict[str, Any]:
        note = _read(_note(folder))
        saved, expires = note.get("saved") or folder.stat().st_mtime, note.get("expires")
        return {
            "checkpoint_id": f"{kind}/{folder.name}",
            "checkpoint_type": KINDS[kind],
            "time": datetime.fromtimestamp(saved, UTC).isoformat(),
            "tinker_path": f"tinker://{model_id}/{kind}/{folder.name}",
            "size_bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
            "public": False,
            "user_metadata": note.get("user_metadata"),
            "expires_at": None if expires is None else datetime.fromtimestamp(expires, UTC).isoformat(),
        }

    def remove_expired(self) -> int:
        """Delete what has expired; returns how many."""
        count = 0
        for note in self.root.glob("*/*/.*.json"):
            expires = _read(note).get("expires")
            if expires is not None and expires < time.time():
                shutil.rmtree(note.parent / note.stem[1:], ignore_errors=True)
                note.unlink(missing_ok=True)
                count += 1
        return count


def _note(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.json"  # no checkpoint's name starts with a dot


def _read(note: Path) -> dict[str, Any]:
    try:
        found = json.loads(note.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
