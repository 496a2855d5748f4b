"""Great circles on a spherical Earth: distances, destinations, unit vectors. (lat, lon) in degrees, kilometres."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

# Mean Earth radius (IUGG, R1). A sphere of it differs from the WGS84 ellipsoid by at most about 0.5 %.
EARTH_RADIUS_KM = 6371.0088
MAX_DISTANCE_KM = float(np.pi * EARTH_RADIUS_KM)


def haversine_km(lat1: ArrayLike, lon1: ArrayLike, lat2: ArrayLike, lon2: ArrayLike) -> np.ndarray:
    """Great-circle distance in km between points given in degrees; the arguments broadcast; NaN gives NaN.

    The haversine formula (R. W. Sinnott, "Virtues of the Haversine", Sky & Telescope 68, 1984), which keeps
    its precision for near points; the square is clipped at 1 so that antipodes do not become NaN.
    """
    lat1, lon1, lat2, lon2 = (np.radians(np.asarray(x, dtype=np.float64)) for x in (lat1, lon1, lat2, lon2))
    h = np.sin((lat2 - lat1) / 2) ** 2 + np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.minimum(h, 1.0)))


def wrap_longitude(lon: ArrayLike) -> np.ndarray:
    """The same meridian in [-180, 180)."""
    wrapped = (np.asarray(lon, dtype=np.float64) + 180.0) % 360.0 - 180.0
    return np.where(wrapped >= 180.0, -180.0, wrapped)  # the remainder of a tiny negative number rounds up to 360


def destination(
    lat: ArrayLike, lon: ArrayLike, bearing_deg: ArrayLike, distance_km: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Where one arrives from (lat, lon) after `distance_km` along the great circle that leaves at `bearing_deg`.

    Bearing in degrees clockwise from north. Returns (lat, lon) in degrees; the arguments broadcast.
    """
    lat, lon, bearing = (np.radians(np.asarray(x, dtype=np.float64)) for x in (lat, lon, bearing_deg))
    angle = np.asarray(distance_km, dtype=np.float64) / EARTH_RADIUS_KM
    sin_lat = np.sin(lat) * np.cos(angle) + np.cos(lat) * np.sin(angle) * np.cos(bearing)
    east = np.sin(bearing) * np.sin(angle) * np.cos(lat)
    lon2 = lon + np.arctan2(east, np.cos(angle) - np.sin(lat) * sin_lat)
    return np.degrees(np.arcsin(np.clip(sin_lat, -1.0, 1.0))), wrap_longitude(np.degrees(lon2))


def unit_vectors(lat: ArrayLike, lon: ArrayLike) -> np.ndarray:
    """Points on the unit sphere, shape (..., 3), for trees and means that must not care about the date line."""
    lat, lon = np.radians(np.asarray(lat, dtype=np.float64)), np.radians(np.asarray(lon, dtype=np.float64))
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def chord(distance_km: ArrayLike) -> np.ndarray:
    """Straight-line distance on the unit sphere of two points `distance_km` apart, for radius queries in a tree."""
    return 2 * np.sin(np.minimum(np.asarray(distance_km, dtype=np.float64) / EARTH_RADIUS_KM, np.pi) / 2)


def tree_of(vectors: np.ndarray, leafsize: int) -> "cKDTree":
    """A `scipy.spatial.cKDTree` of vectors (N, 3), built fast rather than balanced."""
    from scipy.spatial import cKDTree

    return cKDTree(vectors, leafsize=leafsize, balanced_tree=False, compact_nodes=False)
