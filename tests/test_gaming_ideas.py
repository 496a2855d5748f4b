"""More answers that try to earn more than they know, from a reader who had not seen the rules: several answers in one,
hedged labels, ranges, look-alikes, names that many places bear, the edges of the map.
"""

import json

import pytest
from gaming import (
    BERLIN,
    BORDER,
    EUROPE,
    FRANCE,
    KNOWN,
    LYON,
    MADRID,
    NOTHING,
    PARIS,
    WORLD,
    earned,
    gains,
    honest,
    lines,
    places,
)

from geospot.answer import format_answer

FIJI = places((-16.5, 179.9, "Labasa", "Northern", "FJ"), (-16.8, -179.9, "Somosomo", "Northern", "FJ"))
POLES = places((89.99, 0.0, None, None, None), (-89.99, 0.0, None, None, "AQ"))
GEORGIAS = places(
    (41.6941, 44.8337, "Tbilisi", "Tbilisi", "GE"), (33.749, -84.388, "Atlanta", "Georgia", "US")
)  # one word names a country and a state
BIRMINGHAMS = places(
    (52.4814, -1.8998, "Birmingham", "England", "GB"), (33.5207, -86.8025, "Birmingham", "Alabama", "US")
)
ALL = ["Paris", "Berlin", "Madrid", "Lyon"]


def both(sep: str) -> str:
    return sep.join(format_answer(place, decimals=4, region=True) for place in (PARIS, BERLIN, MADRID))


def objects(*rows: dict) -> str:
    return "\n".join(json.dumps(row) for row in rows)


IDEAS = {
    # several answers in one text
    "answers by a rule": (both("\n---\n"), EUROPE),
    "answers by nothing": (both("\n"), EUROPE),
    "answers in numbered items": ("\n".join(f"{i}. {a}" for i, a in enumerate(both("\n\n").split("\n\n"), 1)), EUROPE),
    "each answer is final": (both("\nFinal answer:\n"), EUROPE),
    "answers in tags": (f"<answer>{both('</answer><answer>')}</answer>", EUROPE),
    "answers in a table": (
        "| City | Country | Lat | Lon |\n|-|-|-|-|\n"
        + "\n".join(f"| {p.city} | {p.country} | {p.lat} | {p.lon} |" for p in EUROPE),
        EUROPE,
    ),
    "answers as JSON lines": (
        objects(*({"lat": p.lat, "lon": p.lon, "city": p.city, "country": p.country} for p in EUROPE)),
        EUROPE,
    ),
    "answers as keys of one object": (
        objects({p.city: {"lat": p.lat, "lon": p.lon, "country": p.country} for p in EUROPE}),
        EUROPE,
    ),
    "labels in one object, coordinates in another": (
        objects({"city": "Berlin", "country": "Germany"}, {"lat": PARIS.lat, "lon": PARIS.lon}),
        EUROPE,
    ),
    "one answer in thinking, another behind it": (
        f"<think>{format_answer(BERLIN)}</think>{format_answer(PARIS)}",
        EUROPE,
    ),
    # labels that hedge
    "a list in JSON": ('{"country": ["FR", "DE"], "city": ["Paris", "Berlin"], "lat": 48.85, "lon": 2.35}', EUROPE),
    "names in an object": (
        '{"country": {"name": "France", "alternative": "Germany"}, "lat": 48.85, "lon": 2.35}',
        EUROPE,
    ),
    "two names in an object": ('{"country": {"name": "France", "name": "Germany"}, "lat": 48.85, "lon": 2.35}', EUROPE),
    "either, or": (lines("either Paris or Berlin", "", "either France or Germany"), EUROPE),
    "with percentages": (lines("Paris (60%), Berlin (40%)", "", "France (60%), Germany (40%)"), EUROPE),
    "by ampersands and semicolons": (lines("Paris; Berlin", "", "France & Germany"), EUROPE),
    "codes in a row": (lines(country="FR DE ES"), EUROPE),
    "codes in brackets": (lines(country="FR (DE, ES)"), EUROPE),
    "a label and its negation": (lines("not Berlin", "", "not Germany, France"), EUROPE),
    "a region of one as country, the city of another": (lines("Berlin", "Bavaria", "Île-de-France"), EUROPE),
    "all cities of a country as region": (lines("", ", ".join(ALL), "France"), FRANCE),
    "a neighbour as the country": (lines("Strasbourg", "", "Germany", 48.5839, 7.7455), BORDER),
    "the country twice, in two languages": (lines(country="Frankreich / Allemagne"), EUROPE),
    "the empty label behind the right one": ("Country: France\nCountry:\n" + lines("", "", ""), KNOWN),
    "unknown behind the right one": ("Country: France\nCountry: unknown\n" + lines("", "", "unknown"), KNOWN),
    # names that many places bear
    "a word that is a country and a state": (lines("", "Georgia", "Georgia", 37.7, -19.8), GEORGIAS),
    "a state's name at the country": (lines("Tbilisi", "Georgia", "Georgia", 41.6941, 44.8337), GEORGIAS),
    "a city on two continents": (lines("Birmingham", "", "", 43.0, -44.0), BIRMINGHAMS),
    "a city on two continents, the wrong one's coordinates": (
        lines("Birmingham", "England", "US", 33.5207, -86.8025),
        BIRMINGHAMS,
    ),
    # look-alikes and what cannot be seen
    "full-width letters of another country": (lines(country="France\uff0fGermany"), EUROPE),
    "right to left": (lines("\u202esiraP", "", "\u202eecnarF"), KNOWN),
    "joined by a zero-width joiner": (lines("Paris\u200dBerlin", "", "France\u200dGermany"), EUROPE),
    "soft hyphens between two": (lines(country="France\u00adGermany"), EUROPE),
    "a line separator in a label": (lines(country="France\u2028Country: Germany"), EUROPE),
    "a null between two": (lines(country="France\x00Germany"), EUROPE),
    "tags of another country's flag": (lines(country="France \U0001f3f4\U000e0067\U000e0062\U000e007f"), EUROPE),
    # ranges and arithmetic
    "a range with plus-minus": (lines("Paris", "", "France", "47.3 ± 1.55", "3.6 ± 1.25"), FRANCE),
    "a range with dots": (lines("Paris", "", "France", "45.75..48.85", "2.35..4.85"), FRANCE),
    "a sum": (lines("Paris", "", "France", "45.75 + 3.1", "4.85 - 2.5"), FRANCE),
    "a fraction": (lines("Paris", "", "France", "97.7/2", "4.7/2"), FRANCE),
    "four coordinates of a box": ("bbox: 45.75, 2.35, 48.85, 4.85\nCountry: France", FRANCE),
    "a line of two points": ('{"type": "LineString", "coordinates": [[2.35, 48.85], [4.85, 45.75]]}', FRANCE),
    "several points": ('{"type": "MultiPoint", "coordinates": [[2.35, 48.85], [4.85, 45.75]]}', FRANCE),
    "two map links": (
        "https://www.google.com/maps/@48.85,2.35,9z https://www.google.com/maps/@45.75,4.85,9z\nCity: Paris",
        FRANCE,
    ),
    # edges of the map
    "both sides of the date line": (lines("Labasa", "", "Fiji", -16.6, 180), FIJI),
    "beyond the date line": (lines("Labasa", "", "Fiji", -16.6, 180.1), FIJI),
    "once around": (lines("Labasa", "", "Fiji", -16.5, 539.9), FIJI),
    "both poles": ("Latitude: 90\nLatitude: -90\nLongitude: 0", POLES),
    "over the pole": (lines("", "", "", 90.01, 0), POLES),
}  # fmt: skip


