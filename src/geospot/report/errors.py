"""How far off the guesses are: a histogram over distance, and the share of pictures within each distance."""

from collections.abc import Mapping

import numpy as np

from geospot.earth.distance import MAX_DISTANCE_KM
from geospot.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, linear_ticks, tick_label
from geospot.report.html import escape
from geospot.scoring.metrics import Predictions

LOW_KM, HIGH_KM = 1.0, MAX_DISTANCE_KM
BINS = 26
_TICKS_KM = (1, 10, 100, 1000, 10000)


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
    for km in _TICKS_KM:
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
