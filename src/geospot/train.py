"""GRPO with a reward that tightens: ask, score, compare within the group, update, log.

    python -m geospot.train max_steps=100

Where this departs from textbook GRPO (Shao et al., arXiv 2402.03300), and why:

- Advantages are not divided by the group's standard deviation by default: the division blows up groups whose answers
  hardly differ (Liu et al., arXiv 2503.20783).
- The loss is averaged over the tokens of all answers of a minibatch, not over each answer first: long answers are not
  favoured.
- There is no KL term to a reference model by default (`kl_coef`), and no pass for the "old" log-probabilities: those
  that the sampler reported are the ones in the ratio.
- The reward moves: tau and the weights follow the share of the run that is done (`geospot.reward`).
"""

import shutil
import time
from contextlib import suppress
from pathlib import Path

import chz
import numpy as np

from geospot.answer import prompt_text
from geospot.asking.requests import Asked, Rollouts, request_seed
from geospot.config import MAY_DIFFER, LoopConfig, default_log_path, not_negative, positive, run_command
from geospot.earth.distance import MAX_DISTANCE_KM
from geospot.earth.score import geoguessr_score
from geospot.engine.losses import LOSS_CONFIG
from geospot.errors import DataError
from geospot.models.loading import is_tiny
from geospot.progress import Progress
from geospot.reward import RewardConfig, RewardParts
from geospot.runs.checkpoints import find_checkpoint, last_checkpoint
from geospot.runs.config import plain_config
from geospot.runs.folder import read_config
from geospot.sft import SftConfig
from geospot.sft import run as run_sft
from geospot.training.advantages import group_advantages
from geospot.training.estimate import grpo_estimate
from geospot.training.held_out import Evaluation
from geospot.training.loop import Batch, Loop, shown
from geospot.training.optim import learning_rate_at, peak_learning_rate
from geospot.training.rollout import log_rows, score
from geospot.training.update import answer_logprobs, per_token, update

LOSSES = ("importance_sampling", "ppo", "cispo")
# What the tiny model's warm start does not share with the run behind it.
WARM_START = {"max_steps": 80, "batch_size": 64, "learning_rate": None, "log_to": (), "resume": "auto"}


@chz.chz
class TrainConfig(LoopConfig):
    """GRPO with hierarchical geodesic tightening."""

    checkpoint: str = chz.field(
        default="auto",
        doc="run folder or checkpoint to start from; auto: the model's SFT run in runs/; none: the model itself",
    )
    group_size: int = chz.field(default=16, doc="answers a picture")
    num_substeps: int = chz.field(
        default=1, doc="minibatches, each with an optimizer step, in a pass over a step's answers"
    )
    num_epochs: int = chz.field(default=1, doc="passes over a step's answers, with the sampler's logprobs frozen")
    loss: str = chz.field(
        default="auto",
        doc="importance_sampling, ppo or cispo; auto: ppo where answers are reused or old, else importance_sampling",
    )
    clip_low: float | None = chz.field(
        default=None, doc="ratio below which the loss is clipped; none: 0.8 (ppo), 0 (cispo)"
    )
    clip_high: float | None = chz.field(
        default=None, doc="ratio above which the loss is clipped; none: 1.2 (ppo), 4 (cispo)"
    )
    divide_by_std: bool = chz.field(default=False, doc="divide advantages by the group's standard deviation")
    leave_one_out: bool = chz.field(default=False, doc="baseline: the mean of the other answers of the group")
    overlap: bool = chz.field(
        default=False,
        doc="ask for a step's answers while the update before it is still at work: faster, and one step off-policy",
    )
    min_group_share: float = chz.field(
        default=0.8, doc="of a step's pictures that must be answered; requests that fail twice are left out and counted"
    )
    kl_coef: float = chz.field(
        default=0.0, doc="penalty on KL to the weights at the start of the run, in reward a token"
    )
    max_mismatch_kl: float = chz.field(
        default=0.1, doc="stop if sampler and trainer disagree by more than this KL on the first minibatch of a step"
    )

    coord_tau_start: float = chz.field(default=2000.0, doc="tau at the start, km")
    coord_tau: float = chz.field(default=25.0, doc="tau at the end, km (geometric in between)")
    coord_weight_start: float = chz.field(default=0.3, doc="weight of exp(-km/tau) at the start")
    coord_weight: float = chz.field(default=0.7, doc="weight of exp(-km/tau) at the end (linear in between)")
    hierarchy_weight_start: float = chz.field(
        default=0.7 / 3, doc="weight of each of country, region, city at the start"
    )
    hierarchy_weight: float = chz.field(default=0.1, doc="weight of each of country, region, city at the end")
    format_weight: float = chz.field(default=0.0, doc="reward of an answer that can be read at all")

    def reward_config(self) -> RewardConfig:
        """The reward's knobs; ValueError where they do not fit together."""
        names = RewardConfig.__dataclass_fields__
        return RewardConfig(**{name: getattr(self, name) for name in names})

    @chz.validate
    def _check_train(self):
        positive(self, "group_size", "num_substeps", "num_epochs", "max_mismatch_kl")
        not_negative(self, "kl_coef")
        if not 0 < self.min_group_share <= 1:
            raise ValueError(f"min_group_share={self.min_group_share}: must be above 0 and at most 1")
        if self.group_size < 2:
            raise ValueError(f"group_size={self.group_size}: must be at least 2, or there is nothing to compare with")
        if self.num_substeps > self.batch_size:
            raise ValueError(f"num_substeps={self.num_substeps}: must be at most batch_size={self.batch_size}")
        if self.loss not in ("auto", *LOSSES):
            raise ValueError(f"loss={self.loss!r}: must be auto, {', '.join(LOSSES)}")
        if not LOSS_CONFIG[self.loss_fn] and (self.clip_low, self.clip_high) != (None, None):
            raise ValueError(
                f"clip_low={self.clip_low}, clip_high={self.clip_high}: {self.loss_fn} does not clip; set loss=ppo or "
                "loss=cispo"
            )
        if self.clips[0] >= self.clips[1]:
            raise ValueError(f"clip_low={self.clips[0]}: must be below clip_high={self.clips[1]}")
        self.reward_config()

    @property
    def loss_fn(self) -> str:
        """The loss by name: an unclipped ratio has no bound once the weights have moved."""
        reused = self.num_substeps * self.num_epochs > 1 or self.overlap
        return self.loss if self.loss != "auto" else "ppo" if reused else "importance_sampling"

    @property
    def clips(self) -> tuple[float, float]:
        """Bounds of the ratio; (0, inf) for the loss without."""
        known = LOSS_CONFIG[self.loss_fn]
        low = known.get("clip_low_threshold", 0.0) if self.clip_low is None else self.clip_low
        high = known.get("clip_high_threshold", np.inf) if self.clip_high is None else self.clip_high
        return low, high

    @property
    def loss_fn_config(self) -> dict[str, float] | None:
        """What goes with the loss to the engine."""
        if not LOSS_CONFIG[self.loss_fn]:
            return None
        return dict(zip(("clip_low_threshold", "clip_high_threshold"), self.clips, strict=True))


