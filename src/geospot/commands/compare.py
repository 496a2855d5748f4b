"""`geospot compare A B ...`: models on the same pictures, with paired intervals of their differences."""

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import chz
import numpy as np

from geospot._version import __version__
from geospot.config import CompareConfig
from geospot.engine.api.addresses import is_api_model
from geospot.errors import TableError
from geospot.report import Row, Table, write_report
from geospot.report.charts import histogram_html, within_html
from geospot.report.evaluation import published_section
from geospot.report.lead import comparison_lead
from geospot.report.metric_tables import difference_html
from geospot.runs.config import typed_config
from geospot.scoring.cautions import Caution, caution_lines, cautions
from geospot.scoring.guesses import Guesses
from geospot.scoring.join import in_all
from geospot.scoring.judge import Evaluation, judge
from geospot.scoring.metrics import Difference, difference, intervals, resample
from geospot.scoring.published import published_notes
from geospot.scoring.references import parse_references, reference_rows
from geospot.scoring.results import evaluation_json, finite, write_metrics
from geospot.scoring.tables.evaluations import read_pair, warn
from geospot.scoring.tables.formats import ROW
from geospot.scoring.tables.predictions import read_table_truths
from geospot.scoring.terminal import answered_line, difference_table, failure_line, metrics_table
from geospot.scoring.truths import Truths


def run(config: CompareConfig) -> dict[str, dict[str, Difference]]:
    """Print the rows and the differences of all pairs; returns the differences by pair."""
    if config.figures:
        import geospot.report.figures  # noqa: F401  refused before the work where matplotlib is missing

    wanted = parse_references(config.references)
    evaluations, which = evaluations_of(config)
    train = read_table_truths(config.train_truth)[0] if config.train_truth else None
    evaluations += reference_rows(evaluations[0].truths, wanted, scale=config.scale, train=train, seed=config.seed)
    predictions = [e.predictions for e in evaluations]
    samples = resample(predictions, config.resamples, config.seed)
    for evaluation, found in zip(evaluations, samples, strict=True):
        # Of these resamples, not of new ones.
        evaluation.__dict__["intervals"] = intervals(evaluation.predictions, found)
    pairs = {
        f"{evaluations[j].name} − {evaluations[i].name}": difference(
            predictions[j], predictions[i], samples[j], samples[i]
        )
        for i, j in combinations(range(len(evaluations)), 2)
        if i < len(config.models)
    }
    n = predictions[0]
    of = f" ({n.n_places:,} places)" if n.n_places < len(n) else ""
    pictures = f"{len(n):,} pictures{of} {which}"
    warnings = {e.name: cautions(e, train) for e in evaluations[: len(config.models)]}
    for name, found in warnings.items():
        if found:
            print(caution_lines(name, found))
    print(f"{pictures}\n95 % bootstrap intervals in brackets")
    print(metrics_table(evaluations))
    for evaluation in evaluations:
        for line in (answered_line(evaluation), failure_line(evaluation)):
            if line:
                print(line)
    notes = published_notes(config.truth or config.models[0]) if "published" in wanted else []
    print("\n".join(notes))
    print(f"Differences, resampled together; *: the interval excludes 0\n{difference_table('models', pairs)}")
    if config.out:
        _write(Path(config.out), config, evaluations, pairs, [pictures, *notes], warnings)
    return pairs


def evaluations_of(config: CompareConfig) -> tuple[list[Evaluation], str]:
    """Every model over the same pictures, and which these are, in words.

    With a table of truths they are all of its pictures: one that a model has no answer to is a failed answer of that
    model. Without, nobody knows of more pictures than the files hold: those that all of them have.
    """
    read = []
    for word in config.models:
        name, path = _named(word)
        read.append(read_pair(path, truth_file=config.truth, columns=config.prediction_columns, name=name))
    names = _distinct([guesses.name for _, guesses in read])
    if config.truth:
        which = f"of {config.truth}, each of which counts for every model"
    else:
        read, which = _in_common(read, names)
    truths = read[0][0]
    pairs = zip(read, names, strict=True)
    return [judge(truths, guesses, scale=config.scale, name=name) for (_, guesses), name in pairs], which


