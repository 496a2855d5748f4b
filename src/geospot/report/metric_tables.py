"""Metrics as HTML tables: one row per model or group, each number with its 95 % interval."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from geospot.report.page import MISSING, escape, kilometres, percent, points
from geospot.scoring.metrics import Difference, Group

Show = Callable[[float], str]  # a number as text
# (group heading, column heading, key of `metrics.summarize`, format, whether less is better or None for no contest)
COLUMNS = (
    ("Distance, km", "Median", "median_km", kilometres, True),
    ("Distance, km", "Mean", "mean_km", kilometres, True),
    ("Points of 5,000", "Score", "geoguessr_score", points, False),
    ("% within", "1 km", "acc_1km", percent, False),
    ("% within", "25 km", "acc_25km", percent, False),
    ("% within", "200 km", "acc_200km", percent, False),
    ("% within", "750 km", "acc_750km", percent, False),
    ("% within", "2,500 km", "acc_2500km", percent, False),
    ("% right by coordinates (geo)", "Country", "geo_country_acc", percent, False),
    ("% right by coordinates (geo)", "Region", "geo_region_acc", percent, False),
    ("% right by coordinates (geo)", "Area", "geo_area_acc", percent, False),
    ("% right by coordinates (geo)", "City", "geo_city_acc", percent, False),
    ("% right by words (text)", "Country", "text_country_acc", percent, False),
    ("% right by words (text)", "Region", "text_region_acc", percent, False),
    ("% right by words (text)", "City", "text_city_acc", percent, False),
    ("% failed", "Answers", "failure_rate", percent, None),
)


@dataclass(frozen=True)
class Row:
    """One line of a table: the name of a stage with the results of `summarize` and `bootstrap_intervals`."""

    stage: str
    summary: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """All stages on one evaluation set."""

    name: str  # such as "eval" or "eval-far"
    rows: Sequence[Row]
    note: str = ""  # what the set is


def table_html(table: Table) -> str:
    """The table over all places and, folded below it, the table over the answers that could be read."""
    n = {int(row.summary["n"]) for row in table.rows if "n" in row.summary}
    size = f"{min(n):,} places" if len(n) == 1 else ""
    caption = " · ".join(part for part in (size, escape(table.note)) if part)
    return (
        f'<section class="set"><h3>{escape(table.name)}</h3><p class="muted">{caption}</p>{_grid(table.rows, "")}'
        f"<details><summary>Answered only: failed answers left out</summary>"
        f"{_grid(table.rows, 'answered/')}</details></section>"
    )


def _grid(rows: Sequence[Row], prefix: str) -> str:
    columns = [column for column in COLUMNS if not (prefix and column[2] == "failure_rate") and _used(rows, column[2])]
    groups: dict[str, int] = {}
    for group, *_ in columns:
        groups[group] = groups.get(group, 0) + 1
    top = "".join(
        f'<th colspan="{span}" scope="colgroup"{_first(True, "wide" if span > 1 else "")}><span>{group}</span></th>'
        for group, span in groups.items()
    )
    firsts = {next(c[2] for c in columns if c[0] == group) for group in groups}
    heads = "".join(f'<th scope="col"{_first(c[2] in firsts)}>{c[1]}</th>' for c in columns)
    best = {key: _best(rows, prefix + key, less) for _, _, key, _, less in columns}
    body = "".join(
        f'<tr><th scope="row">{escape(row.stage)}</th>'
        + "".join(_cell(row, prefix + key, show, best[key], key in firsts) for _, _, key, show, _ in columns)
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0"><table class="numbers"><thead><tr><td></td>{top}</tr>'
        f"<tr><td></td>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _used(rows: Sequence[Row], key: str) -> bool:
    """Whether to show a column: always the distances, of the labels those that some row has."""
    return not key.endswith("_acc") or any(not np.isnan(row.summary.get(key, np.nan)) for row in rows)


def _first(is_first: bool, also: str = "") -> str:
    """The class attribute of a cell: `first` of its column group, and whatever `also` says."""
    classes = " ".join(name for name in ("first" if is_first else "", also) if name)
    return f' class="{classes}"' if classes else ""


def _best(rows: Sequence[Row], key: str, less: bool | None) -> float:
    """The best value of a column; NaN, which equals nothing, where all rows are alike or there is no contest."""
    values = [value for row in rows if not np.isnan(value := row.summary.get(key, np.nan))]
    if less is None or len(set(values)) < 2:
        return np.nan
    return min(values) if less else max(values)


def _cell(row: Row, key: str, show: Show, best: float, is_first: bool) -> str:
    value = float(row.summary.get(key, np.nan))
    low, high = row.intervals.get(key, (np.nan, np.nan))
    interval = "" if np.isnan(low) or show(value) == MISSING else f"<small>{show(low)}–{show(high)}</small>"
    return f"<td{_first(is_first, 'best' if value == best else '')}>{show(value)}{interval}</td>"


_GROUP_COLUMNS = (
    ("Median km", "median_km", kilometres),
    ("Score", "geoguessr_score", points),
    ("% within 25 km", "acc_25km", percent),
    ("% within 750 km", "acc_750km", percent),
    ("% country (geo)", "geo_country_acc", percent),
    ("% failed", "failure_rate", percent),
)
_FOLDED_ABOVE = 12


def group_html(title: str, groups: Sequence[Group], note: str = "") -> str:
    """One table by group; a long one is folded below its largest groups."""
    if not groups:
        return ""
    rest = groups[_FOLDED_ABOVE:]
    folded = ""
    if rest:
        folded = f"<details><summary>{len(rest)} more</summary>{_group_grid(title, rest)}</details>"
    about = f'<p class="muted">{escape(note)}</p>' if note else ""
    heading = escape(title[:1].upper() + title[1:])
    return f"<div><h3>{heading}</h3>{about}{_group_grid(title, groups[:_FOLDED_ABOVE])}{folded}</div>"


def _group_grid(title: str, groups: Sequence[Group]) -> str:
    rows = [
        [group.name, f"{group.summary['n']:,.0f}", *(_group_cell(show, key, group) for _, key, show in _GROUP_COLUMNS)]
        for group in groups
    ]
    return plain_table([title[:1].upper() + title[1:], "Pictures", *(head for head, *_ in _GROUP_COLUMNS)], rows)


def _group_cell(show: Show, key: str, group: Group) -> tuple[str, str]:
    return with_interval(show, group.summary.get(key, np.nan), *group.intervals.get(key, (np.nan, np.nan)))


def with_interval(show: Show, value: float, low: float, high: float) -> tuple[str, str]:
    """A cell: the number, with its interval in small print."""
    if np.isnan(value):
        return MISSING, ""
    return show(value), "" if np.isnan(low) else f"{show(low)}–{show(high)}"


def plain_table(heads: Sequence[str], rows: Iterable[Sequence]) -> str:
    """A table of text; a cell may be (text, small text below it)."""
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in heads[1:])
    body = []
    for name, *cells in rows:
        shown = "".join(f"<td>{_text(cell)}</td>" for cell in cells)
        body.append(f'<tr><th scope="row">{escape(name)}</th>{shown}</tr>')
    return (
        f'<div class="scroll" tabindex="0"><table class="numbers short"><thead><tr><th scope="row">{escape(heads[0])}'
        f"</th>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _text(cell: object) -> str:
    if isinstance(cell, tuple):
        return f"{escape(cell[0])}<small>{escape(cell[1])}</small>" if cell[1] else escape(cell[0])
    return escape(cell)


def confusion_html(rows: Sequence[tuple[str, str, int, float]]) -> str:
    """`rows`: true country, guessed country, pictures, share of the true country's pictures."""
    if not rows:
        return '<p class="muted">Every guess lies in the country of its picture.</p>'
    return plain_table(
        ["Picture from", "Guessed in", "Pictures", "% of the country's"],
        [(truth, guess, f"{n:,}", percent(share)) for truth, guess, n, share in rows],
    )


