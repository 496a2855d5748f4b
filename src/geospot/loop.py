"""What a training loop stands on: its run folder, engine, data and held-out sets, opened in order and resumed."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import chz

from geospot.config import MAY_DIFFER, LoopConfig, default_log_path
from geospot.data.bluemarble import ensure_shards
from geospot.data.labels import LabelFiller
from geospot.data.samples import Sample, SkipCounter
from geospot.data.shards import DataError, ShardStream, find_shards
from geospot.data.world import WorldConfig
from geospot.engine import open_engine, read_spec, resolve_device
from geospot.evaluate import EvalSet, Evaluation, evaluate, load_eval_set, rollout_rows
from geospot.files import RunFolderError
from geospot.models.loading import load_processing
from geospot.models.prompt import Renderer
from geospot.progress import Progress
from geospot.runs import RunFolder, StopRequest, read_checkpoints

SAVING_SHARE = 0.05  # of the time, for save_every=0


class Loop:
    """Opened by `Loop.open`; a context manager that closes what it opened."""

    def __init__(self, config: LoopConfig, command: str):
        self.config, self.command = config, command
        self._stack = ExitStack()
        self._saving_s, self._saved_at = 0.0, time.monotonic()

    @classmethod
    def open(cls, config: LoopConfig, command: str, start_from: Callable[[], str | None]) -> "Loop":
        """Open everything. Weights: the run's last checkpoint, else what `start_from()` names, else the model's own.

        `start_from` is asked only where a run begins: one that goes on needs its own checkpoint alone.
        """
        loop = cls(config, command)
        try:
            loop._open(start_from)
        except BaseException:
            loop._stack.close()
            raise
        return loop

    def _open(self, start_from: Callable[[], str | None]) -> None:
        config, stack = self.config, self._stack
        # What can be refused is refused first: before pictures are made and before there is a folder.
        resolve_device(config.device)
        log_path = config.log_path or default_log_path(self.command, config.model_name)
        begun = (Path(log_path) / "checkpoints.jsonl").is_file() and read_checkpoints(log_path)
        weights = None if begun else start_from()
        processing = load_processing(config.model_name)
        self.renderer = Renderer(processing, max_pixels=config.max_pixels)
        train_source, eval_sources = data_sources(config)
        shards = find_shards(train_source)
        check_apart(config, shards, eval_sources)
        settings = {"command": self.command, **chz.asdict(config)}
        self.run = stack.enter_context(
            RunFolder.create(log_path, settings, resume=config.resume, log_to=config.log_to, may_differ=MAY_DIFFER)
        )
        last = self.run.last_checkpoint()
        if last is None and self.run.checkpoints():
            raise RunFolderError(
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
        self.stream = ShardStream(shards, seed=config.seed, buffer=config.shuffle_buffer, start=state.get("data"))
        self.labels = LabelFiller()
        self._data_state, self.skipped = self.stream.state(), self.stream.skipped.copy()
        self._reader = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="geospot-data"))
        self._next: Future | None = None
        bad = SkipCounter()
        self.eval_sets = [load_eval_set(name, s, config.eval_places, bad) for name, s in eval_sources.items()]
        if bad:
            print(f"held-out samples skipped: {bad}")
        self.stop = stack.enter_context(StopRequest())

    def _training_client(self, resume_path: str | None, start_from: str | None):
        name, rank = self.config.model_name, self.config.rank
        if resume_path:
            return self.service.create_training_client_from_state_with_optimizer(resume_path).result()
        if not start_from:
            return self.service.create_lora_training_client(name, rank=rank, seed=self.config.seed).result()
        check_model(start_from, name, self.renderer.processing.folder)
        training = self.service.create_training_client_from_state(start_from).result()
        if (theirs := training.get_info().lora_rank) != rank:
            raise DataError(f"lora_rank={rank}: the checkpoint {start_from} has {theirs}; set lora_rank={theirs}")
        return training

    def __enter__(self) -> "Loop":
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def report_data(self) -> None:
        """Print what was skipped and what was found in the labels."""
        if self.skipped:
            print(f"samples skipped: {self.skipped}")
        if self.labels.changed:
            print(f"labels of the samples read in this session:\n{self.labels.report.summary()}")

    def steps(self) -> Iterator[int]:
        """The steps to do. After each a checkpoint, if one is due; no more of them once somebody asks to stop."""
        for step in range(self.first_step, self.config.max_steps):
            yield step
            self.save(step + 1)
            if self.stop.requested:
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
        pending = self._next or self._reader.submit(self._read)
        samples, self._data_state, self.skipped = pending.result()
        self._next = self._reader.submit(self._read)
        return samples

    @property
    def data_position(self) -> tuple:
        """How far the data is read, for a checkpoint: set it back where a batch was read ahead of its step."""
        return self._data_state, self.skipped

    @data_position.setter
    def data_position(self, position: tuple) -> None:
        self._data_state, self.skipped = position

    def data_metrics(self) -> dict[str, int]:
        """What has been skipped since the run began, for the log."""
        return {"samples_skipped": self.skipped.total()}

    def _read(self) -> tuple[list[Sample], dict, SkipCounter]:
        # All three in the reader's thread, which by the time they are used is at the next batch.
        samples = self.labels(self.stream.take(self.config.batch_size))
        return samples, self.stream.state(), self.stream.skipped.copy()

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

    def save(self, steps_done: int, *, final: bool = False) -> None:
        """Take a checkpoint if one is due after `steps_done` steps, always at the end or when asked to stop."""
        every, now = self.config.save_every, time.monotonic()
        due = steps_done % every == 0 if every else self._saving_s <= SAVING_SHARE * (now - self._saved_at)
        if not (due or final or self.stop.requested):
            return
        path = self.training.save_state(f"{steps_done:06d}", overwrite=True).result().path
        loop_state = {"data": self._data_state, "loop": self.state}
        self.run.add_checkpoint(steps_done, path, loop_state, final=final)
        self.run.prune(self.config.keep_checkpoints)
        self._saved_at = time.monotonic()
        self._saving_s = self._saved_at - now


def data_sources(config: LoopConfig) -> tuple[str, dict[str, str]]:
    """The training shards and the held-out sets (name -> shards) of a config; makes the Blue Marble's if need be."""
    train, held_out = config.data, {}
    if config.data == "bluemarble":
        world = WorldConfig(width_km=config.zoom_km)
        folders = {name: str(path) for name, path in ensure_shards(world, n_train=config.train_places).items()}
        train, held_out = folders.pop("train"), folders
    if config.eval_data == "none":
        held_out = {}
    elif config.eval_data != "auto":
        held_out = {"eval": config.eval_data}
    elif not held_out:
        print("no held-out set: give eval_data=SHARDS to see how the model does on pictures it has not trained on")
    return train, held_out


