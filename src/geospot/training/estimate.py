"""What a run will ask of its engine, in requests, tokens and, where prices are given, money: said before it starts."""

from collections.abc import Sequence
from dataclasses import dataclass

from geospot.config import PRICES, LoopConfig
from geospot.data.samples import Sample
from geospot.models.prompt import Renderer


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
    lengths = [renderer.prompt(sample.pictures, question).length for sample in samples[:16]]
    return round(sum(lengths) / len(lengths))


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
