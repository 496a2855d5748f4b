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


LOW_KM, HIGH_KM = 1.0, MAX_DISTANCE_KM
BINS = 26
TICKS_KM = (1, 10, 100, 1000, 10000)


def histogram(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """(edges (BINS + 1,) in km, evenly spaced in the logarithm; counts (BINS,)). Below LOW_KM counts as LOW_KM."""
    edges = np.geomspace(LOW_KM, HIGH_KM, BINS + 1)
    km = predictions.distance_km[~predictions.failed]
    return edges, np.histogram(np.clip(km, LOW_KM, HIGH_KM * (1 - 1e-12)), edges)[0]


def share_within(predictions: Predictions, km: np.ndarray) -> np.ndarray:
    """The share of all pictures whose guess lies within each distance; a failed answer lies within none."""
    distances = np.sort(predictions.distance_km[~predictions.failed])
    return np.searchsorted(distances, km, side="right") / len(predictions)


def histogram_html(name: str, predictions: Predictions) -> str:
    """The histogram of one model as a figure."""
    edges, counts = histogram(predictions)
    high = max(int(counts.max()), 1)
    bars = "".join(
        f'<path class="bar" d="M{_x(left) + 0.6:.1f} {_y(0, high):.1f}V{_y(n, high):.1f}H{_x(right) - 0.6:.1f}'
        f'V{_y(0, high):.1f}Z"><title>{tick_label(round(left))} to {tick_label(round(right))} km: {n:,}</title></path>'
        for left, right, n in zip(edges[:-1], edges[1:], counts.tolist(), strict=True)
        if n
    )
    failed = int(predictions.failed.sum())
    note = f" · {failed:,} failed not shown" if failed else ""
    ticks = [t for t in linear_ticks(0, 1.04 * high, 5) if t == int(t)]
    axes = _frame("pictures", [(t, _y(t, high), tick_label(t)) for t in ticks])
    title = f"Distance from truth to guess, km: {name}{note}"
    return _figure(title, f'{axes}<g class="s0">{bars}</g>')


def within_html(models: Mapping[str, Predictions]) -> str:
    """The cumulative curves of up to four models as a figure: the higher, the better."""
    km = np.geomspace(LOW_KM, HIGH_KM, 240)
    lines, keys = [], []
    for i, (name, predictions) in enumerate(list(models.items())[:4]):
        share = share_within(predictions, km)
        points = "L".join(f"{_x(x):.1f} {_y(s, 1.0):.1f}" for x, s in zip(km, share, strict=True))
        lines.append(f'<g class="s{i}"><path class="curve" d="M{points}"/></g>')
        keys.append(f'<li class="s{i}"><i class="swatch"></i>{escape(name)}</li>')
    ticks = [(s, _y(s, 1.0), f"{100 * s:.0f}%") for s in (0, 0.25, 0.5, 0.75, 1.0)]
    key = f'<ul class="legend">{"".join(keys)}</ul>' if len(keys) > 1 else ""
    return _figure("Share of pictures within a distance, km", f"{_frame('', ticks)}{''.join(lines)}", key)


def _figure(title: str, content: str, key: str = "") -> str:
    return (
        f'<figure><figcaption>{escape(title)}</figcaption>{key}<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{content}</svg></figure>'
    )


def _frame(y_label: str, ticks) -> str:
    """Axes: kilometres on a logarithmic scale, and the given (value, pixel, label) marks."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/><text class="y" x="{LEFT - 7}" y="{y + 3.5:.1f}">{label}'
             "</text>" for _, y, label in ticks]  # fmt: skip
    for km in TICKS_KM:
        parts.append(f'<path class="axis" d="M{_x(km):.1f} {bottom}v4"/>')
        parts.append(f'<text class="x" x="{_x(km):.1f}" y="{bottom + 16}">{tick_label(km)}</text>')
    label = (
        f'<text class="x" x="{(LEFT + right) / 2:.0f}" y="{HEIGHT - 4}">km{f", {y_label}" if y_label else ""}</text>'
    )
    return f'{"".join(parts)}<path class="axis" d="M{LEFT} {bottom}H{right}"/>{label}'


def _x(km: float) -> float:
    share = np.log(km / LOW_KM) / np.log(HIGH_KM / LOW_KM)
    return LEFT + (WIDTH - LEFT - RIGHT) * float(share)


def _y(value: float, high: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / (1.04 * high)
