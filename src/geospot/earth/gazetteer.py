"""The gazetteer: where coordinates are, and what names mean. Offline, vectorised, loaded once per process.

Which country a place is in where states disagree follows ISO-3166 and GeoNames: a territory with its own code is its
own country (Puerto Rico is PR, Réunion RE, Hong Kong HK, Western Sahara EH, Kosovo XK), a disputed area goes where
GeoNames, and so most data sets, put it. This is a choice about labels, not about right:
`Gazetteer.load(claims={"crimea": "RU"})` chooses otherwise. When answers are scored, each claimant is accepted as
agreeing with coordinates there.
"""

import gc
import os
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike

from geospot.earth.borders import Borders
from geospot.earth.cities import Cities, chord_km
from geospot.earth.countries import countries
from geospot.earth.distance import chord, unit_vectors
from geospot.earth.regions import regions

# A point at sea belongs to the nearest land within this distance: the territorial waters of 12 nautical miles.
COAST_KM = 12 * 1.852
# A polygon whose cities agree on their region to this share is that region. In others (provinces that were split or
# merged since the polygons were drawn) the nearest city decides.
PURE_SHARE = 0.9
# How many points keep a second thread busy for longer than it takes to start.
_THREAD_POINTS = 20_000


@dataclass(frozen=True)
class Claim:
    """An area that states disagree on: its default country and all that are accepted there (ISO-3166 alpha-2)."""

    default: str | None
    accepted: tuple[str, ...]


# Only areas that Natural Earth draws as polygons of their own can be moved. Borders inside a polygon (the Golan Heights
# in Israel's north, Aksai Chin in China, Arunachal Pradesh in India, Hala'ib in Egypt) follow its de facto line.
CLAIMS = {
    "crimea": Claim("UA", ("UA", "RU")),
    "western_sahara": Claim("EH", ("EH", "MA")),
    "somaliland": Claim("SO", ("SO",)),
    "northern_cyprus": Claim("CY", ("CY", "TR")),
    "akrotiri_dhekelia": Claim("CY", ("CY", "GB")),
    "kosovo": Claim("XK", ("XK", "RS")),
    "taiwan": Claim("TW", ("TW", "CN")),
    "palestine": Claim("PS", ("PS", "IL")),
    "falklands": Claim("FK", ("FK", "GB", "AR")),
    "siachen": Claim("IN", ("IN", "PK")),
    "guantanamo": Claim("CU", ("CU", "US")),
    "baykonur": Claim("KZ", ("KZ", "RU")),
    "spratly": Claim(None, ("CN", "VN", "PH", "MY", "TW", "BN")),
}


def resolve_claims(overrides: dict[str, str | None] | None) -> dict[str, str | None]:
    """The country of each claimed area; ValueError for an area that is not in CLAIMS."""
    unknown = set(overrides or ()) - CLAIMS.keys()
    if unknown:
        raise ValueError(f"claims has {sorted(unknown)}: the areas that can be assigned are {sorted(CLAIMS)}")
    return {name: claim.default for name, claim in CLAIMS.items()} | (overrides or {})


@dataclass(frozen=True)
class Located:
    """What lies at N points. Every field and property has shape (N,); names are strings, None where there is none."""

    gazetteer: "Gazetteer"
    polygon: np.ndarray  # into `Gazetteer.borders.polygons`, -1 for none; see `Gazetteer.accepted`
    country_index: np.ndarray  # into `Gazetteer.country_codes`, -1 for none
    region_index: np.ndarray  # into `Gazetteer.region_codes`, -1 for none
    city_row: np.ndarray  # row in `Gazetteer.cities` of the nearest city within the country, -1 for none
    distance_km: np.ndarray  # from the point to that city, NaN for none
    offshore_km: np.ndarray  # 0 on land, distance to the land that the point was given to, NaN in the open ocean

    @cached_property
    def country(self) -> np.ndarray:
        """ISO-3166 alpha-2 codes."""
        return self.gazetteer.country_codes[self.country_index]

    @cached_property
    def region_code(self) -> np.ndarray:
        """GeoNames admin-1 codes: country, dot, code ("US.CA")."""
        return self.gazetteer.region_codes[self.region_index]

    @cached_property
    def region(self) -> np.ndarray:
        """English names of the regions."""
        return self.gazetteer.region_names[self.region_index]

    @cached_property
    def city(self) -> np.ndarray:
        """Names of the cities."""
        return self.gazetteer.city_names[self.city_row]


