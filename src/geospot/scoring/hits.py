"""Which levels an answer got right by its coordinates alone: reverse geocoding, as OSV-5M's evaluation does it.

The guessed point is looked up in the gazetteer (polygons for country and region, the nearest city within the country
for area and city) and compared with the truth's label, or with what lies at the true point where the set has none. A
level counts only within the right country, an area only within the right region.
"""

import numpy as np

from geospot.earth.areas import area_names
from geospot.earth.folding import fold
from geospot.earth.gazetteer import Gazetteer, Located
from geospot.scoring.guesses import Guesses
from geospot.scoring.truths import Truths


def geocoded_hits(truths: Truths, guesses: Guesses) -> dict[str, np.ndarray]:
    """`country`, `region`, `area` and `city` (N,): 1 or 0, NaN where the truth has no such label."""
    gazetteer = Gazetteer.load()
    at = gazetteer.locate(guesses.lat, guesses.lon)
    country = [code in codes for code, codes in zip(at.country.tolist(), truths.codes, strict=True)]
    known = [bool(codes) for codes in truths.codes]
    regions = truths.regions
    region = [code in codes for code, codes in zip(at.region_code.tolist(), regions, strict=True)]
    area, has_area = _areas(truths, at, gazetteer)
    city, has_city = _cities(truths, at, gazetteer)
    right = np.array(country)
    return {
        "country": _hits(right, known),
        "region": _hits(np.array(region), [bool(codes) for codes in regions]),
        "area": _hits(np.array(region) & area, has_area),
        "city": _hits(right & city, has_city),
    }


def _hits(right: np.ndarray, known) -> np.ndarray:
    return np.where(np.asarray(known, bool), np.asarray(right, np.float64), np.nan)


def _areas(truths: Truths, at: Located, gazetteer: Gazetteer) -> tuple[np.ndarray, list[bool]]:
    """Whether the guess lies in an area of the true one's name (N,), and whether the truth has one."""
    guessed = area_names(gazetteer, at.city_row).tolist()
    folded = {name: fold(name) for name in set(guessed) if name}
    right = [bool(t) and bool(g) and folded[g] == t for g, t in zip(guessed, truths.areas, strict=True)]
    return np.array(right), [bool(t) for t in truths.areas]


def _cities(truths: Truths, at: Located, gazetteer: Gazetteer) -> tuple[np.ndarray, list[bool]]:
    """Whether the city nearest to the guess is the true one (N,), and whether the truth has one."""
    if "city" not in truths.labels:
        true = truths.located.city_row
        return (at.city_row == true) & (true >= 0), (true >= 0).tolist()
    names, labels = gazetteer.cities.names, truths.cities
    right = [row >= 0 and label in names(row) for row, label in zip(at.city_row.tolist(), labels, strict=True)]
    return np.array(right), [bool(label) for label in labels]
