"""Evaluation on fixed held-out sets: greedy answers, every one of them counted."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

from geospot.answer import prompt_text
from geospot.asking.requests import Rollouts, ask_all
from geospot.data.records import Source
from geospot.data.samples import ReadOptions, Sample, SkipCounter
from geospot.data.stream import read_all
from geospot.errors import DataError
from geospot.models.prompt import Renderer
from geospot.scoring.guesses import Guesses
from geospot.scoring.judge import Evaluation as Judged
from geospot.scoring.judge import judge
from geospot.scoring.metrics import Predictions
from geospot.scoring.truths import Truths
from geospot.training.rollout import log_rows

# What a line of metrics.jsonl holds of an evaluation; the demo and `geospot eval` report everything.
LOGGED = (
    "median_km",
    "mean_km",
    "geoguessr_score",
    "acc_25km",
    "acc_200km",
    "acc_750km",
    "acc_2500km",
    "country_acc",
    "region_acc",
    "city_acc",
    "geo_country_acc",
    "geo_region_acc",
    "failure_rate",
)


@dataclass(frozen=True)
class EvalSet:
    """A named, fixed list of samples."""

    name: str
    samples: list[Sample]


@dataclass(frozen=True)
class Evaluation:
    """The answers to one set and what they are worth."""

    name: str
    rollouts: Rollouts
    judged: Judged

    @property
    def predictions(self) -> Predictions:
        """Truths and answers as arrays."""
        return self.judged.predictions

    @property
    def summary(self) -> dict[str, float]:
        """Every metric."""
        return self.judged.summary

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95 % interval of every metric."""
        return self.judged.intervals

    def logged(self) -> dict[str, float]:
        """Flat metrics: `<set>/<metric>`, with `_low` and `_high` for its 95 % interval."""
        out = {}
        for key in LOGGED:
            out[f"{self.name}/{key}"] = self.summary[key]
            if key in self.intervals:
                out[f"{self.name}/{key}_low"], out[f"{self.name}/{key}_high"] = self.intervals[key]
        return out


def load_eval_set(
    name: str,
    source: Source,
    limit: int = 0,
    skipped: SkipCounter | None = None,
    *,
    options: ReadOptions = ReadOptions(),  # noqa: B008 (frozen)
    views: str = "4",
    workers: int = 0,
    advance=None,
) -> EvalSet:
    """The first `limit` (0: all) good samples of `source`, in its own order; `advance(1)` is told of each."""
    skipped = SkipCounter() if skipped is None else skipped
    samples: list[Sample] = []
    with closing(read_all(source, options, skipped=skipped, views=views, workers=workers)) as stream:
        for sample in islice(stream, limit or None):
            samples.append(sample)
            if advance:
                advance(1)
    if not samples:
        raise DataError(f"{name}: no usable sample in {source.spec}; skipped: {skipped}")
    return EvalSet(name, samples)


def evaluate(
    sampler,
    renderer: Renderer,
    eval_set: EvalSet,
    *,
    max_tokens: int,
    region: bool = False,
    batch: int = 512,
    advance=None,
) -> Evaluation:
    """Greedy answers to every sample. `advance(n)` is told of each n samples done."""
    done: list[Rollouts] = []
    for start in range(0, len(eval_set.samples), batch):
        part = eval_set.samples[start : start + batch]
        done.append(
            ask_all(
                sampler,
                renderer,
                part,
                prompt_text(region=region),
                num_samples=1,
                seeds=[0] * len(part),
                max_tokens=max_tokens,
                temperature=0.0,
            )
        )
        if advance:
            advance(len(part))
    return _evaluation(eval_set.name, _joined(done))


def _joined(parts: Sequence[Rollouts]) -> Rollouts:
    def chain(name):
        return [item for part in parts for item in getattr(part, name)]

    names = ("sequences", "texts", "answers")
    return Rollouts(chain("samples"), chain("prompts"), 1, *(chain(name) for name in names))


def _evaluation(name: str, rollouts: Rollouts) -> Evaluation:
    keys = [sample.key for sample in rollouts.samples]
    truths = Truths.of(keys, [sample.place for sample in rollouts.samples])
    return Evaluation(name, rollouts, judge(truths, Guesses.of_answers(name, keys, rollouts.answers, rollouts.texts)))


def rollout_rows(evaluation: Evaluation) -> list[dict]:
    """Rows for the run folder, with distances."""
    rows = log_rows(evaluation.rollouts, evaluation.name)
    for row, distance_km in zip(rows, evaluation.predictions.distance_km, strict=True):
        row["distance_km"] = float(distance_km)
    return rows
