"""Answers that try to earn more than they know. None may score above an honest answer of the same knowledge, under any
curve and wherever a schedule has brought tau (see `gaming`).
"""

import time

import numpy as np
import pytest
from gaming import (
    BAKERSFIELD,
    BERLIN,
    BORDER,
    EUROPE,
    FRANCE,
    KNOWN,
    LYON,
    MADRID,
    MOMENTS,
    NOTHING,
    OWN,
    PARIS,
    TOKYO,
    WORLD,
    earned,
    gains,
    honest,
    lines,
    places,
)

from geospot.answer import format_answer, parse_answer
from geospot.curves import CURVES, TAU_CURVES
from geospot.earth.countries import countries
from geospot.reward import ADAPTIVE, TAU_SCHEDULES, RewardConfig, reward_parts

CONFIG = RewardConfig()

ALL_COUNTRIES = ", ".join(row["name"] for row in countries().table.values())
ALL_LINES = "\n".join(f"Country: {row['name']}" for row in countries().table.values())
LETTERS = "\n".join(f"City: {c}\nRegion: {c}\nCountry: {c}" for c in "abcdefghijklmnopqrstuvwxyz")


WITHOUT_KNOWLEDGE = {
    "empty": "",
    "empty fields": "City:\nRegion:\nCountry:\nLatitude:\nLongitude:",
    "all countries in one line": lines(country=ALL_COUNTRIES, lat=20, lon=20),
    "a line for each country": ALL_LINES + "\nLatitude: 20\nLongitude: 20",
    "all countries, no coordinates": f"Country: {ALL_COUNTRIES}",
    "one letter": lines("a", "a", "a", 20, 20),
    "every letter": LETTERS + "\nLatitude: 20\nLongitude: 20",
    "wildcards": lines("*", ".*", "%", 20, 20),
    "anywhere": lines("any", "any", "any country", 20, 20),
    "the centroid of everything": "Latitude: 28.4\nLongitude: 29.8",
    "the null island": lines("", "", "", 0, 0),
    "not a number": lines("Paris", "", "France", "nan", "nan"),
    "infinite": lines("Paris", "", "France", "inf", "1e999"),
    "100 kB of a country": lines(country="France " * 15_000, lat=20, lon=20),
    "100 kB of commas": lines("," * 50_000, "," * 25_000, "," * 25_000, 20, 20),
    "100 kB of accents": lines(country="F" + "\u0301" * 50_000, lat=20, lon=20),
    "hundred answers": "\n\n".join(format_answer(p) for p in WORLD[:100]),
    "control characters": lines("\x00\u200b\u202e", "\ufeff", "\u200d", 20, 20),
    "a pole, where every meridian meets": lines("", "", "", 90, 0),
    "the other pole with a longitude out of range": lines("", "", "", -90, 361),
    "the date line from both sides": "Latitude: 0\nLongitude: 180\nLatitude: 0\nLongitude: -180",
    "overflow": lines("", "", "", "9" * 400, "1e308"),
    "an underflow": lines("", "", "", "1e-400", "-1e-400"),
    "JSON of all countries": '{"lat": 20, "lon": 20, "country": "' + ALL_COUNTRIES + '"}',
    "JSON with a list of countries": '{"lat": 20, "lon": 20, "country": ["France", "Germany", "Spain"]}',
    "a key for each country": "{"
    + ", ".join(f'"country": "{r["name"]}"' for r in countries().table.values())
    + ', "lat": 20, "lon": 20}',
    "all flags": lines(country="".join(chr(0x1F1E6 + i) for i in range(26)) * 4, lat=20, lon=20),
    "the world's box": '{"type": "Polygon", "coordinates": [[[-180, -90], [180, 90]]]}',
    "a FeatureCollection": '{"type": "FeatureCollection", "features": ['
    + ", ".join(f'{{"geometry": {{"type": "Point", "coordinates": [{p.lon}, {p.lat}]}}}}' for p in WORLD[:100])
    + "]}",
    "hundred map links": "\n".join(f"https://www.google.com/maps/@{p.lat},{p.lon},9z" for p in WORLD[:100]),
    "hundred Plus Codes": "8FW4V75V+8Q 9F4MGC22+22 " * 50,
    "continents as country": lines(country="Europe, Asia, Africa", lat=20, lon=20),
    "only words that say nothing": lines("city", "region", "country", 20, 20),
    "placeholders": lines("<name>", "<name>", "<name>", "<decimal degrees>", "<decimal degrees>"),
    "nested brackets of countries": lines(country="France (Germany (Spain (Italy)))", lat=20, lon=20),
    "a regular expression's bomb": lines("(a+)+$" * 10, "", "((((((((((", 20, 20),
}


