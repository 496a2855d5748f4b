"""What lies at coordinates, and whether names that come with them lie there too: an answer's, or a data set's label.

A name beside coordinates is not a place: "Fort McMurray" at a point in Quebec is neither "Fort McMurray, Quebec" nor
anywhere else. So the coordinates are described by themselves, the names are quoted, and where the two contradict each
other that is said, with the distance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geospot.earth.agreement import CONSISTENT_KM, Points, Said
from geospot.earth.distance import chord, haversine_km
from geospot.earth.folding import fold, is_blank
from geospot.earth.gazetteer import Gazetteer

IN_CITY_KM = 10.0  # a city nearer than this is where the point is, not what it is near
_COMPASS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")


@dataclass(frozen=True)
class Spot:
    """What lies at a point: names in English, None where there is none (the open sea), and the nearest city there.

    The nearest city is the largest within IN_CITY_KM, else the nearest in the country; `city_km` away, the point lying
    in the direction `bearing` (N, NE, ...) of it.
    """

    country: str | None = None
    region: str | None = None
    city: str | None = None
    city_km: float | None = None
    bearing: str | None = None

    def __str__(self) -> str:
        area = ", ".join(name for name in (self.region, self.country) if name)
        if not area:
            return "open sea"
        if self.city is None or self.city_km is None:
            return area
        if self.city_km <= IN_CITY_KM:
            return f"{self.city}, {area}"
        return f"{area}, {self.city_km:,.0f} km {self.bearing} of {self.city}"


@dataclass(frozen=True)
class Named:
    """A point with names: what lies there, the names as given, and how they contradict the point ("": they do not)."""

    spot: Spot
    said: str
    disagreement: str


def name_points(points: Sequence[Said], gazetteer: Gazetteer | None = None) -> list[Named]:
    """For N points with names (`lat, lon, city, region, country`, any may be None)."""
    if not points:
        return []
    gazetteer = gazetteer or Gazetteer.load()
    around = Points(points, gazetteer)
    around.look_around([i for i in range(len(points)) if around.known[i]])
    at = gazetteer.locate(around.lat, around.lon)
    named = []
    for i, point in enumerate(points):
        code, region = at.country[i], at.region[i]
        row = _city_row(point, around, i, int(at.country_index[i]), int(at.city_row[i]))
        spot = _spot(around, i, code, region, row)
        named.append(Named(spot, said_text(point), _disagreement(point, around, i, code)))
    return named


def truth_text(place: Said) -> str:
    """What a true place is called on a page: what lies there, and its label where that is of somewhere else."""
    (named,) = name_points([place])
    if not named.disagreement:
        return str(named.spot)
    return f"{named.spot}; labelled {named.said}, but {named.disagreement}"


def said_text(point: Said) -> str:
    """The names as given: "Paris, France"."""
    return ", ".join(str(name).strip() for name in (point.city, point.region, point.country) if not is_blank(name))


def _city_row(point: Said, around: Points, i: int, country: int, nearest: int) -> int:
    """The row of the city to describe a point by; -1 for none."""
    cities = around.gazetteer.cities
    if nearest < 0:
        return -1
    rows = np.array(cities.tree.query_ball_point(around.vectors[i], float(chord(IN_CITY_KM))), dtype=np.int64)
    rows = rows[(cities.country[rows] == country) & _same_region(around, i, rows)]
    if not len(rows):
        return nearest
    own = [] if is_blank(point.city) else [r for r in rows.tolist() if fold(str(point.city)) in cities.names(r)]
    return own[0] if own else int(rows[np.argmax(cities.population[rows])])


def _same_region(around: Points, i: int, rows: np.ndarray) -> np.ndarray:
    """Which of the cities bear the region's code that the point lies in."""
    codes = around.gazetteer.region_codes[around.gazetteer.cities.admin1[rows]]
    return np.array([code == around.region[i] for code in codes], dtype=bool)


def _spot(around: Points, i: int, code: str | None, region: str | None, row: int) -> Spot:
    gazetteer = around.gazetteer
    country = None if code is None else gazetteer.country_name(code)
    if row < 0:
        return Spot(country, region)
    cities, lat, lon = gazetteer.cities, float(around.lat[i]), float(around.lon[i])
    km = float(haversine_km(lat, lon, cities.lat[row], cities.lon[row]))
    bearing = _compass(float(cities.lat[row]), float(cities.lon[row]), lat, lon)
    return Spot(country, region, str(cities.name[row]), km, bearing)


def _compass(lat: float, lon: float, to_lat: float, to_lon: float) -> str:
    """The direction in which the great circle from one point to another leaves, on the compass of eight."""
    a, b, east = np.radians(lat), np.radians(to_lat), np.radians(to_lon - lon)
    y, x = np.sin(east) * np.cos(b), np.cos(a) * np.sin(b) - np.sin(a) * np.cos(b) * np.cos(east)
    return _COMPASS[round(float(np.degrees(np.arctan2(y, x))) / 45) % 8]


def _disagreement(point: Said, around: Points, i: int, here: str | None) -> str:
    """How the names contradict the coordinates; "" where they do not."""
    if not around.known[i]:
        return ""
    gazetteer = around.gazetteer
    codes = () if is_blank(point.country) else gazetteer.countries.candidates(point.country)
    found = [] if is_blank(point.city) else [_city_away(str(point.city), around, i, [*codes, here])]
    where = "the open sea" if here is None else gazetteer.country_name(here)
    if codes and not around.country_meant(i, frozenset(codes)):
        found.append(f"the coordinates lie in {where}, not in {point.country}")
    elif not is_blank(point.region):
        named = {r for code in (*codes, here) if code for r in gazetteer.regions.candidates(point.region, code)}
        if named and not around.region_meant(i, frozenset(named)):
            lies = gazetteer.regions.title.get(around.region[i]) or where
            found.append(f"the coordinates lie in {lies}, not in {point.region}")
    return "; ".join(filter(None, found))


def _city_away(line: str, around: Points, i: int, codes: Sequence[str | None]) -> str:
    """Where the nearest city of this name lies, if that is farther from point i than names may be; "" where not.

    Looked for in these countries. A name that none of them has is not held against the point: hamlets and quarters
    are in no gazetteer.
    """
    cities, head = around.gazetteer.cities, line.split(",")[0].strip()
    wanted = {fold(line), fold(head)} - {""}
    if any(wanted & cities.names(row) for row in around.cities_near(i)):
        return ""
    known = around.gazetteer.country_codes.tolist()
    rows = np.concatenate([
        np.empty(0, np.int64),
        *(cities.called(name, known.index(code)) for code in dict.fromkeys(codes) if code in known for name in wanted),
    ]).astype(np.int64)  # fmt: skip
    if not len(rows):
        return ""
    km = haversine_km(around.lat[i], around.lon[i], cities.lat[rows], cities.lon[rows])
    nearest = int(np.argmin(km))
    if km[nearest] <= CONSISTENT_KM:
        return ""
    return f"{cities.name[rows[nearest]]} is {km[nearest]:,.0f} km from these coordinates"
