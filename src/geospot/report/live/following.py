"""A run folder as it grows: its steps as they are logged, what the run is, and how long it still takes. Read only."""

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geospot.errors import GeospotError
from geospot.files import is_locked
from geospot.report.live.panels import wanted
from geospot.runs.checkpoints import last_checkpoint
from geospot.runs.config import typed_config
from geospot.runs.folder import read_document
from geospot.runs.overview import run_folders

RECENT = 20  # steps whose time says how long the rest takes: evaluations among them count


@dataclass
class FollowedRun:
    """What the folder of a run has said so far. `poll` reads what was appended since.

    `epoch` grows where the run went back to an earlier step, as a resumed one does: what was read before is void then.
    """

    path: Path
    name: str
    epoch: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)  # of metrics.jsonl, what the page shows of them
    seconds: list[float] = field(default_factory=list)  # of each step
    state: str = "not started"
    _position: int = 0
    _inode: int = -1
    _config: dict[str, Any] = field(default_factory=dict)
    _sessions: list[dict[str, Any]] = field(default_factory=list)
    _run_id: str = ""
    _config_time: int = -1
    _checkpoints_time: int = -1

    def poll(self) -> bool:
        """Read what is new; whether there was anything."""
        changed = self._poll_config()
        state = self._state()
        if state != self.state:
            self.state, changed = state, True
        return self._poll_metrics() or changed

    def _poll_config(self) -> bool:
        try:
            time = os.stat(self.path / "config.json").st_mtime_ns
            if time == self._config_time:
                return False
            document = read_document(self.path)
        except (GeospotError, OSError):  # in the middle of being made, or gone
            return False
        self._config, self._sessions = document["config"], document["sessions"]
        before, self._run_id, self._config_time = self._run_id, str(document["run_id"]), time
        if before and self._run_id != before:  # another run in a folder that was deleted: its files may look like more
            self._forget()
        return True

    def _forget(self) -> None:
        """What was read is void, to be read from the beginning."""
        self._position, self._inode, self.rows, self.seconds = 0, -1, [], []
        self.epoch += 1

    def _poll_metrics(self) -> bool:
        try:
            with open(self.path / "metrics.jsonl", "rb") as file:
                status = os.fstat(file.fileno())
                if self._inode != -1 and (status.st_ino != self._inode or status.st_size < self._position):
                    self._forget()
                elif status.st_ino == self._inode and status.st_size == self._position:
                    return False
                self._inode = status.st_ino
                file.seek(self._position)
                data = file.read()
        except OSError:
            return False
        whole = data[: data.rfind(b"\n") + 1]
        self._position += len(whole)
        for line in whole.splitlines():
            try:
                row = json.loads(line, parse_constant=lambda _: None)  # no number is drawn, or can be sent
            except ValueError:  # a line that a crash has cut: the run itself names it when it is resumed
                continue
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                self.rows.append(wanted(row))
                took = row.get("time/step", row.get("step_seconds"))
                self.seconds += [took] if isinstance(took, int | float) else []
        return bool(whole)

    def _state(self) -> str:
        if not (self.path / "config.json").is_file():
            return "deleted"
        if is_locked(self.path):
            return "running"
        if not (self.path / "checkpoints.jsonl").is_file():
            return "stopped" if self.rows else "not started"
        if self.state in ("finished", "stopped") and self._unchanged():
            return self.state
        try:
            last = last_checkpoint(self.path)
        except (GeospotError, OSError, KeyError, TypeError):
            return "stopped"
        return "finished" if last is not None and last.final else "stopped"

    def _unchanged(self) -> bool:
        """Whether the list of checkpoints is the one that was read before."""
        try:
            time = os.stat(self.path / "checkpoints.jsonl").st_mtime_ns
        except OSError:  # just gone
            return False
        before, self._checkpoints_time = self._checkpoints_time, time
        return before == time

    @property
    def seconds_left(self) -> float | None:
        """By the mean time of the last steps; None where the run does not go on or has made none."""
        left = self.max_steps - self.steps if self.max_steps else 0
        if self.state != "running" or not self.seconds or left <= 0:
            return None
        return statistics.fmean(self.seconds[-RECENT:]) * left

    @property
    def max_steps(self) -> int | None:
        """Of the configuration."""
        value = self._config.get("max_steps")
        return value if isinstance(value, int) else None

    @property
    def steps(self) -> int:
        """Steps done."""
        trained = [row["step"] for row in self.rows[-2:] if self.max_steps is None or row["step"] < self.max_steps]
        return max(trained, default=-1) + 1

    def summary(self) -> dict[str, Any]:
        """A line of the list of runs."""
        return {
            "id": self.name,
            "run_id": self._run_id,
            "command": str(self._config.get("command", "")),
            "model": str(self._config.get("model_name", "")).rstrip("/").rsplit("/", 1)[-1],
            "state": self.state,
            "steps": self.steps,
            "max_steps": self.max_steps,
            "seconds_left": self.seconds_left,
            "epoch": self.epoch,
            "rows": len(self.rows),
        }

    def about(self) -> dict[str, str]:
        """What the run was started with, and where, as text."""
        session: Mapping[str, Any] = self._sessions[-1] if self._sessions else {}
        shown = {key: str(session[key]) for key in ("command", "started", "git_commit", "torch") if session.get(key)}
        return {f"session: {key}": value for key, value in shown.items()} | typed_config(self._config)


def shown_path(path: str) -> str:
    """A path as text for a page: bytes of it that are no UTF-8 stand as escapes."""
    return path.encode("utf-8", "backslashreplace").decode()


def followed_runs(root: Path, known: Sequence[FollowedRun] = ()) -> list[FollowedRun]:
    """The runs at or below a folder, those that are known already as they are."""
    there = {run.path: run for run in known}
    found = []
    for path in sorted(run_folders(root)):
        name = shown_path(path.name if path == root else str(path.relative_to(root)))
        found.append(there.get(path) or FollowedRun(path, name))
    return found