@pytest.mark.parametrize("name", WITHOUT_KNOWLEDGE)
def test_without_knowledge(name):
    assert gains(WITHOUT_KNOWLEDGE[name], NOTHING) == {}


HEDGES = {
    # name: (text, what its author knows)
    "two countries in a line": (lines(country="France, Germany"), EUROPE),
    "two countries by a slash": (lines(country="France/Germany"), EUROPE),
    "or": (lines("Paris or Lyon", "", "France or Germany"), EUROPE),
    "all countries of Europe": (lines(country="France, Germany, Spain"), EUROPE),
    "country line twice": ("Country: France\nCountry: Germany\nLatitude: 48.8534\nLongitude: 2.3488", EUROPE),
    "two whole answers": (format_answer(PARIS) + "\n\n" + format_answer(BERLIN), EUROPE),
    "label of one, coordinates of another": (lines("Berlin", "Berlin", "Germany"), EUROPE),
    "the same across a border": (lines("Kehl", "", "Germany", 48.5839, 7.7455), BORDER),
    "region of one, city of another": (lines("Kehl", "Grand Est", "Germany", 48.5839, 7.7455), BORDER),
    "half way": (lines("Paris", "", "France", 47.3, 3.6), FRANCE),
    "half way across Europe": (lines("Paris", "", "France", 46.9, 5.0), EUROPE),
    "two cities in a line": (lines("Paris, Lyon", "", "France"), FRANCE),
    "cities with a true tail": (lines("Paris, Lyon, France", "", "France"), FRANCE),
    "every field with other values": (
        "City: Paris\nCity: Lyon\nRegion: Île-de-France\nRegion: Auvergne-Rhône-Alpes\nCountry: France\n"
        "Country: Spain\nLatitude: 48.85\nLatitude: 45.75\nLongitude: 2.35\nLongitude: 4.85",
        FRANCE,
    ),
    "regions in a line": (lines("", "Île-de-France, Auvergne-Rhône-Alpes", "France"), FRANCE),
    "no coordinates to contradict": ("City: Paris\nRegion: Île-de-France\nCountry: France", FRANCE),
    "a city's name that many places bear": (lines("San Antonio", "", "France"), FRANCE),
    "homoglyph country": (lines("Paris", "Île-de-France", "Frаnce"), KNOWN),  # a Cyrillic а
    "homoglyph city": (lines("Рaris", "Île-de-France", "France"), KNOWN),  # a Cyrillic Р
    "invisible characters": (lines("P\u200baris", "Île\u00adde-France", "Fr\u2060ance"), KNOWN),
    "parts of words": (lines("Pari", "Île", "Franc"), KNOWN),
    "words around": (lines("somewhere in Paris maybe", "the Île-de-France area", "I think France"), KNOWN),
    "wrong country, right city": (lines("Paris", "Île-de-France", "Germany"), KNOWN),
    "right and wrong region": (lines("Paris", "Bavaria", "France"), KNOWN),
    "a country in brackets": (lines(country="France (Germany)"), EUROPE),
    "a tail of another country": (lines(country="Paris, France, Germany"), EUROPE),
    "the flag of another country": (lines(country="France 🇩🇪"), EUROPE),
    "two flags": (lines(country="🇫🇷🇩🇪"), EUROPE),
    "flag and code of two": (lines(country="🇫🇷 (DE)"), EUROPE),
    "region as country": (lines("Paris", "", "Île-de-France"), KNOWN),
    "regions of many countries as country": (lines(country="Bavaria, Catalonia, Île-de-France"), EUROPE),
    "a region of another country in brackets": (lines(country="France (Bavaria)"), EUROPE),
    "cities of many countries": (lines("Paris, Berlin, Madrid", "", "France"), EUROPE),
    "cities with their countries": (lines("Paris, France; Berlin, Germany", "", "France"), EUROPE),
    "a list of labels": ("Country: [France, Germany]\nCity: [Paris, Berlin]\nLatitude: 48.85\nLongitude: 2.35", EUROPE),
    "JSON of one, prose of another": (
        '{"lat": 48.8534, "lon": 2.3488, "city": "Paris", "country": "France"}\nOr 52.52° N, 13.41° E in Germany.',
        EUROPE,
    ),
    "prose of one, JSON of another": (
        'City: Berlin\nCountry: Germany\nLatitude: 52.52\nLongitude: 13.41\n{"lat": 48.8534, "lon": 2.3488}',
        EUROPE,
    ),
    "labels of one before an object of another": (
        'City: Berlin\nCountry: Germany\n{"lat": 48.8534, "lon": 2.3488}',
        EUROPE,
    ),
    "repeated keys in JSON": (
        '{"country": "France", "country": "Germany", "lat": 48.85, "lat": 52.52, "lon": 2.35, "lon": 13.41}',
        EUROPE,
    ),
    "a list of guesses": (
        '{"guesses": [{"lat": 48.85, "lon": 2.35, "country": "France"}, '
        '{"lat": 52.52, "lon": 13.41, "country": "Germany"}]}',
        EUROPE,
    ),
    "a link to another place": (lines("Paris", "", "France") + "\nhttps://www.google.com/maps/@52.52,13.41,9z", EUROPE),
    "a range of latitudes": (lines("Paris", "", "France", "45.75 to 48.85", "2.35 to 4.85"), FRANCE),
    "a range by a dash": (lines("Paris", "", "France", "45.75-48.85", "2.35"), FRANCE),
    "or between coordinates": (lines("Paris", "", "France", "48.85 or 45.75", "2.35 or 4.85"), FRANCE),
    "a restatement elsewhere in words": (lines("Paris", "", "France") + "\n\nThat is about 47° N, 4° E.", FRANCE),
    "two languages, two countries": (
        "Country: France\nPaís: España\nLand: Deutschland\nLatitude: 48.8534\nLongitude: 2.3488",
        EUROPE,
    ),
    "two signs of the hemisphere": ('{"lat": 48.85, "lat_dir": "S", "lon": 2.35, "lon_dir": "E", "lat": 48.85}', KNOWN),
    "a country and its alias of another": (lines(country="Congo (France)"), FRANCE),
    "empty labels around the right one": ("Country:\nCountry: France\nCountry:\n" + lines("Paris", "", ""), KNOWN),
    "contradictory labels behind the answer": (format_answer(PARIS, region=True) + "\n\nCountry: Germany", KNOWN),
    "homoglyph digits": (lines("Paris", "Île-de-France", "France", "４８.8534", "２.3488"), KNOWN),
    "mirrored text": (lines("siraP", "Île-de-France", "ecnarF"), KNOWN),
    "a quarter of the city": (lines("Montmartre", "", "France", 48.8867, 2.3431), KNOWN),
}


