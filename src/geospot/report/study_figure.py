"""A study's curves as one figure for papers, PNG and PDF. Needs the extra `figures` (matplotlib)."""

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from geospot.report.figures import STYLE, save
from geospot.training.outcomes import Results, StudyCurve
from geospot.training.plan import Plan


def save_study_figure(folder: Path, plan: Plan, results: Results) -> list[str]:
    """Write figure.png (300 dpi) and figure.pdf: a row per start, median distance by steps and by answers."""
    with matplotlib.rc_context(STYLE):
        return save(folder, draw(plan, results))


def draw(plan: Plan, results: Results) -> Figure:
    """A row of two panels per start, one curve with a band per variant."""
    figure = Figure(figsize=(7.0, 2.6 * len(plan.starts) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(plan.starts), 2, sharey="row", squeeze=False)
    scale = matplotlib.colormaps["tab10" if len(plan.variants) <= 10 else "tab20"]
    for row, start in zip(panels, plan.starts, strict=True):
        for number, name in enumerate(plan.variants):
            for curve in results.curves:
                if (curve.start, curve.variant) == (start, name):
                    width = 1.8 if name == plan.baseline else 1.0
                    _draw(row[0], curve, curve.steps, scale(number % scale.N), width)
                    _draw(row[1], curve, curve.answers, scale(number % scale.N), width)
        row[0].set(ylabel=f"{start}: median distance, km", xlabel="steps")
        row[1].set(xlabel="answers asked")
    panels[0][0].legend(fontsize=6, frameon=False)
    return figure


def _draw(axes: Axes, curve: StudyCurve, x: list, colour: tuple, width: float) -> None:
    axes.plot(x, [p.value for p in curve.points], color=colour, linewidth=width, label=curve.variant)
    axes.fill_between(x, [p.low for p in curve.points], [p.high for p in curve.points], color=colour, alpha=0.12,
                      linewidth=0)  # fmt: skip
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.spines[["top", "right"]].set_visible(False)
