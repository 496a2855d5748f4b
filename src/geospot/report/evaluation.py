"""Evaluations as text, metrics.json, report.html and figures: the same for one model, for several, and for files."""

import heapq
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geospot._version import __version__
from geospot.earth.distance import haversine_km
from geospot.errors import install_extra
from geospot.report.charts import histogram_html, within_html
from geospot.report.document import Example, StageAnswer, pick_examples, preview, write_report
from geospot.report.maps import CountryValue, country_map_html
from geospot.report.metric_tables import Row, Table, confusion_html, group_html, reliability_html
from geospot.report.page import escape, kilometres, points
from geospot.scoring.breakdown import confusions, country_title, group_names, group_tables
from geospot.scoring.guesses import Guesses
from geospot.scoring.judge import Evaluation
from geospot.scoring.metrics import Group, Predictions
from geospot.scoring.references import parse_references, published_rows, reference_rows
from geospot.scoring.results import evaluation_json, write_metrics
from geospot.scoring.terminal import answered_line, failure_line, group_table, metrics_table, radius_lines
from geospot.scoring.truths import Truths

if TYPE_CHECKING:
    from geospot.data.samples import Sample

COUNT = 4  # best and as many worst pictures
NOTES = {
    "population density": "People per km² in cities of 1,000 and more within 25 km (GeoNames): an order of magnitude.",
    "income group": "World Bank classes of about 2012, as in Natural Earth; islets without one are left out.",
}


class Gallery:
    """The best and the worst pictures of a set. `offer` keeps them while the set goes by, `read` finds them later."""

    def __init__(self) -> None:
        self._best: list[tuple[float, int, Sample]] = []  # heaps of (how good or bad, row or -row, sample)
        self._worst: list[tuple[float, int, Sample]] = []
        self._seen = 0

    def offer(self, samples: Sequence["Sample"], guesses: Guesses) -> None:
        """The next samples of the set with the guess for each."""
        lat, lon = (np.array([getattr(sample.place, axis) for sample in samples]) for axis in ("lat", "lon"))
        far = np.nan_to_num(haversine_km(lat, lon, guesses.lat, guesses.lon), nan=np.inf)
        for sample, km in zip(samples, far.tolist(), strict=True):
            # Of equals the first is best and the last is worst, as `pick_examples` has it; samples are never compared.
            for heap, value, tie in ((self._best, -km, -self._seen), (self._worst, km, self._seen)):
                heapq.heappush(heap, (value, tie, sample))
                if len(heap) > COUNT:
                    heapq.heappop(heap)
            self._seen += 1

    @classmethod
    def read(cls, evaluation: Evaluation, samples: Iterable["Sample"]) -> "Gallery":
        """The pictures of an evaluation from its samples in any order; stops at the last that is needed."""
        gallery, keys = cls(), evaluation.truths.keys
        wanted = {keys[row]: row for row, _ in pick_examples(evaluation.predictions.distance_km, COUNT)}
        for sample in samples:
            if (row := wanted.pop(sample.key, None)) is not None:
                gallery._best.append((0.0, row, sample))
            if not wanted:
                break
        return gallery

    def examples(self, evaluation: Evaluation) -> list[Example]:
        """Cards for the report, those whose picture is there."""
        samples = {abs(row): sample for _, row, sample in (*self._best, *self._worst)}
        picked = pick_examples(evaluation.predictions.distance_km, COUNT)
        return [_example(tag, samples[row], evaluation, row) for row, tag in picked if row in samples]