class Gazetteer:
    """Reverse geocoding and names. Use `Gazetteer.load()`: building one takes over a second.

    `claims` assigns disputed areas to countries, see CLAIMS.
    """

    def __init__(self, claims: dict[str, str | None] | None = None) -> None:
        self.claims = resolve_claims(claims)
        with _collector_paused(), ThreadPoolExecutor(1) as pool:
            borders = pool.submit(Borders)  # mostly numpy, beside the reading of the cities
            self.cities = Cities()
            self.countries, self.regions = countries(), regions()
            import scipy.spatial  # noqa: F401  needed by the first lookup; here it costs only what the borders leave

            self.borders = borders.result()
            city_polygon = self.borders.at(self.cities.lat, self.cities.lon)
            self._assign_countries(city_polygon)
            self._assign_regions(city_polygon)
        self.country_codes = _with_none(self.cities.country_codes)
        self._city_regions: dict[int, frozenset[str]] = {}

    @cached_property
    def city_names(self) -> np.ndarray:
        """The names of the cities, with None behind the last."""
        return _with_none(self.cities.name)

    @staticmethod
    def load(claims: dict[str, str | None] | None = None) -> "Gazetteer":
        """The gazetteer of this process (one for each choice of `claims`)."""
        return _load(tuple(sorted((claims or {}).items())))

    def _assign_countries(self, city_polygon: np.ndarray) -> None:
        """The country of each polygon, as an index into the cities' country codes; -1 for none."""
        cities = self.cities
        index = {code: i for i, code in enumerate(cities.country_codes)}
        codes = []
        for polygon in self.borders.polygons:
            claim = polygon["claim"]
            codes.append(self.claims[claim] if claim else polygon["country"])
        missing = sorted({c for c in codes if c is not None} - index.keys())
        cities.country_codes = np.array([*cities.country_codes, *missing], dtype=object)
        index.update({code: len(index) + i for i, code in enumerate(missing)})
        self.polygon_country = np.array([index.get(code, -1) for code in codes], dtype=np.int16)
        moved = [p["claim"] is not None and self.claims[p["claim"]] != CLAIMS[p["claim"]].default
                 for p in self.borders.polygons]  # fmt: skip
        rows = np.flatnonzero((city_polygon >= 0) & np.append(moved, False)[city_polygon])
        cities.country[rows] = self.polygon_country[city_polygon[rows]]
        states = [self.countries.sovereign(code) for code in codes]
        claimed = [CLAIMS[p["claim"]].accepted if p["claim"] else () for p in self.borders.polygons]
        accepted = ({*of, c, state} for of, c, state in zip(claimed, codes, states, strict=True))
        self._accepted = [frozenset(code for code in some if code is not None) for some in accepted]
        # (territory, its state), None for a polygon of a state.
        self._territory = [(c, state) if c and state != c else None for c, state in zip(codes, states, strict=True)]

    def _assign_regions(self, city_polygon: np.ndarray) -> None:
        """The region of each polygon, as an index into `region_codes`: -1 for none, -2 where cities decide."""
        cities, polygons = self.cities, self.borders.polygons
        own = (city_polygon >= 0) & (cities.country == np.append(self.polygon_country, -1)[city_polygon])
        pairs = city_polygon[own].astype(np.int64) * len(cities.admin1_codes) + cities.admin1[own]
        pairs, votes = np.unique(pairs, return_counts=True)
        of, region = np.divmod(pairs, len(cities.admin1_codes))
        total = np.bincount(of, votes, minlength=len(polygons))
        self.polygon_region = np.full(len(polygons), -2, dtype=np.int16)
        pure = votes >= PURE_SHARE * total[of]
        self.polygon_region[of[pure]] = region[pure]
        index = {code: i for i, code in enumerate(cities.admin1_codes)}
        for i in np.flatnonzero((total == 0) & (self.polygon_country >= 0)).tolist():
            country = cities.country_codes[self.polygon_country[i]]
            named = {c for name in polygons[i]["names"] for c in self.regions.candidates(name, country)}
            if len(named) == 1 and (code := named.pop()) in index:
                self.polygon_region[i] = index[code]
        known = [code.partition(".")[2] not in ("", "00") for code in cities.admin1_codes]  # "00": not known
        self.region_codes = _with_none(np.where(known, cities.admin1_codes, np.array(None)))
        self.region_names = np.array([self.regions.title.get(c) for c in self.region_codes], dtype=object)

    def accepted(self, polygon: int) -> frozenset[str]:
        """Codes of all countries that a place in a polygon may be said to lie in."""
        return self._accepted[polygon] if polygon >= 0 else frozenset()

    def meant(self, codes: frozenset[str], polygon: int) -> frozenset[str]:
        """Which of the countries that a name may stand for it means of a place in a polygon; none where it fits none.

        A state's name means the territory where the polygon is one of its: {"PR"} for {"US"} in Puerto Rico.
        """
        fitting = codes & self.accepted(polygon)
        territory = self._territory[polygon] if polygon >= 0 else None
        if territory is None or territory[1] not in fitting:
            return fitting
        return fitting - {territory[1]} or frozenset({territory[0]})

    def city_regions(self, row: int) -> frozenset[str]:
        """The admin-1 codes of a city by GeoNames and by the map: one where they agree, as they nearly always do."""
        if row not in self._city_regions:
            cities = self.cities
            mapped = self.locate(cities.lat[row], cities.lon[row]).region_code[0]
            codes = {self.region_codes[cities.admin1[row]], mapped} - {None}
            self._city_regions[row] = frozenset(codes)
        return self._city_regions[row]

    def locate(self, lat: ArrayLike, lon: ArrayLike) -> Located:
        """Country, region and nearest city of points in degrees, shape (N,); NaN coordinates give None.

        A point at sea belongs to the nearest land within COAST_KM; beyond that every field is None.
        """
        lat, lon = np.atleast_1d(np.asarray(lat, np.float64)), np.atleast_1d(np.asarray(lon, np.float64))
        order = _nearby_order(lat, lon)
        order = order[(np.isfinite(lat) & np.isfinite(lon))[order]]
        polygon, country, region, row = (np.full(lat.shape, -1) for _ in range(4))
        km, offshore = np.full(lat.shape, np.nan), np.full(lat.shape, np.nan)

        def fill(part: np.ndarray) -> None:
            found = self._locate(lat[part], lon[part])
            polygon[part], country[part], region[part], row[part], km[part], offshore[part] = found

        threads = min(os.cpu_count() or 1, 1 + len(order) // _THREAD_POINTS)
        if threads == 1:
            fill(order)
        else:
            with ThreadPoolExecutor(threads) as pool:  # numpy and the trees release the interpreter's lock
                list(pool.map(fill, np.array_split(order, threads)))
        return Located(self, polygon, country, region, row, km, offshore)

    def _locate(self, lat: np.ndarray, lon: np.ndarray) -> tuple[np.ndarray, ...]:
        """Polygon, country, region and city as indices, kilometres to the city and to land, for finite points (N,)."""
        vectors = unit_vectors(lat, lon)
        polygon = self.borders.at(lat, lon)
        offshore = np.zeros(len(lat))
        sea = np.flatnonzero(polygon < 0)
        if len(sea):
            polygon[sea], chords = self.borders.nearest_shore(vectors[sea], float(chord(COAST_KM)))
            offshore[sea] = np.where(polygon[sea] >= 0, chord_km(np.minimum(chords, 2.0)), np.nan)
        country = np.append(self.polygon_country, -1)[polygon]
        row, chords = self.cities.nearest(country, vectors)
        region = np.append(self.polygon_region, -1)[polygon]
        region = np.where(region == -2, np.where(row >= 0, self.cities.admin1[row], -1), region)
        return polygon, country, region, row, chord_km(chords), offshore

    def country_code(self, name: object) -> str | None:
        """The ISO-3166 alpha-2 code that a name in any language, or a code, most likely means; None for none."""
        return self.countries.code(name)

    def country_name(self, code: str) -> str:
        """The English name of an alpha-2 code; KeyError for an unknown one."""
        return self.countries.name(code)


@contextmanager
def _collector_paused() -> Generator[None]:
    """Without the garbage collector, which would walk the millions of objects of the city file over and over."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _with_none(values: np.ndarray) -> np.ndarray:
    """The values with None behind the last, for index -1."""
    return np.append(values, np.array([None]))


def _nearby_order(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    """An order that puts neighbours together (a Morton curve of 12 bits a side): trees and tables stay in cache."""
    if len(lat) < 4096:
        return np.arange(len(lat))
    x = (np.nan_to_num(lon) % 360 * (4096 / 360)).astype(np.uint32)
    y = np.clip((np.nan_to_num(lat) + 90) * (4096 / 180), 0, 4095).astype(np.uint32)
    return np.argsort(_spread(x) | _spread(y) << np.uint32(1))


def _spread(bits: np.ndarray) -> np.ndarray:
    """The low 16 bits, each moved to twice its place."""
    for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        bits = (bits | bits << np.uint32(shift)) & np.uint32(mask)
    return bits


@lru_cache(maxsize=4)
def _load(claims: tuple[tuple[str, str | None], ...]) -> Gazetteer:
    return Gazetteer(dict(claims))
