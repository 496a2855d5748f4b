"""The labels of true places: what they mean in the gazetteer, filled where they are missing, counted where they err."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from geospot.earth.cities import Cities
from geospot.earth.distance import chord, unit_vectors
from geospot.earth.folding import fold, is_blank
from geospot.earth.gazetteer import Gazetteer, Located
from geospot.earth.place import Place

# A named place this near to the true city, or to where the picture was taken, is the same place.
SAME_PLACE_KM = 5.0
# How far from the picture its own city may lie in the gazetteer. Data sets name the next city of some size.
CITY_SEARCH_KM = 50.0
LEVELS = ("country", "region", "city")


@dataclass(frozen=True, eq=False)
class TruthLabels:
    """What the labels of a true place mean in the gazetteer; empty where the place has none."""

    place: Place
    point: np.ndarray  # its unit vector (1, 3)
    countries: frozenset[str]  # codes that are right
    states: frozenset[str]  # codes of the states that these are territories of
    regions: frozenset[str]  # admin-1 codes that are right
    region_name: str  # folded
    city_name: str  # folded
    nearby: frozenset[int]  # rows of the cities that are the same place


def resolve_truths(places: Sequence[Place], gazetteer: Gazetteer) -> list[TruthLabels]:
    """Look up the labels of true places, once for all the answers to each. ValueError for one without coordinates."""
    lat, lon = np.array([p.lat for p in places], np.float64), np.array([p.lon for p in places], np.float64)
    bad = np.flatnonzero(~(np.isfinite(lat) & np.isfinite(lon) & (np.abs(lat) <= 90) & (np.abs(lon) <= 360)))
    if len(bad):
        raise ValueError(f"truth {bad[0]} has no coordinates: {places[bad[0]]}; leave it out of the data")
    at, points = gazetteer.locate(lat, lon), unit_vectors(lat, lon)
    names = ["" if is_blank(p.city) else fold(p.city) for p in places]
    nearby = _same_places(names, points, gazetteer)
    return [_resolve(p, i, at, points[i], names[i], nearby[i], gazetteer) for i, p in enumerate(places)]


def _resolve(
    place: Place, i: int, at: Located, point: np.ndarray, city: str, nearby: frozenset[int], gazetteer: Gazetteer
) -> TruthLabels:
    countries = _countries(place, at.country[i], at.polygon[i], gazetteer)
    region = "" if is_blank(place.region) else fold(place.region)
    return TruthLabels(
        place=place,
        point=point[None],
        countries=countries,
        states=frozenset(gazetteer.countries.sovereign(c) for c in countries) - countries,
        regions=_regions(place, countries, at, i, gazetteer) if region else frozenset(),
        region_name=region,
        city_name=city,
        nearby=nearby,
    )


def _countries(place: Place, here: str | None, polygon: int, gazetteer: Gazetteer) -> frozenset[str]:
    """The codes that are right: the label's, and the place's own where the label names the state it belongs to."""
    if is_blank(place.country):
        return frozenset()
    codes = gazetteer.countries.candidates(place.country)
    accepted = gazetteer.accepted(polygon)
    fitting = accepted.intersection(codes)
    if fitting and here:
        territory = gazetteer.countries.sovereign(here) in fitting
        return frozenset(fitting | {here}) if territory else frozenset(fitting)
    return frozenset(codes[:1])


def _regions(place: Place, countries: frozenset[str], at: Located, i: int, gazetteer: Gazetteer) -> frozenset[str]:
    """The admin-1 codes that the label names; where it names none (a county, a code), the place's own."""
    here = at.region_code[i]
    named = {
        code
        for country in countries | {at.country[i]} - {None}
        for code in gazetteer.regions.candidates(place.region, country)
    }
    return frozenset({here} & named or named or {here} - {None})


def _same_places(names: Sequence[str], points: np.ndarray, gazetteer: Gazetteer) -> list[frozenset[int]]:
    """Of each picture (N, 3) the rows of the cities within SAME_PLACE_KM of it, or of the nearest city that bears its
    true name (N,); none without a name. Pictures of one city look at each city around it once.
    """
    cities, by_name = gazetteer.cities, defaultdict(list)
    for i, name in enumerate(names):
        if name:
            by_name[name].append(i)
    found: list[frozenset[int]] = [frozenset()] * len(names)
    near = cities.tree.query_ball_point(points, chord(SAME_PLACE_KM)) if by_name else []
    for name, rows in by_name.items():
        bearers = _Bearers(name, cities)
        for i in rows:
            found[i] = _same_place(points[i], near[i], bearers, cities)
    return found


def _same_place(point: np.ndarray, near: list[int], bearers: "_Bearers", cities: Cities) -> frozenset[int]:
    nearest = bearers.nearest(point, near)
    if nearest is None:
        nearest = bearers.nearest(point, cities.tree.query_ball_point(point, chord(CITY_SEARCH_KM)))
    if nearest is None:
        return frozenset(near)
    return frozenset(near).union(cities.tree.query_ball_point(cities.vectors[nearest], chord(SAME_PLACE_KM)))


