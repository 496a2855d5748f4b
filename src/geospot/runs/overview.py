"""The run folders below a folder, each in a line: how far it is, how good it was at its best, where its weights are."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from geospot.errors import GeospotError
from geospot.files import is_locked
from geospot.runs.checkpoints import Checkpoint, last_checkpoint, read_checkpoints
from geospot.runs.folder import read_document, read_metrics

DEPTH = 3  # folders below the one that is searched


@dataclass(frozen=True)
class RunInfo:
    """One run. `best` is its (step, median km, set) with the highest score; None where nothing was evaluated."""

    path: Path
    command: str
    model: str
    state: str  # running, finished, stopped, not started; or why it cannot be read
    steps: int
    max_steps: int | None
    best: tuple[int, float, str] | None
    size_bytes: int
    checkpoint: Checkpoint | None


def find_runs(root: str | Path) -> list[RunInfo]:
    """Every run at or below `root`, by path."""
    return [describe(path) for path in sorted(run_folders(Path(root)))]


def run_folders(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """The folders of the runs at or below `folder`."""
    if (folder / "config.json").is_file() and is_run(folder):
        yield folder
        return
    if depth:
        for child in sorted(folder.iterdir()) if folder.is_dir() else ():
            if child.is_dir() and not child.is_symlink() and not child.name.startswith("."):
                yield from run_folders(child, depth - 1)


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run (a model's folder has a config.json, too)."""
    if not (folder / "config.json").is_file():
        return False
    try:
        return "run_id" in read_document(folder)
    except GeospotError:
        return (folder / "metrics.jsonl").is_file()


def describe(path: Path) -> RunInfo:
    """What the files of a run say; a damaged one is named as its state."""
    size = sum(os.lstat(Path(folder, name)).st_size for folder, _, names in os.walk(path) for name in names)
    try:
        config = read_document(path)["config"]
        rows = read_metrics(path) if (path / "metrics.jsonl").is_file() else []
        taken = read_checkpoints(path) if (path / "checkpoints.jsonl").is_file() else []
    except GeospotError as error:
        return RunInfo(path, "", "", f"damaged: {error}", 0, None, None, size, None)
    max_steps = config.get("max_steps")
    trained = [row["step"] for row in rows if max_steps is None or row["step"] < max_steps]
    newest = taken[-1] if taken else None  # its weights may be gone since, as a study leaves them
    last = last_checkpoint(path) if taken else None
    state = "stopped" if rows or newest else "not started"
    ended = newest is not None and newest.final and newest.loop_state.get("loop", {}).get("ended")
    if ended or (newest is not None and newest.final and newest.step >= (max_steps or 0)):
        state = "finished"
    if is_locked(path):
        state = "running"
    steps = max([newest.step if newest else 0, *(step + 1 for step in trained[-1:])])
    model = str(config.get("model_name", "")).rstrip("/").rsplit("/", 1)[-1]
    return RunInfo(path, str(config.get("command", "")), model, state, steps, max_steps, _best(rows), size, last)


def _best(rows: list[dict]) -> tuple[int, float, str] | None:
    """Of the first held-out set."""
    ending = "/geoguessr_score"
    keys = [k for row in rows for k in row if k.endswith(ending) and not k.startswith("train/")]
    found = [(row[key], row["step"], row.get(f"{key.removesuffix(ending)}/median_km"), key.removesuffix(ending))
             for key in keys[:1] for row in rows if row.get(key) is not None]  # fmt: skip
    if not found:
        return None
    _, step, km, name = max(found, key=lambda item: item[0])
    return (step, km, name) if km is not None else None
