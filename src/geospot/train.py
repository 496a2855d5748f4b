"""GRPO with a reward that tightens: ask, score, compare within the group, update, log.

    python -m geospot.train max_steps=100

Where this departs from textbook GRPO (Shao et al., arXiv 2402.03300), and why:

- Advantages are not divided by the group's standard deviation by default: the division blows up groups whose answers
  hardly differ (Liu et al., arXiv 2503.20783).
- The loss is averaged over the tokens of all answers of a minibatch, not over each answer first: long answers are not
  favoured.
- There is no KL term to a reference model by default (`kl_coef`), and no pass for the "old" log-probabilities: those
  that the sampler reported are the ones in the ratio.
- A step whose rewards differ in no group leaves the weights alone, unless `kl_coef` holds them to the start.
- The reward moves: tau and the weights follow the share of the run that is done (`geospot.reward`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import chz

from geospot.answer import prompt_text
from geospot.asking.requests import Asked, request_seed
from geospot.cli import run_command
from geospot.config import LoopConfig, SftConfig, TrainConfig, default_log_path
from geospot.curves import OwnCurve, load_curve
from geospot.engine.open import settle_engine
from geospot.engine.workload import Batch
from geospot.errors import RunError
from geospot.models.loading import is_tiny
from geospot.progress import Progress
from geospot.reward import ADAPTIVE, AdaptiveTau, RewardConfig
from geospot.runs.checkpoints import find_checkpoint, last_checkpoint
from geospot.runs.config import MAY_DIFFER, plain_config
from geospot.runs.folder import read_config
from geospot.scoring.judge import Evaluation
from geospot.sft import fit as fit_sft
from geospot.training.advantages import group_advantages, groups_to_learn_from
from geospot.training.closing import closing
from geospot.training.estimate import Work, estimate_text, prompt_tokens
from geospot.training.loop import Clock, Loop, open_loop, shown
from geospot.training.optim import learning_rate_at, peak_learning_rate
from geospot.training.resume import as_begun, begin_branch, has_begun, is_complete, run_path
from geospot.training.rollout import log_rows, reward_metrics, score
from geospot.training.update import per_token, reference_sampler, update

if TYPE_CHECKING:
    from geospot.engine.protocols import SamplingClient

# What the tiny model's warm start does not share with the run behind it: it is no run that must not degenerate yet.
WARM_START = {
    "max_steps": 320, "batch_size": 16, "learning_rate": None, "log_to": (), "resume": "auto", "early_stop": 0,
    "on_collapse": "warn",
}  # fmt: skip


def run(config: TrainConfig) -> list[Evaluation]:
    """Train and print what came of it; returns the final evaluations (none if the run had finished before)."""
    evaluations = fit(config)
    print(closing(run_path(config, "train"), "train", config))
    return evaluations


def fit(config: TrainConfig) -> list[Evaluation]:
    """Train; returns the final evaluations, none if the run had finished before. Raises Stopped if asked to stop."""
    begin_branch(config, "train")
    config = settle_engine(config)
    config = as_begun(config, run_path(config, "train"))
    if is_complete(config, "train"):
        return []
    begun = has_begun(run_path(config, "train"))
    if not begun:
        warm_start(config)
    start_from = None if begun else start_checkpoint(config)
    with (
        open_loop(config, "train", start_from) as loop,
        Progress("GRPO", total=config.max_steps, initial=min(loop.first_step, config.max_steps)) as bar,
    ):
        print(estimate(loop, config))
        evaluations = grpo(loop, config, bar)
    loop.stop.obey()
    return evaluations


def grpo(loop: Loop, config: TrainConfig, bar: Progress) -> list[Evaluation]:
    """The algorithm, step by step: sample, score, advantage, update, log, save."""
    reward_config = config.reward_config()
    peak = peak_learning_rate(config, loop.state, begun=loop.first_step > 0, tiny=3e-4, adapter=4e-5)
    reference = None
    if config.kl_coef:
        reference = reference_sampler(loop.service, loop.training, loop.run.path, loop.state)
    keep_curve(reward_config, loop.state)
    adaptive = adaptive_tau(reward_config, loop.state)
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
        progress = min(step / (config.schedule_length - 1), 1.0) if config.schedule_length > 1 else 1.0
        weights = reward_config.at(progress, adaptive.tau_km if adaptive else None)
        parts = score(rollouts, weights, region=config.region)
        rewards_BG = parts.total.reshape(-1, config.group_size)
        advantages_BG = group_advantages(
            rewards_BG,
            divide_by_std=config.divide_by_std,
            leave_one_out=config.leave_one_out,
        )
        token_advantages, kl_metrics = per_token(rollouts, advantages_BG.ravel().tolist(), reference, config)
        loop.batches.learn(step, rollouts.samples, rewards_BG, advantages_BG)
        clock.lap("reward")

        # Update.
        rate = learning_rate_at(config, peak, step)
        learned = None
        if config.oversample > 1 or not advantages_BG.any():
            learned = groups_to_learn_from(advantages_BG, config.batch_size, held=config.kl_coef > 0)
        update_metrics = update(
            loop.training, rollouts, token_advantages, step, rate, config, on_policy=on_policy, groups=learned
        )
        clock.lap("update")

        if adaptive:
            adaptive.follow(parts.distance_km)

        # Log and save.
        loop.run.add_rollouts(step, log_rows(rollouts, "train", parts, advantages_BG.ravel()))
        metrics |= reward_metrics(parts, advantages_BG, rollouts, weights) | update_metrics | kl_metrics
        metrics |= loop.batches.metrics(step + 1)
        metrics |= {"requests_retried": rollouts.requests_retried, "requests_lost": rollouts.requests_lost}
        loop.run.log(step, metrics | clock.metrics())
        loop.guard.stepped(metrics)
        bar.advance(1, **{key: metrics[key] for key in ("reward", "tau_km") if key in metrics}, **shown(metrics))
        stopping = loop.stop.requested  # looked at once: what is asked for during the save stops the next step
        loop.save(step + 1, forced=stopping)
        if stopping:
            print(f"stopped after step {step}; the same command goes on from there")
            return []
        if step + 1 < config.max_steps and (reason := loop.guard.reason_to_stop()):
            print(f"ended after step {step}: {reason}")
            return loop.finish(step + 1)
    return loop.finish()


def keep_curve(config: RewardConfig, state: dict[str, Any]) -> None:
    """Note what a person's own curve returns; RunError where a run goes on and its function has changed meanwhile."""
    curve, before = load_curve(config.reward_curve), state.pop("curve", None)
    if isinstance(curve, OwnCurve):
        taus_km = list(config.tried_taus_km)
        now = {"name": curve.name, "taus_km": taus_km, "fingerprint": curve.fingerprint(taus_km)}
        if before and before != now | {"fingerprint": before["fingerprint"]}:
            before = None  # a branch with another curve, or other ends of tau
        if before and before != now:
            raise RunError(
                f"reward_curve={curve.name}: returns other values than when this run began; put the function back, or "
                "give the new one another name and branch from the run (from=RUN reward_curve=...)"
            )
        state["curve"] = now


