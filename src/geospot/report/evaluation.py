"""Evaluations as text, metrics.json, report.html and figures: the same for one model, for several, and for files."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from geospot._version import __version__
from geospot.report.charts import histogram_html, within_html
from geospot.report.document import write_report
from geospot.report.gallery import Gallery
from geospot.report.lead import evaluation_lead
from geospot.report.maps import CountryValue, country_map_html
from geospot.report.metric_tables import Row, Table, confusion_html, failures_html, group_html, reliability_html
from geospot.report.page import command_line, escape, kilometres, points
from geospot.scoring.breakdown import confusions, country_title, group_names, group_tables
from geospot.scoring.cautions import caution_lines, cautions
from geospot.scoring.judge import Evaluation
from geospot.scoring.metrics import Group
from geospot.scoring.published import published_notes
from geospot.scoring.references import parse_references, reference_rows
from geospot.scoring.results import evaluation_json, write_metrics
from geospot.scoring.terminal import answered_line, failure_line, group_table, metrics_table, radius_lines
from geospot.scoring.truths import Truths

NOTES = {
    "population density": "People per km² in cities of 1,000 and more within 25 km (GeoNames): an order of magnitude.",
    "income group": "World Bank classes of about 2012, as in Natural Earth; islets without one are left out.",
}


def report_evaluations(
    out: Path,
    found: Mapping[str, Evaluation],
    *,
    data: str,
    configuration: Mapping[str, object],
    about: Mapping[str, object],
    gallery: Mapping[str, Gallery],
    references: Sequence[str] = (),
    train: Truths | None = None,
    scale: str | float = "world",
    pages: bool = True,
    figures: bool = False,
) -> None:
    """Print tables; write metrics.json and, where wanted, report.html (`pages`) and figure.png and .pdf into `out`.

    `data` names the set, for what papers report on it; `references` are rows beside the models, fitted to `train`.
    """
    wanted = parse_references(references)
    facts, groups, tables, warnings = {}, {}, [], []
    for name, evaluation in found.items():
        rows = [evaluation, *reference_rows(evaluation.truths, wanted, scale=scale, train=train)]
        groups[name] = group_tables(evaluation, group_names(evaluation.truths))
        facts[name] = evaluation_json(evaluation, groups[name], confusions(evaluation))
        if len(rows) > 1:
            facts[name]["references"] = {row.name: evaluation_json(row) for row in rows[1:]}
        found_here = cautions(evaluation, train)
        facts[name]["warnings"] = [asdict(caution) for caution in found_here]
        warnings += [f"{name}: {caution.text}" for caution in found_here]
        print_evaluation(name, rows, groups[name], caution_lines(name, found_here))
        tables.append(_table(name, rows))
    notes = published_notes(data) if "published" in wanted else []
    if notes:
        print("\n".join(notes))
    command = command_line()
    write_metrics(out / "metrics.json", facts, command=command, scale=scale, **about)
    written = ["metrics.json", "predictions.jsonl"]
    if pages:
        first_set, first = next(iter(found.items()))
        sections = [part for name, e in found.items() for part in sections_of(name, e, groups[name], len(found) > 1)]
        write_report(
            out / "report.html",
            title=f"geospot eval: {about.get('title') or Path(str(about['predictions'])).name}",
            tables=tables,
            maps={name: e.predictions for name, e in reversed(list(found.items()))},
            sections=[*sections, *published_section(notes)],
            examples=[card for name, g in gallery.items() for card in g.examples(found[name])],
            configuration=configuration,
            versions={"geospot": __version__, "numpy": np.__version__},
            command=command,
            warnings=warnings,
            lead=evaluation_lead(first.predictions, first.summary),
            opening=gallery[first_set].typical(first) if first_set in gallery else None,
        )
        written.append("report.html")
    if figures:
        from geospot.report.figures import save_figure

        written += save_figure(out, {name: e.predictions for name, e in found.items()})
    print(f"\nwrote {', '.join(written)} in {out}")
    if warnings:
        print(
            f"WARNING  {len(warnings)} warning{'s' if len(warnings) > 1 else ''} about these numbers, above the table"
        )


def print_evaluation(
    name: str, rows: Sequence[Evaluation], groups: Mapping[str, Sequence[Group]] | None = None, warnings: str = ""
) -> None:
    """The tables of one set on a terminal, below what warns of them; the one by country is in the files."""
    first = rows[0]
    p = first.predictions
    size = f"{len(p):,} pictures" + (f" of {p.n_places:,} places" if p.n_places < len(p) else "")
    print(f"\n{name}: {size}, 95 % bootstrap intervals in brackets, score with D / 10 = {p.score_decay_km:,.1f} km")
    if warnings:
        print(warnings)
    print(metrics_table(rows))
    for line in (answered_line(first), failure_line(first), radius_lines(first)):
        if line:
            print(line)
    for key in ("continent", "population density", "income group"):
        if groups and groups.get(key):
            print(f"\n{group_table(key, groups[key])}")


def _table(name: str, rows: Sequence[Evaluation]) -> Table:
    shown = [Row(row.name, row.summary, row.intervals) for row in rows]
    p = rows[0].predictions
    of = f"pictures of {p.n_places:,} places; " if p.n_places < len(p) else ""
    return Table(name, shown, f"{of}score with D / 10 = {p.score_decay_km:,.1f} km")


def published_section(notes: Sequence[str]) -> list[tuple[str, str]]:
    """The notes as a section; none where there are none."""
    text = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return [("What papers report", text)] if notes else []


def sections_of(
    name: str, evaluation: Evaluation, groups: Mapping[str, Sequence[Group]], several: bool
) -> list[tuple[str, str]]:
    """Errors, countries, groups, confusions and reliability of one evaluation."""
    suffix = f": {name}" if several else ""
    predictions = evaluation.predictions
    countries = [Group(country_title(g.name), g.summary, g.intervals) for g in groups["country"]]
    curves = f'<div class="charts">{histogram_html(name, predictions)}{within_html({name: predictions})}</div>'
    fair = "".join(
        group_html(key, groups[key], NOTES.get(key, "")) for key in ("continent", "population density", "income group")
    )
    confused = [(country_title(c.truth), country_title(c.guess), c.n, c.share) for c in confusions(evaluation)]
    sections = [
        (f"Errors{suffix}", curves),
        (f"Failed answers{suffix}", failures_html(predictions.failure_counts(), len(predictions))),
        (f"By country{suffix}", _country_map(evaluation, groups["country"]) + group_html("country", countries)),
        (f"Accuracy by continent, density and income{suffix}", f'<div class="tables">{fair}</div>'),
        (f"Confused countries{suffix}", confusion_html(confused)),
    ]
    if evaluation.radius is not None:
        report, p = evaluation.radius, evaluation.radius.probability
        parts = [("all", report.all), *((f"fifth {i}", part) for i, part in enumerate(report.by_size, start=1))]
        rows = [(n, p, c.coverage, c.low, c.high, c.median_radius_km) for n, c in parts]
        made_on = evaluation.guesses.calibrated_on
        note = f"<p>Calibrated on {escape(made_on)}: it holds for pictures like those.</p>" if made_on else ""
        sections.append((f"The stated radius{suffix}", note + reliability_html(rows)))
    return sections


def _country_map(evaluation: Evaluation, groups: Sequence[Group]) -> str:
    truths = evaluation.truths
    first = {code: i for i, code in reversed(list(enumerate(truths.country))) if code}
    values = {
        g.name: CountryValue(
            g.summary["geoguessr_score"],
            f"{country_title(g.name)}: score {points(g.summary['geoguessr_score'])}, median "
            f"{kilometres(g.summary['median_km'])} km, {g.summary['n']:,.0f} pictures",
            float(truths.lat[first[g.name]]),
            float(truths.lon[first[g.name]]),
        )
        for g in groups
    }
    return country_map_html(values, 0.0, 5000.0, "mean score of the pictures taken there (grey: no picture)")
