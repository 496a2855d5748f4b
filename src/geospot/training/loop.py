"""What a training loop stands on: its run folder, engine, data and held-out sets, opened in order and resumed."""

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import chz

from geospot._version import __version__
from geospot.asking.subject import check_model
from geospot.config import LoopConfig
from geospot.data.samples import Sample, SkipCounter
from geospot.data.sets import Sets, eval_options, held_out_samples, open_sets, train_options, worker_count
from geospot.data.stream import SampleStream
from geospot.engine.open import open_engine
from geospot.engine.protocols import SamplingClient, ServiceClient, TrainingClient
from geospot.engine.weights import weights_info
from geospot.engine.workload import Batch
from geospot.errors import DataError, Interrupted, RunError
from geospot.models.loading import load_processing
from geospot.models.prompt import Renderer
from geospot.progress import Progress
from geospot.runs.checkpoints import (
    Checkpoint,
    is_remote,
    last_checkpoint,
    load_position,
    save_position,
)
from geospot.runs.control import StopRequest
from geospot.runs.folder import RunFolder
from geospot.scoring.judge import Evaluation
from geospot.training.batches import Batches
from geospot.training.estimate import workload
from geospot.training.guards import Guard, begin_anew, constant_km, idle_text, signs
from geospot.training.held_out import evaluate, logged
from geospot.training.pools import Pools
from geospot.training.resume import extension_text, has_begun, may_differ, planned_steps, prune, run_path

# For save_every=0. A small model is saved in a blink: by the share alone a step of two seconds would be followed by a
# checkpoint each, and a demo of five minutes write gigabytes.
SAVING_SHARE = 0.05  # of the time
SAVING_APART_S = 60.0  # at least, which is what a kill may cost


@dataclass
class Loop:
    """A run that is open. Made by `open_loop`, which closes it."""

    config: LoopConfig
    run: RunFolder
    service: ServiceClient
    training: TrainingClient
    renderer: Renderer
    held_out: Mapping[str, Sequence[Sample]]
    batches: Batches
    stop: StopRequest
    revisions: Mapping[str, str | None]  # of the hub's repositories behind the data
    state: dict[str, Any]  # what checkpoints keep of the loop beside weights and data
    first_step: int  # steps done before this session
    extended: bool  # it had finished with fewer steps, and `first_step` was its end
    guard: Guard = field(init=False)
    _constant_km: dict[str, float] = field(init=False, default_factory=dict)
    _done: tuple[int, int] = field(init=False)  # steps done, and updates of the weights by then
    _doing: str = field(init=False, default="")  # beside what the engine is at
    _saved_step: int = field(init=False)
    _saved_at: float = field(init=False)
    _saving_s: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._saved_step, self._saved_at = self.first_step, time.monotonic()
        self._done = self.first_step, self.training.n_updates
        self.guard = Guard(self.config, self.state)
        self.stop.give_up, self.stop.waiting_for = self.service.interrupt, self.waiting_for

    def batch(self, step: int) -> list[Sample]:
        """The samples of a step. Where the reader fails, the steps since the last checkpoint are saved first."""
        self._doing = f"the pictures of step {step}"
        try:
            return self.batches.of(step)
        except Exception:
            if step > self._saved_step:
                self.save(step, forced=True)
            raise
        finally:
            self._doing = ""

    def waiting_for(self) -> str:
        """What a stop has to wait for, in words."""
        return self._doing or self.service.activity() or "the end of the step"

    def expect(self, trained: Batch, sampled: Batch | None = None) -> str:
        """A line on the memory that the run will need, if that is here; see `estimate.workload`."""
        first = self.batch(min(self.first_step, self.config.max_steps - 1))
        held_out = self.held_out.values()
        text = self.service.expect(workload(self.config, self.renderer, first, held_out, trained, sampled))
        return f"{text}\n" if text else ""

    def sampler(self) -> SamplingClient:
        """A sampling client on the weights as they are."""
        return self.training.save_weights_and_get_sampling_client().result()

    def is_eval_step(self, step: int) -> bool:
        """At the start, every `eval_every` steps and after the last one, also where a run that is extended ended."""
        if self.extended and step == self.first_step:
            return True
        return step % self.config.eval_every == 0 or step == self.config.max_steps

    def evaluate(self, step: int, sampler: SamplingClient) -> tuple[dict[str, float], list[Evaluation]]:
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
            if name not in self._constant_km:
                self._constant_km[name] = constant_km(evaluation)
            texts = [row["text"] for row in rows]
            metrics |= logged(evaluation) | signs(
                evaluation, texts, region=self.config.region, constant_km=self._constant_km[name]
            )
            evaluations.append(evaluation)
        best = self.guard.evaluated(step, next(iter(self.held_out), None), metrics)
        if best and self._saved_step < step < self.config.max_steps:
            self.save(step, forced=True)
        return metrics, evaluations

    def save(self, steps_done: int, *, final: bool = False, forced: bool = False) -> None:
        """Take a checkpoint if one is due after `steps_done` steps.

        After the last step one always is, since the evaluation behind it may fail.
        """
        self._done = steps_done, self.training.n_updates
        every, now = self.config.save_every, time.monotonic()
        apart_s = max(self._saving_s / SAVING_SHARE, SAVING_APART_S)
        due = steps_done % every == 0 if every else now - self._saved_at >= apart_s
        if not (due or final or forced or steps_done == self.config.max_steps):
            return
        path = self._weights_path(steps_done, final=final)
        position = self.batches.state(steps_done) | {"revisions": self.revisions}
        data = save_position(self.run.path, steps_done, position)
        sampler_path = None
        if final and is_remote(path):  # a service does not sample from what can be trained on
            sampler_path = self.training.save_weights_for_sampler(f"{steps_done:06d}").result().path
        state = {"data": data, "loop": self.state}
        self.run.add_checkpoint(steps_done, path, state, final=final, sampler_path=sampler_path)
        prune(self.run, self.config)
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

    def give_up(self) -> None:
        """After a step or an evaluation that was given up in the middle: save the step before it, and say so."""
        steps, updates = self._done
        if self.training.n_updates != updates:  # some of the step's updates are in the weights
            print(f"step {steps} was given up; the same command goes on from the checkpoint of step {self._saved_step}")
            return
        if steps > self._saved_step:
            self.save(steps, forced=True)
        print(f"stopped within step {steps}, which was given up; the same command goes on from there")

    def finish(self, steps: int | None = None) -> list[Evaluation]:
        """After the last step, or early after `steps`: the last evaluations and checkpoint; none for a stop request."""
        if self.stop.requested:
            return []
        if steps is None:
            steps = self.config.max_steps
        else:
            self.state["ended"] = True  # the same command leaves it so
        metrics, evaluations = self.evaluate(steps, self.sampler())
        self.run.log(steps, metrics)
        self.save(steps, final=True)
        if text := self.batches.report(steps):
            print(text)
        return evaluations


