"""What `dry_run=true` says of a training run: everything is opened and checked, little is computed, nothing is kept."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import chz
import numpy as np

from geospot.answer import prompt_text
from geospot.asking.requests import Asked
from geospot.config import LoopConfig, TrainConfig
from geospot.engine.open import settle_engine
from geospot.runs.branch import check_branch
from geospot.runs.checkpoints import find_checkpoint, last_checkpoint
from geospot.runs.folder import check_config
from geospot.training.datums import supervised_datum
from geospot.training.loop import Loop, open_loop
from geospot.training.resume import AnyLoopConfig, as_begun, has_begun, may_differ, run_path

PICTURES = 4  # that the time is measured on


def dry_run(
    config: AnyLoopConfig,
    command: str,
    start_checkpoint: Callable[[AnyLoopConfig], str | None],
    estimate: Callable[[Loop, AnyLoopConfig], str],
) -> None:
    """Open the data, the model and the engine as the run would, in a folder that is deleted; say what it will take."""
    path = run_path(config, command)
    config = as_begun(settle_engine(config), path)
    done = run_state(config, path, command)
    if config.branch_from and not has_begun(path):
        check_branch(config.branch_from, command)
        start = find_checkpoint(config.branch_from)
        print(f"branch      begins with the weights in {start}")
    else:
        start = None if has_begun(path) else start_checkpoint(config)
    with tempfile.TemporaryDirectory(prefix="geospot-dry-run-") as scratch:
        alone = chz.replace(config, log_path=str(Path(scratch) / "run"), log_to=(), resume="auto", branch_from=None)
        with open_loop(alone, command, start) as loop:
            sets = ", ".join(f"{name} {len(samples):,} places" for name, samples in loop.held_out.items())
            print(f"model       {config.model_name} on engine={config.engine}: opened")
            print(f"data        {config.data}: a first batch of {len(loop.batch(0))} pictures was read")
            print(f"held out    {sets or 'nothing'}")
            print(estimate(loop, chz.replace(alone, max_steps=max(1, config.max_steps - done))))
            if config.engine == "local":
                print(time_text(loop, config, config.max_steps - done))
        loop.stop.obey()
    print("dry run: nothing was written")


def run_state(config: LoopConfig, path: Path, command: str) -> int:
    """Say what the run folder is; returns how many steps are done. RunError where the run would be refused."""
    if not has_begun(path):
        print(f"run folder  {path}: a new run of {config.max_steps} steps")
        return 0
    check_config(path, {"command": command, **chz.asdict(config)}, may_differ(config, path))
    last = last_checkpoint(path)
    done = 0 if last is None else last.step
    print(f"run folder  {path}: {done} of {config.max_steps} steps are done; the run goes on from there")
    return done


def time_text(loop: Loop, config: LoopConfig, steps: int) -> str:
    """How long a step takes on this machine, measured on a few pictures, and all that are left."""
    samples = loop.batch(0)[:PICTURES]
    question = prompt_text(region=config.region)
    many = config.group_size if isinstance(config, TrainConfig) else 1
    started = time.monotonic()
    answers = Asked(
        loop.sampler(), loop.renderer, samples, question, num_samples=many, seeds=list(range(len(samples))),
        max_tokens=config.max_tokens,
    ).collect()  # fmt: skip
    sampled_s = (time.monotonic() - started) / (len(samples) * many)
    data = [
        supervised_datum(answers.prompts[i // many], list(sequence.tokens), 1.0)
        for i, sequence in enumerate(answers.sequences)
        if sequence.tokens
    ]
    started = time.monotonic()
    loop.training.forward_backward(data, "cross_entropy").result()
    trained_s = (time.monotonic() - started) / max(1, len(data))
    held_out = sum(len(samples) for samples in loop.held_out.values())
    step_s = step_seconds(config, sampled_s, trained_s)
    evaluations = int(np.ceil(steps / config.eval_every)) + 1 if steps > 0 else 0
    total_s = max(0, steps) * step_s + evaluations * held_out * sampled_s
    return (
        f"time        about {step_s:.3g} s per step and {held_out * sampled_s:.3g} s per evaluation, "
        f"{_duration(total_s)} in all on this machine, from a measurement on {len(samples)} pictures"
    )


def step_seconds(config: LoopConfig, sampled_s: float, trained_s: float) -> float:
    """How long a step takes where sampling an answer, and a pass over one, take so many seconds."""
    if not isinstance(config, TrainConfig):
        return config.batch_size * trained_s
    per_picture = config.num_epochs * config.batch_size * trained_s + config.pictures_per_step * sampled_s
    return config.group_size * per_picture


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
