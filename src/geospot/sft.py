"""Supervised warm start: learn to give the true answers in the answer's form.

python -m geospot.sft model_name=Qwen/Qwen2.5-VL-3B-Instruct max_steps=1000
"""

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from geospot.answer import format_answer, prompt_text
from geospot.cli import run_command
from geospot.config import SftConfig
from geospot.data.samples import Sample
from geospot.engine.open import settle_engine
from geospot.engine.workload import Batch
from geospot.models.prompt import Renderer
from geospot.progress import Progress
from geospot.runs.checkpoints import find_checkpoint
from geospot.scoring.judge import Evaluation
from geospot.training.closing import closing
from geospot.training.datums import supervised_datum
from geospot.training.estimate import Work, estimate_text, prompt_tokens
from geospot.training.loop import Loop, open_loop, shown
from geospot.training.optim import adam, learning_rate_at, peak_learning_rate
from geospot.training.resume import begin_branch, has_begun, is_complete, run_path

if TYPE_CHECKING:
    from tinker import types


def run(config: SftConfig) -> list[Evaluation]:
    """Train and print what came of it; returns the final evaluations (none if the run had finished before)."""
    evaluations = fit(config)
    print(closing(run_path(config, "sft"), "sft", config))
    return evaluations


def fit(config: SftConfig) -> list[Evaluation]:
    """Train; returns the final evaluations, none if the run had finished before. Raises Stopped if asked to stop."""
    begin_branch(config, "sft")
    config = settle_engine(config)
    if is_complete(config, "sft"):
        return []
    begun = has_begun(run_path(config, "sft"))
    start_from = None if begun or not config.checkpoint else find_checkpoint(config.checkpoint)
    with (
        open_loop(config, "sft", start_from) as loop,
        Progress("SFT", total=config.max_steps, initial=min(loop.first_step, config.max_steps)) as bar,
    ):
        print(estimate(loop, config))
        evaluations = supervise(loop, config, bar)
    loop.stop.obey()
    return evaluations


def supervise(loop: Loop, config: SftConfig, bar: Progress) -> list[Evaluation]:
    """The steps that are left, and the final evaluations; none where somebody asked to stop."""
    peak = peak_learning_rate(config, loop.state, begun=loop.first_step > 0, tiny=1e-3, adapter=2e-4)
    for step in range(loop.first_step, config.max_steps):
        started = time.monotonic()
        metrics = loop.evaluate(step, loop.sampler())[0] if loop.is_eval_step(step) else {}
        data, n_tokens = supervised_batch(loop.renderer, loop.batch(step), config)
        rate = learning_rate_at(config, peak, step)
        # Both requests are in flight before the first result is read.
        forward = loop.training.forward_backward(data, "cross_entropy")
        taken = loop.training.optim_step(adam(config, rate))
        loss = forward.result().metrics.get("loss:sum", math.nan)  # not every server says it
        metrics |= taken.result().metrics or {}
        metrics |= {
            "loss": loss,
            "learning_rate": rate,
            "answer_tokens": n_tokens,
            **loop.batches.metrics(step + 1),
            "step_seconds": time.monotonic() - started,
        }
        loop.run.log(step, metrics)
        bar.advance(1, loss=loss, **shown(metrics))
        stopping = loop.stop.requested  # looked at once: what is asked for during the save stops the next step
        loop.save(step + 1, forced=stopping)
        if stopping:
            print(f"stopped after step {step}; the same command goes on from there")
            return []
        if step + 1 < config.max_steps and (reason := loop.guard.reason_to_stop()):
            print(f"ended after step {step}: {reason}")
            return loop.finish(step + 1)
    return loop.finish()


def supervised_batch(
    renderer: Renderer, samples: Sequence[Sample], config: SftConfig
) -> "tuple[list[types.Datum], int]":
    """Datums whose summed loss is the mean over answer tokens, and how many tokens that are."""
    question = prompt_text(region=config.region)
    pairs = []
    for sample in samples:
        target = format_answer(sample.place, decimals=config.decimals, region=config.region)
        pairs.append((renderer.prompt(sample.pictures, question), renderer.answer_tokens(target)))
    n_tokens = sum(len(answer) for _, answer in pairs)
    return [supervised_datum(prompt, answer, 1.0 / n_tokens) for prompt, answer in pairs], n_tokens


def estimate(loop: Loop, config: SftConfig) -> str:
    """What is left of the run will ask for, in words."""
    if loop.first_step >= config.max_steps:
        return estimate_text(Work(steps=0), config)
    samples = loop.batch(loop.first_step)
    data, n_tokens = supervised_batch(loop.renderer, samples, config)
    prompt = prompt_tokens(loop.renderer, samples, prompt_text(region=config.region))
    longest = max(datum.model_input.length for datum in data) - prompt
    work = Work(config.max_steps - loop.first_step, trained=config.batch_size * prompt + n_tokens)
    return loop.expect(Batch(len(data), prompt, longest)) + estimate_text(work, config)


def check(config: SftConfig) -> None:
    """What `dry_run=true` does: open everything, estimate, keep nothing."""
    from geospot.training.rehearsal import dry_run

    dry_run(config, "sft", lambda c: find_checkpoint(c.checkpoint) if c.checkpoint else None, estimate)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    run_command("sft", SftConfig, run, argv, dry_run=check)


if __name__ == "__main__":
    main()
