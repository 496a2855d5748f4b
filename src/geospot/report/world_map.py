"""The world map: for each stage, great-circle lines from where pictures were taken to where the model said."""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from geospot.report.atlas import WORLD_WIDTH, country_paths, polyline, x_of, y_of
from geospot.report.great_circle import great_circle, split_at_date_line
from geospot.report.html import (
    DISTANCE_NAMES,
    coordinates,
    distance_class,
    escape,
    kilometres,
)
from geospot.scoring.metrics import Predictions

# The map shows at least these latitudes and more where a line or a dot needs it; Antarctica is mostly empty.
SHOWN_LAT = (-58.0, 84.0)


def world_map_html(stages: Mapping[str, Predictions], max_places: int = 300) -> str:
    """Radio buttons (no script: the style sheet does the switching) and one SVG that holds every stage's lines.

    Stages over the same number of places show the same places, a fixed random `max_places` of them.
    """
    groups, captions, radios, tabs, rules = [], [], [], [], []
    lats = [*SHOWN_LAT]
    for number, (name, predictions) in enumerate(stages.items()):
        shown = np.sort(np.random.default_rng(0).permutation(len(predictions))[:max_places])
        svg, reached = _stage_svg(predictions, shown)
        lats += reached
        groups.append(f'<g class="stage stage-{number}">{svg}</g>')
        captions.append(f'<p class="muted stage stage-{number}">{_caption(predictions, shown)}</p>')
        checked = " checked" if number == len(stages) - 1 else ""
        radios.append(f'<input type="radio" name="stage" id="stage-{number}"{checked}>')
        tabs.append(f'<label for="stage-{number}">{escape(name)}</label>')
        rules.append(
            f"#stage-{number}:checked~.map .stage-{number}{{display:revert}}"
            f"#stage-{number}:checked~.tabs label[for=stage-{number}]{{background:var(--ink);color:var(--paper)}}"
            f"#stage-{number}:focus-visible~.tabs label[for=stage-{number}]{{outline:2px solid var(--s0)}}"
        )
    top, bottom = y_of(min(90.0, max(lats) + 1)), y_of(max(-90.0, min(lats) - 1))
    return (
        f'<style>{"".join(rules)}</style><div class="mapbox">{"".join(radios)}<div class="tabs">{"".join(tabs)}</div>'
        f'<div class="map"><div class="scroll" tabindex="0">'
        f'<svg viewBox="0 {top} {WORLD_WIDTH} {bottom - top}" role="img" aria-label="World map of guesses">'
        f"{_background()}{''.join(groups)}</svg></div>{_legend()}{''.join(captions)}</div></div>"
    )


def dots_map_html(groups: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> str:
    """One SVG with a dot a point; `groups` are (name, lat, lon), at most five, in colours from dark to bright."""
    lats = np.concatenate([lat for _, lat, _ in groups])
    top, bottom = (
        y_of(min(90.0, max(SHOWN_LAT[1], lats.max() + 1))),
        y_of(max(-90.0, min(SHOWN_LAT[0], lats.min() - 1))),
    )
    dots = "".join(
        f'<path class="dots d{min(i, 4)}" d="{"".join(map(_dot, lat, lon))}"/>'
        for i, (_, lat, lon) in enumerate(groups)
    )
    names = "".join(
        f'<li class="d{min(i, 4)}"><i class="swatch"></i>{escape(name)}</li>' for i, (name, *_) in enumerate(groups)
    )
    return (
        f'<div class="map"><div class="scroll" tabindex="0">'
        f'<svg viewBox="0 {top} {WORLD_WIDTH} {bottom - top}" role="img" aria-label="World map of places">'
        f'{_background()}{dots}</svg></div><ul class="legend">{names}</ul></div>'
    )


def _stage_svg(predictions: Predictions, shown: np.ndarray) -> tuple[str, list[float]]:
    """One stage's lines and dots, the long lines below the short ones, and the latitudes they reach."""
    distance_km = predictions.distance_km
    lines, lats = [], list(predictions.truth_lat[shown])
    for i in shown[np.argsort(-np.nan_to_num(distance_km[shown], nan=np.inf), kind="stable")]:
        truth = predictions.truth_lat[i], predictions.truth_lon[i]
        if predictions.failed[i]:
            title = f"truth {coordinates(*truth)}; failed: {escape(predictions.failures[i], 80)}"
            lines.append(f'<g><title>{title}</title><path class="cross" d="{_cross(*truth)}"/></g>')
            continue
        guess = predictions.lat[i], predictions.lon[i]
        pieces = split_at_date_line(great_circle(*truth, *guess))
        lats += [lat for piece in pieces for lat in piece[:, 0]]
        title = f"{kilometres(distance_km[i])} km: truth {coordinates(*truth)}, guess {coordinates(*guess)}"
        lines.append(
            f'<g class="{distance_class(distance_km[i])}"><title>{title}</title>'
            f'<path class="line" d="{"".join(map(polyline, pieces))}"/><path class="guess" d="{_dot(*guess)}"/></g>'
        )
    truths = "".join(
        _dot(predictions.truth_lat[i], predictions.truth_lon[i]) for i in shown if not predictions.failed[i]
    )
    return f'{"".join(lines)}<path class="truth-rim" d="{truths}"/><path class="truth" d="{truths}"/>', lats


def _caption(predictions: Predictions, shown: np.ndarray) -> str:
    failed = int(predictions.failed[shown].sum())
    answered = predictions.distance_km[shown][~predictions.failed[shown]]
    median = (
        f" Median of the answered among them: {kilometres(float(np.median(answered)))} km." if len(answered) else ""
    )
    return (
        f"{len(shown):,} of {len(predictions):,} places shown, {failed:,} of them with a failed answer.{median} "
        "Lines are great circles."
    )


def _legend() -> str:
    bins = "".join(f'<li class="d{i}"><i class="swatch"></i>{name}</li>' for i, name in enumerate(DISTANCE_NAMES))
    return (
        '<ul class="legend"><li><i class="ring"></i>truth</li><li><i class="dot"></i>guess</li>'
        f'<li><i class="saltire">×</i>truth, answer failed</li>{bins}</ul>'
    )


@cache
def _background() -> str:
    """Graticule and countries, the same for every report."""
    meridians = "".join(f"M{x} 0V1800" for x in range(300, WORLD_WIDTH, 300))
    parallels = "".join(f"M0 {y}H{WORLD_WIDTH}" for y in range(300, 1800, 300))
    land = "".join(f'<path class="land outline" d="{path}"/>' for path in country_paths().values())
    return f'<path class="graticule" d="{meridians}{parallels}"/>{land}'


def _dot(lat: float, lon: float) -> str:
    """A line of no length: its round cap is a dot whose size in pixels does not depend on the map's scale."""
    return f"M{x_of(lon)} {y_of(lat)}h0"


def _cross(lat: float, lon: float, arm: int = 11) -> str:
    x, y = x_of(lon), y_of(lat)
    return f"M{x - arm} {y - arm}L{x + arm} {y + arm}M{x - arm} {y + arm}L{x + arm} {y - arm}"
