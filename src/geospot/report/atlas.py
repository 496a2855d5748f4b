"""The outlines of the world for maps, in units of a tenth of a degree: x east from 180 W, y south from 90 N."""

import json
from functools import cache
from importlib import resources

import numpy as np

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
