"""Evaluations as text for a terminal."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from geospot.progress import Quiet, table
from geospot.scoring.judge import Evaluation
from geospot.scoring.metrics import LOCATED, STATED, TITLES, Difference, Group

NAN = float("nan")
RADII = (1, 25, 200, 750, 2500)
GEO_COUNTRY = "geo_country_acc"


def table_row(title: str, name: str, summary: Mapping, intervals: Mapping) -> dict:
    """The main metrics of one evaluation as the cells of one line."""
    low, high = intervals.get("median_km", (NAN, NAN))
    cells = {title: name, "failed": f"{100 * summary['failure_rate']:.1f}%"}
    says_nothing = high - low < 0.5  # 20,015 to 20,015
    cells |= {"median km": f"{summary['median_km']:.0f}"}
    cells["95 % interval"] = "–" if says_nothing else f"{low:.0f} to {high:.0f}"
    cells |= {"mean km": f"{summary['mean_km']:.0f}", "score": f"{summary['geoguessr_score']:.0f}"}
    for radius in RADII[1:]:
        cells[f"<{radius}km"] = f"{100 * summary[f'acc_{radius}km']:.1f}%"
    for key in ("text_country_acc", "text_region_acc", "text_city_acc"):
        share = summary[key]
        cells[TITLES[key]] = "–" if share != share else f"{100 * share:.1f}%"  # no answer of them all names one
    return _stepped_back(cells, summary)


def _stepped_back(cells: dict, summary: Mapping) -> dict:
    """The row of a model none of whose answers could be read is shown dim: its numbers are those of no answer."""
    return Quiet(cells) if summary["failure_rate"] == 1 else cells


def metrics_table(evaluations: Sequence[Evaluation], title: str = "model") -> str:
    """Two tables with one line per evaluation: distances and scores, then accuracies; intervals in brackets."""
    far = [_distances(title, e.name, e.summary, e.intervals) for e in evaluations]
    places = [_places(title, e.name, e.summary, e.intervals) for e in evaluations]
    text = table(far)
    if any(len(row) > 1 for row in places):
        columns = list(dict.fromkeys(key for row in places for key in row))
        text += "\n\n" + table(type(row)({key: row.get(key, "–") for key in columns}) for row in places)
    return text


def _distances(title: str, name: str, summary: Mapping, intervals: Mapping) -> dict:
    cells = {title: name, "n": f"{summary['n']:.0f}", "failed": f"{100 * summary['failure_rate']:.1f}%"}
    for key, head in (("median_km", "median km"), ("mean_km", "mean km"), ("geoguessr_score", "score")):
        cells[head] = _with_interval(summary, intervals, key, 1, 0)
    cells |= {f"<{r}km": _with_interval(summary, intervals, f"acc_{r}km", 100, 1) for r in RADII}
    return _stepped_back(cells, summary)


def _places(title: str, name: str, summary: Mapping, intervals: Mapping) -> dict:
    cells = {title: name}
    for key in (f"{level}_acc" for level in (*LOCATED, *STATED)):
        if not np.isnan(summary.get(key, NAN)):
            cells[TITLES[key]] = _with_interval(summary, intervals, key, 100, 1)
    return _stepped_back(cells, summary)


def _with_interval(summary: Mapping, intervals: Mapping, key: str, factor: float, digits: int) -> str:
    value = summary.get(key, NAN)
    if np.isnan(value):
        return "–"
    low, high = intervals.get(key, (NAN, NAN))
    sign = "%" if factor == 100 else ""
    text = f"{factor * value:.{digits}f}{sign}"
    ends = [f"{factor * end:.{digits}f}" for end in (low, high)]
    return text if np.isnan(low) or ends[0] == ends[1] else f"{text} [{', '.join(ends)}]"


def answered_line(evaluation: Evaluation) -> str:
    """The main metrics over the answers that did not fail, where some did."""
    s = evaluation.summary
    if s["failure_rate"] == 0 or s["answered/n"] == 0:
        return ""
    return (
        f"{evaluation.name}, answered only ({s['answered/n']:.0f} of {s['n']:.0f}): "
        f"median {s['answered/median_km']:.0f} km, mean {s['answered/mean_km']:.0f} km, "
        f"score {s['answered/geoguessr_score']:.0f}, "
        f"<25km {100 * s['answered/acc_25km']:.1f}%, <750km {100 * s['answered/acc_750km']:.1f}%"
    )


def failure_line(evaluation: Evaluation) -> str:
    """Why answers failed, and how often; empty where none did."""
    reasons = evaluation.predictions.failure_counts()
    return "" if not reasons else f"{evaluation.name}: failed answers: " + ", ".join(
        f"{reason} {n}" for reason, n in reasons.items()
    )  # fmt: skip


def radius_lines(evaluation: Evaluation) -> str:
    """How often the stated radius held the truth."""
    report = evaluation.radius
    if report is None:
        return ""
    stated = "" if report.probability is None else f", stated {100 * report.probability:g}%"
    found, made_on = report.all, evaluation.guesses.calibrated_on
    where = f", calibrated on {made_on}," if made_on else ""
    return (
        f"{evaluation.name}: the stated radius{where} (median {found.median_radius_km:.0f} km) holds the truth of "
        f"{100 * found.coverage:.1f}% [{100 * found.low:.1f}, {100 * found.high:.1f}] of {found.n} pictures{stated}"
    )


def group_table(title: str, groups: Iterable[Group]) -> str:
    """One line per group."""
    rows = []
    for group in groups:
        s, i = group.summary, group.intervals
        row = {title: group.name, "n": f"{s['n']:.0f}", "failed": f"{100 * s['failure_rate']:.1f}%"}
        row["median km"] = _with_interval(s, i, "median_km", 1, 0)
        row["score"] = _with_interval(s, i, "geoguessr_score", 1, 0)
        row |= {head: _with_interval(s, i, key, 100, 1) for key, head in
                (("acc_25km", "<25km"), ("acc_750km", "<750km"), (GEO_COUNTRY, TITLES[GEO_COUNTRY]))}  # fmt: skip
        rows.append(row)
    return table(rows)


def difference_table(title: str, rows: Mapping[str, Mapping[str, Difference]]) -> str:
    """One line per pair of models; a difference whose interval excludes 0 has a star."""
    keys = (("median_km", "median km", 1, 0), ("mean_km", "mean km", 1, 0), ("geoguessr_score", "score", 1, 0),
            *((f"acc_{r}km", f"<{r}km", 100, 1) for r in RADII),
            (GEO_COUNTRY, TITLES[GEO_COUNTRY], 100, 1))  # fmt: skip
    out = []
    for name, differences in rows.items():
        row = {title: name}
        for key, head, factor, digits in keys:
            d = differences.get(key)
            row[head] = "–" if d is None or np.isnan(d.value) else (
                f"{factor * d.value:+.{digits}f} [{factor * d.low:+.{digits}f}, {factor * d.high:+.{digits}f}]"
                + ("*" if d.clear else "")
            )  # fmt: skip
        out.append(row)
    return table(out)
