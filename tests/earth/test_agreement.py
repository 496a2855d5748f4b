"""Credit for country, region and city: what is the same, what contradicts itself, and how truths are read."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from geospot.earth.agreement import CONSISTENT_KM, score_labels
from geospot.earth.cities import Cities
from geospot.earth.distance import haversine_km
from geospot.earth.folding import fold
from geospot.earth.gazetteer import Gazetteer
from geospot.earth.place import Place
from geospot.earth.truth import SAME_PLACE_KM, normalise_truths, resolve_truths


@dataclass
class Said:
    lat: float | None = None
    lon: float | None = None
    city: str | None = None
    region: str | None = None
    country: str | None = None


NAN = float("nan")
SF = Place(37.7749, -122.4194, "San Francisco", "California", "United States")
PARIS = Place(48.8566, 2.3522, "Paris", "Île-de-France", "FR")
AT_SF, AT_PARIS, AT_BERLIN = (37.77, -122.42), (48.86, 2.35), (52.52, 13.40)


def score(said: Said, truth: Place) -> list[float]:
    found = score_labels([said], [truth])
    return [float(found.country[0]), float(found.region[0]), float(found.city[0])]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (Said(*AT_SF, "San Francisco", "California", "United States"), [1, 1, 1]),
        (Said(*AT_SF, "SF", "CA", "USA"), [1, 1, 1]),
        (Said(*AT_SF, "Сан-Франциско", "Kalifornien", "Vereinigte Staaten"), [1, 1, 1]),
        (Said(*AT_SF, "City of San Francisco", "State of California", "the United States of America"), [1, 1, 1]),
        (Said(*AT_SF, "San Francisco, CA", None, "US"), [1, 1, 1]),
        (Said(*AT_SF, "San Francisco, California, USA", None, "US"), [1, 1, 1]),
        (Said(*AT_SF, "San Francisco", None, "US"), [1, 1, 1]),  # the region from the coordinates
        (Said(None, None, "San Francisco", None, "US"), [1, 1, 1]),  # or from the city
        (Said(None, None, "San Francisco", "California", "US"), [1, 1, 1]),
        (Said(34.05, -118.24, "Los Angeles", None, "US"), [1, 1, 0]),
        (Said(40.71, -74.00, "New York", "New York", "US"), [1, 0, 0]),
        (Said(*AT_SF, "San Francisco", "Nevada", "US"), [1, 0, 0]),  # the stated region is wrong: no city
        (Said(*AT_SF, "San Francisco", "Bavaria", "US"), [1, 0, 0]),  # another country's region is a wrong one
        (Said(*AT_SF, "San Francisco", "Bay Area", "US"), [1, 1, 1]),  # what is no region is no line
        (Said(*AT_SF, "San Francisco", "California", "Canada"), [0, 0, 0]),
        (Said(*AT_SF), [0, 0, 0]),  # country and city are read from their lines only
        (Said(*AT_SF, "San Francisco", "California", None), [0, 0, 0]),
        (Said(*AT_SF, "Francisco", "Calif", "United"), [0, 0, 0]),
        (Said(*AT_SF, "Oakland", None, "US"), [1, 1, 0]),  # 13 km away
        (Said(), [0, 0, 0]),
    ],
)
def test_san_francisco(said, expected):
    assert score(said, SF) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (Said(*AT_BERLIN, "Paris", "Île-de-France", "France"), [0, 0, 0]),  # text in Paris, coordinates in Berlin
        (Said(*AT_PARIS, "Berlin", "Berlin", "Germany"), [0, 0, 0]),
        (Said(45.76, 4.84, "Paris", "Île-de-France", "France"), [1, 0, 0]),  # coordinates in Lyon
        (Said(0.0, -30.0, "Paris", "Île-de-France", "France"), [0, 0, 0]),  # in the open ocean
        (Said(48.6, 2.6, "Paris", None, "France"), [1, 1, 1]),  # 34 km off: imprecise, not contradictory
        (Said(50.72, 3.16, None, None, "France"), [1, 0, 0]),  # just inside Belgium
    ],
)
def test_text_and_coordinates_that_contradict_do_not_collect_both(said, expected):
    assert score(said, PARIS) == expected


def test_border_towns_are_not_contradictions():
    """Geneva's neighbours: coordinates 10 km across the border still agree with the country's name."""
    ferney = Place(46.2558, 6.1081, "Ferney-Voltaire", None, "France")
    assert score(Said(46.20, 6.15, "Ferney-Voltaire", None, "France"), ferney)[::2] == [1, 1]


def test_ambiguous_city_is_decided_by_country_and_coordinates():
    illinois = Place(39.7817, -89.6501, "Springfield", "Illinois", "US")
    assert score(Said(39.78, -89.65, "Springfield", None, "US"), illinois) == [1, 1, 1]
    assert score(Said(37.21, -93.30, "Springfield", None, "US"), illinois) == [1, 0, 0]  # Missouri's
    paris_texas = Place(33.6609, -95.5555, "Paris", "Texas", "US")
    assert score(Said(*AT_PARIS, "Paris", None, "US"), paris_texas) == [0, 0, 0]
    assert score(Said(33.66, -95.55, "Paris", None, "US"), paris_texas) == [1, 1, 1]


def test_shared_country_names_are_decided_by_the_coordinates():
    seoul, pyongyang = Place(37.5665, 126.978, country="KR"), Place(39.03, 125.75, country="KP")
    assert score(Said(37.6, 127.0, country="Korea"), seoul)[0] == 1
    assert score(Said(39.0, 125.7, country="Korea"), pyongyang)[0] == 1
    assert score(Said(39.0, 125.7, country="Korea"), seoul)[0] == 0


def test_neighbouring_place_within_a_few_kilometres_is_the_same():
    """Trastevere's photographer may say Rome or Vatican City's; a town 15 km off is another place."""
    assert SAME_PLACE_KM == 5
    rome = Place(41.8925, 12.4690, "Rome", None, "Italy")
    assert score(Said(41.89, 12.47, "Roma", None, "Italia"), rome)[2] == 1
    assert score(Said(41.89, 12.47, "Tivoli", None, "Italia"), rome)[2] == 0


def test_territories():
    """A state's name is right for its territory when the coordinates lie there; the reverse never is."""
    san_juan = Place(18.4655, -66.1057, country="PR")
    assert score(Said(18.4, -66.1, country="Puerto Rico"), san_juan)[0] == 1
    assert score(Said(18.4, -66.1, country="United States"), san_juan)[0] == 1
    assert score(Said(27.9, -82.4, country="United States"), san_juan)[0] == 0  # Florida
    assert score(Said(27.9, -82.4, country="Puerto Rico"), Place(27.9, -82.4, country="US"))[0] == 0
    reunion = Place(-20.88, 55.45, country="France")  # labelled by its state
    assert score(Said(-20.9, 55.5, country="Réunion"), reunion)[0] == 1
    assert score(Said(-20.9, 55.5, country="France"), reunion)[0] == 1


