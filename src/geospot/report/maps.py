"""Maps as inline SVG: truths joined to guesses, dots of places, countries coloured by a number, candidates and circles.

A map is a drawing without any script; `map.js` adds zoom, panning and a label that follows the pointer. Dots are lines
of no length with round ends: their size in pixels does not depend on the scale.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geospot.report.atlas import (
    LAND_UNITS,
    UNITS,
    WORLD_HEIGHT,
    WORLD_WIDTH,
    country_rings,
    great_circle,
    polyline,
    split_at_date_line,
    x_of,
    y_of,
)
from geospot.report.page import DISTANCE_NAMES, coordinates, distance_class, escape, kilometres
from geospot.scoring.metrics import Predictions

# A world map shows at least these latitudes and more where a line or a dot needs it; Antarctica is mostly empty.
SHOWN_LAT = (-58.0, 84.0)
LEAST_DEG = 24.0  # the width of a map around two places, at least: narrower, no coast tells where it is
FEW_DOTS = 300  # may be large without hiding each other
ASPECT = 1.5  # of that map, width over height


def frame_html(drawing: str, box: tuple[int, int, int, int], label: str, *, land: str = "") -> str:
    """A drawing over the countries (`land`, where not plain) in a frame that takes the focus; `box` is its viewBox."""
    graticule = "".join(f"M{x} 0V{WORLD_HEIGHT}" for x in range(30 * UNITS, WORLD_WIDTH, 30 * UNITS))
    graticule += "".join(f"M0 {y}H{WORLD_WIDTH}" for y in range(30 * UNITS, WORLD_HEIGHT, 30 * UNITS))
    land = land or '<use href="#land" class="land"/>'
    return (
        f'<div class="frame" tabindex="0" role="group" aria-label="{escape(label)}"><svg '
        f'viewBox="{" ".join(map(str, box))}" role="img" aria-label="{escape(label)}">'
        f'<path class="graticule" d="{graticule}"/>{land}{drawing}</svg></div>'
    )


def world_box(lats: Sequence[float]) -> tuple[int, int, int, int]:
    """The viewBox of a map of the whole Earth that shows all of `lats`."""
    top = y_of(min(90.0, max(SHOWN_LAT[1], *lats) + 1)) if len(lats) else y_of(SHOWN_LAT[1])
    bottom = y_of(max(-90.0, min(SHOWN_LAT[0], *lats) - 1)) if len(lats) else y_of(SHOWN_LAT[0])
    return 0, top, WORLD_WIDTH, bottom - top


def near_box(points: np.ndarray) -> tuple[int, int, int, int]:
    """The viewBox around points (M, 2) of (lat, lon), with a margin; of the whole Earth where they span half of it."""
    (south, west), (north, east) = points.min(axis=0), points.max(axis=0)
    width = max(LEAST_DEG, 1.5 * (east - west), 1.5 * ASPECT * (north - south))
    if width > 180:
        return world_box(points[:, 0].tolist())
    height = width / ASPECT
    left = min(max((west + east - width) / 2, -180.0), 180.0 - width)
    top = min(max((south + north + height) / 2, -90.0 + height), 90.0)
    return x_of(left), y_of(top), round(width * UNITS), round(height * UNITS)


def world_map_html(stages: Mapping[str, Predictions], max_places: int = 300) -> str:
    """Radio buttons (the style sheet does the switching) and one map that holds every stage's lines.

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
            f"#stage-{number}:focus-visible~.tabs label[for=stage-{number}]{{outline:2px solid var(--focus)}}"
        )
    switch = "".join(radios) + f'<div class="tabs">{"".join(tabs)}</div>' if len(stages) > 1 else ""
    if len(stages) == 1:
        rules = [".stage{display:revert}"]
    drawn = frame_html("".join(groups), world_box(lats), "World map: each truth joined to its guess")
    return (
        f'<style>{"".join(rules)}</style><div class="mapbox">{switch}'
        f'<div class="map">{drawn}{_legend()}{"".join(captions)}</div></div>'
    )


