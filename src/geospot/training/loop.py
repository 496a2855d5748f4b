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
from geospot.runs.checkpoints import Checkpoint, last_checkpoint, read_checkpoints
from geospot.runs.control import StopRequest
from geospot.runs.folder import RunFolder
from geospot.runs.positions import load_position, prune_positions, save_position
from geospot.scoring.judge import Evaluation
from geospot.training.batches import Batches
from geospot.training.held_out import evaluate, logged

if TYPE_CHECKING:
    from tinker import SamplingClient, ServiceClient, TrainingClient

SAVING_SHARE = 0.05  # of the time, for save_every=0


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
    finished: bool  # all steps, and the evaluation after the last one
    _saved_step: int = field(init=False)
    _saved_at: float = field(init=False, default_factory=time.monotonic)
    _saving_s: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._saved_step = self.first_step

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
        """At the start, every `eval_every` steps and after the last one."""
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
        due = steps_done % every == 0 if every else self._saving_s <= SAVING_SHARE * (now - self._saved_at)
        if not (due or final or forced or steps_done == self.config.max_steps):
            return
        ttl = None if final else self.config.ttl_seconds
        path = self.training.save_state(f"{steps_done:06d}", ttl_seconds=ttl, overwrite=True).result().path
        position = {"stream": self.batches.position(steps_done).stream, "revisions": self.revisions}
        data = save_position(self.run.path, steps_done, position)
        self.run.add_checkpoint(steps_done, path, {"data": data, "loop": self.state}, final=final)
        self.prune()
        self._saved_step, self._saved_at = steps_done, time.monotonic()
        self._saving_s = self._saved_at - now

    def prune(self) -> None:
        """Delete the checkpoints, and what belongs to them, that are older than those to keep."""
        self.run.prune(self.config.keep_checkpoints)
        prune_positions(self.run.path, {c.loop_state["data"] for c in self.run.checkpoints() if not c.pruned})

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


@contextmanager
def open_loop(config: LoopConfig, command: str, start_from: str | None) -> Iterator[Loop]:
    """Open everything for a configuration whose engine is settled, and close it at the end.

    Weights: the run's last checkpoint, else `start_from`, else the model's own. What can be refused is refused first:
    before pictures are made and before there is a folder.
    """
    path = run_path(config, command)
    renderer = Renderer(load_processing(config.model_name), max_pixels=config.max_pixels)
    before = last_checkpoint(path) if has_begun(path) else None
    position = load_position(path, before.loop_state["data"]) if before else {}
    sets = open_sets(config, position.get("revisions"))
    with ExitStack() as stack:
        settings = {"command": command, **chz.asdict(config)}
        run = stack.enter_context(RunFolder.create(path, settings, resume=config.resume, log_to=config.log_to))
        last = _last_checkpoint(run)
        # An engine that is left by an error does no more than it is at.
        service = stack.enter_context(open_engine(config, checkpoint_dir=str(run.path / "checkpoints")))
        first_step, finished = (last.step, last.final) if last else (0, False)
        if not finished:
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
        loop = Loop(
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
            finished=finished,
        )
        if finished:  # a kill behind the last checkpoint may have left older ones
            loop.prune()
        yield loop


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
