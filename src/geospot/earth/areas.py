"""Second-order areas (counties, districts) by city, from GeoNames; `scripts/build_areas.py` makes the file."""

import json
import lzma
from functools import lru_cache
from importlib.resources import files

import numpy as np

from geospot.earth.gazetteer import Gazetteer


@lru_cache(maxsize=1)
def _table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """GeoNames ids of cities (C,) ascending, the area of each (an index into the names, -1 for none), the names."""
    table = json.loads(lzma.decompress((files("geospot.earth") / "data" / "areas.xz").read_bytes()))
    names = np.array([*table["names"], None], dtype=object)
    return np.cumsum(np.array(table["city"])), np.array(table["area"]), names


@lru_cache(maxsize=4)
def _city_areas(gazetteer: Gazetteer) -> np.ndarray:
    ids, area, names = _table()
    wanted = gazetteer.cities.geoname_id
    at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.append(names[np.where(ids[at] == wanted, area[at], -1)], None)


def area_names(gazetteer: Gazetteer, city_row: np.ndarray) -> np.ndarray:
    """The area (N,) that each city (a row of `gazetteer.cities`, -1 for none) lies in; None where it is not known."""
    return _city_areas(gazetteer)[city_row]
