"""Where the data stood at each checkpoint: a file each, since a shuffle buffer's list is long for a log's line."""

import json
from pathlib import Path

from geospot.errors import RunError
from geospot.files import write_bytes_atomic

FOLDER = "positions"


def save_position(run: Path, step: int, position: dict) -> str:
    """Write it; returns its name for `load_position`. Call it before the checkpoint is recorded."""
    name = f"{FOLDER}/{step:06d}.json"
    (run / FOLDER).mkdir(exist_ok=True)
    write_bytes_atomic(run / name, json.dumps(position, separators=(",", ":"), allow_nan=False).encode())
    return name


def load_position(run: Path, name: str) -> dict:
    """What `save_position` wrote; RunError where it is gone."""
    try:
        return json.loads((run / name).read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(
            f"{run / name}: the data's position at the last checkpoint cannot be read ({error}); put the file back, or "
            "start a new run from the checkpoint's weights"
        ) from error


def prune_positions(run: Path, keep: set[str]) -> None:
    """Delete all but these."""
    for path in (run / FOLDER).glob("*.json"):
        if f"{FOLDER}/{path.name}" not in keep:
            path.unlink(missing_ok=True)
