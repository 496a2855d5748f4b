"""`geospot compare A B ...`: models on the pictures they have in common, with paired intervals of their differences."""

import shlex
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import chz
import numpy as np

from geospot._version import __version__
from geospot.config import CompareConfig
from geospot.errors import TableError
from geospot.report import Row, Table, write_report
from geospot.report.charts import histogram_html, within_html
from geospot.report.evaluation import draw_figures, published_notes, published_section
from geospot.report.metric_tables import difference_html
from geospot.report.summary import comparison_lead
from geospot.scoring.guesses import NOT_GIVEN
from geospot.scoring.judge import Evaluation, judge
from geospot.scoring.metrics import Difference, difference, intervals, resample
from geospot.scoring.references import parse_references, reference_rows
from geospot.scoring.results import evaluation_json, finite, write_metrics
from geospot.scoring.tables.evaluations import read_pair, warn
from geospot.scoring.tables.predictions import read_table_truths
from geospot.scoring.terminal import answered_line, difference_table, failure_line, metrics_table
from geospot.scoring.truths import Truths


def run(config: CompareConfig) -> dict[str, dict[str, Difference]]:
    """Print the rows and the differences of all pairs; returns the differences by pair."""
    wanted = parse_references(config.references)
    evaluations = in_common(config)
    train = read_table_truths(config.train_truth)[0] if config.train_truth else None
    evaluations += reference_rows(evaluations[0].truths, wanted, scale=config.scale, train=train, seed=config.seed)
    predictions = [e.predictions for e in evaluations]
    samples = resample(predictions, config.resamples, config.seed)
    for evaluation, found in zip(evaluations, samples, strict=True):
        evaluation.__dict__["intervals"] = intervals(
            evaluation.predictions, found
        )  # of these resamples, not of new ones
    pairs = {
        f"{evaluations[j].name} − {evaluations[i].name}": difference(
            predictions[j], predictions[i], samples[j], samples[i]
        )
        for i, j in combinations(range(len(evaluations)), 2)
        if i < len(config.models)
    }
    n = predictions[0]
    of = f" of {n.n_places:,} places" if n.n_places < len(n) else ""
    print(f"{len(n):,} pictures{of} in common, 95 % bootstrap intervals in brackets")
    print(metrics_table(evaluations))
    for evaluation in evaluations:
        for line in (answered_line(evaluation), failure_line(evaluation)):
            if line:
                print(line)
    notes = published_notes(config.truth or config.models[0]) if "published" in wanted else []
    print("\n".join(notes))
    print(f"Differences, resampled together; *: the interval excludes 0\n{difference_table('models', pairs)}")
    if config.out:
        _write(Path(config.out), config, evaluations, pairs, notes)
    return pairs


def in_common(config: CompareConfig) -> list[Evaluation]:
    """Every model over the pictures that all of them have in their files, in the order of the first."""
    read = []
    for word in config.models:
        name, path = _named(word)
        read.append(read_pair(path, truth_file=config.truth, columns=config.prediction_columns, name=name))
    names = _distinct([guesses.name for _, guesses in read])
    answered = [set(np.array(g.keys, object)[[f != NOT_GIVEN for f in g.failures]].tolist()) for _, g in read]
    common = set.intersection(*answered)
    if not common:
        keys = " and ".join(repr(guesses.keys[0]) for _, guesses in read[:2])
        raise TableError(f"the files have no picture in common: keys such as {keys}")
    if left := [f"{len(a) - len(common):,} of {name}" for a, name in zip(answered, names, strict=True)
                if len(a) > len(common)]:  # fmt: skip
        warn([f"{len(common):,} pictures are in all files; left out are {', '.join(left)}"])
    order = [key for key in read[0][0].keys if key in common]
    evaluations = []
    for (truths, guesses), name in zip(read, names, strict=True):
        row = {key: i for i, key in enumerate(truths.keys)}
        rows = [row[key] for key in order]
        truths = truths.take(rows)
        if evaluations:
            _check_same(evaluations[0], truths, name)
            truths = evaluations[0].truths
        evaluations.append(judge(truths, guesses.take(rows), scale=config.scale, name=name))
    return evaluations


def _check_same(first: Evaluation, truths: Truths, name: str) -> None:
    """The files' own truths must agree to be compared."""
    apart = np.hypot(first.truths.lat - truths.lat, (first.truths.lon - truths.lon + 180) % 360 - 180)
    if apart.max() > 1e-3:
        i = int(np.argmax(apart))
        raise TableError(
            f"{first.name} and {name} have different truths for {truths.keys[i]!r}: ({first.truths.lat[i]}, "
            f"{first.truths.lon[i]}) and ({truths.lat[i]}, {truths.lon[i]}); give truth=FILE for both",
        )


def _named(word: str) -> tuple[str | None, str]:
    """'NAME:PATH' or a path; a folder's name stands for its predictions.jsonl."""
    name, colon, path = word.partition(":")
    if colon and not Path(word).exists() and len(name) > 1:
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
    notes: list[str],
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    facts = {e.name: evaluation_json(e) for e in evaluations}
    differences = {
        name: {key: {"value": d.value, "low": d.low, "high": d.high} for key, d in found.items()}
        for name, found in pairs.items()
    }
    command = shlex.join(["geospot", *sys.argv[1:]])
    write_metrics(out / "comparison.json", {"models": facts, "differences": finite(differences)}, command=command)
    models = {e.name: e.predictions for e in evaluations[: len(config.models)]}
    rows = [Row(e.name, e.summary, e.intervals) for e in evaluations]
    histograms = "".join(histogram_html(name, p, number) for number, (name, p) in enumerate(models.items()))
    write_report(
        out / "report.html",
        title="geospot compare: " + ", ".join(models),
        tables=[Table("pictures in common", rows)],
        maps=models,
        sections=[
            ("Differences", difference_html(pairs)),
            ("Errors", f'<div class="charts">{within_html(models)}{histograms}</div>'),
            *published_section(notes),
        ],
        configuration=chz.asdict(config),
        versions={"geospot": __version__, "numpy": np.__version__},
        command=command,
        lead=comparison_lead({e.name: (e.predictions, e.summary) for e in evaluations[: len(config.models)]}),
    )
    print(f"wrote {', '.join(['comparison.json', 'report.html', *draw_figures(out, models)])} in {out}")