class _Bearers:
    """The cities that bear a folded name; each is asked once."""

    def __init__(self, name: str, cities: Cities):
        self._name, self._cities = name, cities
        self._known: dict[int, bool] = {}

    def nearest(self, point: np.ndarray, rows: list[int]) -> int | None:
        """The one of the rows that lies nearest to a unit vector (3,); the others are not asked."""
        squared = np.sum((self._cities.vectors[rows] - point) ** 2, axis=1)
        by_distance = (rows[i] for i in np.argsort(squared, kind="stable").tolist())
        return next(filter(self._bears, by_distance), None)

    def _bears(self, row: int) -> bool:
        if row not in self._known:
            self._known[row] = self._cities.bears(row, self._name)
        return self._known[row]


@dataclass
class LabelReport:
    """What was found in the labels of a data set: for each level how many were there, filled, unknown, contradicted."""

    places: int = 0
    given: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LEVELS, 0))
    filled: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LEVELS, 0))  # from the coordinates
    unknown: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LEVELS, 0))  # given, not in the gazetteer
    disagree: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LEVELS, 0))  # given, not what lies there
    examples: list[str] = field(default_factory=list)  # the first disagreements

    def summary(self) -> str:
        """One line per level, for logs."""
        return "\n".join(
            f"{level}: {self.given[level]:,} of {self.places:,} given, {self.filled[level]:,} filled from coordinates, "
            f"{self.unknown[level]:,} not in the gazetteer, {self.disagree[level]:,} disagree with the coordinates"
            for level in LEVELS
        )


def normalise_truths(
    places: Sequence[Place], gazetteer: Gazetteer | None = None, fill: bool = True
) -> tuple[list[Place], LabelReport]:
    """Places with labels in the gazetteer's terms, and a report of what was changed or doubtful.

    The country becomes its alpha-2 code, the region its English name; a city's own spelling is kept. Blanks ("nan",
    "unknown", empty) become None and, with `fill`, what the coordinates say. A label that disagrees with its
    coordinates is counted and kept: it is the data set's truth. An unknown one is kept as it is written.
    """
    gazetteer = gazetteer or Gazetteer.load()
    report = LabelReport(places=len(places))
    labels = resolve_truths(places, gazetteer)
    at = gazetteer.locate([p.lat for p in places], [p.lon for p in places])
    return [_normalise(truth, at, i, gazetteer, fill, report) for i, truth in enumerate(labels)], report


def _normalise(truth: TruthLabels, at: Located, i: int, gazetteer: Gazetteer, fill: bool, report: LabelReport) -> Place:
    place = truth.place
    country = _pick(truth.countries, at.country[i]) or place.country
    region = gazetteer.regions.title.get(_pick(truth.regions, at.region_code[i]) or "") or place.region
    located = {"country": at.country[i], "region": at.region[i], "city": _city_at(truth, at, i, gazetteer)}
    known = {
        "country": bool(truth.countries),
        "region": _named_region(truth, at.country[i], gazetteer),
        "city": _bears(truth, gazetteer),
    }
    agrees = {
        "country": not truth.countries.isdisjoint(gazetteer.accepted(at.polygon[i])),
        "region": at.region_code[i] in truth.regions,
        "city": True,  # found within CITY_SEARCH_KM, or not known
    }
    labels = {"country": country, "region": region if known["region"] else place.region, "city": place.city}
    for level in LEVELS:
        if is_blank(getattr(place, level)):
            labels[level] = located[level] if fill else None
            report.filled[level] += labels[level] is not None
            continue
        report.given[level] += 1
        report.unknown[level] += not known[level]
        if known[level] and not agrees[level]:
            report.disagree[level] += 1
            if len(report.examples) < 20:
                said, here = getattr(place, level), located[level]
                report.examples.append(f"{level} {said!r} at {place.lat}, {place.lon} is {here!r}")
    return replace(place, **labels)


def _city_at(truth: TruthLabels, at: Located, i: int, gazetteer: Gazetteer) -> str | None:
    """The largest city within SAME_PLACE_KM ("Paris", not its quarter), else the nearest."""
    cities = gazetteer.cities
    rows = np.array(cities.tree.query_ball_point(truth.point[0], chord(SAME_PLACE_KM)), dtype=np.int64)
    rows = rows[cities.country[rows] == at.country_index[i]]
    return cities.name[rows[np.argmax(cities.population[rows])]] if len(rows) else at.city[i]


def _pick(codes: frozenset[str], here: str | None) -> str | None:
    """The code that is here if it is among them, else the first."""
    return here if here in codes else min(codes, default=None)


def _named_region(truth: TruthLabels, here: str | None, gazetteer: Gazetteer) -> bool:
    countries = truth.countries | ({here} - {None})
    return any(gazetteer.regions.candidates(truth.place.region, country) for country in countries)


def _bears(truth: TruthLabels, gazetteer: Gazetteer) -> bool:
    return any(gazetteer.cities.bears(row, truth.city_name) for row in truth.nearby)
