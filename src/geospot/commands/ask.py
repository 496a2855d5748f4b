"""Asking a model about every picture of held-out sets: what `geospot eval` and `geospot calibrate` share."""

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from geospot.asking.answer_log import AnswerLog, ask_set
from geospot.asking.cluster import Draws
from geospot.asking.eyesight import probe_subject
from geospot.asking.prior import Prior
from geospot.asking.requests import Question
from geospot.asking.respondents import Respondent, open_respondent
from geospot.asking.subject import Subject, run_setting
from geospot.config import AskConfig
from geospot.data.records import Source
from geospot.data.samples import Sample, SkipCounter
from geospot.data.sets import count_held_out, held_out_places, held_out_samples, held_out_sets
from geospot.data.world.mosaic import WorldConfig
from geospot.errors import DataError, ModelError
from geospot.progress import Progress
from geospot.scoring.truths import Truths

MEASURED = 16  # pictures whose prompts are rendered beforehand


def question_of(config: AskConfig, subject: Subject) -> Question:
    """How each picture is asked about."""
    return subject.question(config, config.samples, config.temperature, config.seed)


def sources_of(config: AskConfig, checkpoint: str | None = None) -> list[tuple[str, Source]]:
    zoom_km = config.zoom_km or run_setting(checkpoint, "zoom_km", WorldConfig.width_km)
    sources = held_out_sets(config, zoom_km)
    if unknown := [name for name in config.sets if name not in sources]:
        raise DataError(f"sets={unknown[0]!r}: this data has {', '.join(sources)}")
    return [(name, source) for name, source in sources.items() if not config.sets or name in config.sets]


def own_folder(config: AskConfig, base: str) -> Path:
    """Where the answers go: `out`, or a folder by the model's name and, of other data than bluemarble, the data's.

    Each data set has its own: where that folder holds the answers to another one of the same name, the next number.
    """
    if config.out:
        return Path(config.out)
    data = config.data or "bluemarble"
    parts = [part for part in data.split("/") if part and not re.search(r"[*?{\[]", part)]  # of eval/*.tar it is eval
    name = re.sub(r"[^\w.-]+", "-", parts[-1] if parts else "").strip("-.")
    for suffix in (".tar", ".csv", ".parquet", ".jsonl", ".json", ".txt"):
        name = name.removesuffix(suffix)
    folder = Path(base if data == "bluemarble" else f"{base}-{name or 'data'}")
    numbered = (folder.with_name(f"{folder.name}-{n}") if n > 1 else folder for n in itertools.count(1))
    return next(place for place in numbered if _asked_of(place) in (None, data))


def _asked_of(folder: Path) -> str | None:
    """The data that a folder holds the answers about; None where it holds none."""
    try:
        return json.loads((folder / "settings.json").read_text(encoding="utf-8"))["data"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def set_truths(config: AskConfig, data: str) -> Truths:
    """The truths of a source of pictures, for predictions of it made elsewhere."""
    skipped, keys, places = SkipCounter(), [], []
    with Progress(f"reading the truths of {data}") as bar:
        for _, source in sources_of(config):
            for key, place in held_out_places(config, source, skipped):
                keys.append(key)
                places.append(place)
                bar.advance(1)
    if skipped:
        print(f"samples skipped: {skipped}")
    return Truths.of(keys, places)


def _probe(respondent: Respondent, config: AskConfig, subject: Subject) -> None:
    """Probe a model that is not ours before anything is asked of it; ModelError where it does not see its pictures."""
    found = probe_subject(respondent, config, subject, seed=config.seed)
    print("\n".join(f"probe: {line}" for line in found.lines))
    if found.problem:
        raise ModelError(found.problem)


def ask(
    config: AskConfig,
    subject: Subject,
    out: Path,
    on_batch: Callable[[str, list[Sample], list[Draws]], None],
    *,
    prior: Prior | None = None,
    tell_prior: bool = False,
) -> None:
    """Ask about every sample of every set; calls `on_batch(set name, samples, draws)` after each batch.

    Answers that contradict the `prior` are set aside; with `tell_prior` the question says it, too.
    """
    question, skipped = question_of(config, subject), SkipCounter()
    if prior is not None and tell_prior:
        question = prior.told(question)
    sources = sources_of(config, subject.checkpoint)
    counts = [count_held_out(config, source) for _, source in sources]
    settings = {
        "model_name": subject.model_name, "checkpoint": subject.checkpoint, "step": subject.step,
        "data": config.data or "bluemarble",
        "sources": {name: [source.spec, source.revision] for name, source in sources},
        "columns": config.columns, "views": config.views,
        "max_pixels": config.max_pixels, **asdict(question),
    }  # fmt: skip
    if subject.api is not None:
        settings |= {"thinking": config.thinking, "extra_body": config.extra_body}
    with (
        AnswerLog(out, settings, fresh=config.resume == "never") as log,
        open_respondent(config, subject, log.replies()) as respondent,
    ):
        if len(log):
            print(f"{len(log):,} answers are in {out} already; they are not asked for again")
        known, probed = [n for n in counts if n is not None], []
        total = sum(known) if len(known) == len(counts) else None
        with Progress("evaluating", total=total, initial=0) as bar:
            for (name, source), count in zip(sources, counts, strict=True):
                samples = iter(held_out_samples(config, source, skipped))
                first = list(itertools.islice(samples, MEASURED))

                def ready(name: str = name, first: list[Sample] = first, count: int | None = count) -> Respondent:
                    left = None if count is None else max(1, count - log.count(name))
                    at_once = min(config.batch_size, count or config.batch_size)
                    respondent.begin(first, question, at_once=at_once, pictures=left, say=print)
                    if subject.api is not None and config.probe and not probed:
                        _probe(respondent, config, subject)
                        probed.append(True)
                    return respondent

                batches = ask_set(
                    ready, name, itertools.chain(first, samples), question, log, batch_size=config.batch_size,
                    advance=bar.advance, prior=prior,
                )  # fmt: skip
                for part, draws, _ in batches:
                    on_batch(name, part, draws)
        for remark in respondent.remarks():
            print(remark)
    if skipped:
        print(f"samples skipped: {skipped}")
