"""The gazetteer: where coordinates are, and what names mean. Offline, vectorised, loaded once a process."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from geospot.earth.borders import Borders
from geospot.earth.cities import Cities, chord_km
from geospot.earth.countries import countries
from geospot.earth.distance import chord, unit_vectors
from geospot.earth.policy import CLAIMS, resolve_claims
from geospot.earth.regions import regions

# A point at sea belongs to the nearest land within this distance: the territorial waters of 12 nautical miles.
COAST_KM = 12 * 1.852
# A polygon whose cities agree on their region to this share is that region. In others (provinces that were split or
# merged since the polygons were drawn) the nearest city decides.
PURE_SHARE = 0.9


@dataclass(frozen=True)
class Located:
    """What lies at N points; every field has shape (N,). Names are strings, None where there is none."""

    country: np.ndarray  # ISO-3166 alpha-2
    region_code: np.ndarray  # GeoNames admin-1: country, dot, code ("US.CA")
    region: np.ndarray  # its English name
    city: np.ndarray  # nearest city within that country
    city_row: np.ndarray  # its row in `Gazetteer.cities`, -1 for none
    distance_km: np.ndarray  # from the point to that city, NaN for none
    offshore_km: np.ndarray  # 0 on land, distance to the land that the point was given to, NaN in the open ocean


class Gazetteer:
    """Reverse geocoding and names. Use `Gazetteer.load()`: building one takes over a second and 400 MB.

    `claims` assigns disputed areas to countries, see `earth.policy`.
    """

    def __init__(self, claims: dict[str, str | None] | None = None):
        self.claims = resolve_claims(claims)
        self.cities, self.borders = Cities(), Borders()
        self.countries, self.regions = countries(), regions()
        city_polygon = self.borders.at(self.cities.lat, self.cities.lon)
        self._assign_countries(city_polygon)
        self._assign_regions(city_polygon)

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
        accepted = ({c, self.countries.sovereign(c)} | set(CLAIMS[p["claim"]].accepted if p["claim"] else ())
                    for c, p in zip(codes, self.borders.polygons, strict=True))  # fmt: skip
        self._accepted = [frozenset(a - {None}) for a in accepted]

    def _assign_regions(self, city_polygon: np.ndarray) -> None:
        """The region of each polygon, as an index into `region_codes`: -1 for none, -2 where cities decide."""
        cities, polygons = self.cities, self.borders.polygons
        self.region_codes = cities.admin1_codes
        index = {code: i for i, code in enumerate(self.region_codes)}
        votes = defaultdict(Counter)
        inside = np.flatnonzero(city_polygon >= 0)
        own = inside[cities.country[inside] == self.polygon_country[city_polygon[inside]]]
        for polygon, region in zip(city_polygon[own].tolist(), cities.admin1[own].tolist(), strict=True):
            votes[polygon][region] += 1
        self.polygon_region = np.full(len(polygons), -2, dtype=np.int16)
        for i, polygon in enumerate(polygons):
            if i in votes:
                region, count = votes[i].most_common(1)[0]
                if count >= PURE_SHARE * votes[i].total():
                    self.polygon_region[i] = region
            elif self.polygon_country[i] >= 0:
                country = cities.country_codes[self.polygon_country[i]]
                named = {c for name in polygon["names"] for c in self.regions.candidates(name, country)}
                if len(named) == 1 and (code := named.pop()) in index:
                    self.polygon_region[i] = index[code]
        known = np.array([code.partition(".")[2] not in ("", "00") for code in self.region_codes])
        self._region_code = np.append(np.where(known, self.region_codes, None), None)
        self._region_name = np.array([self.regions.title.get(c) for c in self._region_code], dtype=object)

    def polygon_at(self, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
        """The polygon that holds each point (N,), -1 at sea and for NaN; see `accepted` and `polygon_region`."""
        known = np.isfinite(lat) & np.isfinite(lon)
        if known.all():
            return self.borders.at(lat, lon)
        found = np.full(lat.shape, -1, dtype=np.int16)
        found[known] = self.borders.at(lat[known], lon[known])
        return found

    def accepted(self, polygon: int) -> frozenset[str]:
        """Codes of all countries that a place in a polygon may be said to lie in."""
        return self._accepted[polygon] if polygon >= 0 else frozenset()

    def locate(self, lat, lon) -> Located:
        """Country, region and nearest city of points in degrees, shape (N,); NaN coordinates give None.

        A point at sea belongs to the nearest land within COAST_KM; beyond that every field is None.
        """
        lat, lon = np.atleast_1d(np.asarray(lat, np.float64)), np.atleast_1d(np.asarray(lon, np.float64))
        order = _nearby_order(lat, lon)
        known = order[(np.isfinite(lat) & np.isfinite(lon))[order]]
        country, region, row = (np.full(lat.shape, -1) for _ in range(3))
        km, offshore = np.full(lat.shape, np.nan), np.full(lat.shape, np.nan)
        country[known], region[known], row[known], km[known], offshore[known] = self._locate(lat[known], lon[known])
        return Located(
            country=_objects(self.cities.country_codes)[country],
            region_code=self._region_code[region],
            region=self._region_name[region],
            city=_objects(self.cities.name)[row],
            city_row=row,
            distance_km=km,
            offshore_km=offshore,
        )

    def _locate(self, lat, lon) -> tuple[np.ndarray, ...]:
        """Country, region and city as indices, kilometres to the city and to land, for finite points (N,)."""
        vectors = unit_vectors(lat, lon)
        polygon = self.borders.at(lat, lon)
        offshore = np.zeros(len(lat))
        sea = np.flatnonzero(polygon < 0)
        if len(sea):
            polygon[sea], chords = self.borders.nearest_shore(vectors[sea], float(chord(COAST_KM)))
            offshore[sea] = np.where(polygon[sea] >= 0, chord_km(np.minimum(chords, 2.0)), np.nan)
        country = np.append(self.polygon_country, -1)[polygon]
        row, chords = self.cities.nearest(vectors)
        abroad = np.flatnonzero((self.cities.country[row] != country) & (country >= 0))
        for code in np.unique(country[abroad]):
            here = abroad[country[abroad] == code]
            row[here], chords[here] = self.cities.nearest_in(code, vectors[here])
        row = np.where(country >= 0, row, -1)
        region = np.append(self.polygon_region, -1)[polygon]
        region = np.where(region == -2, np.where(row >= 0, self.cities.admin1[row], -1), region)
        return country, region, row, np.where(row >= 0, chord_km(chords), np.nan), offshore

    def country_code(self, name) -> str | None:
        """The ISO-3166 alpha-2 code that a name in any language, or a code, most likely means; None for none."""
        return self.countries.code(name)

    def country_name(self, code: str) -> str:
        """The English name of an alpha-2 code; KeyError for an unknown one."""
        return self.countries.name(code)


def _objects(values: np.ndarray) -> np.ndarray:
    """The values with None behind the last, for index -1."""
    return np.append(values, None)


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
