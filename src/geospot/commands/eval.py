"""`geospot eval`: a model, or predictions made elsewhere, on held-out pictures; every answer counts.

What asks a model is imported where one is asked: a file of predictions is scored without torch, by the light install.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import chz

from geospot.config import EvalConfig
from geospot.report.evaluation import Gallery, report_evaluations
from geospot.runs.config import typed_config
from geospot.scoring.guesses import Guesses
from geospot.scoring.judge import Evaluation, judge
from geospot.scoring.results import prediction_rows, write_predictions
from geospot.scoring.tables import read_table_truths
from geospot.scoring.tables.evaluations import evaluate_file
from geospot.scoring.truths import Truths

if TYPE_CHECKING:
    from geospot.asking.cluster import Draws
    from geospot.data.samples import Sample
    from geospot.earth.place import Place


def run(config: EvalConfig) -> dict[str, Evaluation]:
    """Evaluate, print the tables, write the files; returns the evaluations by set."""
    if config.figures:
        import geospot.report.figures  # noqa: F401  refused before the work where matplotlib is missing

    if config.predictions is not None:
        found, gallery, about = _from_file(config)
        out = Path(config.out or f"runs/eval-{Path(config.predictions).stem}")
    else:
        found, gallery, about, out = _from_model(config)
    out.mkdir(parents=True, exist_ok=True)
    several = len(found) > 1
    rows = [r for name, e in found.items() for r in prediction_rows(e, name if several else None)]
    write_predictions(out / "predictions.jsonl", rows)
    train = read_table_truths(config.train_truth)[0] if config.train_truth else None
    report_evaluations(
        out, found, data=str(about.get("truth") or config.data or ""), configuration=typed_config(chz.asdict(config)),
        about=about,
        gallery=gallery, references=config.references, train=train, scale=config.scale, pages=config.report,
        figures=config.figures,
    )  # fmt: skip
    return found


def _from_file(config: EvalConfig) -> tuple[dict[str, Evaluation], dict, dict]:
    truths = None
    if config.data is not None:
        from geospot.commands.ask import set_truths

        truths = set_truths(config, config.data)
    evaluation = evaluate_file(
        str(config.predictions), truths=truths, truth_file=config.truth, columns=config.prediction_columns,
        scale=config.scale,
    )  # fmt: skip
    galleries = {}
    if config.data is not None:
        galleries[evaluation.name] = Gallery.read(evaluation, _samples(config))
    about = {"predictions": config.predictions, "truth": config.truth or config.data or config.predictions}
    return {evaluation.name: evaluation}, galleries, about


def _samples(config: EvalConfig) -> Iterator["Sample"]:
    from geospot.commands.ask import sources_of
    from geospot.data.samples import SkipCounter
    from geospot.data.sets import held_out_samples

    for _, source in sources_of(config):
        yield from held_out_samples(config, source, SkipCounter())


def _from_model(config: EvalConfig) -> tuple[dict[str, Evaluation], dict, dict, Path]:
    from geospot.asking.calibration import find_calibration
    from geospot.asking.consensus import guesses_of_draws
    from geospot.asking.prior import Prior
    from geospot.asking.subject import Subject
    from geospot.commands.ask import ask, own_folder, question_of

    subject = Subject.of(config)
    out = own_folder(config, f"runs/eval-{subject.title}")
    calibration = find_calibration(config.calibration, subject, question_of(config, subject))
    answered: dict[str, tuple[list[Place], list[Guesses]]] = {}
    galleries: dict[str, Gallery] = {}

    def keep(name: str, samples: list["Sample"], draws: list["Draws"]) -> None:
        keys = [sample.key for sample in samples]
        guesses, _ = guesses_of_draws(name, keys, draws, calibration, config.probability)
        places, parts = answered.setdefault(name, ([], []))
        places += [sample.place for sample in samples]
        parts.append(guesses)
        galleries.setdefault(name, Gallery()).offer(samples, guesses)

    ask(config, subject, out, keep, prior=Prior.of(config), tell_prior=config.tell_prior)
    found = {name: _judged(config, *parts) for name, parts in answered.items()}
    about: dict[str, Any] = {
        "title": subject.title,
        "model": subject.model_name,
        "checkpoint": subject.checkpoint,
        "step": subject.step,
    }
    if calibration is not None:
        about["calibration"] = {"data": calibration.data, "sets": calibration.sets, "n": calibration.n}
    return found, galleries, about, out


def _judged(config: EvalConfig, places: list["Place"], parts: list[Guesses]) -> Evaluation:
    guesses = Guesses.joined(parts)
    return judge(Truths.of(guesses.keys, places), guesses, scale=config.scale)
