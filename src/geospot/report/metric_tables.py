"""Metrics as HTML tables: one row per model or group, each number with its 95 % interval."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from geospot.report.page import MISSING, escape, kilometres, percent, points
from geospot.scoring.metrics import Difference, Group

Show = Callable[[float], str]  # a number as text


@dataclass(frozen=True)
class Column:
    """A metric in a table: its heading below that of its group, and `label`, which says both in a narrow table."""

    group: str
    head: str
    label: str
    key: str  # of `metrics.summarize`
    show: Show
    less: bool | None  # whether less is better; None: no contest


def _named(group: str, head: str, label: str, keys: Mapping[str, str]) -> list[Column]:
    """Columns of percentages; `{}` in head and label stands for the names of `keys`."""
    return [
        Column(group, head.format(name[:1].upper() + name[1:]), label.format(name), key, percent, False)
        for name, key in keys.items()
    ]


LABELS = ("country", "region", "city")
DISTANCES = [
    Column("% failed", "Answers", "% failed", "failure_rate", percent, None),
    Column("Distance, km", "Median", "Median, km", "median_km", kilometres, True),
    Column("Distance, km", "Mean", "Mean, km", "mean_km", kilometres, True),
    Column("Points of 5,000", "Score", "Score of 5,000", "geoguessr_score", points, False),
    *_named("% within", "{}", "% within {}", {f"{r:,} km": f"acc_{r}km" for r in (1, 25, 200, 750, 2500)}),
]
PLACES = [
    *_named(
        "% right by coordinates (geo)", "{}", "% {} (geo)",
        {name: f"geo_{name}_acc" for name in ("country", "region", "area", "city")},
    ),
    *_named("% right by words (text)", "{}", "% {} (text)", {name: f"text_{name}_acc" for name in LABELS}),
]  # fmt: skip


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
    """The tables over all places and, folded below them, those over the answers that could be read."""
    n = {int(row.summary["n"]) for row in table.rows if "n" in row.summary}
    size = f"{min(n):,} places" if len(n) == 1 else ""
    caption = " · ".join(part for part in (size, escape(table.note)) if part)
    return (
        f'<section class="set"><h3>{escape(table.name)}</h3><p class="muted">{caption}</p>{_grids(table.rows, "")}'
        f"<details><summary>Answered only: failed answers left out</summary>"
        f"{_grids(table.rows, 'answered/')}</details></section>"
    )


def _grids(rows: Sequence[Row], prefix: str) -> str:
    """Distances, and below them, where some row has any, the names of places: two tables that fit a page."""
    columns = [c for c in DISTANCES if _used(rows, c.key) and not (prefix and c.key == "failure_rate")]
    named = [c for c in PLACES if _used(rows, c.key)]
    return _grid(rows, prefix, columns) + (_grid(rows, prefix, named) if named else "")


def _grid(rows: Sequence[Row], prefix: str, columns: Sequence[Column]) -> str:
    groups: dict[str, int] = {}
    for column in columns:
        groups[column.group] = groups.get(column.group, 0) + 1
    top = "".join(
        f'<th colspan="{span}" scope="colgroup"{_class("first", "wide" if span > 1 else "")}><span>{group}</span></th>'
        for group, span in groups.items()
    )
    firsts = {next(c.key for c in columns if c.group == group) for group in groups}
    heads = "".join(f'<th scope="col"{_class("first" if c.key in firsts else "")}>{c.head}</th>' for c in columns)
    best = {c.key: _best(rows, prefix + c.key, c.less) for c in columns}
    body = "".join(
        f'<tr{_class("quiet" if row.summary.get("failure_rate") == 1 else "")}><th scope="row">{escape(row.stage)}</th>'
        + "".join(_cell(row, prefix, c, best[c.key], c.key in firsts) for c in columns)
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


def _class(*names: str) -> str:
    """The class attribute, where there is any name."""
    classes = " ".join(name for name in names if name)
    return f' class="{classes}"' if classes else ""


def _best(rows: Sequence[Row], key: str, less: bool | None) -> float:
    """The best value of a column; NaN, which equals nothing, where all rows are alike or there is no contest."""
    values = [value for row in rows if not np.isnan(value := row.summary.get(key, np.nan))]
    if less is None or len(set(values)) < 2:
        return np.nan
    return min(values) if less else max(values)


def _cell(row: Row, prefix: str, column: Column, best: float, is_first: bool) -> str:
    key = prefix + column.key
    value = float(row.summary.get(key, np.nan))
    shown, interval = with_interval(column.show, value, *row.intervals.get(key, (np.nan, np.nan)))
    small = f"<small>{interval}</small>" if interval else ""
    classes = _class("first" if is_first else "", "best" if value == best else "")
    return f'<td{classes} data-label="{column.label}">{shown}{small}</td>'


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
    no_width = np.isnan(low) or show(low) == show(high)  # 20,015 to 20,015 says nothing
    return show(value), "" if no_width else f"{show(low)}–{show(high)}"


def plain_table(heads: Sequence[str], rows: Iterable[Sequence]) -> str:
    """A table of text; a cell may be (text, small text below it)."""
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in heads[1:])
    body = []
    for name, *cells in rows:
        shown = "".join(
            f'<td data-label="{escape(label)}">{_text(cell)}</td>' for label, cell in zip(heads[1:], cells, strict=True)
        )
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


def failures_html(counts: Mapping[str, int], n: int) -> str:
    """One line per reason for which answers of `n` pictures failed, the most frequent first; nothing where none did."""
    rows = [(reason, f"{count:,}", percent(count / n)) for reason, count in counts.items()]
    return plain_table(["Reason", "Answers", "% of the pictures"], rows) if rows else ""


def difference_html(pairs: Mapping[str, Mapping[str, Difference]]) -> str:
    """One line per pair of models; a difference whose interval excludes 0 is bold."""
    columns: tuple[tuple[str, str, float, int], ...] = (
        ("Median km", "median_km", 1.0, 0), ("Mean km", "mean_km", 1.0, 0), ("Score", "geoguessr_score", 1.0, 0),
        *((f"% within {r:,} km", f"acc_{r}km", 100.0, 1) for r in (1, 25, 200, 750, 2500)),
        ("% country (geo)", "geo_country_acc", 100.0, 1),
    )  # fmt: skip
    rows = []
    for name, differences in pairs.items():
        cells = "".join(_difference(head, differences.get(key), by, digits) for head, key, by, digits in columns)
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h, *_ in columns)
    return (
        f'<div class="scroll" tabindex="0"><table class="numbers"><thead><tr><td></td>{head}</tr></thead>'
        f'<tbody>{"".join(rows)}</tbody></table></div><p class="muted fine">Both models are resampled together '
        "over the same pictures. Bold: the 95 % interval of the difference excludes 0.</p>"
    )


def _difference(label: str, d: Difference | None, factor: float, digits: int) -> str:
    if d is None or np.isnan(d.value):
        return f'<td data-label="{label}">{MISSING}</td>'
    value, low, high = (f"{factor * v:+,.{digits}f}".replace("-", "−") for v in (d.value, d.low, d.high))
    return f'<td{_class("best" if d.clear else "")} data-label="{label}">{value}<small>{low} to {high}</small></td>'


def reliability_html(rows: Sequence[tuple[str, float | None, float, float, float, float]]) -> str:
    """`rows`: name, stated probability, coverage, its interval, median radius in km."""
    return plain_table(
        ["Radius", "Stated %", "Holds the truth, %", "Median km"],
        [
            (name, MISSING if p is None else percent(p), with_interval(percent, c, low, high), kilometres(km))
            for name, p, c, low, high, km in rows
        ],
    )
