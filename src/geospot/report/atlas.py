"""The Earth on paper: outlines of countries, great circles and circles, as points and as SVG paths."""

import json
from functools import cache
from importlib import resources

import numpy as np

from geospot.earth.distance import unit_vectors

UNITS = 100  # of a drawing per degree, so that a zoomed map still tells places a kilometre apart
LAND_UNITS = 20  # the outlines are no finer than this, and a page is smaller for it
WORLD_WIDTH, WORLD_HEIGHT = 360 * UNITS, 180 * UNITS


@cache
def country_rings() -> dict[str, list[np.ndarray]]:
    """Alpha-2 code -> closed rings (M, 2) of (lat, lon) degrees, holes included (Natural Earth 1:110m)."""
    atlas = json.loads(resources.files("geospot.earth").joinpath("coastlines.json").read_text(encoding="utf-8"))
    return {
        code: [np.reshape(ring, (-1, 2))[:, ::-1] / atlas["units_per_degree"] for ring in rings]
        for code, rings in atlas["countries"].items()
    }


@cache
def outlines_svg() -> str:
    """Every country once, as #c-XX, and all of them as #land: the maps of a page refer to them."""
    shapes = "".join(
        f'<path id="c-{code}" class="shape" d="{"".join(polyline(ring, LAND_UNITS) for ring in rings)}"/>'
        for code, rings in country_rings().items()
    )
    scale = UNITS // LAND_UNITS
    return (
        f'<svg class="outlines" aria-hidden="true"><defs><g id="land" transform="scale({scale})">{shapes}</g>'
        "</defs></svg>"
    )


def x_of(lon: float) -> int:
    """Longitude in the units of a drawing, from the date line."""
    return round((lon + 180) * UNITS)


def y_of(lat: float) -> int:
    """Latitude in the units of a drawing, from the north pole."""
    return round((90 - lat) * UNITS)


def polyline(points: np.ndarray, units: int = UNITS) -> str:
    """An SVG path through points (M, 2) of (lat, lon), in relative steps, which are shorter to write."""
    xy = np.stack([(points[:, 1] + 180) * units, (90 - points[:, 0]) * units], axis=1).round().astype(int)
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
