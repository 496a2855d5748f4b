"""Maps as inline SVG: great-circle lines from truth to guess, dots of places, countries coloured by a number."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from geospot.earth.distance import unit_vectors
from geospot.report.page import DISTANCE_NAMES, coordinates, distance_class, escape, kilometres
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
    """One SVG with one dot per point; `groups` are (name, lat, lon), at most five, in colours from dark to bright."""
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


# From poor to good, in steps of the value's range; the classes c0 to c6 of the style sheet.
STEPS = 7


@dataclass(frozen=True)
class CountryValue:
    """What a country is coloured by, and its tooltip. `lat`, `lon`: where its pictures are."""

    value: float
    text: str
    lat: float
    lon: float


def country_map_html(values: Mapping[str, CountryValue], low: float, high: float, legend: str) -> str:
    """`values` by alpha-2 code; `low` and `high` are the ends of the colour scale. A country that the map does not
    draw (an islet) is a dot where its pictures are; one without pictures is grey."""
    paths = country_paths()
    shapes = "".join(
        f'<path class="{_colour(values[code].value, low, high) if code in values else "land"} outline" d="{path}">'
        f"<title>{escape(values[code].text if code in values else code + ': no picture')}</title></path>"
        for code, path in paths.items()
    )
    dots = "".join(
        f'<g><title>{escape(v.text)}</title><path class="dot-rim" d="{_country_dot(v)}"/>'
        f'<path class="dot-fill {_colour(v.value, low, high)}" d="{_country_dot(v)}"/></g>'
        for code, v in values.items()
        if code not in paths
    )
    top, bottom = y_of(SHOWN_LAT[1]), y_of(SHOWN_LAT[0])
    scale = "".join(f'<i class="c{i}"></i>' for i in range(STEPS))
    return (
        f'<div class="map countries"><div class="scroll" tabindex="0"><svg viewBox="0 {top} {WORLD_WIDTH} '
        f'{bottom - top}" role="img" aria-label="{escape(legend)}">{shapes}{dots}</svg></div>'
        f'<p class="scale"><span>{low:,.0f}</span>{scale}<span>{high:,.0f}</span> <b>{escape(legend)}</b></p></div>'
    )


def _colour(value: float, low: float, high: float) -> str:
    if value != value:
        return "land"
    share = (value - low) / (high - low) if high > low else 1.0
    return f"c{min(STEPS - 1, max(0, int(share * STEPS)))}"


def _country_dot(value: CountryValue) -> str:
    return f"M{round((value.lon + 180) * 10)} {y_of(value.lat)}h0"


WORLD_WIDTH = 3600


@cache
def country_rings() -> dict[str, list[np.ndarray]]:
    """Alpha-2 code -> closed rings (M, 2) of (lat, lon) degrees, holes included (Natural Earth 1:110m)."""
    atlas = json.loads(resources.files("geospot.earth").joinpath("coastlines.json").read_text(encoding="utf-8"))
    return {
        code: [np.reshape(ring, (-1, 2))[:, ::-1] / atlas["units_per_degree"] for ring in rings]
        for code, rings in atlas["countries"].items()
    }


@cache
def country_paths() -> dict[str, str]:
    """Alpha-2 code -> SVG path; to be filled by the even-odd rule."""
    return {code: "".join(map(polyline, rings)) for code, rings in country_rings().items()}


def x_of(lon: float) -> int:
    return round((lon + 180) * 10)


def y_of(lat: float) -> int:
    return round((90 - lat) * 10)


def polyline(points: np.ndarray) -> str:
    """An SVG path through points (M, 2) of (lat, lon), in relative steps, which are shorter to write."""
    xy = np.stack([(points[:, 1] + 180) * 10, (90 - points[:, 0]) * 10], axis=1).round().astype(int)
    steps = np.diff(xy, axis=0)
    steps = steps[np.any(steps != 0, axis=1)]
    return f"M{xy[0, 0]} {xy[0, 1]}l" + " ".join(f"{dx} {dy}" for dx, dy in steps) if len(steps) else ""


def great_circle(lat1: float, lon1: float, lat2: float, lon2: float, step_deg: float = 1.0) -> np.ndarray:
    """Points (M, 2) of (lat, lon) degrees from the first place to the second, at most `step_deg` of arc apart.

    M >= 2; both ends are exactly the given ones. Between antipodes, where every direction is equally short, one is
    taken. Longitudes are in [-180, 180] and jump where the line crosses the date line: see `split_at_date_line`.
    """
    start, end = unit_vectors(lat1, lon1), unit_vectors(lat2, lon2)
    across = end - np.dot(start, end) * start
    angle = np.arctan2(np.linalg.norm(across), np.dot(start, end))
    if np.linalg.norm(across) < 1e-9:  # the same place or its antipode: any direction at right angles will do
        across = np.cross(start, np.eye(3)[np.argmin(np.abs(start))])
    across /= np.linalg.norm(across)
    turns = np.linspace(0.0, angle, max(2, int(np.ceil(np.degrees(angle) / step_deg)) + 1))[:, None]
    x, y, z = (np.cos(turns) * start + np.sin(turns) * across).T
    points = np.degrees(np.stack([np.arctan2(z, np.hypot(x, y)), np.arctan2(y, x)], axis=1))
    points[0], points[-1] = (lat1, lon1), (lat2, lon2)
    return points


def split_at_date_line(points: np.ndarray) -> list[np.ndarray]:
    """Cut a line (M, 2) of (lat, lon) where its longitude jumps by more than 180 degrees.

    Each piece stays within [-180, 180] and ends on the map's edge, at the latitude where the line leaves it; the next
    piece starts at that latitude on the other edge.
    """
    pieces, start = [], 0
    head = points[:0]
    for i in np.flatnonzero(np.abs(np.diff(points[:, 1])) > 180.0):
        (lat1, lon1), (lat2, lon2) = points[i], points[i + 1]
        edge = np.copysign(180.0, lon1)
        unwrapped = lon2 + 2 * edge  # the second point's longitude, counted on over the edge
        share = (edge - lon1) / (unwrapped - lon1) if unwrapped != lon1 else 0.0  # equal: both lie on the date line
        lat = lat1 + (lat2 - lat1) * share
        pieces.append(np.concatenate([head, points[start : i + 1], [[lat, edge]]]))
        head, start = np.array([[lat, -edge]]), i + 1
    return [*pieces, np.concatenate([head, points[start:]])]