def adaptive_tau(config: RewardConfig, state: dict[str, Any]) -> AdaptiveTau | None:
    """The tau that follows the policy, where the run has one; what it has seen is part of the run's saved state."""
    if config.tau_schedule != ADAPTIVE:
        return None
    adaptive = AdaptiveTau(config, state.get("adaptive_tau"))
    state["adaptive_tau"] = adaptive.state
    return adaptive


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
    asked, answers = config.pictures_per_step, config.group_size * config.pictures_per_step
    learned = config.group_size * config.batch_size
    prompt = prompt_tokens(loop.renderer, loop.batch(loop.first_step), prompt_text(region=config.region))
    work = Work(
        steps=config.max_steps - loop.first_step,
        requests=asked,
        prefilled=asked * prompt,
        sampled=answers * config.max_tokens,
        trained=learned * config.num_epochs * (prompt + config.max_tokens),
    )
    trained = Batch(-(-config.batch_size // config.num_substeps), prompt, config.max_tokens, config.group_size)
    sampled = Batch(asked, prompt, config.max_tokens, config.group_size)
    return loop.expect(trained, sampled) + estimate_text(work, config)


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

    A person who stops it stops the run behind it, too: Stopped.
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


def is_finished(run: str) -> bool:
    """Whether the run has done all its steps."""
    return (last := last_checkpoint(run)) is not None and last.final


def is_warm_start(config: TrainConfig, run: str) -> bool:
    """Whether the run is one that `warm_start(config)` has begun."""
    there, wanted = read_config(run), plain_config(warm_start_settings(config))
    return all(there.get(key) == wanted[key] for key in wanted.keys() - MAY_DIFFER - {"engine"})


def warm_start_settings(config: TrainConfig) -> dict[str, Any]:
    """A short supervised run of the tiny model, on the same data."""
    return {name: getattr(config, name) for name in chz.chz_fields(LoopConfig)} | WARM_START


def check(config: TrainConfig) -> None:
    """What `dry_run=true` does: open everything, estimate, keep nothing."""
    from geospot.training.rehearsal import dry_run

    dry_run(config, "train", start_checkpoint, estimate)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    run_command("train", TrainConfig, run, argv, dry_run=check)


if __name__ == "__main__":
    main()
