"""Checkpoints on the disk, by the paths that clients know them by."""

import json
import re
import shutil
import time
from pathlib import Path

from geospot.engine.local.options import NetworkSpec
from geospot.engine.local.state import read_spec
from geospot.engine.serve.wire import Refused
from geospot.errors import RunError
from geospot.files import write_json_atomic

_PATH = re.compile(
    r"tinker://(?P<model>[A-Za-z0-9][\w.:-]*)/(?P<kind>weights|sampler_weights|external_weights)/(?P<name>[A-Za-z0-9][\w.-]*)"
)
LEAST_TTL_S, MOST_TTL_S = 3600, 3650 * 86_400
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


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
