"""The GeoGuessr score and the usual accuracy radii."""

import numpy as np
from numpy.typing import ArrayLike

from geospot.earth.distance import haversine_km

# 5000 * exp(-d / decay); 1492.7 km is the constant of the research code (PIGEON, OSV-5M): the world map's
# diagonal of 14,916.862 km over 10 agrees with it within one point.
WORLD_SCORE_DECAY_KM = 1492.7
MAX_SCORE = 5000.0

# Street, city, region, country, continent; a distance equal to the radius counts as a hit.
ACCURACY_RADII_KM = (1, 25, 200, 750, 2500)


def geoguessr_score(distance_km: ArrayLike, decay_km: float = WORLD_SCORE_DECAY_KM) -> np.ndarray:
    """Points in [0, 5000] for a guess `distance_km` away; a missing distance (NaN) scores 0."""
    distance_km = np.asarray(distance_km, dtype=np.float64)
    return MAX_SCORE * np.exp(-np.where(np.isnan(distance_km), np.inf, distance_km) / decay_km)


def parse_scale(scale: str | float) -> float | None:
    """The decay in km of `scale`: "world", or a map's diagonal in km; None for "map". ValueError for anything else."""
    if scale == "world":
        return WORLD_SCORE_DECAY_KM
    if scale == "map":
        return None
    try:
        diagonal_km = float(scale)
    except (TypeError, ValueError):
        diagonal_km = np.nan
    if not 0 < diagonal_km < np.inf:
        raise ValueError(f"scale={scale!r}: must be world, map (the bounds of the truths), or the map's diagonal in km")
    return diagonal_km / 10


def map_diagonal_km(lat: ArrayLike, lon: ArrayLike) -> float:
    """The diagonal of the smallest box of latitudes and longitudes around points in degrees, as GeoGuessr's maps have.

    The box may cross the date line: it leaves out the widest gap between longitudes. ValueError where all
    are one place.
    """
    lat, lon = np.asarray(lat, np.float64), np.sort(np.asarray(lon, np.float64))
    gaps = np.diff(lon, append=lon[0] + 360.0)
    width = 360.0 - gaps.max()
    # East and west ends more than half a turn apart are nearer the other way: the longest line in the box is meant.
    diagonal = float(haversine_km(lat.min(), 0.0, lat.max(), min(width, 180.0)))
    if diagonal == 0:
        raise ValueError("scale=map: all truths are one place, which has no size; give the map's diagonal in km")
    return diagonal


def score_decay_km(scale: str | float, truth_lat: ArrayLike, truth_lon: ArrayLike) -> float:
    """The decay in km for `scale` (see `parse_scale`); the bounds of the truths are the map's for "map"."""
    decay_km = parse_scale(scale)
    return map_diagonal_km(truth_lat, truth_lon) / 10 if decay_km is None else decay_km
