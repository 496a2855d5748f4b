"""Who lives where: continent, income group and population density, for asking whom a model serves how well."""

from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import ArrayLike

from geospot.earth.distance import EARTH_RADIUS_KM, chord, unit_vectors
from geospot.earth.gazetteer import Gazetteer

CONTINENTS = {
    "AF": "Africa", "AN": "Antarctica", "AS": "Asia", "EU": "Europe", "NA": "North America", "OC": "Oceania",
    "SA": "South America",
}  # fmt: skip
INCOME_GROUPS = ("high income", "upper middle income", "lower middle income", "low income")
DENSITY_RADIUS_KM = 25.0
DENSITY_BOUNDS = (1.0, 10.0, 100.0, 1000.0)  # people per square kilometre
DENSITY_NAMES = ("under 1 / km²", "1 to 10 / km²", "10 to 100 / km²", "100 to 1,000 / km²", "1,000 / km² and more")


def continent(code: str | None) -> str | None:
    """The continent of a country by its alpha-2 code, as GeoNames has it; None for an unknown code."""
    row = Gazetteer.load().countries.table.get(code or "")
    return CONTINENTS[row["continentcode"]] if row else None


@lru_cache(maxsize=1)
def _income() -> dict[str, str]:
    text = (files("geospot.earth") / "data" / "income.tsv").read_text(encoding="utf-8")
    return dict(line.split("\t") for line in text.splitlines())


def income_group(code: str | None) -> str | None:
    """One of INCOME_GROUPS by alpha-2 code: World Bank classes of about 2012, as in Natural Earth; None if unknown."""
    return _income().get(code or "")


def population_density(lat: ArrayLike, lon: ArrayLike) -> np.ndarray:
    """People per km² (N,) who live in cities (GeoNames, 1,000 people and more) within DENSITY_RADIUS_KM of points.

    Country people are not counted, and a city counts where its centre is: an order of magnitude, no census.
    """
    cities = Gazetteer.load().cities
    points, reach = unit_vectors(lat, lon).reshape(-1, 3), float(chord(DENSITY_RADIUS_KM))
    near = cities.tree.query_ball_point(points, reach, workers=-1)
    people = np.array([cities.population[rows].sum() if rows else 0 for rows in near], dtype=np.float64)
    cap_km2 = 2 * np.pi * EARTH_RADIUS_KM**2 * (1 - np.cos(DENSITY_RADIUS_KM / EARTH_RADIUS_KM))
    return people / cap_km2


def density_group(density: np.ndarray) -> np.ndarray:
    """One of DENSITY_NAMES for each density (N,)."""
    return np.array(DENSITY_NAMES, dtype=object)[np.searchsorted(DENSITY_BOUNDS, density, side="right")]
