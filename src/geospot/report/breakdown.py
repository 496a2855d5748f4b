"""Tables by group, what is taken for what, differences between models, and reliability, as HTML."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from geospot.report.html import MISSING, escape, kilometres, percent, points
from geospot.scoring.metrics import Difference, Group

_GROUP_COLUMNS = (
    ("Median km", "median_km", kilometres),
    ("Score", "geoguessr_score", points),
    ("% within 25 km", "acc_25km", percent),
    ("% within 750 km", "acc_750km", percent),
    ("% right country", "geo_country_acc", percent),
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
        [group.name, f"{group.summary['n']:,.0f}", *(_cell(show, key, group) for _, key, show in _GROUP_COLUMNS)]
        for group in groups
    ]
    return plain_table([title[:1].upper() + title[1:], "Pictures", *(head for head, *_ in _GROUP_COLUMNS)], rows)


def _cell(show, key: str, group: Group) -> tuple[str, str]:
    return with_interval(show, group.summary.get(key, np.nan), *group.intervals.get(key, (np.nan, np.nan)))


def with_interval(show, value: float, low: float, high: float) -> tuple[str, str]:
    """A cell: the number, and its interval in small."""
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
        return '<p class="muted">No guess lies in another country than its picture.</p>'
    return plain_table(
        ["Picture from", "Guessed in", "Pictures", "% of the country's"],
        [(truth, guess, f"{n:,}", percent(share)) for truth, guess, n, share in rows],
    )


def difference_html(pairs: Mapping[str, Mapping[str, Difference]]) -> str:
    """A line a pair of models; a difference whose interval leaves out 0 is bold."""
    columns = (
        ("Median km", "median_km", 1.0, 0), ("Mean km", "mean_km", 1.0, 0), ("Score", "geoguessr_score", 1.0, 0),
        *((f"% within {r:,} km", f"acc_{r}km", 100.0, 1) for r in (1, 25, 200, 750, 2500)),
        ("% right country", "geo_country_acc", 100.0, 1),
    )  # fmt: skip
    rows = []
    for name, differences in pairs.items():
        cells = "".join(_difference(differences.get(key), factor, digits) for _, key, factor, digits in columns)
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h, *_ in columns)
    return (
        f'<div class="scroll" tabindex="0"><table class="numbers"><thead><tr><td></td>{head}</tr></thead>'
        f'<tbody>{"".join(rows)}</tbody></table></div><p class="muted fine">Both models are resampled together '
        "over the pictures in common. Bold: the 95 % interval of the difference leaves out 0.</p>"
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
