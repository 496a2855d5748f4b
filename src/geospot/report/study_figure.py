"""A study's curves and differences as one figure for papers, PNG and PDF. Needs the extra `figures` (matplotlib)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from geospot.report.figures import STYLE, save
from geospot.report.study_page import IN_ONE_CHART
from geospot.training.outcomes import Outcome, Results, StudyCurve
from geospot.training.plan import Plan

METRIC, WHAT = "median_km", "median distance, km"


def save_study_figure(folder: Path, plan: Plan, results: Results) -> list[str]:
    """Write figure.png (300 dpi) and figure.pdf, a row per start: median distance by steps and by answers, and each
    variant's difference to the baseline."""
    with matplotlib.rc_context(STYLE):
        return save(folder, draw(plan, results))


def draw(plan: Plan, results: Results) -> Figure:
    """A row of three panels per start: a curve per variant, by steps and by answers; the differences.

    Every curve has its band where variants are few, else the baseline's alone: a dozen bands hide each other, and the
    page shows each with its own beside the baseline.
    """
    height = max(2.2, 0.19 * len(plan.variants) + 0.6)
    figure = Figure(figsize=(9.5, height * len(plan.starts) + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(plan.starts), 3, squeeze=False, width_ratios=(1, 1, 1.3))
    scale = matplotlib.colormaps["tab10" if len(plan.variants) <= 10 else "tab20"]
    colours = {name: scale(number % scale.N) for number, name in enumerate(plan.variants)}
    for row, start in zip(panels, plan.starts, strict=True):
        for curve in results.curves:
            if curve.start == start:
                with_band = curve.variant == plan.baseline or len(plan.variants) <= IN_ONE_CHART
                width = 1.8 if curve.variant == plan.baseline else 1.0
                for axes, x in ((row[0], curve.steps), (row[1], curve.answers)):
                    _draw(axes, curve, x, colours[curve.variant], width, with_band=with_band)
        row[0].set(ylabel=f"{start}: {WHAT}", xlabel="steps")
        row[1].set(xlabel="answers asked")
        _draw_differences(row[2], plan, [o for o in results.outcomes if o.start == start], colours)
    return figure


def _draw_differences(axes: Axes, plan: Plan, outcomes: Sequence[Outcome], colours: Mapping[str, tuple]) -> None:
    """A point with its interval per variant, in the plan's order; the baseline is the line at 0. The legend too."""
    names = [o.variant for o in outcomes]
    axes.axvline(0, color="0.4", linewidth=0.8)
    for at, one in enumerate(outcomes):
        found = one.estimates.differences.get(METRIC)
        colour = colours[one.variant]
        if found is None:
            axes.plot([0], [at], "o", color=colour, markersize=4)
            continue
        axes.plot([found.low, found.high], [at, at], color=colour, linewidth=1.6)
        clear = one.p_holm[METRIC] < 0.05
        axes.plot([found.value], [at], "o", color=colour, markersize=4, markerfacecolor=colour if clear else "white")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(f"median less {plan.baseline}'s, km (95 %; filled: p < 0.05)")
    axes.spines[["top", "right"]].set_visible(False)


def _draw(axes: Axes, curve: StudyCurve, x: list, colour: tuple, width: float, *, with_band: bool) -> None:
    axes.plot(x, [p.value for p in curve.points], color=colour, linewidth=width, label=curve.variant)
    if with_band:
        low, high = ([getattr(p, end) for p in curve.points] for end in ("low", "high"))
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda km, _: f"{km:,.0f}"))
    low, high = axes.get_ylim()
    if high < 3 * low:  # one label or none, else
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda km, _: f"{km:,.0f}"))
    else:
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.spines[["top", "right"]].set_visible(False)