def _example(tag: str, sample: "Sample", evaluation: Evaluation, row: int) -> Example:
    place, guesses, km = sample.place, evaluation.guesses, float(evaluation.predictions.distance_km[row])
    names = (place.city, place.region, place.country and country_title(place.country))
    truth = ", ".join(name for name in names if name) or sample.key
    said = guesses.texts[row] if guesses.texts is not None else guesses.failures[row]
    answer = StageAnswer(evaluation.name, said or f"{guesses.lat[row]:.4f}, {guesses.lon[row]:.4f}", km)
    pictures = [shrunk for picture in sample.pictures if (shrunk := preview(picture))]
    return Example(tag, pictures, truth, place.lat, place.lon, [answer])


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
) -> None:
    """Print tables and write metrics.json and, with `pages`, report.html and figures into `out`.

    `data` names the set, for what papers report on it; `references` are rows beside the models, fitted to `train`.
    """
    wanted = parse_references(references)
    facts, groups, tables = {}, {}, []
    for name, evaluation in found.items():
        rows = [evaluation, *reference_rows(evaluation.truths, wanted, scale=scale, train=train)]
        groups[name] = group_tables(evaluation, group_names(evaluation.truths))
        facts[name] = evaluation_json(evaluation, groups[name], confusions(evaluation))
        if len(rows) > 1:
            facts[name]["references"] = {row.name: evaluation_json(row) for row in rows[1:]}
        print_evaluation(name, rows, groups[name])
        tables.append(_table(name, rows))
    notes = published_notes(data) if "published" in wanted else []
    if notes:
        print("\n".join(notes))
    command = shlex.join(["geospot", *sys.argv[1:]])
    write_metrics(out / "metrics.json", facts, command=command, scale=scale, **about)
    written = ["metrics.json", "predictions.jsonl"]
    if pages:
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
        )
        written += ["report.html", *draw_figures(out, {name: e.predictions for name, e in found.items()})]
    print(f"\nwrote {', '.join(written)} in {out}")


def print_evaluation(
    name: str, rows: Sequence[Evaluation], groups: Mapping[str, Sequence[Group]] | None = None
) -> None:
    """The tables of one set on a terminal; the one by country is in the files."""
    first = rows[0]
    p = first.predictions
    size = f"{len(p):,} pictures" + (f" of {p.n_places:,} places" if p.n_places < len(p) else "")
    print(f"\n{name}: {size}, 95 % bootstrap intervals in brackets, score with D / 10 = {p.score_decay_km:,.1f} km")
    print(metrics_table(rows))
    for line in (answered_line(first), failure_line(first), radius_lines(first)):
        if line:
            print(line)
    for key in ("continent", "population density", "income group"):
        if groups and groups.get(key):
            print(f"\n{group_table(key, groups[key])}")


def published_notes(data: str) -> list[str]:
    """What papers report, in words: figures on other pictures do not belong in a table of one's own."""
    return [f"Published on {row.data}: {row.model}, {_in_words(row.metrics)} ({row.source})." for row in
            published_rows(data)]  # fmt: skip


def _in_words(metrics: Mapping[str, float]) -> str:
    radii = {key: value for key, value in metrics.items() if key.endswith("km") and key.startswith("acc_")}
    parts = []
    if radii:
        names = " / ".join(f"{int(key[4:-2]):,}" for key in radii)
        parts.append(f"{' / '.join(f'{100 * value:.1f}' for value in radii.values())} % within {names} km")
    for key, value in metrics.items():
        if key.endswith("_acc"):
            parts.append(f"{key.removesuffix('_acc').removeprefix('geo_')} {100 * value:.1f} %")
        elif key not in radii:
            parts.append(f"{key.replace('_', ' ')} {value:,.0f}")
    return ", ".join(parts)


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
        (f"By country{suffix}", _country_map(evaluation, groups["country"]) + group_html("country", countries)),
        (f"Accuracy by continent, density and income{suffix}", f'<div class="tables">{fair}</div>'),
        (f"Confused countries{suffix}", confusion_html(confused)),
    ]
    if evaluation.radius is not None:
        report, p = evaluation.radius, evaluation.radius.probability
        parts = [("all", report.all), *((f"fifth {i}", part) for i, part in enumerate(report.by_size, start=1))]
        rows = [(n, p, c.coverage, c.low, c.high, c.median_radius_km) for n, c in parts]
        sections.append((f"The stated radius{suffix}", reliability_html(rows)))
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


def draw_figures(out: Path, models: Mapping[str, Predictions]) -> list[str]:
    """figure.png and figure.pdf for papers; a note instead where matplotlib is not installed."""
    try:
        from geospot.report.figures import save_figure
    except ImportError:
        print(f"no figure.png: it needs the extra figures (matplotlib): {install_extra('figures')}")
        return []
    return save_figure(out, models)
