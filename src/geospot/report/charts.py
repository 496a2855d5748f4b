"""Line charts as inline SVG: axes with round ticks, a band for an interval, several series if need be."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geospot.report.html import escape

WIDTH, HEIGHT = 400, 230
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 10, 36  # margins around the plot, in the units of WIDTH


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
    """One small chart; series are told apart by colour in the order given (four at most)."""

    title: str  # what, with its unit: "Median distance on eval, km"
    series: Sequence[Series]
    log: bool = False  # logarithmic y axis; values that are not positive become gaps
    x_label: str = "step"


def chart_html(chart: Chart) -> str:
    """A figure with the title, the last value (if there is one series) and the plot."""
    if not 1 <= len(chart.series) <= 4:
        raise ValueError(f"chart {chart.title!r} has {len(chart.series)} series; a readable chart has 1 to 4")
    curves = [_arrays(series, chart) for series in chart.series]
    x_all = np.concatenate([x[np.isfinite(y)] for x, y, *_ in curves])
    y_all = np.concatenate([array[np.isfinite(array)] for _, *arrays in curves for array in arrays])
    if len(x_all) == 0:
        return f"<figure><figcaption>{escape(chart.title)}</figcaption><p class='muted'>No values.</p></figure>"
    x_range, y_range = _span(x_all.min(), x_all.max()), _value_range(y_all, chart.log)

    def x_pixel(x):
        return LEFT + (WIDTH - LEFT - RIGHT) * (x - x_range[0]) / (x_range[1] - x_range[0])

    def y_pixel(y):
        low, high, y = (np.log10(v) if chart.log else v for v in (*y_range, y))
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - low) / (high - low)

    lines = "".join(_curve(i, *curve, x_pixel, y_pixel) for i, curve in enumerate(curves))
    return (
        f"<figure><figcaption>{escape(chart.title)}{_last_value(curves)}</figcaption>{_key(chart)}"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)}">'
        f"{_axes(chart, x_range, y_range, x_pixel, y_pixel)}{lines}</svg></figure>"
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


def _curve(number: int, x, y, low, high, x_pixel, y_pixel) -> str:
    """The band, the line (broken at gaps) and, where they are few, the points of one series."""
    shapes = [f'<path class="band" d="{_band(x_pixel(x[run]), y_pixel(low[run]), y_pixel(high[run]))}"/>'
              for run in _runs(np.isfinite(low) & np.isfinite(high)) if len(run) > 1]  # fmt: skip
    for run in _runs(np.isfinite(y)):
        pixels = [f"{px:.1f} {py:.1f}" for px, py in zip(x_pixel(x[run]), y_pixel(y[run]), strict=True)]
        shapes.append(f'<path class="curve" d="M{"L".join(pixels)}"/>')
        if len(x) <= 25 or len(run) == 1:
            shapes.append(f'<path class="points" d="{"".join(f"M{pixel}h0" for pixel in pixels)}"/>')
    return f'<g class="s{number}">{"".join(shapes)}</g>'


def _band(x, low, high) -> str:
    there = [f"{a:.1f} {b:.1f}" for a, b in zip(x, high, strict=True)]
    back = [f"{a:.1f} {b:.1f}" for a, b in zip(x[::-1], low[::-1], strict=True)]
    return f"M{'L'.join(there + back)}Z"


def _runs(present: np.ndarray) -> list[np.ndarray]:
    """The indices of each unbroken run of True."""
    indices = np.flatnonzero(present)
    return [run for run in np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1) if len(run)]


def _axes(chart: Chart, x_range, y_range, x_pixel, y_pixel) -> str:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tick in log_ticks(*y_range) if chart.log else linear_ticks(*y_range, 5):
        y = y_pixel(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text class="y" x="{LEFT - 7}" y="{y + 3.5:.1f}">{tick_label(tick)}</text>')
    for tick in linear_ticks(*x_range, 6):
        x = x_pixel(tick)
        parts.append(f'<path class="axis" d="M{x:.1f} {bottom}v4"/>')
        parts.append(f'<text class="x" x="{x:.1f}" y="{bottom + 16}">{tick_label(tick)}</text>')
    label = f'<text class="x" x="{(LEFT + right) / 2:.0f}" y="{HEIGHT - 4}">{escape(chart.x_label)}</text>'
    return f'{"".join(parts)}<path class="axis" d="M{LEFT} {bottom}H{right}"/>{label}'


def _last_value(curves) -> str:
    """The newest value, for a chart of one series: what one looks for first."""
    if len(curves) != 1:
        return ""
    values = curves[0][1]
    return f"<b>{tick_label(float(f'{values[np.isfinite(values)][-1]:.3g}'))}</b>"


def _key(chart: Chart) -> str:
    if len(chart.series) == 1:
        return ""
    names = (f'<li class="s{i}"><i class="swatch"></i>{escape(s.name)}</li>' for i, s in enumerate(chart.series))
    return f'<ul class="legend">{"".join(names)}</ul>'


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