def difference_html(pairs: Mapping[str, Mapping[str, Difference]]) -> str:
    """One line per pair of models; a difference whose interval excludes 0 is bold."""
    columns = (
        ("Median km", "median_km", 1.0, 0), ("Mean km", "mean_km", 1.0, 0), ("Score", "geoguessr_score", 1.0, 0),
        *((f"% within {r:,} km", f"acc_{r}km", 100.0, 1) for r in (1, 25, 200, 750, 2500)),
        ("% country (geo)", "geo_country_acc", 100.0, 1),
    )  # fmt: skip
    rows = []
    for name, differences in pairs.items():
        cells = "".join(_difference(differences.get(key), factor, digits) for _, key, factor, digits in columns)
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h, *_ in columns)
    return (
        f'<div class="scroll" tabindex="0"><table class="numbers"><thead><tr><td></td>{head}</tr></thead>'
        f'<tbody>{"".join(rows)}</tbody></table></div><p class="muted fine">Both models are resampled together '
        "over the same pictures. Bold: the 95 % interval of the difference excludes 0.</p>"
    )


def _difference(d: Difference | None, factor: float, digits: int) -> str:
    if d is None or np.isnan(d.value):
        return f"<td>{MISSING}</td>"
    value, low, high = (f"{factor * v:+,.{digits}f}".replace("-", "−") for v in (d.value, d.low, d.high))
    return f"<td{' class=best' if d.clear else ''}>{value}<small>{low} to {high}</small></td>"


def reliability_html(rows: Sequence[tuple[str, float | None, float, float, float, float]]) -> str:
    """`rows`: name, stated probability, coverage, its interval, median radius in km."""
    return plain_table(
        ["Radius", "Stated %", "Holds the truth, %", "Median km"],
        [
            (name, MISSING if p is None else percent(p), with_interval(percent, c, low, high), kilometres(km))
            for name, p, c, low, high, km in rows
        ],
    )