def run(config: TrainConfig) -> list[Evaluation]:
    """Train; returns the final evaluations (none if the run had finished before)."""
    reward_config, peak = config.reward_config(), peak_learning_rate(config, tiny=3e-4, otherwise=4e-5)
    with (
        Loop.open(config, "train", lambda: start_checkpoint(config)) as loop,
        Progress("GRPO", total=config.max_steps, initial=min(loop.first_step, config.max_steps)) as bar,
    ):
        if loop.finished:
            print(f"{loop.run.path} is complete: {config.max_steps} steps are done")
            return []
        print(grpo_estimate(loop, config))
        reference = reference_sampler(loop) if config.kl_coef else None
        ahead: Ahead | None = None

        def shows_requests(finished: int, in_flight: int) -> None:
            bar.show(sampled=finished, in_flight=in_flight)

        for step in loop.steps():
            clock = Clock()
            sampler = loop.sampler()
            metrics = loop.evaluate(step, sampler)[0] if loop.is_eval_step(step) else {}
            clock.lap("eval")
            progress = step / (config.max_steps - 1) if config.max_steps > 1 else 1.0
            on_policy = ahead is None
            batch, asked = ahead or ask_ahead(sampler, loop, step)
            loop.begin(batch)
            clock.lap("data")
            rollouts = asked.collect(min_share=config.min_group_share, on_progress=shows_requests)
            bar.show(sampled=None, in_flight=None)
            clock.lap("sample")
            ahead = None
            if config.overlap and step + 1 < config.max_steps and not loop.stop.requested:
                with suppress(DataError):  # the next step meets it again, once this one is done and can be saved
                    ahead = ask_ahead(sampler, loop, step + 1)
            parts = score(rollouts, progress, reward_config)
            advantages_BG = group_advantages(
                parts.total.reshape(-1, config.group_size),
                divide_by_std=config.divide_by_std,
                leave_one_out=config.leave_one_out,
            )
            token_advantages, kl_metrics = per_token(rollouts, advantages_BG.ravel(), reference, config)
            clock.lap("reward")
            rate = learning_rate_at(config, peak, step)
            update_metrics = update(loop.training, rollouts, token_advantages, step, rate, config, on_policy=on_policy)
            clock.lap("update")
            loop.run.add_rollouts(step, log_rows(rollouts, "train", parts, advantages_BG.ravel()))
            metrics |= reward_metrics(parts, advantages_BG, rollouts, reward_config, progress)
            metrics |= update_metrics | kl_metrics | loop.data_metrics()
            metrics |= {"requests_retried": rollouts.requests_retried, "requests_lost": rollouts.requests_lost}
            loop.run.log(step, metrics | clock.metrics())
            bar.advance(1, reward=metrics["reward"], tau_km=metrics["tau_km"], **shown(metrics))
        return loop.finish()


