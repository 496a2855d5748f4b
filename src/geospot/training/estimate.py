"""What a run will ask of its engine, in requests, tokens and, where prices are given, money: said before it starts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from geospot.answer import prompt_text
from geospot.config import PRICES, LoopConfig
from geospot.data.samples import Sample
from geospot.engine.workload import Batch, Workload
from geospot.models.prompt import Renderer
from geospot.training.held_out import BATCH as EVALUATED

MEASURED = 16  # pictures whose prompts are rendered beforehand


@dataclass(frozen=True)
class Work:
    """Upper bounds of what one step asks for, evaluations left out; `steps` are those to do."""

    steps: int
    requests: int = 0  # of sampling
    prefilled: int = 0  # tokens of prompts that are sampled from
    sampled: int = 0  # tokens
    trained: int = 0  # tokens, prompts included


def prompt_tokens(renderer: Renderer, samples: Sequence[Sample], question: str) -> int:
    """The mean length of the prompts of the first pictures of a batch, in tokens."""
    lengths = [renderer.prompt(sample.pictures, question).length for sample in samples[:MEASURED]]
    return round(sum(lengths) / len(lengths))


def workload(
    config: LoopConfig,
    renderer: Renderer,
    first: Sequence[Sample],
    held_out: Iterable[Sequence[Sample]],
    trained: Batch,
    sampled: Batch | None = None,
) -> Workload:
    """What the engine will be asked for: the step's own batches (prompts not yet measured) and the evaluations'.

    Prompts are as long as the longest of the first pictures of the batch and of each held-out set.
    """
    question = prompt_text(region=config.region)
    prompt, picture = renderer.longest((sample.pictures for sample in first[:MEASURED]), question)
    batches, pictures = [], config.max_steps * config.pictures_per_step
    if sampled:
        batches.append(replace(sampled, prompt_tokens=prompt))
    for samples in held_out:
        longest, seen = renderer.longest((sample.pictures for sample in samples[:MEASURED]), question)
        batches.append(Batch(min(len(samples), EVALUATED), longest, config.max_tokens, greedy=True))
        pictures, picture = pictures + len(samples), max(picture, seen)
    return Workload(
        tuple(batches), replace(trained, prompt_tokens=prompt), pictures, picture,
        keeps_sampler=sampled is not None, saves=True,
    )  # fmt: skip


def estimate_text(work: Work, config: LoopConfig) -> str:
    """One line for people."""
    steps = work.steps
    parts = [f"{steps:,} step{'s' * (steps != 1)}"]
    if work.requests:
        parts.append(f"{steps * work.requests:,} sample requests")
        parts.append(f"{_millions(steps * work.prefilled)} prompt tokens")
        parts.append(f"up to {_millions(steps * work.sampled)} sampled")
    parts.append(f"up to {_millions(steps * work.trained)} trained")
    text = "this run, without its evaluations: " + ", ".join(parts)
    prices = [getattr(config, name) for name in PRICES]
    if any(price is not None for price in prices):
        tokens = (work.prefilled, work.sampled, work.trained)
        money = steps * sum(n * (price or 0.0) for n, price in zip(tokens, prices, strict=True)) / 1e6
        text += f"; at the prices given at most ${money:,.2f}"
    return text


def _millions(n: int) -> str:
    return f"{n / 1e6:,.1f} M" if n >= 1e5 else f"{n:,}"