def territories() -> list[tuple[str, str, float, float]]:
    """(territory, its state, latitude, longitude) of the largest city of each territory with a polygon of its own."""
    gazetteer, found = Gazetteer.load(), {}
    cities = gazetteer.cities
    for row in np.argsort(-cities.population).tolist():
        found.setdefault(cities.country_codes[cities.country[row]], (float(cities.lat[row]), float(cities.lon[row])))
    at = gazetteer.locate(*np.transpose(list(found.values())))
    here = dict(zip(found, at.country, strict=True))
    pairs = ((code, gazetteer.countries.sovereign(code)) for code in found)
    return [(code, state, *found[code]) for code, state in pairs if state != code and here[code] == code]


def test_a_states_name_in_its_territory_means_the_territory_alone():
    """Else one answer is right for a picture from San Juan and for one from Brooklyn."""
    capital = {"US": (38.9, -77.04), "FR": AT_PARIS, "GB": (51.5, -0.12), "NL": (52.37, 4.9), "CN": (39.9, 116.4)}
    rows = [row for row in territories() if row[1] in capital]
    assert len(rows) > 25
    for code, state, lat, lon in rows:
        there = Said(lat, lon, country=state)
        assert score(there, Place(lat, lon, country=code))[0] == 1, code
        assert score(there, Place(*capital[state], country=state))[0] == 0, code
        assert score(there, Place(lat, lon, country=state))[0] == 1, code  # labelled by its state
        assert score(Said(*capital[state], country=state), Place(*capital[state], country=state))[0] == 1