def dots_map_html(groups: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> str:
    """One map with one dot per point; `groups` are (name, lat, lon), in shades from light to dark where several."""
    lats = np.concatenate([lat for _, lat, _ in groups])
    shade = ["place"] if len(groups) == 1 else [f"n{min(i, 4)}" for i in range(len(groups))]
    few = " few" if len(lats) <= FEW_DOTS else ""
    dots = "".join(
        f'<path class="dots {shade[i]}{few}" d="{"".join(map(dot, lat, lon))}"/>'
        for i, (_, lat, lon) in enumerate(groups)
    )
    names = "".join(
        f'<li class="{shade[i]}"><i class="dot"></i>{escape(name)}</li>' for i, (name, *_) in enumerate(groups)
    )
    drawn = frame_html(dots, world_box(lats.tolist()), "World map of the places")
    return f'<div class="map">{drawn}<ul class="legend">{names}</ul></div>'


def pair_map_html(truth: tuple[float, float], guess: tuple[float, float] | None, distance_km: float) -> str:
    """The surroundings of one place with the guess for it, if there is one, and the line between; (lat, lon)."""
    points = np.array([truth]) if guess is None else great_circle(*truth, *guess)
    box = near_box(np.concatenate(split_at_date_line(points)))
    title = f"truth {coordinates(*truth)}" if guess is None else _joined(truth, guess, distance_km)
    drawn = frame_html(_pair_svg(truth, guess, distance_km, title), box, f"Map: {title}")
    return f'<div class="map">{drawn}</div>'


def _stage_svg(predictions: Predictions, shown: np.ndarray) -> tuple[str, list[float]]:
    """One stage's lines and dots, the long lines below the short ones, and the latitudes they reach."""
    distance_km = predictions.distance_km
    pairs, lats = [], list(predictions.truth_lat[shown])
    for i in shown[np.argsort(-np.nan_to_num(distance_km[shown], nan=np.inf), kind="stable")]:
        truth = float(predictions.truth_lat[i]), float(predictions.truth_lon[i])
        if predictions.failed[i]:
            title = f"truth {coordinates(*truth)}; failed: {escape(predictions.failures[i], 80)}"
            pairs.append(f'<g class="pair"><title>{title}</title>{ring(*truth, "none")}</g>')
            continue
        guess = float(predictions.lat[i]), float(predictions.lon[i])
        lats += great_circle(*truth, *guess)[:, 0].tolist()
        title = _joined(truth, guess, distance_km[i])
        pairs.append(_pair_svg(truth, guess, distance_km[i], title))
    return "".join(pairs), lats


def _pair_svg(truth: tuple[float, float], guess: tuple[float, float] | None, distance_km: float, title: str) -> str:
    """A truth and its guess, joined by the great circle; `title` is escaped already."""
    if guess is None:
        return f'<g class="pair"><title>{title}</title>{ring(*truth)}</g>'
    line = "".join(map(polyline, split_at_date_line(great_circle(*truth, *guess))))
    at = dot(*guess)
    return (
        f'<g class="pair {distance_class(distance_km)}"><title>{title}</title><path class="line" d="{line}"/>'
        f'<path class="reach" d="{line}{dot(*truth)}{at}"/>{ring(*truth)}<path class="rim" d="{at}"/>'
        f'<path class="guess" d="{at}"/></g>'
    )


def _joined(truth: tuple[float, float], guess: tuple[float, float], distance_km: float) -> str:
    return f"{kilometres(distance_km)} km apart\ntruth {coordinates(*truth)}\nguess {coordinates(*guess)}"


def _caption(predictions: Predictions, shown: np.ndarray) -> str:
    failed = int(predictions.failed[shown].sum())
    answered = predictions.distance_km[shown][~predictions.failed[shown]]
    median = (
        f" Median of the answered among them: {kilometres(float(np.median(answered)))} km." if len(answered) else ""
    )
    return (
        f"{len(shown):,} of {len(predictions):,} places shown, {failed:,} of them with a failed answer.{median} "
        "Lines are great circles; point at one to see a truth with its guess."
    )


def _legend() -> str:
    bins = "".join(f'<li class="d{i}"><i class="dot"></i>{name}</li>' for i, name in enumerate(DISTANCE_NAMES))
    return (
        '<ul class="legend"><li><i class="ring"></i>truth</li><li><i class="ring square"></i>truth, answer failed</li>'
        f"<li>guess, by its distance:</li>{bins}</ul>"
    )


def dot(lat: float, lon: float) -> str:
    """A line of no length."""
    return f"M{x_of(lon)} {y_of(lat)}h0"


def ring(lat: float, lon: float, kind: str = "") -> str:
    """The mark of a true place: a ring; of kind "none", where nothing was guessed for it, a square one."""
    at = dot(lat, lon)
    also = f" {kind}" if kind else ""
    return f'<path class="truth-rim{also}" d="{at}"/><path class="truth{also}" d="{at}"/>'


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
    drawn = country_rings()
    shapes = "".join(
        f'<use href="#c-{code}" class="{_colour(values[code].value, low, high) if code in values else "land"}">'
        f"<title>{escape(values[code].text if code in values else code + ': no picture')}</title></use>"
        for code in drawn
    )
    dots = "".join(
        f'<g><title>{escape(v.text)}</title><path class="dot-rim" d="{dot(v.lat, v.lon)}"/>'
        f'<path class="dot-fill {_colour(v.value, low, high)}" d="{dot(v.lat, v.lon)}"/></g>'
        for code, v in values.items()
        if code not in drawn
    )
    land = f'<g transform="scale({UNITS // LAND_UNITS})">{shapes}</g>'
    scale = "".join(f'<i class="c{i}"></i>' for i in range(STEPS))
    return (
        f'<div class="map countries">{frame_html(dots, world_box(()), legend, land=land)}'
        f'<p class="scale"><span>{low:,.0f}</span>{scale}<span>{high:,.0f}</span> <b>{escape(legend)}</b></p></div>'
    )


def _colour(value: float, low: float, high: float) -> str:
    if value != value:
        return "land"
    share = (value - low) / (high - low) if high > low else 1.0
    return f"c{min(STEPS - 1, max(0, int(share * STEPS)))}"
