"""How right an answer's country, region and city are. Whole names through the gazetteer, no substrings.

The rules, in order:

- A line of text counts only when it names the truth: the same country, the same admin-1 region, a city that is the
  same place (the true city by any of its names, or a gazetteer city within SAME_PLACE_KM of it or of the picture).
- Text and coordinates that contradict each other do not collect both: a line that names a place farther than
  CONSISTENT_KM from the answer's own coordinates does not count. Without coordinates there is nothing to contradict.
- A name that several places bear means any that fits the answer's country and coordinates.
- The region is the answer's line if it names a region, else the one its city lies in (a city that the coordinates
  agree with), else the one its coordinates lie in.
- Levels are a chain: the region counts only in the right country, the city only in the right region. A level that the
  truth lacks is NaN and breaks no chain.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geospot.earth.distance import chord, destination, haversine_km, unit_vectors
from geospot.earth.gazetteer import Gazetteer, Located
from geospot.earth.place import Place
from geospot.earth.text import fold, is_blank

# A named place this near to the true city, or to where the picture was taken, is the same place.
SAME_PLACE_KM = 5.0
# Text that names something farther than this from the answer's own coordinates contradicts them.
CONSISTENT_KM = 50.0
# How far from the picture its own city may lie in the gazetteer.
CITY_SEARCH_KM = 50.0

# Where to look for a country or region around a point: rings out to CONSISTENT_KM.
_RING_KM = CONSISTENT_KM * np.repeat([0.25, 0.5, 0.75, 1.0], [6, 12, 18, 24])
_RING_BEARING = np.concatenate([np.arange(n) * 360 / n for n in (6, 12, 18, 24)])


@dataclass(frozen=True)
class LabelScores:
    """Credit of N answers for each label, shape (N,), in [0, 1]; NaN where the truth has no such label."""

    country: np.ndarray
    region: np.ndarray
    city: np.ndarray


@dataclass(frozen=True)
class Truth:
    """What a true place's labels mean in the gazetteer."""

    place: Place
    countries: frozenset[str]  # codes that are right; empty where the truth has no country
    regions: frozenset[str]  # admin-1 codes that are right
    region_name: str  # folded, "" where the truth has no region
    city_name: str  # folded, "" where the truth has no city
    nearby: frozenset[int]  # rows of the cities that are the same place

    @property
    def has(self) -> tuple[bool, bool, bool]:
        """Whether there is a country, a region, a city to score."""
        return bool(self.countries), bool(self.regions or self.region_name), bool(self.city_name)


def score_labels(answers: Sequence, truths: Sequence[Place], gazetteer: Gazetteer | None = None) -> LabelScores:
    """Scores of N answers (`lat, lon, city, region, country`, any may be None), each against its own truth."""
    gazetteer = gazetteer or Gazetteer.load()
    known = dict.fromkeys(truths)
    for place, truth in zip(known, resolve_truths(list(known), gazetteer), strict=True):
        known[place] = truth
    guesses = _Guesses(answers, gazetteer)
    scores = np.empty((len(answers), 3))
    for i, (answer, place) in enumerate(zip(answers, truths, strict=True)):
        scores[i] = _score(i, answer, known[place], guesses)
    return LabelScores(*scores.T)


def resolve_truths(places: Sequence[Place], gazetteer: Gazetteer) -> list[Truth]:
    """The labels of true places, looked up once for all the answers to each."""
    at = gazetteer.locate([p.lat for p in places], [p.lon for p in places])
    return [_resolve(place, i, at, gazetteer) for i, place in enumerate(places)]


def _resolve(place: Place, i: int, at: Located, gazetteer: Gazetteer) -> Truth:
    countries = set() if is_blank(place.country) else set(gazetteer.countries.candidates(place.country))
    here = at.country[i]
    if len(countries) > 1:
        countries = {c for c in countries if c == here} or countries
    home = {gazetteer.countries.sovereign(c) for c in countries}
    if gazetteer.countries.sovereign(here) in home:
        countries |= {here}  # "France" in the truth of a picture from Réunion: its own name is right too
    regions = set()
    if not is_blank(place.region):
        for country in countries | ({here} if here else set()):
            regions |= set(gazetteer.regions.candidates(place.region, country))
        regions = {r for r in regions if r == at.region_code[i]} or regions or {at.region_code[i]} - {None}
    city = "" if is_blank(place.city) else fold(place.city)
    return Truth(
        place=place,
        countries=frozenset(countries | (home if countries else set())),
        regions=frozenset(regions),
        region_name="" if is_blank(place.region) else fold(place.region),
        city_name=city,
        nearby=_same_place(place, city, gazetteer) if city else frozenset(),
    )


