"""A new run that begins where another one was: its weights, optimizer, place in the data and history, copied once."""

import json
import os
import shutil
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

from geospot.errors import RunError
from geospot.files import atomic_folder, read_jsonl, write_json_atomic
from geospot.runs.checkpoints import POSITIONS, Checkpoint, is_remote, read_checkpoints
from geospot.runs.folder import read_document

# What a run knows of its own evaluations and warnings: those of another folder, by which a branch must not stop.
_OF_THE_RUN = ("best", "evaluated", "ended", "steps", "warned")


def branch_source(path: str | Path) -> tuple[Path, int | None]:
    """The run folder behind a path, and the step of the checkpoint where the path is one; RunError for neither."""
    place = Path(path).expanduser()
    if (place / "config.json").is_file():
        return place, None
    run = place.absolute().parents[1] if len(place.absolute().parents) > 1 else place
    if place.name.isdecimal() and (run / "config.json").is_file():
        return run, int(place.name)
    raise RunError(f"from={path}: neither a run folder (config.json) nor a checkpoint in one")


def check_branch(source: str | Path, command: str) -> None:
    """RunError where a path is no run of this command, nor a checkpoint of one."""
    run, _ = branch_source(source)
    if (theirs := read_document(run)["config"].get("command", command)) != command:
        raise RunError(
            f"from={source}: it is a run of geospot {theirs}. To train its weights by geospot {command}, say "
            f"checkpoint={source}"
        )


def branch(source: str | Path, target: str | Path, command: str) -> Checkpoint:
    """Make the run folder `target` from a run of `command` (or a checkpoint of one) as it was; returns where it begins.

    Weights are linked where the disk allows it, and else copied. RunError where the run has no checkpoint to begin at.
    """
    run, step = branch_source(source)
    check_branch(source, command)
    document = read_document(run)
    kept = [c for c in read_checkpoints(run) if c.kind == "state" and c.exists and step in (None, c.step)]
    if not kept:
        at = "no checkpoint" if step is None else f"no checkpoint of step {step}"
        raise RunError(f"from={source}: the run has {at} left to begin at")
    begin, target = kept[-1], Path(target).absolute()
    if target.is_dir() and any(name != "lock" for name in os.listdir(target)):
        raise RunError(f"log_path={target}: holds other files; give another folder for the branch")
    with atomic_folder(target) as temp:
        _copy(run.absolute(), temp, begin)
        about = {"run_id": uuid.uuid4().hex[:8], "branched_from": {"run": str(run), "step": begin.step}, "sessions": []}
        write_json_atomic(temp / "config.json", document | about)
    return begin


def _copy(run: Path, target: Path, begin: Checkpoint) -> None:
    """The history before a checkpoint, and the checkpoint."""
    lines = [line for line in read_jsonl(run / "checkpoints.jsonl") if line["step"] == begin.step and
             line["kind"] == begin.kind][-1:]  # fmt: skip
    if not is_remote(begin.path):
        place = Path("checkpoints", Path(begin.path).name)
        shutil.copytree(begin.path, target / place, copy_function=_link)
        lines = [line | {"path": str(place), "state_path": str(place)} for line in lines]
    for line in lines:
        for key in _OF_THE_RUN:
            line.get("loop_state", {}).get("loop", {}).pop(key, None)
    _write_lines(target / "checkpoints.jsonl", lines)
    _write_lines(target / "metrics.jsonl", [m for m in read_jsonl(run / "metrics.jsonl") if m["step"] < begin.step])
    if position := begin.loop_state.get("data"):
        (target / POSITIONS).mkdir()
        shutil.copy2(run / position, target / position)
    if (run / "rollouts.sqlite").is_file():
        with (
            closing(sqlite3.connect(f"file:{run / 'rollouts.sqlite'}?mode=ro", uri=True)) as old,
            closing(sqlite3.connect(target / "rollouts.sqlite")) as new,
        ):
            old.backup(new)
            new.execute("DELETE FROM rollouts WHERE step >= ?", (begin.step,))
            new.commit()


def _write_lines(path: Path, records: list[dict]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)
