"""The map and the error curves as one figure for papers, PNG and PDF. Needs the extra `figures` (matplotlib).

matplotlib rather than the report's own drawing: a paper wants vectors, real fonts and the look of its other figures.
"""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.path import Path as Shape
from matplotlib.ticker import NullLocator

from geospot.earth.score import ACCURACY_RADII_KM
from geospot.report.atlas import country_rings, great_circle, split_at_date_line
from geospot.report.charts import HIGH_KM, LOW_KM, TICKS_KM, histogram, share_within
from geospot.report.page import DISTANCE_BOUNDS_KM, DISTANCE_NAMES
from geospot.scoring.metrics import Predictions

# Near to far, and models; both keep their order in grey.
DISTANCE_COLOURS = ("#0b2b66", "#1f78d1", "#5bc0de", "#f0a92b", "#b8321f")
MODEL_COLOURS = ("#3d4453", "#0f8a63", "#b5479f", "#93780c")
MAX_LINES = 400
STYLE = {"font.size": 8, "axes.linewidth": 0.6, "pdf.fonttype": 42, "svg.fonttype": "none"}


def save_figure(folder: Path, models: Mapping[str, Predictions]) -> list[str]:
    """Write figure.png (300 dpi) and figure.pdf; the map is of the first model. Returns the file names."""
    with matplotlib.rc_context(STYLE):
        return save(folder, draw(models))


def save(folder: Path, figure: Figure) -> list[str]:
    """Write a figure as figure.png and figure.pdf; returns the names."""
    for name in (names := ["figure.png", "figure.pdf"]):
        # No date in the PDF: the same evaluation gives the same file.
        figure.savefig(folder / name, dpi=300, metadata={"CreationDate": None} if name.endswith("pdf") else None)
    return names


def draw(models: Mapping[str, Predictions]) -> Figure:
    """A map over two panels: the errors' histogram and the share of pictures within a distance."""
    figure = Figure(figsize=(7.0, 5.0))
    FigureCanvasAgg(figure)
    # By hand: the constrained layout costs as much as all the drawing, for a page whose parts never change.
    margins = {"left": 0.075, "right": 0.985, "top": 0.955, "bottom": 0.095, "hspace": 0.2, "wspace": 0.22}
    grid = figure.add_gridspec(2, 2, height_ratios=(1.85, 1), **margins)
    name, predictions = next(iter(models.items()))
    _draw_map(figure.add_subplot(grid[0, :]), name, predictions)
    _draw_histogram(figure.add_subplot(grid[1, 0]), name, predictions)
    _draw_within(figure.add_subplot(grid[1, 1]), models)
    return figure


def _draw_map(axes: Axes, name: str, predictions: Predictions) -> None:
    shapes = []
    for rings in country_rings().values():
        points = np.concatenate([ring[:, ::-1] for ring in rings])
        codes = [c for ring in rings for c in [Shape.MOVETO, *[Shape.LINETO] * (len(ring) - 2), Shape.CLOSEPOLY]]
        shapes.append(Shape(points, codes))
    axes.add_collection(PathCollection(shapes, facecolors="#e3e4df", edgecolors="white", linewidths=0.3, zorder=0))
    km = predictions.distance_km
    shown = np.sort(np.random.default_rng(0).permutation(len(predictions))[:MAX_LINES])
    shown = shown[~predictions.failed[shown]]
    bins = np.searchsorted(DISTANCE_BOUNDS_KM, km[shown])
    for i, (colour, label) in reversed(list(enumerate(zip(DISTANCE_COLOURS, DISTANCE_NAMES, strict=True)))):
        rows = shown[bins == i]
        lines = [piece[:, ::-1] for r in rows for piece in split_at_date_line(great_circle(
            predictions.truth_lat[r], predictions.truth_lon[r], predictions.lat[r], predictions.lon[r]))]  # fmt: skip
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=0.5, alpha=0.5, zorder=1))
        axes.scatter(
            predictions.lon[rows], predictions.lat[rows], s=4, color=colour, label=label, linewidths=0, zorder=2
        )
    axes.scatter(predictions.truth_lon[shown], predictions.truth_lat[shown], s=5, facecolor="white", edgecolor="black",
                 linewidths=0.4, label="truth", zorder=3)  # fmt: skip
    axes.set(xlim=(-180, 180), ylim=(-60, 85), xticks=[], yticks=[], aspect="equal")
    median = np.median(km[~predictions.failed]) if (~predictions.failed).any() else np.nan
    failed = int(predictions.failed.sum())
    axes.set_title(f"{name}: {len(shown):,} of {len(predictions):,} guesses, median of the answered {median:,.0f} km"
                   + (f", {failed:,} failed" if failed else ""), fontsize=8, loc="left")  # fmt: skip
    axes.legend(loc="lower left", fontsize=6, frameon=False, markerscale=1.6, ncols=2, handletextpad=0.2)


def _over_distance(axes: Axes, label: str) -> None:
    """A logarithmic axis of kilometres, its ticks as numbers."""
    axes.set(xscale="log", xlim=(LOW_KM, HIGH_KM), xlabel=label)
    axes.set_xticks(TICKS_KM, [f"{km:,.0f}" for km in TICKS_KM])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.spines[["top", "right"]].set_visible(False)


def _draw_histogram(axes: Axes, name: str, predictions: Predictions) -> None:
    edges, counts = histogram(predictions)
    axes.stairs(counts, edges, fill=True, color=MODEL_COLOURS[0], alpha=0.85)
    axes.set(ylabel="pictures")
    _over_distance(axes, "distance from truth to guess, km")


def _draw_within(axes: Axes, models: Mapping[str, Predictions]) -> None:
    km = np.geomspace(LOW_KM, HIGH_KM, 400)
    for (name, predictions), colour in zip(list(models.items())[:4], MODEL_COLOURS, strict=False):
        axes.plot(km, 100 * share_within(predictions, km), color=colour, linewidth=1.2, label=name)
    for radius in ACCURACY_RADII_KM:
        axes.axvline(radius, color="#c8ccd2", linewidth=0.5, zorder=0)
    axes.set(ylim=(0, 100), ylabel="pictures within, %")
    _over_distance(axes, "distance, km")
    if len(models) > 1:
        axes.legend(fontsize=6, frameon=False)
