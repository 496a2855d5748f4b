"""The headline tables: one row a model or baseline, each number with its 95 % interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from geospot.report.html import MISSING, escape, kilometres, percent, points

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
    ("% right by coordinates", "Country", "geo_country_acc", percent, False),
    ("% right by coordinates", "Region", "geo_region_acc", percent, False),
    ("% right by coordinates", "Area", "geo_area_acc", percent, False),
    ("% right by coordinates", "City", "geo_city_acc", percent, False),
    ("% right by text", "Country", "country_acc", percent, False),
    ("% right by text", "Region", "region_acc", percent, False),
    ("% right by text", "City", "city_acc", percent, False),
    ("% failed", "Answers", "failure_rate", percent, None),
)


@dataclass(frozen=True)
class Row:
    """One line of a table: a stage's name with what `summarize` and `bootstrap_intervals` say about it."""

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
    """The table over all places, and folded below it the one over the answers that could be read."""
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


def _cell(row: Row, key: str, show, best: float, is_first: bool) -> str:
    value = float(row.summary.get(key, np.nan))
    low, high = row.intervals.get(key, (np.nan, np.nan))
    interval = "" if np.isnan(low) or show(value) == MISSING else f"<small>{show(low)}–{show(high)}</small>"
    return f"<td{_first(is_first, 'best' if value == best else '')}>{show(value)}{interval}</td>"
