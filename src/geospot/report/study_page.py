"""The tables of a study, for a terminal and for a page, and its page."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from geospot._version import __version__
from geospot.progress import table
from geospot.report.charts import Chart, Series
from geospot.report.document import write_report
from geospot.report.metric_tables import plain_table
from geospot.report.page import MISSING, command_line
from geospot.scoring.metrics.seeds import Estimate
from geospot.training.outcomes import Outcome, Pair, Results, StudyCurve
from geospot.training.plan import Plan

# Metric, its heading, factor, digits.
COLUMNS = (
    ("median_km", "median km", 1, 0),
    ("geoguessr_score", "score", 1, 0),
    ("acc_25km", "<25 km %", 100, 1),
    ("acc_200km", "<200 km %", 100, 1),
    ("acc_750km", "<750 km %", 100, 1),
)
SIGNS = (
    ("held_out_endings", "endings", 0),
    ("decimals_worth_km", "decimals km", 1),
    ("groups_without_signal", "no signal", 2),
    ("entropy", "entropy", 2),
)
FIRST = "median_km"
IN_ONE_CHART = 4  # series that a reader can tell apart
NOTE = (
    "95 % intervals over seeds and places together. Differences are paired by seed and place; p is corrected by Holm "
    "for all comparisons of the study, and * marks p < 0.05."
)


def study_text(plan: Plan, results: Results) -> str:
    """The tables for a terminal or a file."""
    parts = [f"{results.held_out}: {results.n_places:,} places; {NOTE}"]
    for start in plan.starts:
        rows = [one for one in results.outcomes if one.start == start]
        parts.append(f"\n{start}\n" + table([_means(one) for one in rows]))
        if others := [o for o in rows if o.estimates.differences]:
            head = f"less {plan.baseline}"
            parts.append(table([_differences(head, o.variant, o.estimates.differences, o.p_holm) for o in others]))
        if pairs := [pair for pair in results.pairs if pair.start == start]:
            parts.append(table([_differences("also", _named(p), p.differences, p.p_holm) for p in pairs]))
        parts.append(table([_signs(one) for one in rows]))
    return "\n\n".join(parts)


def _means(one: Outcome) -> dict[str, str]:
    cells = {"variant": one.variant, "seeds": f"{len(one.estimates.seeds)}"}
    return cells | {head: _cell(one.estimates.metrics[key], factor, digits) for key, head, factor, digits in COLUMNS}


def _differences(
    what: str, name: str, differences: Mapping[str, Estimate], p_holm: Mapping[str, float]
) -> dict[str, str]:
    cells = {what: name}
    for key, head, factor, digits in COLUMNS:
        star = "*" if p_holm[key] < 0.05 else ""
        cells[head] = _cell(differences[key], factor, digits, "+") + star
    return cells | {"p (median)": _p(p_holm[FIRST])}


def _named(pair: Pair) -> str:
    return f"{pair.variant} less {pair.against}"


def _signs(one: Outcome) -> dict[str, str]:
    cells = {"training": one.variant, "steps": f"{one.steps:.0f}", "answers": f"{one.answers:.0f}"}
    return cells | {head: _number(one.signs[key], digits) for key, head, digits in SIGNS}


def _cell(estimate: Estimate, factor: float, digits: int, sign: str = "") -> str:
    value, low, high = (_number(factor * v, digits, sign) for v in (estimate.value, estimate.low, estimate.high))
    return value if math.isnan(estimate.low) else f"{value} [{low}, {high}]"


def _number(value: float, digits: int, sign: str = "") -> str:
    return MISSING if math.isnan(value) else f"{value:{sign}z.{digits}f}"


def _p(value: float) -> str:
    return MISSING if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


def study_charts(plan: Plan, results: Results) -> list[Chart]:
    """Median distances against steps and against answers: all variants in one chart, or each beside the baseline."""
    charts = []
    for start in plan.starts:
        curves = {c.variant: c for c in results.curves if c.start == start and len(c.steps) > 1}
        if plan.baseline not in curves:
            continue
        groups = [list(curves)]
        if len(curves) > IN_ONE_CHART:
            groups = [[plan.baseline, name] for name in curves if name != plan.baseline]
        for names in groups:
            what = f"{names[1]} and {names[0]}" if len(groups) > 1 else "median distance"
            for x_label in ("steps", "answers"):
                charts.append(
                    Chart(
                        f"{start}: {what}, km, by {x_label}",
                        [_series(curves[name], x_label) for name in names],
                        log=True,
                        x_label=x_label,
                    )
                )
    return charts


def _series(curve: StudyCurve, x_label: str) -> Series:
    x = curve.steps if x_label == "steps" else curve.answers
    return Series(
        curve.variant, x, [p.value for p in curve.points], [p.low for p in curve.points], [p.high for p in curve.points]
    )


def write_study_page(
    path: Path, plan: Plan, results: Results, configuration: Mapping[str, object], notes: Sequence[str]
) -> Path:
    """Write the page; returns its path."""
    sections = [(f"From {start}", _tables_html(plan, results, start)) for start in plan.starts]
    return write_report(
        path,
        title=f"geospot study: {path.parent.name}",
        tables=[],
        sections=sections,
        charts=study_charts(plan, results),
        configuration=configuration,
        versions={"geospot": __version__},
        command=command_line(),
        notes=[f"Held-out set {results.held_out}, {results.n_places:,} places. {NOTE}", *notes],
        lead=study_lead(plan, results),
    )


def _tables_html(plan: Plan, results: Results, start: str) -> str:
    outcomes = [o for o in results.outcomes if o.start == start]
    pairs = [pair for pair in results.pairs if pair.start == start]
    heads = [head for _, head, *_ in COLUMNS]
    means = [[o.variant, str(len(o.estimates.seeds)), *(_html(o.estimates.metrics[k], f, d) for k, _, f, d in COLUMNS)]
             for o in outcomes]  # fmt: skip
    parts = [plain_table(["Variant", "Seeds", *heads], means)]
    others = [
        _differences_html(o.variant, o.estimates.differences, o.p_holm) for o in outcomes if o.estimates.differences
    ]
    for head, rows in (
        (f"Less {plan.baseline}", others),
        ("Also", [_differences_html(_named(pair), pair.differences, pair.p_holm) for pair in pairs]),
    ):
        if rows:
            parts.append(plain_table([head, *heads, "p (median)"], rows))
    signs = [[o.variant, f"{o.steps:,.0f}", f"{o.answers:,.0f}", *(_number(o.signs[k], d) for k, _, d in SIGNS)]
             for o in outcomes]  # fmt: skip
    parts.append(plain_table(["Training", "Steps", "Answers", *(head for _, head, _ in SIGNS)], signs))
    return "".join(parts)


def _differences_html(
    name: str, differences: Mapping[str, Estimate], p_holm: Mapping[str, float]
) -> list[str | tuple[str, str]]:
    return [name, *(_html(differences[k], f, d, "+") for k, _, f, d in COLUMNS), _p(p_holm[FIRST])]


def _html(estimate: Estimate, factor: float, digits: int, sign: str = "") -> tuple[str, str]:
    value, low, high = (_number(factor * v, digits, sign) for v in (estimate.value, estimate.low, estimate.high))
    return value, "" if math.isnan(estimate.low) else f"{low} to {high}"


def study_lead(plan: Plan, results: Results) -> str:
    """What was found, in sentences: from each start, which variants differ clearly from the baseline."""
    said = []
    for start in plan.starts:
        others = [o for o in results.outcomes if o.start == start and o.estimates.differences]
        clear = [o for o in others if o.p_holm[FIRST] < 0.05]
        nearer = [o.variant for o in clear if o.estimates.differences[FIRST].value < 0]
        farther = [o.variant for o in clear if o.estimates.differences[FIRST].value > 0]
        parts = [f"nearer than {plan.baseline}: {', '.join(nearer) or 'none'}"]
        parts.append(f"farther: {', '.join(farther) or 'none'}")
        parts.append(f"undecided: {', '.join(o.variant for o in others if o not in clear) or 'none'}")
        said.append(f"From {start}, by the median distance: {'; '.join(parts)}.")
    return " ".join(said)