def test_a_states_name_near_its_territory_means_one_of_them():
    """Shenzhen and Hong Kong: the coordinates decide, however near."""
    hong_kong, shenzhen = Place(22.28, 114.16, country="HK"), Place(22.60, 114.06, country="CN")
    for lat, lon in ((22.28, 114.16), (22.60, 114.06), (22.40, 114.0), (22.50, 114.05), (22.1, 114.2)):
        said = Said(lat, lon, country="China")
        assert score(said, hong_kong)[0] + score(said, shenzhen)[0] == 1, (lat, lon)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("Congo", Place(-4.32, 15.31, country="CD"), Place(-4.26, 15.28, country="CG")),
        ("Korea", Place(37.57, 126.98, country="KR"), Place(37.97, 126.55, country="KP")),
        ("Saint Martin", Place(18.07, -63.08, country="MF"), Place(18.03, -63.05, country="SX")),
        ("Virgin Islands", Place(18.34, -64.93, country="VI"), Place(18.43, -64.62, country="VG")),
    ],
)
def test_a_shared_name_means_the_nearest_and_never_two(name, one, other):
    middle = Place((one.lat + other.lat) / 2, (one.lon + other.lon) / 2)
    off = [Place(middle.lat + dy, middle.lon + dx) for dy in (-0.3, 0, 0.3) for dx in (-0.3, 0, 0.3)]
    for at in (one, other, *off):
        said = Said(at.lat, at.lon, country=name)
        assert score(said, one)[0] + score(said, other)[0] <= 1, at
    assert score(Said(one.lat, one.lon, country=name), one)[0] == 1
    assert score(Said(other.lat, other.lon, country=name), other)[0] == 1


def test_a_regions_shared_name_means_one_of_them():
    """Maputo, Buenos Aires, Vilnius: the city's own region and the one around it."""
    gazetteer = Gazetteer.load()
    cities, checked = gazetteer.cities, 0
    largest: dict[str, int] = {}
    for row in np.argsort(-cities.population).tolist():
        largest.setdefault(str(cities.admin1_codes[cities.admin1[row]]), row)
    for code, title in gazetteer.regions.title.items():
        country = code.partition(".")[0]
        for name in {title, fold(title).removesuffix(" city").removesuffix(" province")}:
            codes = [c for c in gazetteer.regions.candidates(name, country) if c in largest]
            if len(codes) != 2:
                continue
            rows = [largest[c] for c in codes]
            at = gazetteer.locate(cities.lat[rows], cities.lon[rows])
            places = [Place(float(cities.lat[r]), float(cities.lon[r]), None, str(title_), country)
                      for r, title_ in zip(rows, at.region, strict=True)]  # fmt: skip
            if list(at.region_code) != codes:
                continue
            checked += 1
            for place in places:
                said = Said(place.lat, place.lon, None, name, country)
                assert [score(said, truth)[1] for truth in places] == [float(truth == place) for truth in places], name
    assert checked > 10


def test_a_city_between_two_of_its_name_is_the_nearer():
    """Two of one region: their middle is near both, and is right for one."""
    cities = Gazetteer.load().cities
    pairs = list(itertools.islice(namesakes_of_a_region(60, 95), 20))
    assert len(pairs) == 20
    for a, b in pairs:
        places = [
            Place(
                float(cities.lat[r]),
                float(cities.lon[r]),
                cities.name[r],
                None,
                cities.country_codes[cities.country[r]],
            )
            for r in (a, b)
        ]
        for share in (0.45, 0.5, 0.55):
            lat = places[0].lat * share + places[1].lat * (1 - share)
            lon = places[0].lon * share + places[1].lon * (1 - share)
            said = Said(lat, lon, places[0].city, None, places[0].country)
            assert sum(score(said, place)[2] for place in places) <= 1, places
        for place in places:
            assert score(Said(place.lat, place.lon, place.city, None, place.country), place)[2] == 1