@pytest.mark.parametrize("name", HEDGES)
def test_hedges(name):
    text, known = HEDGES[name]
    assert gains(text, known) == {}


# GeoNames puts Kingstown into the region of Diamond, the map into another.
NEIGHBOURS = {
    "Schaan": places((47.1650, 9.5087, "Schaan", "Schaan", "LI"), (47.1075, 9.5282, "Triesen", "Triesen", "LI")),
    "Kingstown": places((13.1553, -61.2274, "Kingstown", "Saint Andrew Parish", "VC"),
                        (13.1408, -61.168, "Diamond", "Saint George Parish", "VC")),
}  # fmt: skip


MAPUTO, MATOLA = places(
    (-25.9655, 32.5832, "Maputo", "Maputo City", "MZ"), (-25.9622, 32.4589, "Matola", "Maputo Province", "MZ")
)


def test_a_regions_name_that_two_bear_is_paid_for_one():
    for place in (MAPUTO, MATOLA):
        for city in ("Maputo", "Matola", ""):
            text = lines(city, "Maputo", "Mozambique", place.lat, place.lon)
            assert gains(text, [MAPUTO, MATOLA]) == {}, text


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_the_city_of_one_region_at_the_coordinates_of_its_neighbour(name):
    """Its region is the city's, not both: the answer that names one place and means it earns more."""
    known = NEIGHBOURS[name]
    city, other = known
    split = f"City: {city.city}\nCountry: {city.country}\nLatitude: {other.lat}\nLongitude: {other.lon}"
    assert gains(split, known, np.maximum(honest(known, region=False), honest(known))) == {}


