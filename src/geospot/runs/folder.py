"""The folder of one training run: configuration, metrics, rollouts and checkpoints; opening, resuming, pruning.

    config.json        what the run was started with, and every session that worked on it
    metrics.jsonl      one object a step
    rollouts.sqlite    every answer of every step, in the table `rollouts`
    checkpoints.jsonl  one object a checkpoint
    lock               held by the process that writes

Steps count from 0. A checkpoint's step is the number of steps done, which is the step to run next: a run resumed
from it calls `rewind(checkpoint.step)` and its files become those of a run that was never interrupted.
"""

import dataclasses
import json
import math
import operator
import os
import time
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Literal

from geospot.errors import RunError
from geospot.files import (
    FolderLock,
    JsonLines,
    is_space_error,
    read_jsonl,
    remove_leftovers,
    remove_tree,
    write_error,
    write_json_atomic,
)
from geospot.runs.checkpoints import (
    Checkpoint,
    CheckpointKind,
    as_line,
    is_remote,
    last_checkpoint,
    read_checkpoints,
)
from geospot.runs.config import (
    MAY_DIFFER,
    SHARED_BY_BRANCHES,
    differences,
    older_values,
    plain_config,
    refused,
    session_facts,
    typed,
)
from geospot.runs.rollouts import RolloutStore
from geospot.runs.sinks import Sinks, check_sinks

Resume = Literal["auto", "never", "must"]