@contextmanager
def open_loop(config: LoopConfig, command: str, start_from: str | None) -> Generator[Loop]:
    """Open everything for a configuration whose engine is settled, and close it at the end.

    Weights: the run's last checkpoint, else `start_from`, else the model's own. What can be refused is refused first:
    before pictures are made and before there is a folder.
    """
    path = run_path(config, command)
    planned = planned_steps(path)
    longer = planned is not None and config.max_steps > planned
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
        about = {"geospot": __version__, "command": command, "run_id": run.run_id}
        service = stack.enter_context(
            open_engine(config, checkpoint_dir=str(run.path / "checkpoints"), name=run.path.name, about=about)
        )
        first_step, final = (last.step, last.final) if last else (0, False)
        if last and last.loop_state.get("loop", {}).pop("ended", None):  # it goes on: see `is_complete`
            begin_anew(last.loop_state["loop"])
        extended = final and first_step < config.max_steps
        if longer or extended:
            print(extension_text(config, path, first_step))
        run.rewind(first_step)
        training = _training_client(service, config, renderer, last.path if last else None, start_from)
        held_out = _read_held_out(config, sets)
        if held_out and (text := idle_text(config.early_stop, config.eval_every, config.max_steps)):
            print(text)
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
        lag = config.pools_lag
        pools = None if lag is None else Pools(config.seed, lag, position.get("pools"))
        batches = stack.enter_context(Batches(stream, renderer, config.pictures_per_step, first_step, pools))
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
            extended=extended,
        )
        try:
            yield loop
        except Interrupted:
            loop.give_up()


def _last_checkpoint(run: RunFolder) -> Checkpoint | None:
    last = run.last_checkpoint()
    if last is None and run.checkpoints():
        raise RunError(
            f"{run.path}: the checkpoints of this run are gone, and going on would begin it anew and wipe what it "
            "logged; put one back, or use another log_path"
        )
    return last


def _training_client(
    service: ServiceClient, config: LoopConfig, renderer: Renderer, resume_path: str | None, start_from: str | None
) -> TrainingClient:
    rank = config.rank
    if resume_path:
        return service.create_training_client_from_state_with_optimizer(resume_path).result()
    if not start_from:
        create = service.create_lora_training_client
        return create(config.model_name, rank=rank, seed=config.seed, parts=config.parts).result()
    check_model(start_from, config.model_name, renderer.processing.folder, base_url=config.base_url)
    theirs = weights_info(start_from, config.base_url).lora_rank
    if theirs is not None and theirs != rank:
        raise DataError(
            f"lora_rank={rank}: the checkpoint {start_from} has {theirs}; set lora_rank={theirs}, or export it as a "
            "whole model (geospot export form=merged) and give that folder as model_name"
        )
    return service.create_training_client_from_state(start_from, parts=config.parts).result()


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