def _in_common(
    read: Sequence[tuple[Truths, Guesses]], names: Sequence[str]
) -> tuple[list[tuple[Truths, Guesses]], str]:
    """Each over the pictures that all have, which are called as in the first."""
    rows, by_stem = in_all([truths.keys for truths, _ in read])
    if not rows[0]:
        keys = " and ".join(repr(guesses.keys[0]) for _, guesses in read[:2])
        raise TableError(
            f"the files have no picture in common: keys such as {keys}. Name the column of the key: "
            "prediction_columns=key=..."
        )
    by_row = all(key.startswith(f"{ROW} ") for truths, _ in read for key in truths.keys)
    if by_row:
        warn([f"{' and '.join(names)} have no column for the key of a picture, so they are paired by row number: "
              "row 1 with row 1, and so on. Name the column of the key: prediction_columns=key=..."])  # fmt: skip
    if by_stem:
        warn(["keys were matched by their file names without folders and endings"])
    first = read[0][0].take(rows[0])
    paired = []
    for (truths, guesses), own, name in zip(read, rows, names, strict=True):
        _check_same(names[0], first, truths.take(own), name, by_row)
        paired.append((first, guesses.take(own, first.keys)))
    left = [f"{len(truths) - len(first):,} of {name}" for (truths, _), name in zip(read, names, strict=True)
            if len(truths) > len(first)]  # fmt: skip
    if not left:
        return paired, "in common: every file has all of them"
    return paired, f"in common; left out are {', '.join(left)}: with truth=FILE every picture counts"


def _check_same(first: str, truths: Truths, theirs: Truths, name: str, by_row: bool) -> None:
    """The files' own truths must agree to be compared."""
    apart = np.hypot(truths.lat - theirs.lat, (truths.lon - theirs.lon + 180) % 360 - 180)
    if apart.max() > 1e-3:
        i = int(np.argmax(apart))
        remedy = "give truth=FILE for both"
        if by_row:
            remedy = "their rows were paired by number: name the column of the key, prediction_columns=key=..."
        raise TableError(
            f"{first} and {name} have different truths for {truths.keys[i]!r}: ({truths.lat[i]}, {truths.lon[i]}) and "
            f"({theirs.lat[i]}, {theirs.lon[i]}); {remedy}",
        )


def _named(word: str) -> tuple[str | None, str]:
    """'NAME:PATH' or a path; a folder's name stands for its predictions.jsonl."""
    if is_api_model(word):
        raise TableError(
            f"{word} is a model, and compare reads answers: geospot eval model={word} writes them into a folder, which "
            "is what to give here"
        )
    name, colon, path = word.partition(":")
    if colon and name and not Path(word).expanduser().exists() and not (os.name == "nt" and len(name) == 1):
        return name, path
    path = Path(word).expanduser()
    return (path.name if path.is_dir() else None), word


def _distinct(names: Sequence[str]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]


def _write(
    out: Path,
    config: CompareConfig,
    evaluations: list[Evaluation],
    pairs: dict[str, dict[str, Difference]],
    notes: list[str],  # which pictures, and what papers report
    warnings: dict[str, list[Caution]],
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    facts = {e.name: evaluation_json(e) for e in evaluations}
    for name, found in warnings.items():
        facts[name]["warnings"] = [asdict(caution) for caution in found]
    differences = {
        name: {key: {"value": d.value, "low": d.low, "high": d.high} for key, d in found.items()}
        for name, found in pairs.items()
    }
    command = shlex.join(["geospot", *sys.argv[1:]])
    write_metrics(out / "comparison.json", {"models": facts, "differences": finite(differences)}, command=command,
                  pictures=notes[0])  # fmt: skip
    models = {e.name: e.predictions for e in evaluations[: len(config.models)]}
    rows = [Row(e.name, e.summary, e.intervals) for e in evaluations]
    histograms = "".join(histogram_html(name, p, number) for number, (name, p) in enumerate(models.items()))
    write_report(
        out / "report.html",
        title="geospot compare: " + ", ".join(models),
        tables=[Table("All models on the same pictures", rows)],
        notes=[notes[0]],
        maps=models,
        sections=[
            ("Differences", difference_html(pairs)),
            ("Errors", f'<div class="charts">{within_html(models)}{histograms}</div>'),
            *published_section(notes[1:]),
        ],
        configuration=typed_config(chz.asdict(config)),
        versions={"geospot": __version__, "numpy": np.__version__},
        command=command,
        warnings=[f"{name}: {caution.text}" for name, found in warnings.items() for caution in found],
        lead=comparison_lead({e.name: (e.predictions, e.summary) for e in evaluations[: len(config.models)]}),
    )
    written = ["comparison.json", "report.html"]
    if config.figures:
        from geospot.report.figures import save_figure

        written += save_figure(out, models)
    print(f"wrote {', '.join(written)} in {out}")
