"""Supervised warm start: learn to give the true answers in the answer's form.

python -m geospot.sft model_name=Qwen/Qwen2.5-VL-3B-Instruct max_steps=1000
"""

import math
import time

import chz
from tinker import types

from geospot.answer import format_answer, prompt_text
from geospot.config import LoopConfig, run_command
from geospot.progress import Progress
from geospot.runs.checkpoints import find_checkpoint
from geospot.training.datums import supervised_datum
from geospot.training.estimate import Work, estimate_text, prompt_tokens
from geospot.training.held_out import Evaluation
from geospot.training.loop import Loop, shown
from geospot.training.optim import adam, learning_rate_at, peak_learning_rate


@chz.chz
class SftConfig(LoopConfig):
    """Supervised fine-tuning on true answers."""

    checkpoint: str | None = chz.field(default=None, doc="run folder or checkpoint whose weights to start from")
    decimals: int = chz.field(default=2, doc="of the coordinates in the targets, 2 to 4 (0.01 degrees are 1.1 km)")

    @chz.validate
    def _check_sft(self):
        if not 2 <= self.decimals <= 4:
            raise ValueError(f"decimals={self.decimals}: must be 2, 3 or 4")


def supervised_batch(renderer, samples, config: SftConfig) -> tuple[list[types.Datum], int]:
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
    samples = loop.peek()
    _, n_tokens = supervised_batch(loop.renderer, samples, config)
    trained = config.batch_size * prompt_tokens(loop, prompt_text(region=config.region)) + n_tokens
    return estimate_text(Work(steps=config.max_steps - loop.first_step, trained=trained), config)


def run(config: SftConfig) -> list[Evaluation]:
    """Train; returns the final evaluations (none if the run had finished before)."""
    peak = peak_learning_rate(config, tiny=1e-3, otherwise=2e-4)
    with (
        Loop.open(config, "sft", lambda: config.checkpoint and find_checkpoint(config.checkpoint)) as loop,
        Progress("SFT", total=config.max_steps, initial=min(loop.first_step, config.max_steps)) as bar,
    ):
        if loop.finished:
            print(f"{loop.run.path} is complete: {config.max_steps} steps are done")
            return []
        print(estimate(loop, config))
        for step in loop.steps():
            started = time.monotonic()
            metrics = {}
            if loop.is_eval_step(step):
                metrics, _ = loop.evaluate(step, loop.sampler())
            data, n_tokens = supervised_batch(loop.renderer, loop.next_batch(), config)
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
                **loop.data_metrics(),
                "step_seconds": time.monotonic() - started,
            }
            loop.run.log(step, metrics)
            bar.advance(1, loss=loss, **shown(metrics))
        return loop.finish()


def main(argv=None) -> None:
    """The command line."""
    run_command("sft", SftConfig, run, argv)


if __name__ == "__main__":
    main()