def test_two_entries_of_one_city_are_not_told_apart():
    """GeoNames has Novo Progresso twice, 12 km apart: near one of them is right for a picture beside the other."""
    truth = Place(-6.92, -55.32, "Novo Progresso", "Pará", "BR")
    assert score(Said(-7.44, -55.45, "Novo Progresso", None, "BR"), truth) == [1, 1, 1]


def by_name(cities: Cities) -> Iterator[list[int]]:
    return (cities.namesakes([row]) for row in {name: row for row, name in enumerate(cities.name)}.values())


def namesakes_of_a_region(low_km: float, high_km: float) -> Iterator[tuple[int, int]]:
    """Rows of two cities that share their name and region, so far apart."""
    cities = Gazetteer.load().cities
    for rows in by_name(cities):
        for n, a in enumerate(rows):
            for b in rows[n + 1 :]:
                if cities.admin1[a] != cities.admin1[b]:
                    continue
                km = haversine_km(cities.lat[a], cities.lon[a], cities.lat[b], cities.lon[b])
                if low_km < km < high_km:
                    yield a, b


def test_disputed_area_takes_the_truths_label():
    simferopol = Place(44.95, 34.10, country="Ukraine")
    assert score(Said(44.9, 34.1, country="Ukraine"), simferopol)[0] == 1
    assert score(Said(44.9, 34.1, country="Russia"), simferopol)[0] == 0
    assert score(Said(44.9, 34.1, country="Russia"), Place(44.95, 34.10, country="RU"))[0] == 1


@pytest.mark.parametrize(
    ("truth", "present"),
    [
        (Place(48.85, 2.35), (False, False, False)),
        (Place(48.85, 2.35, country="FR"), (True, False, False)),
        (Place(48.85, 2.35, city="Paris"), (False, False, True)),
        (Place(48.85, 2.35, city="nan", region="", country="unknown"), (False, False, False)),
        (Place(-22.56, 17.08, country="NA"), (True, False, False)),
    ],
)
def test_missing_truth_labels_are_nan(truth, present):
    found = score(Said(truth.lat, truth.lon, truth.city, truth.region, truth.country), truth)
    assert [not np.isnan(x) for x in found] == list(present)
    assert [x for x in found if not np.isnan(x)] == [1.0] * sum(present)


def test_truth_in_any_form():
    for country in ("FR", "FRA", "France", "Frankreich", "République française"):
        for region in ("Île-de-France", "FR.11", "FR-IDF", "Isla de Francia", "IDF"):
            truth = Place(48.8566, 2.3522, "paris", region, country)
            assert score(Said(*AT_PARIS, "Paris", "Ile de France", "France"), truth) == [1, 1, 1], (country, region)


def test_truth_whose_city_no_gazetteer_knows():
    truth = Place(48.8566, 2.3522, "Xyzzyville", None, "FR")
    assert score(Said(*AT_PARIS, "xyzzyville", None, "France"), truth)[2] == 1
    assert score(Said(43.3, 5.4, "Xyzzyville", None, "France"), truth)[2] == 0
    assert score(Said(*AT_PARIS, "Lyon", None, "France"), truth)[2] == 0


def test_truth_without_coordinates_is_an_error():
    with pytest.raises(ValueError, match="truth 1 has no coordinates"):
        score_labels([Said(), Said()], [PARIS, Place(NAN, 2.0)])


def test_levels_are_a_chain_for_random_answers():
    gazetteer, rng = Gazetteer.load(), np.random.default_rng(0)
    cities = gazetteer.cities
    rows = rng.choice(len(cities), 200, replace=False)
    at = gazetteer.locate(cities.lat[rows], cities.lon[rows])
    truths = [Place(cities.lat[r], cities.lon[r], cities.name[r], at.region[i], at.country[i])
              for i, r in enumerate(rows)]  # fmt: skip
    answers = []
    for truth in truths:
        other = truths[rng.integers(len(truths))]
        pick = [truth if rng.random() < 0.6 else other for _ in range(4)]
        answers.append(Said(pick[0].lat, pick[0].lon, pick[1].city, pick[2].region, pick[3].country))
    found = score_labels(answers, truths)
    assert 0.05 < np.nanmean(found.city) < 0.6
    region = np.where(np.isnan(found.region), found.country, found.region)
    assert (region <= found.country).all()
    assert (found.city <= region).all()


