"""What a training loop stands on: its run folder, engine, data and held-out sets, opened in order and resumed."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import chz

from geospot.asking.subject import check_model
from geospot.config import LoopConfig, default_log_path
from geospot.data.held_out import held_out_samples
from geospot.data.samples import Sample, SkipCounter
from geospot.data.sets import Sets, eval_options, open_sets, train_options, worker_count
from geospot.data.stream import SampleStream
from geospot.engine import open_engine
from geospot.errors import DataError, RunError
from geospot.models.loading import load_processing
from geospot.models.prompt import Renderer
from geospot.progress import Progress
from geospot.runs.branch import branch, check_branch
from geospot.runs.checkpoints import (
    Checkpoint,
    is_remote,
    last_checkpoint,
    load_position,
    prune_positions,
    read_checkpoints,
    save_position,
)
from geospot.runs.config import LENGTHENED, MAY_DIFFER
from geospot.runs.control import StopRequest
from geospot.runs.folder import RunFolder, check_config, read_config
from geospot.scoring.judge import Evaluation
from geospot.training.batches import Batches
from geospot.training.held_out import evaluate, logged

if TYPE_CHECKING:
    from tinker import SamplingClient, ServiceClient, TrainingClient

# For save_every=0. A small model is saved in a blink: by the share alone a step of two seconds would be followed by a
# checkpoint each, and a demo of five minutes write gigabytes.
SAVING_SHARE = 0.05  # of the time
SAVING_APART_S = 60.0  # at least, which is what a kill may cost


@dataclass
class Loop:
    """A run that is open. Made by `open_loop`, which closes it."""

    config: LoopConfig
    run: RunFolder
    service: "ServiceClient"
    training: "TrainingClient"
    renderer: Renderer
    held_out: Mapping[str, Sequence[Sample]]
    batches: Batches
    stop: StopRequest
    revisions: Mapping[str, str | None]  # of the hub's repositories behind the data
    state: dict[str, Any]  # what checkpoints keep of the loop beside weights and data
    first_step: int  # steps done before this session
    extended: bool  # it had finished with fewer steps, and `first_step` was its end
    _saved_step: int = field(init=False)
    _saved_at: float = field(init=False)
    _saving_s: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._saved_step, self._saved_at = self.first_step, time.monotonic()

    def batch(self, step: int) -> list[Sample]:
        """The samples of a step. Where the reader fails, the steps since the last checkpoint are saved first."""
        try:
            return self.batches.of(step)
        except Exception:
            if step > self._saved_step:
                self.save(step, forced=True)
            raise

    def sampler(self) -> "SamplingClient":
        """A sampling client on the weights as they are."""
        return self.training.save_weights_and_get_sampling_client().result()

    def is_eval_step(self, step: int) -> bool:
        """At the start, every `eval_every` steps and after the last one, also where a run that is extended ended."""
        if self.extended and step == self.first_step:
            return True
        return step % self.config.eval_every == 0 or step == self.config.max_steps

    def evaluate(self, step: int, sampler: "SamplingClient") -> tuple[dict[str, float], list[Evaluation]]:
        """Evaluate on every held-out set; returns what to log. The answers go into the run folder."""
        metrics: dict[str, float] = {}
        evaluations = []
        for name, samples in self.held_out.items():
            with Progress(f"evaluating {name} before step {step}", total=len(samples)) as bar:
                evaluation, rows = evaluate(
                    sampler, self.renderer, name, samples, max_tokens=self.config.max_tokens,
                    region=self.config.region, advance=bar.advance,
                )  # fmt: skip
            self.run.add_rollouts(step, rows)
            metrics |= logged(evaluation)
            evaluations.append(evaluation)
        return metrics, evaluations

    def save(self, steps_done: int, *, final: bool = False, forced: bool = False) -> None:
        """Take a checkpoint if one is due after `steps_done` steps.

        After the last step one always is, since the evaluation behind it may fail.
        """
        every, now = self.config.save_every, time.monotonic()
        apart_s = max(self._saving_s / SAVING_SHARE, SAVING_APART_S)
        due = steps_done % every == 0 if every else now - self._saved_at >= apart_s
        if not (due or final or forced or steps_done == self.config.max_steps):
            return
        path = self._weights_path(steps_done, final=final)
        position = {"stream": self.batches.position(steps_done).stream, "revisions": self.revisions}
        data = save_position(self.run.path, steps_done, position)
        self.run.add_checkpoint(steps_done, path, {"data": data, "loop": self.state}, final=final)
        self.run.prune(self.config.keep_checkpoints)
        prune_positions(self.run.path, {c.loop_state["data"] for c in self.run.checkpoints() if not c.pruned})
        self._saved_step, self._saved_at = steps_done, time.monotonic()
        self._saving_s = self._saved_at - now

    def _weights_path(self, steps_done: int, *, final: bool) -> str:
        """Where the weights and the optimizer after `steps_done` steps are kept; written unless they are there.

        The final checkpoint is that of the last step, which was taken before the evaluation; of a service's it is taken
        again, to stay for good.
        """
        before = self.run.last_checkpoint()
        if (
            final
            and before is not None
            and before.step == self._saved_step == steps_done
            and not is_remote(before.path)
        ):
            return before.path
        ttl = None if final else self.config.ttl_seconds
        return self.training.save_state(f"{steps_done:06d}", ttl_seconds=ttl, overwrite=True).result().path

    def finish(self) -> list[Evaluation]:
        """After the last step: the final evaluations and checkpoint; none where somebody asked to stop before."""
        if self.stop.requested:
            return []
        steps = self.config.max_steps
        metrics, evaluations = self.evaluate(steps, self.sampler())
        self.run.log(steps, metrics)
        self.save(steps, final=True)
        if text := self.batches.report(steps):
            print(text)
        return evaluations


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
    if last is None or not last.final or last.step < config.max_steps:
        return False
    print(f"{path.absolute()} is complete: {config.max_steps} steps are done")
    return True


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


@contextmanager
def open_loop(config: LoopConfig, command: str, start_from: str | None) -> Iterator[Loop]:
    """Open everything for a configuration whose engine is settled, and close it at the end.

    Weights: the run's last checkpoint, else `start_from`, else the model's own. What can be refused is refused first:
    before pictures are made and before there is a folder.
    """
    path = run_path(config, command)
    longer = planned_steps(path) is not None and config.max_steps > planned_steps(path)
    renderer = Renderer(load_processing(config.model_name), max_pixels=config.max_pixels)
    before = last_checkpoint(path) if has_begun(path) else None
    position = load_position(path, before.loop_state["data"]) if before else {}
    sets = open_sets(config, position.get("revisions"))
    with ExitStack() as stack:
        settings = {"command": command, **chz.asdict(config)}
        run = stack.enter_context(
            RunFolder.create(
                path, settings, resume=config.resume, may_differ=may_differ(config, path), log_to=config.log_to
            )
        )
        last = _last_checkpoint(run)
        # An engine that is left by an error does no more than it is at.
        service = stack.enter_context(open_engine(config, checkpoint_dir=str(run.path / "checkpoints")))
        first_step, final = (last.step, last.final) if last else (0, False)
        extended = final and first_step < config.max_steps
        if longer or extended:
            print(extension_text(config, path, first_step))
        run.rewind(first_step)
        training = _training_client(service, config, renderer, last.path if last else None, start_from)
        held_out = _read_held_out(config, sets)
        stream = SampleStream(
            sets.train,
            seed=config.seed,
            buffer=config.shuffle_buffer,
            options=train_options(config, sets, [sample for samples in held_out.values() for sample in samples]),
            views=config.views,
            workers=worker_count(config),
            open_parts=config.open_shards,
            start=position.get("stream"),
        )
        batches = stack.enter_context(Batches(stream, renderer, config.batch_size, first_step))
        yield Loop(
            config=config,
            run=run,
            service=service,
            training=training,
            renderer=renderer,
            held_out=held_out,
            batches=batches,
            stop=stack.enter_context(StopRequest()),
            revisions=sets.revisions(),
            state=last.loop_state.get("loop", {}) if last else {"start_from": start_from},
            first_step=first_step,
            extended=extended,
        )


def _last_checkpoint(run: RunFolder) -> Checkpoint | None:
    last = run.last_checkpoint()
    if last is None and run.checkpoints():
        raise RunError(
            f"{run.path}: the checkpoints of this run are gone, and going on would begin it anew and wipe what it "
            "logged; put one back, or use another log_path"
        )
    return last


def _training_client(
    service: "ServiceClient", config: LoopConfig, renderer: Renderer, resume_path: str | None, start_from: str | None
) -> "TrainingClient":
    rank = config.rank
    if resume_path:
        return service.create_training_client_from_state_with_optimizer(resume_path).result()
    if not start_from:
        return service.create_lora_training_client(config.model_name, rank=rank, seed=config.seed).result()
    check_model(start_from, config.model_name, renderer.processing.folder, base_url=config.base_url)
    training = service.create_training_client_from_state(start_from).result()
    if (theirs := training.get_info().lora_rank) != rank:
        raise DataError(f"lora_rank={rank}: the checkpoint {start_from} has {theirs}; set lora_rank={theirs}")
    return training


def _read_held_out(config: LoopConfig, sets: Sets) -> dict[str, list[Sample]]:
    bad, refuse = SkipCounter(), eval_options(config, sets).refuse
    found: dict[str, list[Sample]] = {}
    for name, source in sets.held_out.items():
        slow = sets.split or source.remote
        with (
            Progress(f"reading the held-out set {name}", total=config.eval_places or None)
            if slow
            else nullcontext(None) as bar
        ):
            found[name] = []
            for sample in held_out_samples(config, source, bad, refuse):
                found[name].append(sample)
                if bar:
                    bar.advance(1)
    if bad:
        print(f"held-out samples skipped: {bad}")
    return found


def shown(metrics: Mapping[str, float]) -> dict[str, float]:
    """What the progress bar shows of an evaluation."""
    return {"median_km": metrics["eval/median_km"]} if "eval/median_km" in metrics else {}


class Clock:
    """Seconds between laps, by name."""

    def __init__(self) -> None:
        self._at = self._start = time.monotonic()
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Name the time since the lap before."""
        now = time.monotonic()
        self._laps[name], self._at = now - self._at, now

    def metrics(self) -> dict[str, float]:
        """time/<lap> and time/step, seconds."""
        return {f"time/{name}": s for name, s in self._laps.items()} | {"time/step": time.monotonic() - self._start}
