"""How right an answer's country, region and city are. Whole names through the gazetteer, no substrings.

The rules, in order:

- A line of text counts only when it names the truth: the same country, the same admin-1 region, a city that is the
  same place (the true city by any of its names, or a gazetteer city within SAME_PLACE_KM of it or of the picture).
- Text and coordinates that contradict each other do not collect both: a line that names a place farther than
  CONSISTENT_KM from the answer's own coordinates does not count. Without coordinates there is nothing to contradict.
- A name that several places bear means the one at the answer's coordinates, or the nearest to them; without
  coordinates any that fits. So "Congo" beside the river is one of the two states, "Maputo" the city's region or the
  one around it, never both.
- A state's name means its territory ("United States" in Puerto Rico) where the coordinates lie there: right for the
  territory, and then not for the state itself.
- The region is the answer's line if that names a region of any country, else the one its city lies in (a city that
  the coordinates agree with), else the one its coordinates lie in. Country and city are read from their lines only.
- Levels are a chain: the region counts only in the right country, the city only in the right region. A level that the
  truth lacks is NaN and breaks no chain.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from geospot.earth.distance import EARTH_RADIUS_KM, chord, destination, unit_vectors
from geospot.earth.folding import MAX_NAME_CHARS, fold
from geospot.earth.gazetteer import Gazetteer
from geospot.earth.place import Place
from geospot.earth.truth import TruthLabels, resolve_truths

# Text that names something farther than this from the answer's own coordinates contradicts them.
CONSISTENT_KM = 50.0
_CONSISTENT_COS = float(np.cos(CONSISTENT_KM / EARTH_RADIUS_KM))
_RIVAL_COS = float(np.cos(2 * CONSISTENT_KM / EARTH_RADIUS_KM))  # two cities that one point can agree with

_CONSISTENT_CHORD = float(chord(CONSISTENT_KM))

# Where to look for a country or region around a point: rings out to CONSISTENT_KM, 15 km apart or less.
_RING_KM = np.repeat(np.array([0.25, 0.5, 0.75, 1.0]) * CONSISTENT_KM, [6, 12, 18, 24])
_RING_BEARING = np.concatenate([np.arange(n) * 360 / n for n in (6, 12, 18, 24)])
_CITY_OF = re.compile(r"^(?:the )?(?:city|town|village|municipality|ciudad|ville|stadt|cidade|comune) (?:of|de|di|do) ")


class Said(Protocol):
    """What an answer says; any of it may be None. `geospot.answer.parse.Answer` is one."""

    @property
    def lat(self) -> float | None: ...
    @property
    def lon(self) -> float | None: ...
    @property
    def city(self) -> str | None: ...
    @property
    def region(self) -> str | None: ...
    @property
    def country(self) -> str | None: ...


@dataclass(frozen=True)
class LabelScores:
    """Credit of N answers for each label, shape (N,), 0 or 1; NaN where the truth has no such label."""

    country: np.ndarray
    region: np.ndarray
    city: np.ndarray


def score_labels(answers: Sequence[Said], truths: Sequence[Place], gazetteer: Gazetteer | None = None) -> LabelScores:
    """Scores of N answers (`lat, lon, city, region, country`, any may be None), each against its own truth."""
    gazetteer = gazetteer or Gazetteer.load()
    distinct = list(dict.fromkeys(truths))
    labels = dict(zip(distinct, resolve_truths(distinct, gazetteer), strict=True))
    known: dict[tuple, _Lines] = {}  # the answers to one picture repeat themselves
    lines = []
    for answer, place in zip(answers, truths, strict=True):
        key = id(labels[place]), answer.country, answer.region, answer.city
        if key not in known:
            known[key] = _Lines(answer, labels[place], gazetteer)
        lines.append(known[key])
    points = Points(answers, gazetteer)
    points.look_around([i for i, line in enumerate(lines) if line.asks_around(i, points)])
    scores = [line.score(i, points) for i, line in enumerate(lines)]
    return LabelScores(*np.array(scores, dtype=np.float64).reshape(-1, 3).T)


def answer_point(answer: Said) -> tuple[float, float]:
    """Coordinates of an answer, NaN for both where one is missing or is no coordinate."""
    lat, lon = answer.lat, answer.lon
    if lat is None or lon is None or not (abs(lat) <= 90 and abs(lon) <= 360):
        return np.nan, np.nan
    return lat, lon


class Points:
    """Where the answers' coordinates lie, and what lies around them."""

    def __init__(self, answers: Sequence[Said], gazetteer: Gazetteer):
        self.gazetteer = gazetteer
        self.lat, self.lon = np.array([answer_point(a) for a in answers], dtype=np.float64).reshape(-1, 2).T
        at = gazetteer.locate(self.lat, self.lon)
        self.polygon, self.region = at.polygon.tolist(), at.region_code.tolist()
        self.known = np.isfinite(self.lat).tolist()
        self.vectors = unit_vectors(self.lat, self.lon)
        self._around: dict[int, list[int]] = {}

    def look_around(self, rows: list[int]) -> None:
        """Find the polygons within CONSISTENT_KM of the coordinates of some answers, on rings, all at once."""
        lat, lon = destination(self.lat[rows][:, None], self.lon[rows][:, None], _RING_BEARING, _RING_KM)
        found = self.gazetteer.borders.at(lat.ravel(), lon.ravel()).reshape(lat.shape).tolist()
        # From the inner ring outwards, each once.
        self._around = {row: list(dict.fromkeys(polygons)) for row, polygons in zip(rows, found, strict=True)}

    def country_here(self, i: int, codes: frozenset[str]) -> frozenset[str]:
        """As `country_meant`, of the polygon that answer i's coordinates lie in alone."""
        return self.gazetteer.meant(codes, self.polygon[i])

    def country_meant(self, i: int, codes: frozenset[str]) -> frozenset[str]:
        """Which countries a name that may stand for `codes` means beside answer i's coordinates.

        The first that it fits, from the coordinates outwards to CONSISTENT_KM; none where it fits nothing there; all
        where the answer has no coordinates.
        """
        if not self.known[i]:
            return codes
        meant = (self.gazetteer.meant(codes, polygon) for polygon in (self.polygon[i], *self._around.get(i, ())))
        return next(filter(None, meant), frozenset())

    def region_meant(self, i: int, codes: frozenset[str]) -> frozenset[str]:
        """As `country_meant` for regions; a polygon whose cities disagree on their region agrees with any."""
        if not self.known[i]:
            return codes
        if self.region[i] in codes:
            return frozenset({self.region[i]})
        around = self.gazetteer.polygon_region[[p for p in self._around.get(i, ()) if p >= 0]]
        found = (code for code in self.gazetteer.region_codes[around[around >= 0]] if code in codes)
        first = next(found, None)
        return frozenset({first}) if first else codes if (around == -2).any() else frozenset()

    def cities_near(self, i: int) -> list[int]:
        """Rows of the gazetteer's cities within CONSISTENT_KM of answer i's coordinates; none where it has none."""
        if not self.known[i]:
            return []
        return self.gazetteer.cities.tree.query_ball_point(self.vectors[i], _CONSISTENT_CHORD)

    def near(self, i: int, vectors: np.ndarray) -> bool:
        """Whether answer i's coordinates, if it has any, lie within CONSISTENT_KM of any of these unit vectors."""
        return not self.known[i] or self.closeness(i, vectors) >= _CONSISTENT_COS

    def closeness(self, i: int, vectors: np.ndarray) -> float:
        """Cosine of the angle between answer i's coordinates and the nearest of these unit vectors; -1 of none."""
        return float((vectors @ self.vectors[i]).max(initial=-1.0))