SAN_JUAN, BROOKLYN, HONG_KONG, BEIJING, SHENZHEN = places(
    (18.4663, -66.1057, "San Juan", "San Juan", "PR"), (40.6501, -73.9496, "Brooklyn", "New York", "US"),
    (22.2783, 114.1747, "Hong Kong", "Central and Western District", "HK"),
    (39.9075, 116.3972, "Beijing", "Beijing", "CN"), (22.5455, 114.0683, "Shenzhen", "Guangdong", "CN"),
)  # fmt: skip
KINSHASA, BRAZZAVILLE = places(
    (-4.3276, 15.3136, "Kinshasa", "Kinshasa", "CD"), (-4.2661, 15.2832, "Brazzaville", "Brazzaville", "CG")
)
# A name of one country that is taken for another's: a state's for its territory's, one that two share.
NAMED_ALIKE = [
    (SAN_JUAN, "United States", BROOKLYN),
    (HONG_KONG, "China", BEIJING),
    (HONG_KONG, "China", SHENZHEN),
    (SHENZHEN, "China", HONG_KONG),
    (KINSHASA, "Congo", BRAZZAVILLE),
    (BRAZZAVILLE, "Congo", KINSHASA),
]


@pytest.mark.parametrize(("place", "name", "other"), NAMED_ALIKE)
def test_a_name_that_means_two_countries_is_paid_for_one(place, name, other):
    known, between = [place, other], ((place.lat + other.lat) / 2, (place.lon + other.lon) / 2)
    for at in ((place.lat, place.lon), (other.lat, other.lon), between):
        for city, region in ((place.city, place.region), (place.city, ""), ("", "")):
            text = lines(city, region, name, *at)
            assert gains(text, known) == {}, text


def test_a_list_of_countries_earns_no_country():
    for text in (ALL_COUNTRIES, "France, Germany", "France Germany", "France/Germany", "France and Germany", "a", "%"):
        answer = parse_answer(lines(country=text))
        assert reward_parts([answer] * len(EUROPE), EUROPE, 0.0, CONFIG).country.sum() == 0, text[:40]


def test_wrong_at_a_coarse_level_never_pays_more_for_a_finer_one():
    """Adding the right city or region to an answer whose country (or region) is wrong adds nothing."""
    for said in (
        {"country": "Spain"},
        {"country": "Spain", "region": "Île-de-France"},
        {"country": "France", "region": "Bretagne"},
    ):
        assert earned(lines(city="Paris", **said), KNOWN) == pytest.approx(earned(lines(city="Quux", **said), KNOWN))


@pytest.mark.parametrize(("one", "other"), [(PARIS, BERLIN), (PARIS, TOKYO), (LYON, PARIS), (MADRID, BAKERSFIELD)])
def test_splitting_text_and_coordinates_between_two_places(one, other):
    """Naming one place and pointing at another earns less than committing to either, on average over the two."""
    split = (
        f"City: {one.city}\nRegion: {one.region}\nCountry: {one.country}\nLatitude: {other.lat}\nLongitude: {other.lon}"
    )
    assert (earned(split, [one, other]) < honest([one, other])).all()


def test_more_knowledge_earns_more():
    """The honest ladder: nothing < a continent < a country < the place."""
    ladder = [earned(format_answer(TOKYO, region=True), EUROPE), honest(EUROPE), honest(FRANCE), honest(KNOWN)]
    assert (np.diff(ladder, axis=0) >= 0).all()
    assert ladder[-1] == pytest.approx(1, abs=1e-3)


def test_every_curve_and_every_schedule_is_among_the_moments():
    tau_ends = {"tau 2000 km", "tau 25 km"}
    for curve in (*CURVES, OWN):
        of_curve = [name for name in MOMENTS if name.startswith(f"{curve},")]
        assert {name.split(", ")[2] for name in of_curve} == {"progress 0.0", "progress 0.5", "progress 1.0"}
        if curve in (*TAU_CURVES, OWN):
            assert tau_ends <= {name.split(", ")[3] for name in of_curve}
            # The middle of a run is where they differ; an adaptive tau may also be at either end by then.
            middle = {name.split(", ")[1] for name in of_curve if "progress 0.5" in name}
            assert middle == {*TAU_SCHEDULES, ADAPTIVE} - {"cosine"}, "half way the cosine stands where linear does"


def test_attacks_take_no_time():
    """A step of 100 kB attacks is scored as quickly as one of answers."""
    texts = [lines(country="é" * 100_000), lines("," * 100_000), lines(country=ALL_LINES)] * 10
    answers = [parse_answer(text) for text in texts]
    start = time.process_time()
    reward_parts(answers, [PARIS] * len(answers), 0.0, CONFIG)
    assert time.process_time() - start < 20  # quadratic: minutes
