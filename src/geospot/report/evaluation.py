"""Evaluations as text, metrics.json, report.html and figures: the same for one model, for several, and for files."""

import heapq
import io
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import chz
import numpy as np

from geospot._version import __version__
from geospot.asking.cluster import Draws
from geospot.data.samples import Sample
from geospot.report import Example, Row, StageAnswer, Table, pick_examples, write_report
from geospot.report.breakdown import confusion_html, group_html, reliability_html
from geospot.report.country_map import CountryValue, country_map_html
from geospot.report.errors import histogram_html, within_html
from geospot.report.html import escape, kilometres, points
from geospot.scoring.breakdown import confusions, country_title, group_names, group_tables
from geospot.scoring.judge import Evaluation
from geospot.scoring.metrics import Group
from geospot.scoring.references import parse_references, published_rows, reference_rows
from geospot.scoring.results import evaluation_json, write_metrics
from geospot.scoring.terminal import answered_line, failure_line, group_table, metrics_table, radius_lines
from geospot.scoring.truths import Truths

PICTURE_SIDE = 480  # of a picture in the report, pixels
COUNT = 4  # best and as many worst pictures
NOTES = {
    "population density": "People per km² in cities of 1,000 and more within 25 km (GeoNames): an order of magnitude.",
    "income group": "World Bank classes of about 2012, as in Natural Earth; islets without one are left out.",
}


class Gallery:
    """The best and the worst pictures of a set, kept while the set goes by."""

    def __init__(self, wanted: Mapping[str, tuple[int, str]] | None = None):
        self._wanted = dict(wanted or {})
        self._best: list = []
        self._worst: list = []
        self._seen = 0

    @classmethod
    def of(cls, evaluation: Evaluation) -> "Gallery":
        """For an evaluation that is done: it waits for the pictures to be shown."""
        picked = pick_examples(evaluation.predictions.distance_km, COUNT)
        return cls({evaluation.truths.keys[i]: (rank, tag) for rank, (i, tag) in enumerate(picked)})

    def offer(self, samples: Sequence[Sample], draws: Sequence[Draws]) -> None:
        """Samples with the answers to each."""
        from geospot.earth.distance import haversine_km

        for sample, group in zip(samples, draws, strict=True):
            first = group.candidates[0] if group.candidates else None
            place = sample.place
            km = np.inf if first is None else float(haversine_km(place.lat, place.lon, first.lat, first.lon))
            self._seen += 1  # a tie goes to the earlier picture, and no sample is ever compared
            shown = sample, group.texts[0]
            for heap, value in ((self._best, -km), (self._worst, km)):
                heapq.heappush(heap, (value, -self._seen, km, shown))
                if len(heap) > COUNT:
                    heapq.heappop(heap)

    def read(self, samples: Iterable[Sample]) -> None:
        """Find the wanted pictures among samples; stops at the last of them."""
        self._found = {}
        for sample in samples:
            if sample.key in self._wanted:
                self._found[sample.key] = sample
                if len(self._found) == len(self._wanted):
                    return

    def examples(self, evaluation: Evaluation) -> list[Example]:
        """Cards for the report."""
        if self._wanted:
            row = {key: i for i, key in enumerate(evaluation.truths.keys)}
            guesses = evaluation.guesses
            found = sorted(self._found.items(), key=lambda item: self._wanted[item[0]][0])
            return [
                _example(self._wanted[key][1], sample, evaluation.name, _said(guesses, row[key]),
                         evaluation.predictions.distance_km[row[key]])
                for key, sample in found
            ]  # fmt: skip
        cards, shown = [], set()
        for tag, heap in (("best", self._best), ("worst", self._worst)):
            for _, order, km, (sample, text) in sorted(heap, key=lambda item: (-item[0], -item[1])):
                if order not in shown:
                    shown.add(order)
                    cards.append(_example(tag, sample, evaluation.name, text, km if np.isfinite(km) else np.nan))
        return cards


def _said(guesses, i: int) -> str:
    if guesses.texts is not None:
        return guesses.texts[i]
    return guesses.failures[i] or f"{guesses.lat[i]:.4f}, {guesses.lon[i]:.4f}"


def _example(tag: str, sample: Sample, name: str, text: str, km: float) -> Example:
    place = sample.place
    truth = ", ".join(part for part in (place.city, place.region, place.country) if part) or sample.key
    pictures = [shrunk for picture in sample.pictures if (shrunk := _shrink(picture))]
    return Example(
        tag, pictures, truth, place.lat, place.lon, [StageAnswer(name, text, None if km != km else float(km))]
    )


def _shrink(picture: bytes) -> bytes | None:
    """A small JPEG for the page, without metadata; None where the picture cannot be read."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(picture)) as image:
            image = ImageOps.exif_transpose(image).convert("RGB")
            image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
            out = io.BytesIO()
            image.save(out, "JPEG", quality=85)
            return out.getvalue()
    except (OSError, ValueError):
        return None


def report_evaluations(
    out: Path,
    found: Mapping[str, Evaluation],
    config,
    *,
    about: dict,
    gallery: Mapping[str, Gallery],
    train: Truths | None,
) -> None:
    """Print tables and write metrics.json and, with `config.report`, report.html and figures into `out`."""
    wanted = parse_references(config.references)
    facts, groups, tables = {}, {}, []
    for name, evaluation in found.items():
        rows = [evaluation, *reference_rows(evaluation.truths, wanted, scale=config.scale, train=train)]
        groups[name] = group_tables(evaluation, group_names(evaluation.truths))
        facts[name] = evaluation_json(evaluation, groups[name], confusions(evaluation))
        if len(rows) > 1:
            facts[name]["references"] = {row.name: evaluation_json(row) for row in rows[1:]}
        print_evaluation(name, rows, groups[name])
        tables.append(_table(name, rows))
    notes = published_notes(str(about.get("truth") or config.data or "")) if "published" in wanted else []
    print("\n".join(notes))
    command = shlex.join(["geospot", *sys.argv[1:]])
    write_metrics(out / "metrics.json", facts, command=command, scale=config.scale, **about)
    written = ["metrics.json", "predictions.jsonl"]
    if config.report:
        sections = [part for name, e in found.items() for part in sections_of(name, e, groups[name], len(found) > 1)]
        write_report(
            out / "report.html",
            title=f"geospot eval: {about.get('title') or Path(about['predictions']).name}",
            tables=tables,
            maps={name: e.predictions for name, e in reversed(found.items())},
            sections=[*sections, *published_section(notes)],
            examples=[card for name, g in gallery.items() for card in g.examples(found[name])],
            configuration=chz.asdict(config),
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
    """What papers report, in words: rows of other pictures than one's own do not belong into its table."""
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
    """Errors, countries, who lives there, confusions and reliability of one evaluation."""
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
        (f"Who is served how well{suffix}", f'<div class="tables">{fair}</div>'),
        (f"What is taken for what{suffix}", confusion_html(confused)),
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
    return country_map_html(values, 0.0, 5000.0, "mean score of the pictures taken there; grey: none")


def draw_figures(out: Path, models: Mapping) -> list[str]:
    """figure.png and figure.pdf for papers; a word where matplotlib is not installed."""
    try:
        from geospot.report.figures import save_figure
    except ImportError:
        print("no figure.png: drawing it needs matplotlib: pip install 'geospot[figures]'")
        return []
    return save_figure(out, models)