class _Lines:
    """The lines of an answer beside a truth: what they name of it. `score` asks the coordinates of answer i too."""

    def __init__(self, answer: Said, truth: TruthLabels, gazetteer: Gazetteer):
        self.truth, self.gazetteer = truth, gazetteer
        self.codes = frozenset(gazetteer.countries.candidates(answer.country))
        self.may_be_right = not self.codes.isdisjoint(truth.countries | truth.states)
        countries = truth.countries | {region[:2] for region in truth.regions}
        named = {r for c in countries for r in gazetteer.regions.candidates(answer.region, c)}
        same_text = bool(truth.region_name) and fold(answer.region or "") == truth.region_name
        self.regions = frozenset(truth.regions | named if same_text else named)
        self.region = truth.regions & self.regions
        self.region_unknown = same_text and not truth.regions  # right as a text, known to no gazetteer
        self.names_region = same_text or bool(named) or gazetteer.regions.known(answer.region)
        self.names, cities = _city_names(answer.city, truth, gazetteer), gazetteer.cities
        rows = [row for row in truth.nearby if any(cities.bears(row, name) for name in self.names)]
        self.city = np.concatenate(
            [cities.vectors[rows], truth.point if truth.city_name in self.names else np.empty((0, 3))]
        )
        namesakes = cities.vectors[[row for row in cities.namesakes(rows) if row not in truth.nearby]]
        closeness = (namesakes @ self.city.T).max(axis=1, initial=-1.0)
        # Nearer ones are not told apart: an honest answer about either is right for both.
        self.rivals = namesakes[(closeness >= _RIVAL_COS) & (closeness < _CONSISTENT_COS)]
        self.levels = bool(truth.countries), bool(truth.regions or truth.region_name), bool(truth.city_name)

    def asks_around(self, i: int, points: Points) -> bool:
        """Whether a line may be right but the coordinates lie elsewhere, so that what is near them matters."""
        if not points.known[i] or not self.may_be_right:
            return False
        here = points.country_here(i, self.codes)
        if not here:
            return True
        return not here.isdisjoint(self.truth.countries) and bool(self.region) and points.region[i] not in self.region

    def score(self, i: int, points: Points) -> tuple[float, float, float]:
        """Credit for (country, region, city): each counts only where those before it are right or not known."""
        has_country, has_region, _ = self.levels
        country = not has_country or not points.country_meant(i, self.codes).isdisjoint(self.truth.countries)
        city = country and self._city_right(i, points)
        region = country and (not has_region or self._region_right(i, points, city))
        city = city and region
        right = np.where(self.levels, (country, region, city), np.nan)
        return float(right[0]), float(right[1]), float(right[2])

    def _city_right(self, i: int, points: Points) -> bool:
        """Whether the city line names the true city, and no other of that name lies nearer to the coordinates."""
        if not len(self.city) or not points.near(i, self.city):
            return False
        rivals = points.known[i] and len(self.rivals) > 0
        return not rivals or points.closeness(i, self.city) >= points.closeness(i, self.rivals)

    def _region_right(self, i: int, points: Points, city_right: bool) -> bool:
        if self.region_unknown:
            return points.near(i, self.truth.point)
        if self.names_region:
            return bool(self.region) and not points.region_meant(i, self.regions).isdisjoint(self.region)
        return city_right or (points.region[i] in self.truth.regions and not self._city_elsewhere(i, points))

    def _city_elsewhere(self, i: int, points: Points) -> bool:
        """Whether the city line names a city near answer i's coordinates that lies in other regions than the truth's.

        Else the city of one region with the coordinates of its neighbour would be right about the region in both. So
        would a city that GeoNames and the map put into two regions, were either enough. Of several cities of that name
        the nearest is meant.
        """
        if not self.names:
            return False
        cities = self.gazetteer.cities
        rows = [row for row in points.cities_near(i) if any(cities.bears(row, name) for name in self.names)]
        if not rows:
            return False
        nearest = rows[int(np.argmax(cities.vectors[rows] @ points.vectors[i]))]
        return not self.gazetteer.city_regions(nearest) <= self.truth.regions


def _city_names(line: str | None, truth: TruthLabels, gazetteer: Gazetteer) -> frozenset[str]:
    """What a city line may be called, folded: as it stands, without "City of", without "..., Region, Country".

    What follows a comma must name the true country or region, so that a list of cities names none of them.
    """
    if not line or not truth.city_name or len(line) > MAX_NAME_CHARS:
        return frozenset()
    head, *tail = line.split(",")
    places = [p for p in tail if p.strip()]
    lines = [line]
    if places and all(_names_truth(p.strip(), truth, gazetteer) for p in places):
        lines.append(head)
    names = {fold(text) for text in lines}
    return frozenset(names | {_CITY_OF.sub("", name) for name in names}) - {""}


def _names_truth(text: str, truth: TruthLabels, gazetteer: Gazetteer) -> bool:
    """Whether a text names the true country or region."""
    if not (truth.countries | truth.states).isdisjoint(gazetteer.countries.candidates(text)):
        return True
    return any(not truth.regions.isdisjoint(gazetteer.regions.candidates(text, c)) for c in truth.countries)
