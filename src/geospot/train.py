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

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import chz
import numpy as np

from geospot.answer import prompt_text
from geospot.asking.requests import Asked, request_seed
from geospot.config import LoopConfig, default_log_path, not_negative, positive, run_command
from geospot.engine import settle_engine
from geospot.engine.losses import LOSS_CONFIG
from geospot.models.loading import is_tiny
from geospot.progress import Progress
from geospot.reward import RewardConfig
from geospot.runs.checkpoints import find_checkpoint, last_checkpoint
from geospot.runs.config import MAY_DIFFER, plain_config
from geospot.runs.folder import read_config
from geospot.scoring.judge import Evaluation
from geospot.sft import SftConfig
from geospot.sft import fit as fit_sft
from geospot.training.advantages import group_advantages
from geospot.training.closing import closing
from geospot.training.estimate import Work, estimate_text, prompt_tokens
from geospot.training.loop import Clock, Loop, has_begun, open_loop, run_path, shown
from geospot.training.optim import learning_rate_at, peak_learning_rate
from geospot.training.rollout import log_rows, reward_metrics, score
from geospot.training.update import per_token, reference_sampler, update

if TYPE_CHECKING:
    from tinker import SamplingClient

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
    """Train and print what came of it; returns the final evaluations (none if the run had finished before)."""
    evaluations = fit(config)
    print(closing(run_path(config, "train"), "train", config))
    return evaluations


def fit(config: TrainConfig) -> list[Evaluation]:
    """Train; returns the final evaluations: none if the run had finished before, or was stopped."""
    config = settle_engine(config)
    begun = has_begun(run_path(config, "train"))
    if not begun:
        warm_start(config)
    start_from = None if begun else start_checkpoint(config)
    with (
        open_loop(config, "train", start_from) as loop,
        Progress("GRPO", total=config.max_steps, initial=min(loop.first_step, config.max_steps)) as bar,
    ):
        if loop.finished:
            print(f"{loop.run.path} is complete: {config.max_steps} steps are done")
            return []
        print(estimate(loop, config))
        return grpo(loop, config, bar)


def grpo(loop: Loop, config: TrainConfig, bar: Progress) -> list[Evaluation]:
    """The algorithm, step by step: sample, score, advantage, update, log, save."""
    reward_config, peak = config.reward_config(), peak_learning_rate(config, tiny=3e-4, otherwise=4e-5)
    reference = None
    if config.kl_coef:
        reference = reference_sampler(loop.service, loop.training, loop.run.path, loop.state)
    ahead: Asked | None = None  # this step's answers, where the step before asked for them
    for step in range(loop.first_step, config.max_steps):
        clock, sampler = Clock(), loop.sampler()
        metrics = loop.evaluate(step, sampler)[0] if loop.is_eval_step(step) else {}
        clock.lap("eval")

        # Sample: `group_size` answers to each picture.
        on_policy = ahead is None
        asked = ahead or ask(loop, config, sampler, step)
        clock.lap("data")
        rollouts = asked.collect(
            min_share=config.min_group_share,
            on_progress=lambda finished, in_flight: bar.show(sampled=finished, in_flight=in_flight),
        )
        bar.show(sampled=None, in_flight=None)
        clock.lap("sample")
        ahead = None
        more = config.overlap and step + 1 < config.max_steps and not loop.stop.requested
        if more and loop.batches.readable(step + 1):  # else the next step meets the error, once this one is done
            ahead = ask(loop, config, sampler, step + 1)

        # Score, and compare within the group.
        progress = step / (config.max_steps - 1) if config.max_steps > 1 else 1.0
        parts = score(rollouts, progress, reward_config)
        advantages_BG = group_advantages(
            parts.total.reshape(-1, config.group_size),
            divide_by_std=config.divide_by_std,
            leave_one_out=config.leave_one_out,
        )
        token_advantages, kl_metrics = per_token(rollouts, advantages_BG.ravel(), reference, config)
        clock.lap("reward")

        # Update.
        rate = learning_rate_at(config, peak, step)
        update_metrics = update(loop.training, rollouts, token_advantages, step, rate, config, on_policy=on_policy)
        clock.lap("update")

        # Log and save.
        loop.run.add_rollouts(step, log_rows(rollouts, "train", parts, advantages_BG.ravel()))
        metrics |= reward_metrics(parts, advantages_BG, rollouts, reward_config, progress) | update_metrics | kl_metrics
        metrics["samples_skipped"] = loop.batches.position(step + 1).skipped.total()
        metrics |= {"requests_retried": rollouts.requests_retried, "requests_lost": rollouts.requests_lost}
        loop.run.log(step, metrics | clock.metrics())
        bar.advance(1, reward=metrics["reward"], tau_km=metrics["tau_km"], **shown(metrics))
        stopping = loop.stop.requested  # looked at once: what is asked for during the save stops the next step
        loop.save(step + 1, forced=stopping)
        if stopping:
            print(f"stopped after step {step}; the same command goes on from there")
            return []
    return loop.finish()


