"""The borders of countries and regions in detail, as one block of bytes that a page reads once its map is zoomed in."""

from functools import cache

import numpy as np

from geospot.earth.borders import border_rings

# Coordinates are 16-bit integers in this unit (610 m on a meridian), which is a pixel of the map at its closest.
UNITS_PER_DEGREE = 32_760 / 180


@cache
def borderlines() -> bytes:
    """Little-endian: int32 (rings, points), int32 points of each ring, int16 lon and then int16 lat of all points, and
    a byte for each: 1 where the edge to the next point divides two regions of a country, 0 on coasts and its borders.
    """
    lonlat, ring, country = border_rings()
    inner = _within_a_country(lonlat, ring, country)
    points = np.rint(lonlat * UNITS_PER_DEGREE).astype("<i2")
    moved = np.append(True, np.any(np.diff(points, axis=1) != 0, axis=0) | (np.diff(ring) != 0))
    points, ring, inner = points[:, moved], ring[moved], inner[moved]
    sizes = np.bincount(ring)
    whole = sizes[ring] >= 4  # others are islands of less than a pixel
    points, inner, sizes = points[:, whole], inner[whole], sizes[sizes >= 4]
    head = np.array([len(sizes), points.shape[1]], "<i4")
    return b"".join(part.tobytes() for part in (head, sizes.astype("<i4"), points, inner.astype(np.uint8)))


def _within_a_country(lonlat: np.ndarray, ring: np.ndarray, country: np.ndarray) -> np.ndarray:
    """Whether the edge from each point to the next is one of two polygons of the same country, which both have it."""
    x, y = np.rint(lonlat * 1e5).astype(np.int64)
    place = (x << 32) + y
    following = np.append(place[1:], place[0])
    same_ring = np.append(ring[1:] == ring[:-1], False)
    pairs = np.stack([np.minimum(place, following), np.maximum(place, following), country[ring]])
    _, of, counts = np.unique(pairs[:, same_ring], axis=1, return_inverse=True, return_counts=True)
    inner = np.zeros(len(place), bool)
    inner[same_ring] = counts[of.ravel()] > 1
    return inner