class RunFolder:
    """One run's folder, open for writing by this process only. Make one with `RunFolder.create`."""

    def __init__(self, path: Path, *, resumed: bool, stack: ExitStack, sinks: Sinks) -> None:
        """Not for callers: `create` holds the lock and checks the configuration first."""
        self.path = path
        self.resumed = resumed
        self._sinks = sinks
        self._metrics = JsonLines(path / "metrics.jsonl")
        stack.callback(self._metrics.close)
        self._checkpoints = JsonLines(path / "checkpoints.jsonl")
        stack.callback(self._checkpoints.close)
        self._rollouts = RolloutStore(path / "rollouts.sqlite")
        stack.callback(self._rollouts.close)
        self._stack = stack
        self.run_id = str(read_document(path)["run_id"])
        lines = self._metrics.read()
        self._last_step = lines[-1]["step"] if lines else -1

    @classmethod
    def create(
        cls,
        path: str | Path,
        config: Mapping[str, object],
        *,
        resume: Resume = "auto",
        may_differ: Collection[str] = MAY_DIFFER,
        log_to: Sequence[str] = (),
        command: list[str] | None = None,
    ) -> "RunFolder":
        """Start a run in a new folder, or go on with the one there; what is logged already is never wiped.

        `resume`: "never" refuses a folder that holds a run, "must" one that holds none. A run whose configuration
        differs in a key outside `may_differ` is refused. `command` defaults to sys.argv.
        """
        if resume not in ("auto", "never", "must"):
            raise ValueError(f'resume = {resume!r}; allowed are "auto", "never", "must"')
        check_sinks(log_to)
        plain = plain_config(dict(config))
        path = Path(path).absolute()
        with ExitStack() as stack:
            try:
                path.mkdir(parents=True, exist_ok=True)
                stack.callback(FolderLock(path).release)
                existed = _check_place(path, resume)
                remove_leftovers(path)
                run_id, plain = _write_config(path, plain, may_differ, command)
                sinks = Sinks(log_to, path, run_id, plain)
                stack.callback(sinks.close)
                run = cls(path, resumed=existed, stack=stack, sinks=sinks)
            except OSError as error:
                if is_space_error(error):
                    raise write_error(path, error) from error
                raise
            run._stack = stack.pop_all()  # from here on close() gives everything back
            return run

    def log(self, step: int, metrics: Mapping[str, object]) -> None:
        """Append one line to metrics.jsonl, at once on disk for readers; NaN and infinity become null.

        Values are numbers (numpy and one-element torch too). Call it once a step with everything. A step below the
        last one is refused: after a resume, `rewind` comes first.
        """
        step = _whole_step(step)
        if step < self._last_step:
            raise ValueError(f"step = {step}, but step {self._last_step} is logged already; rewind({step}) first")
        record = {"step": step} | {key: _number(key, value) for key, value in metrics.items()}
        self._metrics.append(record)
        self._last_step = step
        self._sinks.log(step, {key: value for key, value in record.items() if key != "step"})

    def add_rollouts(self, step: int, rows: Iterable[Mapping[str, object]]) -> int:
        """Add answers of one step (see RolloutRow) in one transaction; returns how many."""
        step = _whole_step(step)
        return self._rollouts.add(step, rows)

    def add_checkpoint(
        self,
        step: int,
        path: str | Path,
        loop_state: Mapping[str, object],
        *,
        kind: CheckpointKind = "state",
        final: bool = False,
        sampler_path: str | None = None,
    ) -> Checkpoint:
        """Record a checkpoint taken after `step` steps; call it once the engine has written it whole.

        sampler_path: of the same weights where a service keeps them apart for sampling.
        """
        step = _whole_step(step)
        if kind not in ("state", "sampler"):
            raise ValueError(f'kind = {kind!r}; allowed are "state" and "sampler"')
        path = str(path) if is_remote(str(path)) else str(Path(path).absolute())
        state = json.loads(json.dumps(loop_state, allow_nan=False))
        record = Checkpoint(step, path, kind, final, state, time.time(), sampler_path=sampler_path)
        self._metrics.sync()  # the steps it stands for must be on the disk before it is
        self._checkpoints.append(as_line(record, self.path), sync=True)
        return record

    def checkpoints(self) -> list[Checkpoint]:
        """All recorded checkpoints, oldest first, the pruned ones too."""
        return read_checkpoints(self.path)

    def last_checkpoint(self, kind: CheckpointKind = "state") -> Checkpoint | None:
        """The newest checkpoint that can still be loaded, or None."""
        return last_checkpoint(self.path, kind)

    def rewind(self, step: int) -> None:
        """Forget `step` and everything after it (rollouts, metrics, checkpoints beyond it), to run it again.

        Each file changes atomically; killed midway, a second call finishes it. Checkpoint folders stay.
        """
        step = _whole_step(step)
        self._rollouts.rewind(step)
        self._metrics.rewrite(record for record in self._metrics.read() if record["step"] < step)
        self._checkpoints.rewrite(record for record in self._checkpoints.read() if record["step"] <= step)
        self._last_step = min(self._last_step, step - 1)

    def prune(self, keep: int, *, inside: str | Path | None = None, best_step: int | None = None) -> list[Checkpoint]:
        """Delete local checkpoint folders older than the newest `keep` of their kind; returns those pruned now.

        Never deleted: the newest, any marked final, that of `best_step`, what a service keeps, and any folder outside
        `inside` (the run folder unless given). Their lines stay, with "pruned": true.
        """
        if keep < 1:
            raise ValueError(f"keep = {keep}; at least 1, since the newest checkpoint is what a resume needs")
        inside = Path(inside or self.path).resolve()
        records = self.checkpoints()
        doomed = set()  # indices into records
        for kind in ("state", "sampler"):
            usable = [i for i, c in enumerate(records) if c.kind == kind and c.exists]
            old = (i for i in usable[:-keep] if not records[i].final and records[i].step != best_step)
            doomed |= {i for i in old if _is_below(records[i].path, inside)}
        now_pruned = [dataclasses.replace(records[i], pruned=True) for i in sorted(doomed)]
        records = [dataclasses.replace(c, pruned=c.pruned or i in doomed) for i, c in enumerate(records)]
        if doomed:  # first the lines: a kill in between costs room, not a line that points at a half-deleted folder
            self._checkpoints.rewrite(as_line(c, self.path) for c in records)
        live = {c.path for c in records if not c.pruned}
        for record in records:
            folder = Path(record.path)
            if record.pruned and record.path not in live and folder.is_dir() and _is_below(record.path, inside):
                remove_tree(folder)
        return now_pruned

    def close(self) -> None:
        """Close the files and sinks and give the lock back; a second call does nothing."""
        self._stack.close()

    def __enter__(self) -> "RunFolder":
        """Use as a context manager."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close."""
        self.close()


def drop_weights(path: str | Path) -> None:
    """Delete a finished run's local checkpoints; its metrics, answers and the lines of its checkpoints stay."""
    path = Path(path).absolute()
    if not (path / "checkpoints").is_dir():
        return
    lock = FolderLock(path)
    try:
        log = JsonLines(path / "checkpoints.jsonl")
        records = [dataclasses.replace(c, pruned=not is_remote(c.path)) for c in read_checkpoints(path)]
        log.rewrite(as_line(record, path) for record in records)
        log.close()
        remove_tree(path / "checkpoints")
    finally:
        lock.release()


def read_metrics(path: str | Path) -> list[dict]:
    """The metrics of a run (its folder or metrics.jsonl), also while it is written."""
    path = Path(path)
    return read_jsonl(path / "metrics.jsonl" if path.is_dir() else path)


