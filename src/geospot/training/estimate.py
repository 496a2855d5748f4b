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
    return text + cost_text(work, config)


def cost_text(work: Work, config: LoopConfig) -> str:
    """What that may cost: at the prices given, else at those that the hosted service publishes; else nothing."""
    prices, whose = [getattr(config, name) for name in PRICES], "the prices given"
    if config.engine == "tinker" and prices == [None] * len(PRICES):
        from tinker.lib.base_url import resolve_base_url

        from geospot.engine.tinker.checks import is_hosted
        from geospot.engine.tinker.rates import published

        if is_hosted(resolve_base_url(config.base_url)):
            found = published(config.model_name)
            if isinstance(found, str):
                return f"; no price is known: {found}; set {', '.join(PRICES)}"
            prices, whose = [found.prefill, found.sample, found.train], "published prices"
    if prices == [None] * len(PRICES):
        return ""
    tokens = (work.prefilled, work.sampled, work.trained)
    money = work.steps * sum(n * (price or 0.0) for n, price in zip(tokens, prices, strict=True)) / 1e6
    return f"; at {whose} at most ${money:,.2f}"


def _millions(n: int) -> str:
    return f"{n / 1e6:,.1f} M" if n >= 1e5 else f"{n:,}"