def test_honest_answers_about_cities_are_right():
    """The table's own cities, named in English, at their coordinates: country, region and city are right."""
    gazetteer, rng = Gazetteer.load(), np.random.default_rng(0)
    cities = gazetteer.cities
    rows = rng.choice(np.flatnonzero(cities.population > 100_000), 500, replace=False)
    at = gazetteer.locate(cities.lat[rows], cities.lon[rows])
    truths = [Place(cities.lat[r], cities.lon[r], cities.name[r], at.region[i], at.country[i])
              for i, r in enumerate(rows)]  # fmt: skip
    answers = [Said(t.lat, t.lon, t.city, None, gazetteer.country_name(t.country)) for t in truths]
    found = score_labels(answers, truths)
    assert found.country.mean() == 1
    assert np.nanmean(found.region) == 1
    assert found.city.mean() == 1


def test_normalise_truths_fills_and_reports():
    places = [
        Place(48.8566, 2.3522, "Paris", "IDF", "France"),
        Place(48.8566, 2.3522, "nan", None, ""),
        Place(-22.5594, 17.0832, "Windhoek", "Khomas", "NA"),
        Place(48.8566, 2.3522, "Paris", "Bavaria", "Germany"),  # disagrees with its coordinates
        Place(48.8566, 2.3522, "Xyzzyville", "Quux", "Freedonia"),
        Place(0.0, -30.0),  # open ocean
    ]
    found, report = normalise_truths(places)
    assert found[0] == Place(48.8566, 2.3522, "Paris", "Île-de-France", "FR")
    assert found[1] == Place(48.8566, 2.3522, "Paris", "Île-de-France", "FR")
    assert found[2] == Place(-22.5594, 17.0832, "Windhoek", "Khomas Region", "NA")
    assert (found[3].country, found[3].region) == ("DE", "Bavaria")
    assert (found[4].city, found[4].country) == ("Xyzzyville", "Freedonia")
    assert (found[5].country, found[5].city) == (None, None)
    assert report.places == 6
    assert report.given == {"country": 4, "region": 4, "city": 4}
    assert report.filled == {"country": 1, "region": 1, "city": 1}
    assert report.disagree["country"] == 1
    assert report.disagree["region"] == 1
    assert report.unknown == {"country": 1, "region": 1, "city": 1}
    assert "disagree with the coordinates" in report.summary()
    assert any("Germany" in line for line in report.examples)
    kept, _ = normalise_truths(places[1:2], fill=False)
    assert kept[0] == Place(48.8566, 2.3522)


def test_consistency_is_a_stated_distance():
    assert CONSISTENT_KM == 50


def test_truths_mean_the_same_together_as_alone():
    """Pictures of one city look at the cities around it once: that of another Paris, or of none, sees its own."""
    gazetteer, rng = Gazetteer.load(), np.random.default_rng(0)
    towns = [("Paris", 48.86, 2.35), ("Paris", 33.66, -95.56), ("Paris", 0.0, -30.0), ("Saint-Denis", 48.94, 2.36),
             ("Lutetia", 48.86, 2.35), (None, 48.86, 2.35), ("unknown", 48.86, 2.35)]  # fmt: skip
    places = [
        Place(lat + dlat, lon + dlon, city) for city, lat, lon in towns for dlat, dlon in rng.normal(0, 0.2, (4, 2))
    ]
    together = resolve_truths(places, gazetteer)
    for place, truth in zip(places, together, strict=True):
        (alone,) = resolve_truths([place], gazetteer)
        assert (truth.nearby, truth.city_name, truth.countries) == (alone.nearby, alone.city_name, alone.countries)
    assert together[0].nearby
    assert together[20].nearby == frozenset()