def read_config(path: str | Path) -> dict:
    """The configuration of a run folder as plain JSON."""
    return read_document(path)["config"]


def read_document(path: str | Path) -> dict:
    """All of a run folder's config.json: run_id, config, sessions; RunError where it is none."""
    return _read_config_file(Path(path))


def _check_place(path: Path, resume: Resume) -> bool:
    """Whether a run is there; raises if `resume` does not allow what is found."""
    exists = (path / "config.json").exists()
    if exists and resume == "never":
        raise RunError(f'{path} holds a run already; use another folder, or resume="auto" to go on with it')
    if not exists and resume == "must":
        raise RunError(f'{path} holds no run (no config.json) to resume; check the path, or use resume="auto"')
    strays = [n for n in ("metrics.jsonl", "checkpoints.jsonl", "rollouts.sqlite") if (path / n).exists()]
    if not exists and strays:
        raise RunError(f"{path} has {', '.join(strays)} but no config.json; use another folder or restore it")
    return exists


# Where readers of the Tinker cookbook's runs look for them.
_AT_THE_TOP = ("model_name", "lora_rank", "learning_rate", "seed")
# While these are empty a run has done nothing: one that failed at its start may be tried with another configuration.
_LOGS = ("metrics.jsonl", "checkpoints.jsonl")


def check_config(
    path: Path, config: Mapping[str, object], may_differ: Collection[str]
) -> dict[str, tuple[object, object]]:
    """The keys in which a run folder's configuration differs; RunError where one may not."""
    document = _read_config_file(path)
    asked = plain_config(dict(config))
    changed = differences(older_values(document["config"], asked) | document["config"], asked)
    begun = any((path / name).is_file() and (path / name).stat().st_size for name in _LOGS)
    if document.get("branched_from") and not document["sessions"]:  # the first session of a branch
        may_differ = changed.keys() - SHARED_BY_BRANCHES
    if begun and (bad := refused(changed, may_differ)):
        lines = "\n".join(f"  {key}: {typed(changed[key][0])} there, {typed(changed[key][1])} asked for" for key in bad)
        raise RunError(
            f"{path} holds a run with another {', '.join(bad)}:\n{lines}\n"
            "Set these back to go on with it, use another folder (log_path=; of demo and study out=), or branch from "
            f"it: from={path} log_path=NEW. Free to differ: " + ", ".join(sorted(may_differ))
        )
    return changed


def _write_config(path: Path, config: dict, may_differ: Collection[str], command: list[str] | None) -> tuple[str, dict]:
    """Check against the config there, if any, and write the file with this session added; returns id and config."""
    session = session_facts(command)
    if (path / "config.json").exists():
        document = _read_config_file(path)
        changed = check_config(path, config, may_differ)
        session["changed"] = {key: list(values) for key, values in changed.items()}
        document |= {"config": config, "sessions": [*document["sessions"], session]}
    else:
        document = {"run_id": uuid.uuid4().hex[:8], "config": config, "sessions": [session]}
    document |= {key: config.get(key) for key in _AT_THE_TOP}
    write_json_atomic(path / "config.json", document)
    return str(document["run_id"]), config


def _read_config_file(path: Path) -> dict:
    try:
        document = json.loads((path / "config.json").read_text(encoding="utf-8"))
        return {"sessions": [], "run_id": document["run_id"], "config": dict(document["config"])} | document
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path / 'config.json'} is no run's config ({error!r}); use another folder") from error


def _whole_step(step: int) -> int:
    if isinstance(step, bool) or not hasattr(step, "__index__") or step < 0:
        raise ValueError(f"step = {step!r}; a whole number from 0 on")
    return operator.index(step)


def _number(key: str, value: object) -> float | int | None:
    if key == "step":
        raise ValueError('metrics has the key "step"; the step is the first argument')
    number = value
    if hasattr(value, "item"):
        with suppress(ValueError, RuntimeError):  # more than one element: refused below
            number = value.item()
    if number is None:
        return None
    if not isinstance(number, int | float):
        raise TypeError(f"metric {key!r} = {value!r} is a {type(value).__name__}; metrics are flat numbers")
    if isinstance(number, bool):
        return int(number)
    return number if math.isfinite(number) else None


def _is_below(path: str, folder: Path) -> bool:
    place = Path(os.path.realpath(path))
    return not is_remote(path) and place.is_relative_to(folder) and place != folder
