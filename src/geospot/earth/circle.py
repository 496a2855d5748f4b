"""A circle on the sphere as rings for maps: cut at the date line, closed over a pole."""

import numpy as np

from geospot.earth.distance import EARTH_RADIUS_KM, MAX_DISTANCE_KM, destination

POINTS = 72


def circle_rings(lat: float, lon: float, radius_km: float) -> list[list[tuple[float, float]]]:
    """Closed rings of (lon, lat) within [-180, 180], counterclockwise as RFC 7946 asks; the whole Earth for a radius of
    half of it."""
    if radius_km >= MAX_DISTANCE_KM * 0.999:
        return [_box(-180.0, 180.0)]
    bearings = -np.arange(POINTS) * 360.0 / POINTS  # counterclockwise
    lats, lons = destination(lat, lon, bearings, radius_km)
    reach = np.degrees(radius_km / EARTH_RADIUS_KM)
    pole = 1 if lat + reach > 90 else -1 if lat - reach < -90 else 0
    x = np.degrees(np.unwrap(np.radians(lons)))
    if pole:
        return [_over_pole(x, lats, pole, both=lat + reach > 90 and lat - reach < -90)]
    points = np.stack([x, lats], axis=1)
    rings = []
    for turn in (-360.0, 0.0, 360.0):
        part = _clip(_clip(points + np.array([turn, 0.0]), -180.0, 1), 180.0, -1)
        if len(part) >= 3:
            rings.append(_closed(part))
    return rings


def _over_pole(x: np.ndarray, lats: np.ndarray, pole: int, both: bool) -> list[tuple[float, float]]:
    """The ring that runs once round the Earth and holds a pole (if it holds both, the whole Earth)."""
    if both:
        return _box(-180.0, 180.0)
    order = np.argsort((x + 180.0) % 360.0)
    lon, lat = ((x + 180.0) % 360.0 - 180.0)[order], lats[order]
    edge = float(np.interp(180.0, [lon[-1], lon[0] + 360.0], [lat[-1], lat[0]]))
    rim = [(-180.0, edge), *zip(lon.tolist(), lat.tolist(), strict=True), (180.0, edge)]
    ring = [*rim, (180.0, 90.0 * pole), (-180.0, 90.0 * pole)]
    return _closed(np.array(ring if pole > 0 else ring[::-1]))


def _box(west: float, east: float) -> list[tuple[float, float]]:
    return [(west, -90.0), (east, -90.0), (east, 90.0), (west, 90.0), (west, -90.0)]


def _closed(points: np.ndarray) -> list[tuple[float, float]]:
    ring = [(round(float(x), 6), round(float(y), 6)) for x, y in points]
    return [*ring, ring[0]]


def _clip(points: np.ndarray, edge: float, sign: int) -> np.ndarray:
    """The part of a ring where sign * (lon - edge) >= 0 (Sutherland and Hodgman 1974)."""
    kept = []
    for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0), strict=True):
        inside1, inside2 = sign * (x1 - edge) >= 0, sign * (x2 - edge) >= 0
        if inside1:
            kept.append((x1, y1))
        if inside1 != inside2:
            kept.append((edge, y1 + (y2 - y1) * (edge - x1) / (x2 - x1)))
    return np.array(kept).reshape(-1, 2)
