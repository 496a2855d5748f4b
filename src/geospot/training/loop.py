"""What a training loop stands on: its run folder, engine, data and held-out sets, opened in order and resumed."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chz

from geospot.asking.subject import check_model
from geospot.config import MAY_DIFFER, LoopConfig, default_log_path
from geospot.data.labels import LabelFiller
from geospot.data.samples import Sample, SkipCounter
from geospot.data.sets import Sets, eval_options, open_sets, train_options, worker_count
from geospot.data.stream import SampleStream
from geospot.engine import open_engine, settle_engine
from geospot.errors import DataError, RunError
from geospot.models.loading import load_processing
from geospot.models.prompt import Renderer
from geospot.progress import Progress
from geospot.runs.checkpoints import last_checkpoint, read_checkpoints
from geospot.runs.control import StopRequest
from geospot.runs.folder import RunFolder
from geospot.runs.positions import load_position, prune_positions, save_position
from geospot.training.held_out import EvalSet, Evaluation, evaluate, load_eval_set, rollout_rows

SAVING_SHARE = 0.05  # of the time, for save_every=0


@dataclass(frozen=True)
class Batch:
    """The samples of a step, and where the data stands behind them."""

    samples: list[Sample]
    data_state: dict
    skipped: SkipCounter


class Loop:
    """Opened by `Loop.open`; a context manager that closes what it opened."""

    def __init__(self, config: LoopConfig, command: str):
        self.config, self.command = config, command
        self._stack = ExitStack()
        self._saving_s, self._saved_at = 0.0, time.monotonic()
        self._step, self._begun = 0, False  # the step at hand, and whether training has begun on its batch

    @classmethod
    def open(cls, config: LoopConfig, command: str, start_from: Callable[[], str | None]) -> "Loop":
        """Open everything. Weights: the run's last checkpoint, else what `start_from()` names, else the model's own.

        `start_from` is asked only where a run begins: one that goes on needs its own checkpoint alone.
        """
        loop = cls(config, command)
        with loop._stack:
            loop._open(start_from)
            loop._stack = loop._stack.pop_all()
        return loop

    def _open(self, start_from: Callable[[], str | None]) -> None:
        # What can be refused is refused first: before pictures are made and before there is a folder.
        config = self.config = settle_engine(self.config)
        stack = self._stack
        log_path = config.log_path or default_log_path(self.command, config.model_name)
        begun = (Path(log_path) / "checkpoints.jsonl").is_file() and read_checkpoints(log_path)
        weights = None if begun else start_from()
        processing = load_processing(config.model_name)
        self.renderer = Renderer(processing, max_pixels=config.max_pixels)
        position = self._saved_position(Path(log_path)) if begun else {}
        sets = open_sets(config, position.get("revisions"))
        settings = {"command": self.command, **chz.asdict(config)}
        self.run = stack.enter_context(
            RunFolder.create(log_path, settings, resume=config.resume, log_to=config.log_to, may_differ=MAY_DIFFER)
        )
        last = self.run.last_checkpoint()
        if last is None and self.run.checkpoints():
            raise RunError(
                f"{self.run.path}: the checkpoints of this run are gone, and going on would begin it anew and wipe "
                "what it logged; put one back, or use another log_path"
            )
        self.service = stack.enter_context(open_engine(config, checkpoint_dir=str(self.run.path / "checkpoints")))
        self.first_step = last.step if last else 0
        self.finished = bool(last and last.final)  # its steps and its last evaluation
        if not self.finished:
            self.run.rewind(self.first_step)
        self.training = self._training_client(last.path if last else None, weights)
        state = last.loop_state if last else {}
        self.state: dict[str, Any] = state.get("loop", {"start_from": weights})
        self.eval_sets = self._load_eval_sets(sets)
        # Closed last opened first: the stream, which wakes a reader that waits for a sample, then the reader.
        self._reader = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="geospot-data"))
        self._next: Future | None = None
        self.stream = stack.enter_context(
            SampleStream(
                sets.train,
                seed=config.seed,
                buffer=config.shuffle_buffer,
                options=train_options(config, sets, [s for eval_set in self.eval_sets for s in eval_set.samples]),
                views=config.views,
                workers=worker_count(config),
                open_parts=config.open_shards,
                start=position.get("stream"),
            )
        )
        self.labels = LabelFiller()
        self._revisions = sets.revisions()
        self._data_state, self.skipped = self.stream.state(), self.stream.skipped.copy()
        self.stop = stack.enter_context(StopRequest())

    @staticmethod
    def _saved_position(run: Path) -> dict:
        last = last_checkpoint(run)
        return load_position(run, last.loop_state["data"]) if last else {}

    def _load_eval_sets(self, sets: Sets) -> list[EvalSet]:
        config, bad = self.config, SkipCounter()
        options, workers = eval_options(config, sets), worker_count(config)
        loaded = []
        for name, source in sets.held_out.items():
            total, slow = config.eval_places or None, sets.split or source.remote
            with Progress(f"reading the held-out set {name}", total=total) if slow else nullcontext() as bar:
                told = {"views": config.views, "workers": workers, "advance": bar and bar.advance}
                loaded.append(load_eval_set(name, source, config.eval_places, bad, options=options, **told))
        if bad:
            print(f"held-out samples skipped: {bad}")
        return loaded

    def _training_client(self, resume_path: str | None, start_from: str | None):
        name, rank = self.config.model_name, self.config.rank
        if resume_path:
            return self.service.create_training_client_from_state_with_optimizer(resume_path).result()
        if not start_from:
            return self.service.create_lora_training_client(name, rank=rank, seed=self.config.seed).result()
        check_model(start_from, name, self.renderer.processing.folder, base_url=self.config.base_url)
        training = self.service.create_training_client_from_state(start_from).result()
        if (theirs := training.get_info().lora_rank) != rank:
            raise DataError(f"lora_rank={rank}: the checkpoint {start_from} has {theirs}; set lora_rank={theirs}")
        return training

    def __enter__(self) -> "Loop":
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.__exit__(*exc)  # an engine that is left by an error does no more than it is at

    def report_data(self) -> None:
        """Print what was skipped and what was found in the labels."""
        if self.skipped:
            print(f"samples skipped: {self.skipped}")
            for reason, told in self.skipped.examples.items():
                print(f"  {reason}, for example: {told[0]}")
        if retries := self.stream.source.retries:
            print("the network: " + ", ".join(f"{what} {n}" for what, n in retries.most_common()))
        if self.labels.changed:
            print(f"labels of the samples read in this session:\n{self.labels.report.summary()}")

    def steps(self) -> Iterator[int]:
        """The steps to do. After each a checkpoint, if one is due; no more of them once somebody asks to stop.

        One is due after the last step, too: the evaluation behind it may fail.
        """
        for step in range(self.first_step, self.config.max_steps):
            self._step, self._begun = step, False
            yield step
            stopping = self.stop.requested  # looked at once: what is asked for while this one is saved stops the next
            self.save(step + 1, forced=stopping or step + 1 == self.config.max_steps)
            if stopping:
                print(f"stopped after step {step}; the same command goes on from there")
                return

    def finish(self) -> list[Evaluation]:
        """After the last step: the final evaluations and checkpoint; none where the run was stopped before it."""
        if self.stop.requested:
            return []
        metrics, evaluations = self.evaluate(self.config.max_steps, self.sampler())
        self.run.log(self.config.max_steps, metrics)
        self.save(self.config.max_steps, final=True)
        self.report_data()
        return evaluations

    def sampler(self):
        """A sampling client on the weights as they are."""
        return self.training.save_weights_and_get_sampling_client().result()

    def next_batch(self) -> list[Sample]:
        """The samples of a step; the next step's are read meanwhile. `skipped` counts what this far was unusable."""
        batch = self.take()
        self.begin(batch)
        return batch.samples

    def peek(self) -> list[Sample]:
        """The samples that come next, which stay next."""
        self._next = self._next or self._reader.submit(self._read)
        return self._next.result().samples

    def take(self) -> Batch:
        """The next batch, of which training may begin later (`begin`); the one after it is read meanwhile."""
        pending = self._next or self._reader.submit(self._read)
        try:
            batch = pending.result()
        except DataError:
            if not self._begun and self._step > self.first_step:
                self.save(self._step, forced=True)  # the steps since the last checkpoint are not lost with the data
            raise
        self._next = self._reader.submit(self._read)
        return batch

    def begin(self, batch: Batch) -> None:
        """Training on this batch begins: a checkpoint after it goes on behind it."""
        self._begun = True
        self._data_state, self.skipped = batch.data_state, batch.skipped

    def data_metrics(self) -> dict[str, int]:
        """What has been skipped since the run began, for the log."""
        return {"samples_skipped": self.skipped.total()}

    def _read(self) -> Batch:
        # All three in the reader's thread, which by the time they are used is at the next batch.
        samples = self.labels(self.stream.take(self.config.batch_size))
        for sample in samples:
            for picture in sample.pictures:
                with suppress(ValueError):  # said where it is used
                    self.renderer.image_chunk(picture)  # kept by the renderer: rendered while the engine works
        return Batch(samples, self.stream.state(), self.stream.skipped.copy())

    def is_eval_step(self, step: int) -> bool:
        """At the start, every `eval_every` steps and after the last one."""
        return step % self.config.eval_every == 0 or step == self.config.max_steps

    def evaluate(self, step: int, sampler) -> tuple[dict[str, float], list[Evaluation]]:
        """Evaluate on every held-out set; returns what to log. The answers go into the run folder."""
        metrics: dict[str, float] = {}
        evaluations = [self._evaluate_one(step, sampler, eval_set) for eval_set in self.eval_sets]
        for evaluation in evaluations:
            metrics |= evaluation.logged()
        return metrics, evaluations

    def _evaluate_one(self, step: int, sampler, eval_set: EvalSet) -> Evaluation:
        with Progress(f"evaluating {eval_set.name} before step {step}", total=len(eval_set.samples)) as bar:
            evaluation = evaluate(
                sampler,
                self.renderer,
                eval_set,
                max_tokens=self.config.max_tokens,
                region=self.config.region,
                advance=bar.advance,
            )
        self.run.add_rollouts(step, rollout_rows(evaluation))
        return evaluation

    def save(self, steps_done: int, *, final: bool = False, forced: bool = False) -> None:
        """Take a checkpoint if one is due after `steps_done` steps."""
        every, now = self.config.save_every, time.monotonic()
        due = steps_done % every == 0 if every else self._saving_s <= SAVING_SHARE * (now - self._saved_at)
        if not (due or final or forced):
            return
        ttl = None if final else self.config.ttl_seconds
        path = self.training.save_state(f"{steps_done:06d}", ttl_seconds=ttl, overwrite=True).result().path
        position = save_position(self.run.path, steps_done, {"stream": self._data_state, "revisions": self._revisions})
        self.run.add_checkpoint(steps_done, path, {"data": position, "loop": self.state}, final=final)
        self.run.prune(self.config.keep_checkpoints)
        prune_positions(self.run.path, {c.loop_state["data"] for c in self.run.checkpoints() if not c.pruned})
        self._saved_at = time.monotonic()
        self._saving_s = self._saved_at - now


def shown(metrics: dict) -> dict:
    """What the progress bar shows of an evaluation."""
    return {"median_km": metrics["eval/median_km"]} if "eval/median_km" in metrics else {}