def _same_place(place: Place, city: str, gazetteer: Gazetteer) -> frozenset[int]:
    """Rows of the cities within SAME_PLACE_KM of the picture or of the nearest city that bears the true name."""
    cities = gazetteer.cities
    point = unit_vectors(place.lat, place.lon)
    rows = set(cities.tree.query_ball_point(point, chord(SAME_PLACE_KM)))
    around = np.array(cities.tree.query_ball_point(point, chord(CITY_SEARCH_KM)), dtype=np.int64)
    bearing_it = [row for row in around.tolist() if city in cities.names(row)]
    if bearing_it:
        own = min(bearing_it, key=lambda row: float(np.sum((cities.vectors[row] - point) ** 2)))
        rows |= set(cities.tree.query_ball_point(cities.vectors[own], chord(SAME_PLACE_KM)))
    return frozenset(rows)


class _Guesses:
    """Where the answers' coordinates lie, and what lies around them when that is asked."""

    def __init__(self, answers: Sequence, gazetteer: Gazetteer):
        self.gazetteer = gazetteer
        self.lat, self.lon = np.array([answer_point(a) for a in answers], dtype=np.float64).reshape(-1, 2).T
        self.at = gazetteer.locate(self.lat, self.lon)
        self._around: dict[int, Located] = {}

    def has_point(self, i: int) -> bool:
        return not np.isnan(self.lat[i])

    def around(self, i: int) -> Located:
        """What lies within CONSISTENT_KM of answer i's coordinates, sampled on rings."""
        if i not in self._around:
            self._around[i] = self.gazetteer.locate(*destination(self.lat[i], self.lon[i], _RING_BEARING, _RING_KM))
        return self._around[i]

    def near_country(self, i: int, code: str) -> bool:
        """Whether answer i's coordinates agree with a country; a territory counts as its state."""
        if not self.has_point(i) or code == self.at.country[i]:
            return True
        sovereign = self.gazetteer.countries.sovereign
        return sovereign(self.at.country[i]) == code or any(
            c is not None and code in (c, sovereign(c)) for c in self.around(i).country
        )

    def near_region(self, i: int, codes: frozenset[str]) -> bool:
        """Whether answer i's coordinates agree with one of these regions."""
        return not self.has_point(i) or self.at.region_code[i] in codes or bool(codes & set(self.around(i).region_code))

    def near_point(self, i: int, lat, lon) -> np.ndarray:
        """Whether answer i's coordinates lie within CONSISTENT_KM of points."""
        if not self.has_point(i):
            return np.ones(np.shape(lat), dtype=bool)
        return haversine_km(self.lat[i], self.lon[i], lat, lon) <= CONSISTENT_KM


def answer_point(answer) -> tuple[float, float]:
    """Coordinates of an answer, NaN for both where one is missing or is no coordinate."""
    if answer.lat is None or answer.lon is None or not (abs(answer.lat) <= 90 and abs(answer.lon) <= 360):
        return np.nan, np.nan
    return answer.lat, answer.lon


def _score(i: int, answer, truth: Truth, guesses: _Guesses) -> tuple[float, float, float]:
    """Credit for (country, region, city) of answer i."""
    has_country, has_region, has_city = truth.has
    score = [np.nan if not has else 0.0 for has in truth.has]
    codes = guesses.gazetteer.countries.candidates(answer.country)
    right = {c for c in codes if c in truth.countries and guesses.near_country(i, c)}
    if has_country:
        if not right:
            return tuple(score)
        score[0] = 1.0
    city_right = _city_right(i, answer, truth, guesses)
    if has_region:
        if not _region_right(i, answer, truth, guesses, city_right):
            return tuple(score)
        score[1] = 1.0
    if has_city:
        score[2] = float(city_right)
    return tuple(score)


def _city_right(i: int, answer, truth: Truth, guesses: _Guesses) -> bool:
    """Whether the answer's city is the true one, and its coordinates do not put it elsewhere."""
    name = fold(answer.city or "")
    if not (name and truth.city_name):
        return False
    cities = guesses.gazetteer.cities
    rows = [row for row in truth.nearby if name in cities.names(row)]
    if rows and guesses.near_point(i, cities.lat[rows], cities.lon[rows]).any():
        return True
    return name == truth.city_name and bool(guesses.near_point(i, truth.place.lat, truth.place.lon))


def _region_right(i: int, answer, truth: Truth, guesses: _Guesses, city_right: bool) -> bool:
    """Whether the answer's region, from its line, its city or its coordinates, is the true one."""
    name = fold(answer.region or "")
    if name and name == truth.region_name:
        return guesses.near_region(i, truth.regions) if truth.regions else True
    candidates = guesses.gazetteer.regions.candidates
    named = {code for country in truth.countries for code in candidates(answer.region, country)}
    if named:
        return bool(named & truth.regions) and guesses.near_region(i, frozenset(named & truth.regions))
    return city_right or guesses.at.region_code[i] in truth.regions