@pytest.mark.parametrize("name", IDEAS)
def test_ideas(name):
    text, known = IDEAS[name]
    assert gains(text, known) == {}


VADUZ, SCHAAN = places(
    (47.1415, 9.5215, "Vaduz", "Vaduz", "LI"), (47.1650, 9.5087, "Schaan", "Schaan", "LI")
)  # nearer to each other than cities that count as one


def test_the_name_of_a_near_city_at_the_coordinates_of_another_earns_no_more():
    text = f"City: Vaduz\nCountry: LI\nLatitude: {SCHAAN.lat}\nLongitude: {SCHAAN.lon}"
    assert gains(text, [VADUZ, SCHAAN], honest([VADUZ, SCHAAN], region=False)) == {}


OVERFLOWS = ["1" * 309, "1e308", "1e309", "-1e309", "nan", "NaN", "inf", "-Infinity", "0x7f", "9" * 5000, "1e-9999"]


@pytest.mark.parametrize("number", OVERFLOWS)
@pytest.mark.parametrize(
    "form",
    ["Latitude: {0}\nLongitude: {0}", '{{"lat": {0}, "lon": {0}}}', '{{"lat": "{0}", "lon": "{0}"}}',
     "geo:{0},{0}", "POINT({0} {0})", '{{"type": "Point", "coordinates": [{0}, {0}]}}', "{0}° N, {0}° E"],
)  # fmt: skip
def test_overflow_earns_nothing_without_knowledge(number, form):
    text = f"Country: {WORLD[0].country}\n" + form.format(number)
    assert gains(text, NOTHING) == {}


def test_the_suite_knows_places_that_differ():
    assert (earned(format_answer(PARIS, decimals=4), FRANCE) > earned(format_answer(LYON), [PARIS])).all()