def ask(loop: Loop, config: TrainConfig, sampler: "SamplingClient", step: int) -> Asked:
    """Ask for `group_size` answers to each picture of a step."""
    samples = loop.batch(step)
    return Asked(
        sampler,
        loop.renderer,
        samples,
        prompt_text(region=config.region),
        num_samples=config.group_size,
        seeds=[request_seed(config.seed, step, i) for i in range(len(samples))],
        max_tokens=config.max_tokens,
    )


def estimate(loop: Loop, config: TrainConfig) -> str:
    """What is left of the run will ask for, in words."""
    if loop.first_step >= config.max_steps:
        return estimate_text(Work(steps=0), config)
    answers = config.group_size * config.batch_size
    prompt = prompt_tokens(loop.renderer, loop.batch(loop.first_step), prompt_text(region=config.region))
    work = Work(
        steps=config.max_steps - loop.first_step,
        requests=config.batch_size,
        prefilled=config.batch_size * prompt,
        sampled=answers * config.max_tokens,
        trained=answers * config.num_epochs * (prompt + config.max_tokens),
    )
    return estimate_text(work, config)


def start_checkpoint(config: TrainConfig) -> str | None:
    """The weights to start from, or None for the model's own."""
    if config.checkpoint == "none":
        return None
    if config.checkpoint != "auto":
        return find_checkpoint(config.checkpoint)
    sft = default_log_path("sft", config.model_name)
    if not (Path(sft) / "checkpoints.jsonl").is_file():
        print(f"no SFT run in {sft}: starting from {config.model_name} itself, which may not know the answer's form")
        return None
    print(f"starting from the SFT run in {sft}{'' if is_finished(sft) else ', which is not finished'}")
    return find_checkpoint(sft)


def warm_start(config: TrainConfig) -> None:
    """The short SFT run that the tiny model needs where it has none, or what is left of it.

    A person who stops it stops the run behind it, too: KeyboardInterrupt.
    """
    sft = default_log_path("sft", config.model_name)
    if config.checkpoint != "auto" or not is_tiny(config.model_name):
        return
    if not (Path(sft) / "checkpoints.jsonl").is_file():
        print(f"no SFT run in {sft}: {config.model_name} gets a short one first, or no answer could be read")
    elif not is_finished(sft) and is_warm_start(config, sft):
        print(f"going on with the short SFT run in {sft}")
    else:
        return
    fit_sft(SftConfig(**warm_start_settings(config) | {"log_path": sft}))
    if not is_finished(sft):
        raise KeyboardInterrupt


def is_finished(run: str) -> bool:
    """Whether the run has done all its steps."""
    return (last := last_checkpoint(run)) is not None and last.final


def is_warm_start(config: TrainConfig, run: str) -> bool:
    """Whether the run is one that `warm_start(config)` has begun."""
    there, wanted = read_config(run), plain_config(warm_start_settings(config))
    return all(there.get(key) == wanted[key] for key in wanted.keys() - MAY_DIFFER - {"engine"})


def warm_start_settings(config: TrainConfig) -> dict[str, Any]:
    """Eighty supervised steps for the tiny model, on the same data."""
    return {name: getattr(config, name) for name in LoopConfig.__chz_fields__} | WARM_START


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    run_command("train", TrainConfig, run, argv)


if __name__ == "__main__":
    main()