def check_apart(config: LoopConfig, shards: list[str], eval_sources: dict[str, str]) -> None:
    """DataError where a held-out shard is missing, or is trained on too (a folder is searched with all below it)."""
    held_out = {Path(s).resolve() for source in eval_sources.values() for s in find_shards(source, "eval_data")}
    if both := [shard for shard in shards if Path(shard).resolve() in held_out]:
        raise DataError(
            f"data={config.data!r}: {len(both)} of its shards are held out by eval_data={config.eval_data!r}, the "
            f"first {both[0]}; give a folder, glob or list without them"
        )


def shown(metrics: dict) -> dict:
    """What the progress bar shows of an evaluation."""
    return {"median_km": metrics["eval/median_km"]} if "eval/median_km" in metrics else {}


def held_out_sets(data: str, zoom_km: float) -> dict[str, str]:
    """Name -> shards of what `geospot eval data=...` evaluates on; `zoom_km` is of the Blue Marble's pictures."""
    if data == "bluemarble":
        return {name: str(path) for name, path in ensure_shards(WorldConfig(width_km=zoom_km), n_train=0).items()}
    return {"eval": data}


def find_checkpoint(path: str) -> str:
    """The weights behind a path: a checkpoint, or the newest checkpoint of a run folder."""
    folder = Path(path).expanduser()
    if (folder / "checkpoints.jsonl").is_file():
        usable = [c for c in read_checkpoints(folder) if c.kind == "state" and c.exists]
        if not usable:
            raise DataError(f"checkpoint={path!r}: the run has no checkpoint left; start it again to go on")
        return usable[-1].path
    if (folder / "state.json").is_file():
        return str(folder)
    raise DataError(f"checkpoint={path!r}: neither a run folder (checkpoints.jsonl) nor a checkpoint (state.json)")


def check_model(checkpoint: str, *names: str) -> None:
    """DataError where a checkpoint was trained on another model than any of these names (or folders) of one."""
    theirs = read_spec(checkpoint)[0].base_model
    if theirs not in names:
        raise DataError(
            f"model_name={names[0]!r}: the checkpoint {checkpoint} is of {theirs!r}; set model_name={theirs}"
        )
