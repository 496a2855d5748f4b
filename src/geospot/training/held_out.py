"""Evaluation on fixed held-out sets: greedy answers, every one of them counted."""

from collections.abc import Callable, Iterator, Sequence

from geospot.answer import prompt_text
from geospot.asking.requests import Asked, Rollouts
from geospot.data.samples import Sample
from geospot.engine.protocols import SamplingClient
from geospot.models.prompt import Renderer
from geospot.scoring.guesses import Guesses
from geospot.scoring.judge import Evaluation, judge
from geospot.scoring.truths import Truths
from geospot.training.rollout import log_rows

BATCH = 512  # pictures asked about at once

# What a line of metrics.jsonl holds of an evaluation; the demo and `geospot eval` report everything.
LOGGED = (
    "median_km",
    "mean_km",
    "geoguessr_score",
    "acc_25km",
    "acc_200km",
    "acc_750km",
    "acc_2500km",
    "text_country_acc",
    "text_region_acc",
    "text_city_acc",
    "geo_country_acc",
    "geo_region_acc",
    "failure_rate",
)


def evaluate(
    sampler: SamplingClient,
    renderer: Renderer,
    name: str,
    samples: Sequence[Sample],
    *,
    max_tokens: int,
    region: bool = False,
    advance: Callable[[int], None] | None = None,
) -> tuple[Evaluation, list[dict]]:
    """Greedy answers to every sample of a set, judged, and their rows for the run folder.

    `advance(n)` is called after each n samples.
    """
    answers, rows = [], []
    for rollouts in _ask(sampler, renderer, samples, max_tokens, region):
        answers += rollouts.answers
        rows += log_rows(rollouts, name, first_group=len(rows))
        if advance:
            advance(len(rollouts.samples))
    keys = [sample.key for sample in samples]
    truths = Truths.of(keys, [sample.place for sample in samples])
    evaluation = judge(truths, Guesses.of_answers(name, keys, answers, [row["text"] for row in rows]))
    for row, distance_km in zip(rows, evaluation.predictions.distance_km, strict=True):
        row["distance_km"] = float(distance_km)
    return evaluation, rows


def _ask(
    sampler: SamplingClient, renderer: Renderer, samples: Sequence[Sample], max_tokens: int, region: bool
) -> Iterator[Rollouts]:
    for start in range(0, len(samples), BATCH):
        part = samples[start : start + BATCH]
        yield Asked(
            sampler, renderer, part, prompt_text(region=region), num_samples=1, seeds=[0] * len(part),
            max_tokens=max_tokens, temperature=0.0,
        ).collect()  # fmt: skip


def logged(evaluation: Evaluation) -> dict[str, float]:
    """Flat metrics: `<set>/<metric>`, with `_low` and `_high` for its 95 % interval."""
    out = {}
    for key in LOGGED:
        out[f"{evaluation.name}/{key}"] = evaluation.summary[key]
        if key in evaluation.intervals:
            low, high = evaluation.intervals[key]
            out |= {f"{evaluation.name}/{key}_low": low, f"{evaluation.name}/{key}_high": high}
    return out