def start_checkpoint(config: TrainConfig) -> str | None:
    """The weights to start from, or None for the model's own."""
    if config.checkpoint == "none":
        return None
    if config.checkpoint != "auto":
        return find_checkpoint(config.checkpoint)
    sft, tiny = default_log_path("sft", config.model_name), is_tiny(config.model_name)
    begun = (Path(sft) / "checkpoints.jsonl").is_file()
    if not begun and not tiny:
        print(f"no SFT run in {sft}: starting from {config.model_name} itself, which may not know the answer's form")
        return None
    if not begun:
        print(f"no SFT run in {sft}: {config.model_name} gets a short one first, or no answer could be read")
        warm_start(config, sft)
    elif tiny and not is_finished(sft) and is_warm_start(config, sft):
        print(f"going on with the short SFT run in {sft}")
        warm_start(config, sft)
    print(f"starting from the SFT run in {sft}{'' if is_finished(sft) else ', which is not finished'}")
    return find_checkpoint(sft)


def is_finished(run: str) -> bool:
    """Whether the run has done all its steps."""
    return (last := last_checkpoint(run)) is not None and last.final


def is_warm_start(config: TrainConfig, run: str) -> bool:
    """Whether the run is one that `warm_start(config)` has begun."""
    there, wanted = read_config(run), plain_config(warm_start_settings(config))
    return all(there.get(key) == wanted[key] for key in wanted.keys() - MAY_DIFFER - {"engine"})


def warm_start_settings(config: TrainConfig) -> dict:
    """Eighty supervised steps for the tiny model, on the same data."""
    return {name: getattr(config, name) for name in LoopConfig.__chz_fields__} | WARM_START


def warm_start(config: TrainConfig, folder: str) -> None:
    """Do them, or what is left of them."""
    run_sft(SftConfig(**warm_start_settings(config) | {"log_path": folder}))
    if not is_finished(folder):
        raise KeyboardInterrupt


def reference_sampler(loop: Loop):
    """The weights at the start of the run, for the KL term; kept with the run, so that a resumed one has the same."""
    folder = loop.run.path / "checkpoints" / "reference"
    if "reference" not in loop.state:
        shutil.rmtree(folder, ignore_errors=True)  # left by a start that was killed before its first checkpoint
        loop.state["reference"] = loop.training.save_weights_for_sampler("reference").result().path
    path = str(folder) if folder.is_dir() else loop.state["reference"]  # the run may have been moved
    return loop.service.create_sampling_client(model_path=path).result()


Ahead = tuple[Batch, Asked]


def ask_ahead(sampler, loop: Loop, step: int) -> Ahead:
    """Ask for `group_size` answers to each picture of a step."""
    config, batch = loop.config, loop.take()
    seeds = [request_seed(config.seed, step, i) for i in range(len(batch.samples))]
    return batch, Asked(
        sampler,
        loop.renderer,
        batch.samples,
        prompt_text(region=config.region),
        num_samples=config.group_size,
        seeds=seeds,
        max_tokens=config.max_tokens,
    )


def reward_metrics(
    parts: RewardParts, advantages_BG, rollouts: Rollouts, reward_config: RewardConfig, progress: float
) -> dict[str, float]:
    """What the step's answers earned, by part, beside measures that do not move with tau. See docs/metrics.md."""
    rewards_BG, weights = parts.total.reshape(advantages_BG.shape), reward_config.at(progress)
    km = np.where(np.isnan(parts.distance_km), MAX_DISTANCE_KM, parts.distance_km)
    logprobs = np.concatenate([answer_logprobs(sequence) for sequence in rollouts.sequences])
    out = {f"reward_{name}": getattr(parts, name) for name in ("coordinate", "country", "region", "city", "format")}
    out = {name: float(np.nanmean(v)) if not np.isnan(v).all() else float("nan") for name, v in out.items()}
    return out | {
        "reward": float(parts.total.mean()),
        "reward_std_in_group": float(rewards_BG.std(axis=1).mean()),
        "groups_without_signal": float((~advantages_BG.any(axis=1)).mean()),
        "tau_km": weights.tau_km,
        "coord_weight": weights.coordinate,
        "hierarchy_weight": weights.hierarchy,
        "train/median_km": float(np.median(km)),
        "train/geoguessr_score": float(geoguessr_score(parts.distance_km).mean()),
        "train/best_of_group_km": float(np.median(km.reshape(advantages_BG.shape).min(axis=1))),
        "entropy": float(-logprobs.mean()) if len(logprobs) else float("nan"),
        "answer_tokens": float(np.mean([len(s.tokens) for s in rollouts.sequences])),
        "answers_cut_off": float(np.mean([s.stop_reason == "length" for s in rollouts.sequences])),
    }


class Clock:
    """Seconds between laps, by name."""

    def __init__(self):
        self._at = self._start = time.monotonic()
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Name the time since the lap before."""
        now = time.monotonic()
        self._laps[name], self._at = now - self._at, now

    def metrics(self) -> dict[str, float]:
        """time/<lap> and time/step, seconds."""
        return {f"time/{name}": s for name, s in self._laps.items()} | {"time/step": time.monotonic() - self._start}


def main(argv=None) -> None:
    """The command line."""
    run_command("train", TrainConfig, run, argv)


if __name__ == "__main__":
    main()
