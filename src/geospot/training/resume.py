"""A run folder that is there already: complete, to be extended, branched from, or older than some keys."""

from pathlib import Path
from typing import TypeVar

import chz

from geospot.config import LoopConfig, default_log_path
from geospot.runs.branch import branch, check_branch
from geospot.runs.checkpoints import last_checkpoint, prune_positions, read_checkpoints
from geospot.runs.config import LENGTHENED, MAY_DIFFER, older_values
from geospot.runs.folder import RunFolder, check_config, read_config

AnyLoopConfig = TypeVar("AnyLoopConfig", bound=LoopConfig)


def run_path(config: LoopConfig, command: str) -> Path:
    """The folder of a run."""
    return Path(config.log_path or default_log_path(command, config.model_name))


def has_begun(run: Path) -> bool:
    """Whether there is a checkpoint in a run folder: one that goes on needs no other weights."""
    return (run / "checkpoints.jsonl").is_file() and bool(read_checkpoints(run))


def may_differ(config: LoopConfig, run: Path) -> frozenset[str]:
    """The keys in which a run may differ from what it was started with; more of them where it gets more steps."""
    planned = planned_steps(run)
    return MAY_DIFFER | LENGTHENED if planned is not None and config.max_steps > planned else MAY_DIFFER


def is_complete(config: LoopConfig, command: str) -> bool:
    """Whether a run has nothing left to do, and if so says it: in a moment, before an engine is opened.

    RunError where the folder holds a run with another configuration.
    """
    path = run_path(config, command)
    if config.resume == "never" or not has_begun(path):
        return False
    check_config(path, {"command": command, **chz.asdict(config)}, may_differ(config, path))
    last = last_checkpoint(path)
    if last is None or not last.final:
        return False
    ended_early = last.loop_state.get("loop", {}).get("ended") and stops_early(config)
    longer = config.max_steps > (planned_steps(path) or 0)
    if last.step < config.max_steps and (longer or not ended_early):
        return False
    print(f"{path.absolute()} is complete: {last.step} steps are done")
    if len([c for c in read_checkpoints(path) if c.exists]) > config.keep_checkpoints:
        settings = {"command": command, **chz.asdict(config)}
        with RunFolder.create(path, settings, may_differ=may_differ(config, path)) as run:
            prune(run, config)  # a kill behind the last checkpoint may have left older ones
    return True


def prune(run: RunFolder, config: LoopConfig) -> None:
    """Delete the checkpoints, and what belongs to them, that are older than those to keep."""
    last = run.last_checkpoint()
    best = last.loop_state.get("loop", {}).get("best", {}).get("step") if last else None
    run.prune(config.keep_checkpoints, best_step=best)
    prune_positions(run.path, {c.loop_state["data"] for c in run.checkpoints() if not c.pruned})


def planned_steps(run: Path) -> int | None:
    """The max_steps that a run was last started with; None where there is no run."""
    return read_config(run).get("max_steps") if (run / "config.json").is_file() else None


def begin_branch(config: LoopConfig, command: str) -> None:
    """For from=RUN: make the run folder as a copy of that run, unless the branch has begun already."""
    if config.branch_from:
        check_branch(config.branch_from, command)
    path = run_path(config, command)
    if config.branch_from and not (path / "config.json").is_file():
        begin = branch(config.branch_from, path, command)
        print(f"{path} branches from {config.branch_from} after {begin.step} steps")


def stops_early(config: LoopConfig) -> bool:
    """Whether a run may end before `max_steps`."""
    return bool(config.early_stop) or config.on_collapse == "stop"


def extension_text(config: LoopConfig, run: Path, done: int) -> str:
    """What becomes of the schedules of a run that is given more steps, in words."""
    text = f"{run}: {done} steps are done; extended to {config.max_steps}. "
    moving = "Learning rate and reward" if hasattr(config, "coord_tau") else "The learning rate"
    follow, stay = ("follow", "stay") if hasattr(config, "coord_tau") else ("follows", "stays")
    if config.schedule_length < config.max_steps:
        return text + f"{moving} {stay} as at step {config.schedule_length} (schedule_steps)"
    return text + (
        f"{moving} {follow} the share of the run that is done, now {done / config.schedule_length:.0%} of it; with "
        f"schedule_steps={done} lr_schedule=constant it would stay as it was"
    )


def as_begun(config: AnyLoopConfig, run: Path) -> AnyLoopConfig:
    """The configuration with what a run did before there was a key for it, where its folder is older than the key.

    Only for keys that are left at their defaults: one that is asked for and differs is refused as any other.
    """
    if not (run / "config.json").is_file():
        return config
    default = type(config)()
    older = older_values(read_config(run), chz.asdict(config))
    older = {key: value for key, value in older.items() if getattr(config, key) == getattr(default, key) != value}
    if older:
        said = ", ".join(f"{key}={value}" for key, value in older.items())
        print(f"{run} is older than these keys and goes on as it began: {said}")
    return chz.replace(config, **older) if older else config
