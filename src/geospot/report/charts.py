"""Charts as inline SVG: lines with a band for an interval, and how far off guesses are, over distance."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geospot.earth.distance import MAX_DISTANCE_KM
from geospot.report.page import escape
from geospot.scoring.metrics import Predictions

WIDTH, HEIGHT = 400, 230
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 10, 36  # margins around the plot, in the units of WIDTH
LOW_KM, HIGH_KM = 1.0, MAX_DISTANCE_KM  # the axis of distances, logarithmic
TICKS_KM = (1.0, 10.0, 100.0, 1000.0, 10000.0)
BINS = 26


@dataclass(frozen=True)
class Series:
    """One curve. All sequences are as long as `steps`; a NaN value leaves a gap."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    low: Sequence[float] | None = None  # the band, such as a 95 % interval
    high: Sequence[float] | None = None


@dataclass(frozen=True)
class Chart:
    """One small chart; the series (four at most) are coloured in the order given."""

    title: str  # what, with its unit: "Median distance on eval, km"
    series: Sequence[Series]
    log: bool = False  # logarithmic y axis; values that are not positive become gaps
    x_label: str = "step"


@dataclass(frozen=True)
class _Plot:
    """The ranges of both axes, and where on the drawing a value lies."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    log_x: bool = False
    log_y: bool = False

    def x(self, value: np.ndarray | float) -> np.ndarray:
        """Pixels from the left."""
        return LEFT + (WIDTH - LEFT - RIGHT) * _share(value, *self.x_range, self.log_x)

    def y(self, value: np.ndarray | float) -> np.ndarray:
        """Pixels from the top."""
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * _share(value, *self.y_range, self.log_y)

    def axes(self, x_ticks: Mapping[float, str], y_ticks: Mapping[float, str], x_label: str) -> str:
        """Grid lines, ticks with their labels, and the label of the x axis."""
        bottom, right, parts = HEIGHT - BOTTOM, WIDTH - RIGHT, []
        for value, label in y_ticks.items():
            y = self.y(value)
            parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
            parts.append(f'<text class="y" x="{LEFT - 7}" y="{y + 3.5:.1f}">{label}</text>')
        for value, label in x_ticks.items():
            x = self.x(value)
            parts.append(f'<path class="axis" d="M{x:.1f} {bottom}v4"/>')
            parts.append(f'<text class="x" x="{x:.1f}" y="{bottom + 16}">{label}</text>')
        below = f'<text class="x" x="{(LEFT + right) / 2:.0f}" y="{HEIGHT - 4}">{escape(x_label)}</text>'
        return f'{"".join(parts)}<path class="axis" d="M{LEFT} {bottom}H{right}"/>{below}'


def _share(value: np.ndarray | float, low: float, high: float, log: bool) -> np.ndarray:
    """How far along an axis from low to high a value lies, 0 to 1."""
    if log:
        low, high, value = np.log10(low), np.log10(high), np.log10(value)
    return (np.asarray(value) - low) / (high - low)


def chart_html(chart: Chart) -> str:
    """A figure with the title, the last value (if there is one series) and the plot."""
    if not 1 <= len(chart.series) <= 4:
        raise ValueError(f"chart {chart.title!r} has {len(chart.series)} series; a readable chart has 1 to 4")
    curves = [_arrays(series, chart) for series in chart.series]
    x_all = np.concatenate([x[np.isfinite(y)] for x, y, *_ in curves])
    y_all = np.concatenate([array[np.isfinite(array)] for _, *arrays in curves for array in arrays])
    if len(x_all) == 0:
        return f"<figure><figcaption>{escape(chart.title)}</figcaption><p class='muted'>No values.</p></figure>"
    plot = _Plot(_span(x_all.min(), x_all.max()), _value_range(y_all, chart.log), log_y=chart.log)
    y_ticks = log_ticks(*plot.y_range) if chart.log else linear_ticks(*plot.y_range, 5)
    axes = plot.axes(_labelled(linear_ticks(*plot.x_range, 6)), _labelled(y_ticks), chart.x_label)
    lines = "".join(_curve(i, *curve, plot=plot) for i, curve in enumerate(curves))
    last = ""
    if len(curves) == 1:  # the newest value, which one looks for first
        values = curves[0][1]
        last = f"<b>{tick_label(float(f'{values[np.isfinite(values)][-1]:.3g}'))}</b>"
    return _figure(chart.title, axes + lines, [s.name for s in chart.series], last)


def _figure(title: str, content: str, names: Sequence[str] = (), last: str = "") -> str:
    """A titled drawing, with a legend where there are several names."""
    keys = "".join(f'<li class="s{i}"><i class="swatch"></i>{escape(name)}</li>' for i, name in enumerate(names))
    legend = f'<ul class="legend">{keys}</ul>' if len(names) > 1 else ""
    return (
        f'<figure><figcaption>{escape(title)}{last}</figcaption>{legend}<svg viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'role="img" aria-label="{escape(title)}">{content}</svg></figure>'
    )


def _arrays(series: Series, chart: Chart) -> tuple[np.ndarray, ...]:
    """(steps, values, low, high) as float arrays; without a band low and high are all NaN."""
    fields = (series.steps, series.values, series.low, series.high)
    arrays = [np.full(len(series.steps), np.nan) if f is None else np.asarray(f, dtype=np.float64) for f in fields]
    if any(array.shape != arrays[0].shape for array in arrays):
        lengths = [len(array) for array in arrays]
        raise ValueError(f"series {series.name!r} of {chart.title!r}: steps, values, low, high of lengths {lengths}")
    steps, *values = arrays
    usable = [np.where(np.isfinite(v) & ((v > 0) | (not chart.log)), v, np.nan) for v in values]
    return steps, *usable


def _curve(number: int, x: np.ndarray, y: np.ndarray, low: np.ndarray, high: np.ndarray, plot: _Plot) -> str:
    """The band, the line (broken at gaps) and, where they are few, the points of one series."""
    shapes = []
    for run in _runs(np.isfinite(low) & np.isfinite(high)):
        if len(run) > 1:
            there, back = _points(plot, x[run], low[run]), _points(plot, x[run[::-1]], high[run[::-1]])
            shapes.append(f'<path class="band" d="M{"L".join(there + back)}Z"/>')
    for run in _runs(np.isfinite(y)):
        pixels = _points(plot, x[run], y[run])
        shapes.append(f'<path class="curve" d="M{"L".join(pixels)}"/>')
        if len(x) <= 25 or len(run) == 1:
            shapes.append(f'<path class="points" d="{"".join(f"M{pixel}h0" for pixel in pixels)}"/>')
    return f'<g class="s{number}">{"".join(shapes)}</g>'


def _points(plot: _Plot, x: np.ndarray, y: np.ndarray) -> list[str]:
    return [f"{px:.1f} {py:.1f}" for px, py in zip(plot.x(x), plot.y(y), strict=True)]


def _runs(present: np.ndarray) -> list[np.ndarray]:
    """The indices of each unbroken run of True."""
    indices = np.flatnonzero(present)
    return [run for run in np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1) if len(run)]


def _span(low: float, high: float) -> tuple[float, float]:
    """A range that is not empty."""
    pad = 0.5 if low == 0 else 0.05 * abs(low)
    return (low - pad, high + pad) if low == high else (low, high)


def _value_range(values: np.ndarray, log: bool) -> tuple[float, float]:
    """What the y axis spans: from 0 where the values come near it, else a little more than the values."""
    low, high = values.min(), values.max()
    if log:
        return (low / 1.5, high * 1.5) if low == high else (low / (high / low) ** 0.04, high * (high / low) ** 0.04)
    low, high = _span(low, high)
    if 0 <= low < 0.5 * high:
        return 0.0, 1.04 * high
    pad = 0.05 * (high - low)
    return low - pad, high + pad


def linear_ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers (1, 2, 5 times a power of ten apart) within [low, high], about `count` of them."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within [low, high], with their doubles and fives where those are fewer than four."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 2, 5)):
        ticks = [float(f"{f}e{d}") for d in decades for f in factors if low <= float(f"{f}e{d}") <= high]
        if len(ticks) >= 4:
            return ticks
    return ticks if len(ticks) > 1 else linear_ticks(low, high, 4)


def tick_label(value: float) -> str:
    """1,500 or 0.25 or 2e-05: as short as it can be and exact for round numbers."""
    if value == 0 or 1e-4 <= abs(value) < 1e7:
        return f"{value:,.10f}".rstrip("0").rstrip(".").replace("-", "−")
    return f"{value:.3g}".replace("-", "−")


def _labelled(ticks: Sequence[float]) -> dict[float, str]:
    return {tick: tick_label(tick) for tick in ticks}


# --- over distance ---


def histogram(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """(edges (BINS + 1,) in km, evenly spaced in the logarithm; counts (BINS,)). Below LOW_KM counts as LOW_KM."""
    edges = np.geomspace(LOW_KM, HIGH_KM, BINS + 1)
    km = predictions.distance_km[~predictions.failed]
    return edges, np.histogram(np.clip(km, LOW_KM, HIGH_KM * (1 - 1e-12)), edges)[0]


def share_within(predictions: Predictions, km: np.ndarray) -> np.ndarray:
    """The share of all pictures whose guess lies within each distance; a failed answer lies within none."""
    distances = np.sort(predictions.distance_km[~predictions.failed])
    return np.searchsorted(distances, km, side="right") / len(predictions)


def histogram_html(name: str, predictions: Predictions, number: int = 0) -> str:
    """The histogram of one model as a figure, in the colour that curve `number` has in the others."""
    edges, counts = histogram(predictions)
    high = max(int(counts.max()), 1)
    plot = _over_distance(1.04 * high)
    left, right, bottom, top = plot.x(edges[:-1]) + 0.6, plot.x(edges[1:]) - 0.6, plot.y(0), plot.y(counts)
    bars = "".join(
        f'<path class="bar" d="M{left[i]:.1f} {bottom:.1f}V{top[i]:.1f}H{right[i]:.1f}V{bottom:.1f}Z"><title>'
        f"{tick_label(round(edges[i]))} to {tick_label(round(edges[i + 1]))} km: {n:,}</title></path>"
        for i, n in enumerate(counts.tolist())
        if n
    )
    failed = int(predictions.failed.sum())
    note = f" · {failed:,} failed not shown" if failed else ""
    ticks = [t for t in linear_ticks(0, 1.04 * high, 5) if t == int(t)]
    axes = plot.axes(_labelled(TICKS_KM), _labelled(ticks), "km, pictures")
    return _figure(f"Distance from truth to guess, km: {name}{note}", f'{axes}<g class="s{min(number, 3)}">{bars}</g>')


def within_html(models: Mapping[str, Predictions]) -> str:
    """The cumulative curves of up to four models as a figure: the higher, the better."""
    km, plot, names = np.geomspace(LOW_KM, HIGH_KM, 240), _over_distance(1.04), list(models)[:4]
    lines = "".join(
        f'<g class="s{i}"><path class="curve" d="M{"L".join(_points(plot, km, share_within(models[name], km)))}"/></g>'
        for i, name in enumerate(names)
    )
    axes = plot.axes(_labelled(TICKS_KM), {s / 4: f"{25 * s}%" for s in range(5)}, "km")
    return _figure("Share of pictures within a distance, km", axes + lines, names)


def _over_distance(high: float) -> _Plot:
    return _Plot((LOW_KM, HIGH_KM), (0.0, high), log_x=True)
