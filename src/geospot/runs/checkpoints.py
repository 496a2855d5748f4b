"""The checkpoints of a run: a line of checkpoints.jsonl, the weights that a path stands for, where the data stood."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

from geospot.errors import DataError, RunError
from geospot.files import read_jsonl, write_bytes_atomic

CheckpointKind = Literal["state", "sampler"]
POSITIONS = "positions"  # a file for each checkpoint, since a shuffle buffer's list is too long for a line of a log


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """One line of checkpoints.jsonl."""

    step: int  # steps done when it was taken = the step to run next
    path: str  # absolute local folder, or what the service calls it (tinker://...)
    kind: CheckpointKind  # "state" can be trained on, "sampler" only sampled
    final: bool  # taken at the end of a run: never pruned
    loop_state: dict  # data position, random states, ...
    time: float  # seconds since 1970
    pruned: bool = False  # the folder was deleted to save room
    sampler_path: str | None = None  # of a service's: the same weights, to sample from

    @property
    def exists(self) -> bool:
        """Whether it can still be loaded; what a service keeps is taken to exist."""
        return not self.pruned and (is_remote(self.path) or Path(self.path).exists())


def is_remote(path: str) -> bool:
    """Whether the engine's path is an address (tinker://...) rather than a local folder."""
    return "://" in path


_FIELDS = frozenset(field.name for field in dataclasses.fields(Checkpoint))


def as_line(record: Checkpoint, folder: Path) -> dict:
    """The record as in the file: folders below the run folder are relative, so that a run can be moved.

    Beside our keys those of the Tinker cookbook (`checkpoint_utils`), which others read, too.
    """
    path = record.path
    if not is_remote(path) and Path(path).is_relative_to(folder):
        path = str(Path(path).relative_to(folder))
    theirs: dict[str, object] = {"name": path.rstrip("/").rpartition("/")[2], "batch": record.step}
    if not record.pruned:
        theirs[f"{record.kind}_path"] = path
    ours = {key: value for key, value in dataclasses.asdict(record).items() if key != "sampler_path" or value}
    return ours | {"path": path} | theirs


def from_line(line: dict, folder: Path) -> Checkpoint:
    """The record of a line, of whichever version."""
    where = line["path"] if is_remote(line["path"]) else str(folder / line["path"])
    ours: dict[str, Any] = {key: value for key, value in line.items() if key in _FIELDS}
    return Checkpoint(**ours | {"path": where})


def read_checkpoints(path: str | Path) -> list[Checkpoint]:
    """The checkpoints of a run folder, oldest first, the pruned ones too."""
    folder = Path(path).absolute()
    return [from_line(line, folder) for line in read_jsonl(folder / "checkpoints.jsonl")]


def last_checkpoint(path: str | Path, kind: CheckpointKind = "state") -> Checkpoint | None:
    """The newest checkpoint of a run folder that can still be loaded, or None."""
    return next((c for c in reversed(read_checkpoints(path)) if c.kind == kind and c.exists), None)


def find_checkpoint(path: str) -> str:
    """The weights behind a path: a checkpoint, or the newest checkpoint of a run folder."""
    if is_remote(path):
        return path
    folder = Path(path).expanduser()
    if (folder / "checkpoints.jsonl").is_file():
        if not (last := last_checkpoint(folder)):
            raise DataError(f"checkpoint={path!r}: the run has no checkpoint left; start it again to go on")
        return last.path
    if (folder / "state.json").is_file():
        return str(folder)
    raise DataError(
        f"checkpoint={path!r}: neither a run folder (checkpoints.jsonl), nor a checkpoint (state.json), nor tinker://..."
    )


def save_position(run: Path, step: int, position: dict) -> str:
    """Write it; returns its name for `load_position`. Call it before the checkpoint is recorded."""
    name = f"{POSITIONS}/{step:06d}.json"
    (run / POSITIONS).mkdir(exist_ok=True)
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
    for path in (run / POSITIONS).glob("*.json"):
        if f"{POSITIONS}/{path.name}" not in keep:
            path.unlink(missing_ok=True)
