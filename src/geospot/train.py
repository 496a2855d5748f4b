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

import numpy as np

from geospot.answer import prompt_text
from geospot.cli import run_command
from geospot.config import MAY_DIFFER, LoopConfig, SftConfig, TrainConfig, default_log_path
from geospot.earth.distance import MAX_DISTANCE_KM
from geospot.earth.score import geoguessr_score
from geospot.errors import DataError
from geospot.models.loading import is_tiny
from geospot.progress import Progress
from geospot.reward import RewardConfig, RewardParts
from geospot.runs import last_checkpoint, plain_config, read_config
from geospot.sft import run as run_sft
from geospot.training.advantages import group_advantages
from geospot.training.estimate import grpo_estimate
from geospot.training.held_out import Evaluation
from geospot.training.loop import Batch, Loop, find_checkpoint, shown
from geospot.training.optim import learning_rate_at, peak_learning_rate
from geospot.training.rollout import Asked, Rollouts, log_rows, request_seed, score
from geospot.training.update import answer_logprobs, per_token, update

# What the tiny model's warm start does not share with the run behind it.
WARM_START = {"max_steps": 80, "batch_size": 64, "learning_rate": None, "log_to": (), "resume": "auto"}


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
