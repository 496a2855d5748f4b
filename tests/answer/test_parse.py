"""The prompt, the target text and the parser: expected values by hand, and properties over many places and texts."""

import math
import re
import subprocess
import sys
import time

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from geospot.answer import (
    CONTRADICTION,
    EMPTY,
    ERRORS,
    FIELDS,
    LATITUDE_RANGE,
    LONGITUDE_RANGE,
    MAX_CHARS,
    NO_COORDINATES,
    NO_LATITUDE,
    NO_LONGITUDE,
    NOT_A_NUMBER,
    ONLY_THINKING,
    TOO_LONG,
    Answer,
    format_answer,
    in_form,
    parse_answer,
    prompt_text,
    read_answer,
)
from geospot.earth.place import Place

# --- what is written ----------------------------------------------------------------------------------------------


def test_target_text():
    place = Place(37.7749, -122.4194, city="San Francisco", region="California", country="United States")
    assert format_answer(place) == ("City: San Francisco\nCountry: United States\nLatitude: 37.77\nLongitude: -122.42")
    assert format_answer(place, decimals=4, region=True) == (
        "City: San Francisco\nRegion: California\nCountry: United States\nLatitude: 37.7749\nLongitude: -122.4194"
    )


def test_unknown_labels_have_no_line():
    assert format_answer(Place(1, 2)) == "Latitude: 1.00\nLongitude: 2.00"
    assert format_answer(Place(1, 2, city=" ", country="Unknown")) == "Latitude: 1.00\nLongitude: 2.00"
    assert format_answer(Place(-22.56, 17.08, country="NA")).startswith("Country: NA\n")


def test_a_label_stays_on_its_line():
    assert format_answer(Place(1, 2, city="New\nYork\u2028 City")).splitlines()[0] == "City: New York City"


@pytest.mark.parametrize(
    ("lat", "lon", "lines"),
    [
        (-0.001, -0.004, ["Latitude: 0.00", "Longitude: 0.00"]),
        (89.999, 179.994, ["Latitude: 90.00", "Longitude: 179.99"]),
        (-90.0, 179.996, ["Latitude: -90.00", "Longitude: -180.00"]),
        (0.0, 180.0, ["Latitude: 0.00", "Longitude: -180.00"]),
        (0.0, -180.0, ["Latitude: 0.00", "Longitude: -180.00"]),
    ],
)
def test_rounding_stays_in_range(lat, lon, lines):
    assert format_answer(Place(lat, lon)).splitlines() == lines


@pytest.mark.parametrize("decimals", [1, 5, -1, 2.0, "2", None])
def test_decimals_are_two_to_four(decimals):
    with pytest.raises(ValueError, match=f"2, 3 or 4, not {decimals!r}"):
        format_answer(Place(1, 2), decimals=decimals)


@pytest.mark.parametrize(
    ("lat", "lon", "message"),
    [
        (None, 2, "lat .* None"),
        (1, None, "lon .* None"),
        (math.nan, 2, "lat .* nan"),
        (90.01, 2, "lat .* 90.01"),
        (1, 181, "lon .* 181"),
        (1, -math.inf, "lon .* -inf"),
    ],
)
def test_coordinates_must_be_there(lat, lon, message):
    with pytest.raises(ValueError, match=message):
        format_answer(Place(lat, lon))


@pytest.mark.parametrize("region", [False, True])
def test_prompt_asks_for_the_lines_that_are_written(region):
    written = format_answer(Place(1, 2, city="a", region="b", country="c"), region=region)
    keys = [line.split(":")[0] for line in written.splitlines()]
    assert [line.split(":")[0] for line in prompt_text(region).splitlines()[1:]] == keys
    assert keys == [name for name in FIELDS if region or name != "Region"]


@pytest.mark.parametrize("region", [False, True])
def test_the_prompt_repeated_is_no_answer(region):
    assert parse_answer(prompt_text(region)) == Answer(None, None, error=NO_COORDINATES)


# --- coordinates --------------------------------------------------------------------------------------------------

PARIS = (48 + 51 / 60 + 24 / 3600, 2 + 21 / 60 + 3 / 3600)

COORDINATES = {
    "Latitude: 48.9\nLongitude: 2.3": (48.9, 2.3),
    "Latitude: 0\nLongitude: 0": (0.0, 0.0),
    "Latitude: .5\nLongitude: -.5": (0.5, -0.5),
    "Latitude: 48.\nLongitude: 2.": (48.0, 2.0),
    "Latitude: 4.89e1\nLongitude: +2.3": (48.9, 2.3),
    # hemispheres
    "Latitude: 48.9 N\nLongitude: 122.4 W": (48.9, -122.4),
    "Latitude: N 48.9\nLongitude: W122.4": (48.9, -122.4),
    "Latitude: 48.9° S\nLongitude: 2.3°E": (-48.9, 2.3),
    "Latitude: 33.9° South\nLongitude: 70.6 degrees west": (-33.9, -70.6),
    "Latitude: 33.9 (S)\nLongitude: 151.2 (E)": (-33.9, 151.2),
    "Latitude (S): 33.9\nLongitude (W): 70.6": (-33.9, -70.6),
    "Latitude (°N): -33.9\nLongitude (°E): 70.6": (-33.9, 70.6),
    "Latitude: -33.9 S\nLongitude: -70.6 W": (-33.9, -70.6),  # says the same thing twice
    # degrees, minutes, seconds
    "Latitude: 48°51'24\"N\nLongitude: 2°21'03\"E": PARIS,
    "Latitude: 48° 51′ 24″ N\nLongitude: 2° 21′ 3″ E": PARIS,
    "Latitude: 48d51m24s\nLongitude: 2d21m3sE": PARIS,
    "Latitude: 48 deg 51 min 24 sec\nLongitude: 2 degrees 21 minutes 3 seconds West": (PARIS[0], -PARIS[1]),
    "Latitude: 48º51’24”\nLongitude: -2º21’3”": (PARIS[0], -PARIS[1]),
    "Latitude: 48°51.4'N\nLongitude: 2° 21.05' E": PARIS,
    "48°51'24''S 2°21'3''W": (-PARIS[0], -PARIS[1]),
    # other scripts and conventions
    "Latitude: 48,8566\nLongitude: 2,3522": (48.8566, 2.3522),
    "Latitude: −33.9\nLongitude: –70.6": (-33.9, -70.6),
    "Latitude: —33.9\nLongitude: ＋７０．６": (-33.9, 70.6),
    "Ｌａｔｉｔｕｄｅ：４８．９\nＬｏｎｇｉｔｕｄｅ：−２．３": (48.9, -2.3),
    "Latitude:\u00a048.9\u202f°\u00a0N\nLongitude:\u00a02.3\u202f°\u00a0E": (48.9, 2.3),
    r"Latitude: $48.9^\circ$ N, Longitude: $2.3^{\circ}$ E": (48.9, 2.3),
    # longitudes are wrapped into [-180, 180)
    "Latitude: 1\nLongitude: 190": (1.0, -170.0),
    "Latitude: 1\nLongitude: 180": (1.0, -180.0),
    "Latitude: 1\nLongitude: -181": (1.0, 179.0),
    "Latitude: 1\nLongitude: 360": (1.0, 0.0),
    # keys
    "lat=48.9, lon=2.3": (48.9, 2.3),
    "Lat. 48.9, Lon. 2.3": (48.9, 2.3),
    "LAT: 48.9; LNG: 2.3": (48.9, 2.3),
    "lat=48.9,long=2.3": (48.9, 2.3),
    "lat=48,lon=2": (48.0, 2.0),
    "pred_lat=48.9 pred_lon=2.3": (48.9, 2.3),
    "Latitude      :      48.9\nLongitude     :      2.3": (48.9, 2.3),
    "Latitude - 48.9\nLongitude – 2.3": (48.9, 2.3),
    "The latitude is about 48.9 and the longitude is roughly -2.3.": (48.9, -2.3),
    "Latitude: ~48.9 (approx.)\nLongitude: approximately 2.3": (48.9, 2.3),
    # pairs
    "Coordinates: 48.85, 2.35": (48.85, 2.35),
    "Coordinates: 48.85,2.35": (48.85, 2.35),
    "Coordinates: 48, 2": (48.0, 2.0),
    "Coordinates: 48,85, 2,35": (48.85, 2.35),
    "Coordinates: 48,85; 2,35": (48.85, 2.35),
    "Coordinates: 48.85 2.35": (48.85, 2.35),
    "**Coordinates:** (-33.9, 151.2)": (-33.9, 151.2),
    "GPS Coordinates: [48.85, 2.35]": (48.85, 2.35),
    "Lat/Lon: (48.85, 2.35)": (48.85, 2.35),
    "Latitude, Longitude: 48.85, 2.35": (48.85, 2.35),
    "Lon/Lat: (2.35, 48.85)": (48.85, 2.35),
    "Coordinates: 2.35 E, 48.85 N": (48.85, 2.35),
    "Location: Paris, France (48.85, 2.35)": (48.85, 2.35),
    "The coordinates are approximately 48.85, 2.35.": (48.85, 2.35),
    "Final answer: 48.85, 2.35": (48.85, 2.35),
    "48.8566° N, 2.3522° E": (48.8566, 2.3522),
    "It is at 48.8566N 2.3522W, I think": (48.8566, -2.3522),
    "N 48.9, E 2.3": (48.9, 2.3),
    "48° N and 2° W": (48.0, -2.0),
    "48.85, 2.35": (48.85, 2.35),
    r"\boxed{48.85, -2.35}": (48.85, -2.35),
}


@pytest.mark.parametrize(("text", "expected"), COORDINATES.items())
def test_coordinates(text, expected):
    answer = parse_answer(text)
    assert answer.ok, answer
    assert (answer.lat, answer.lon) == pytest.approx(expected, abs=1e-9)


FAILURES = {
    "": EMPTY,
    " \n\t": EMPTY,
    "x" * (MAX_CHARS + 1): TOO_LONG,
    "<think>Latitude: 1\nLongitude: 2</think>": ONLY_THINKING,
    "<think>Latitude: 1\nLongitude: 2": ONLY_THINKING,
    "Paris, I would say.": NO_COORDINATES,
    "I saw 2 cars and 3 trees": NO_COORDINATES,
    "Between 1.5, 2.5 and 3.5 metres high": NO_COORDINATES,
    "I took Route 5 N to Exit 10 E": NO_COORDINATES,
    "It took 5.5 s, then 3.2 s": NO_COORDINATES,
    "It's a long 5 km; flat: 3, platitude: 4": NO_COORDINATES,
    "2024, 12": NO_COORDINATES,
    "Latitude: 48.9": NO_LONGITUDE,
    "Longitude: 48.9": NO_LATITUDE,
    "Latitude: unknown\nLongitude: unknown": NOT_A_NUMBER,
    "Latitude: nan\nLongitude: 2": NOT_A_NUMBER,
    "Latitude: 1\nLongitude: -inf": NOT_A_NUMBER,
    "Latitude: 1e999\nLongitude: 2": NOT_A_NUMBER,
    '{"lat": NaN, "lon": Infinity}': NOT_A_NUMBER,
    "Latitude: 1.2.3\nLongitude: 2": NOT_A_NUMBER,
    "Latitude: 12abc\nLongitude: 2": NOT_A_NUMBER,
    "Latitude: 48-49\nLongitude: 2": NOT_A_NUMBER,  # a range
    "Latitude: 48 to 49\nLongitude: 2": NOT_A_NUMBER,
    "Latitude: 48 51 24\nLongitude: 2": NOT_A_NUMBER,  # minutes need their sign
    "Latitude: 48°61'\nLongitude: 2": NOT_A_NUMBER,
    "Latitude: 48.5°30'\nLongitude: 2": NOT_A_NUMBER,
    "Coordinates: 48,85,2,35": NOT_A_NUMBER,  # which comma is which?
    "Latitude: 90.01\nLongitude: 2": LATITUDE_RANGE,
    "Coordinates: 122.4, 37.8": LATITUDE_RANGE,
    "Coordinates: 48° 51' 24\" N": NO_COORDINATES,  # half a pair
    "Coordinates: 48.9\n2 cars": NO_COORDINATES,
    "Latitude: " + "9" * 5000 + "\nLongitude: 2": NOT_A_NUMBER,
    "Latitude: 1\nLongitude: 360.5": LONGITUDE_RANGE,
    "Latitude: -33.9 N\nLongitude: 2": CONTRADICTION,
    "Latitude: +33.9 S\nLongitude: 2": CONTRADICTION,
    "Latitude: 33.9 E\nLongitude: 2": CONTRADICTION,
    "Latitude: 33.9\nLongitude: 2 N": CONTRADICTION,
}


@pytest.mark.parametrize(("text", "reason"), FAILURES.items(), ids=lambda value: repr(value)[:40])
def test_reason_of_failure(text, reason):
    assert parse_answer(text) == Answer(None, None, error=reason)


def test_labels_and_coordinates_stand_on_their_own():
    labels_only = parse_answer("City: Paris\nCountry: France\nLatitude: 95\nLongitude: 2")
    assert labels_only == Answer(None, None, city="Paris", country="France", error=LATITUDE_RANGE)
    assert parse_answer("Latitude: 1\nLongitude: 2") == Answer(1.0, 2.0)


# --- shapes of a whole answer -------------------------------------------------------------------------------------

QUEBEC = Answer(46.81, -71.21, city="Québec", region="Quebec", country="Canada")

SHAPES = {
    "lines": "City: Québec\nRegion: Quebec\nCountry: Canada\nLatitude: 46.81\nLongitude: -71.21",
    "crlf": "City: Québec\r\nRegion: Quebec\r\nCountry: Canada\r\nLatitude: 46.81\r\nLongitude: -71.21<|im_end|>",
    "one line": "City: Québec, Region: Quebec, Country: Canada, Latitude: 46.81, Longitude: -71.21",
    "lower case": "city = Québec; state = Quebec; country = Canada; lat = 46.81; lon = -71.21",
    "bold": "**City:** Québec  \n**Region**: *Quebec*\n__Country:__ Canada 🇨🇦\n**Latitude: 46.81**\n"
    "**Longitude:** `-71.21`",
    "bullets": "- City: Québec\n* Region: Quebec\n• **Country:** Canada.\n- Latitude: 46.81\n- Longitude: -71.21",
    "numbered": "1. City: Québec\n2. Province: Quebec\n3. Country: Canada\n4. Latitude: 46.81\n5. Longitude: -71.21",
    "headings": "### City\nQuébec\n\n### Region\nQuebec\n\n### Country\nCanada\n\n"
    "### Latitude\n46.81\n### Longitude\n-71.21",
    "paragraphs": "City: Québec\n\nRegion: Quebec\n\nCountry: Canada\n\nLatitude: 46.81\n\nLongitude: -71.21",
    "fence": "Here it is:\n```\nCity: Québec\nRegion: Quebec\nCountry: Canada\nCoordinates: 46.81, -71.21\n```\nDone.",
    "column table": "| Field | Value |\n|---|---|\n| City | Québec |\n| Region | Quebec |\n| Country | Canada |\n"
    "| Latitude | 46.81 |\n| **Longitude** | -71.21 |",
    "row table": "| City | State/Province | Country | Latitude | Longitude |\n|:--|:--|---|--:|--:|\n"
    "| Québec | Quebec | Canada | 46.81 | -71.21 |",
    "row table, W": "| # | City | Region | Country | Lat | Lon (W) |\n|-|-|-|-|-|-|\n"
    "| 1 | Québec | Quebec | Canada | 46.81 | 71.21 |",
    "json": '{"city": "Québec", "region": "Quebec", "country": "Canada", "lat": 46.81, "lng": -71.21}',
    "json, strings": '{"latitude":"46.81","longitude":"71.21 W",'
    '"city":"Qu\\u00e9bec","state":"Quebec","country":"Canada"}',
    "json, nested": '```json\n{\n  "city": "Québec",\n  "location": {"lat": 46.81,\n    "long": -71.21},\n'
    '  "admin1": "Quebec",\n  "country": "Canada"\n}\n```',
    "json, array": '{"coordinates": [\n  46.81,\n  -71.21\n], '
    '"city": "Québec", "region": "Quebec", "country": "Canada"}',
    "json, cut off": '{"city": "Québec", "region": "Quebec", "country": "Canada", "lat": 46.81, "lon": -71.21, "wh',
    "python dict": "{'city': 'Québec', 'region': 'Quebec', 'country': 'Canada', 'lat': 46.81, 'lon': -71.21}",
    "tags": "<answer>City: <b>Québec</b><br>Region: Quebec<br/>Country: Canada<br>"
    "Latitude: 46.81<br>Longitude: -71.21</answer>",
    "escaped": "City: Québec\\nRegion: Quebec\\nCountry: Canada\\nLatitude: 46.81\\nLongitude: -71.21",
    "coordinates first": "Lat: 46.81, Lon: -71.21\nCity: Québec\nRegion: Quebec\nCountry: Canada",
    "labels behind a pause": "**46.81° N, 71.21° W**\n\nCity: Québec\nRegion: Quebec\nCountry: Canada",
    "pair behind": "City: Québec\nRegion: Quebec\nCountry: Canada\nSo I say: 46.81° N, 71.21° W.",
    "after thinking": "<think>\nCity: Lyon\nLatitude: 1\nLongitude: 2\n</think>\n\nCity: Québec\nRegion: Quebec\n"
    "Country: Canada\nLatitude: 46.81\nLongitude: -71.21",
}


@pytest.mark.parametrize("text", SHAPES.values(), ids=SHAPES.keys())
def test_shape(text):
    assert parse_answer(text) == QUEBEC


LABELS = {
    "City: Washington, D.C.\nCountry: Korea, South": ("Washington, D.C.", None, "Korea, South"),
    "City: Washington, D.C., Country: US": ("Washington, D.C.", None, "US"),
    "City: 's-Hertogenbosch\nCountry: 'Netherlands'": ("'s-Hertogenbosch", None, "Netherlands"),
    "City: Halle (Saale).\nCountry: “Germany”;": ("Halle (Saale)", None, "Germany"),
    "City: Kansas City\nRegion: Missouri": ("Kansas City", "Missouri", None),
    "Country: Côte d'Ivoire": (None, None, "Côte d'Ivoire"),
    "Country: NA\nRegion: NA\nCity: na": (None, None, "NA"),
    "City: Unknown\nRegion: n/a\nCountry: None": (None, None, None),
    '{"city": null, "region": "", "country": "NA"}': (None, None, "NA"),
    "City:\nRegion:\nCountry: France": (None, None, "France"),
    "City: Paris (Country: France": ("Paris", None, "France"),
    '{"city": "a\\ud800b\\u0000c"}': ("a b c", None, None),
    "City: 東京\nCountry: 日本": ("東京", None, "日本"),
    "City: " + "x" * 300: ("x" * 200, None, None),
    "City: Paris\nCity: Lyon": ("Lyon", None, None),  # a hedge: the last one counts
}


@pytest.mark.parametrize(("text", "labels"), LABELS.items(), ids=lambda value: repr(value)[:40])
def test_labels(text, labels):
    answer = parse_answer(text)
    assert (answer.city, answer.region, answer.country) == labels
    assert answer.error == NO_COORDINATES


# --- which answer counts ------------------------------------------------------------------------------------------

A = "City: Aa\nCountry: Aland\nLatitude: 1\nLongitude: 2"
B = "City: Bb\nLatitude: 3\nLongitude: 4"
ANSWER_A, ANSWER_B = Answer(1.0, 2.0, city="Aa", country="Aland"), Answer(3.0, 4.0, city="Bb")

SEVERAL = {
    "the last": (f"{A}\n\nNo, rather:\n\n{B}", ANSWER_B),
    "the last, no pause": (f"{A}\n{B}", ANSWER_B),
    "text behind": (f"{A}\n\nThat is 3 km from the coast.", ANSWER_A),
    "an incomplete one behind": (f"{A}\n\nCity: Bb\nLatitude: 3", ANSWER_A),
    "a refused one behind": (f"{A}\n\nCity: Bb\nLatitude: 300\nLongitude: 4", ANSWER_A),
    "no labels of another answer": (f"{A}\nLatitude: 3\nLongitude: 4", Answer(3.0, 4.0)),
    "no half of another answer": (f"{A}\nLongitude: 9\nLongitude: 4", Answer(1.0, 4.0, city="Aa", country="Aland")),
    "coordinates first": (f"Lat: 8, Lon: 9\n\n{B}", ANSWER_B),
    "objects": ('[{"city":"Aa","lat":1,"lon":2},{"lat":3,"lon":4,"city":"Bb"}]', ANSWER_B),
    "an incomplete object before": ('{"city":"Aa","lat":1}\n{"lat":3,"lon":4}', Answer(3.0, 4.0)),
    "a final answer": ("City: Aa, hm.\nFinal answer:\nLatitude: 3\nLongitude: 4", Answer(3.0, 4.0)),
    "a hedge": ("City: Aa\nCity: Bb\nLatitude: 1\nLatitude: 3\nLongitude: 2\nLongitude: 4", ANSWER_B),
    "a pair restated": (f"{A}\n\nThat is 1.001° N, 2.001° E.", Answer(1.001, 2.001, city="Aa", country="Aland")),
    "another pair": (f"{A}\n\nOr 3.0° N, 4.0° E.", Answer(3.0, 4.0)),
    "two rows": ("| City | Lat | Lon |\n|-|-|-|\n| Aa | 1 | 2 |\n| Bb | 3 | 4 |", ANSWER_B),
    "an unclosed thinking behind": (f"{A}<think>{B}", ANSWER_A),
    "a thinking begun in the prompt": (f"{A}\n</think>\n{B}", ANSWER_B),
    "several thinkings": (f"<think>x</think>{A}<THINK>{B}</THINK><think>{B}", ANSWER_A),
}


@pytest.mark.parametrize(("text", "expected"), SEVERAL.values(), ids=SEVERAL.keys())
def test_which_answer_counts(text, expected):
    assert parse_answer(text) == expected


# --- properties ---------------------------------------------------------------------------------------------------

latitudes = st.floats(-90, 90)
longitudes = st.floats(-180, 180)
letters = st.characters(categories=["Lu", "Ll", "Lt", "Lo"], exclude_characters="ªº")
inside = st.text(st.one_of(letters, st.sampled_from(" -'’,.()")), max_size=30).map(lambda text: " ".join(text.split()))
names = st.one_of(
    st.sampled_from(
        ["San Francisco", "Aix-en-Provence", "L'Aquila", "Washington, D.C.", "Şanlıurfa", "東京", "القاهرة"]
    ),
    st.builds(lambda first, middle, last: first + middle + last, letters, inside, letters),
).filter(lambda name: name.casefold() not in {"none", "null", "nil", "na", "unknown", "unsure"})
labels = st.one_of(st.none(), names)
places = st.builds(Place, latitudes, longitudes, city=labels, region=labels, country=labels)


FRAGMENTS = [
    *["Latitude", "lon", "Lat/Lon", "Coordinates", "City", "country", "Region", ":", "=", "|", "\n", "\n\n", " ", ","],
    *[
        "48.85",
        "-122,4",
        "1e999",
        "９",
        ".",
        "-",
        "−",
        "+",
        "°",
        "'",
        '"',
        "′",
        "″",
        "N",
        "W",
        "s",
        "d",
        "deg",
        "(",
        ")",
    ],
    *[
        "{",
        "}",
        "[",
        "]",
        "\\",
        "**",
        "`",
        "```",
        "---",
        "<think>",
        "</think>",
        "<answer>",
        "final answer",
        "Paris",
        "NA",
    ],
    *["nan", "and", "to", "é", "\ud800", "\u2028", "🇫🇷", "| lat | lon |\n|-|-|\n|", "180", "-180.00000000000001"],
]


def degrees_apart(lon1, lon2):
    return abs((lon1 - lon2 + 180) % 360 - 180)


@given(places, st.integers(2, 4), st.booleans())
@example(Place(-0.0, 180.0), 2, False)
def test_round_trip(place, decimals, region):
    text = format_answer(place, decimals=decimals, region=region)
    answer = parse_answer(text)
    assert answer.ok
    assert "-0.00\n" not in text + "\n"
    assert abs(answer.lat - place.lat) <= 0.5 * 10**-decimals + 1e-9
    assert degrees_apart(answer.lon, place.lon) <= 0.5 * 10**-decimals + 1e-9
    assert (answer.city, answer.country) == (place.city, place.country)
    assert answer.region == (place.region if region else None)


@given(places, st.text(max_size=30) | st.lists(st.sampled_from(FRAGMENTS), max_size=9).map("".join))
@example(Place(10.0, 20.0), "<think>")
@example(Place(10.0, 20.0), "Latitude: 1, Longitude: 2 {")
def test_no_label_hides_the_coordinates(place, label):
    assume(not re.search("lon|lng", label, re.IGNORECASE))  # unless the label itself says "lon: 1"
    place = Place(place.lat, place.lon, city=label, country=label)
    answer = parse_answer(format_answer(place))
    assert answer.ok
    assert abs(answer.lat - place.lat) <= 0.005 + 1e-9
    assert degrees_apart(answer.lon, place.lon) <= 0.005 + 1e-9


def check_sound(answer):
    assert isinstance(answer, Answer)
    assert answer.ok == (answer.error is None)
    if answer.ok:
        assert -90 <= answer.lat <= 90
        assert -180 <= answer.lon < 180
    else:
        assert answer.error in ERRORS
        assert answer.lat is answer.lon is None
    for label in (answer.city, answer.region, answer.country):
        assert label is None or (0 < len(label) <= 200 and label.splitlines() == [label])


@given(st.text(max_size=200))
def test_any_text_has_an_answer(text):
    check_sound(parse_answer(text))


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=40).map("".join))
def test_any_mix_of_fragments_has_an_answer(text):
    check_sound(parse_answer(text))


def as_dms(value, positive, negative):
    """Degrees as D°M'S.SSS"H, in thousandths of a second so that no part rounds up to 60."""
    thousandths = round(abs(value) * 3_600_000)
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60}°{minutes % 60:02d}'{rest / 1000:06.3f}\"{positive if value >= 0 else negative}"


WRITINGS = {
    "plain": lambda lat, lon: f"Latitude: {lat:.6f}\nLongitude: {lon:.6f}",
    "pair": lambda lat, lon: f"Coordinates: ({lat:.6f}, {lon:.6f})",
    "bare line": lambda lat, lon: f"{lat:.6f}, {lon:.6f}",
    "lon/lat": lambda lat, lon: f"lon, lat: {lon:.6f}, {lat:.6f}",
    "unicode minus": lambda lat, lon: f"Lat: {lat:.6f}\nLon: {lon:.6f}".replace("-", "−"),
    "hemispheres": lambda lat, lon: f"{abs(lat):.6f}° {'NS'[lat < 0]}, {abs(lon):.6f}° {'EW'[lon < 0]}",
    "hemispheres first": lambda lat, lon: f"{'NS'[lat < 0]} {abs(lat):.6f} {'EW'[lon < 0]} {abs(lon):.6f}",
    "degrees, minutes, seconds": lambda lat, lon: f"{as_dms(lat, 'N', 'S')}, {as_dms(lon, 'E', 'W')}",
    "decimal comma": lambda lat, lon: f"Latitude: {lat:.6f}\nLongitude: {lon:.6f}".replace(".", ","),
    "decimal comma pair": lambda lat, lon: f"Coordinates: {lat:.6f}; {lon:.6f}".replace(".", ","),
    "json": lambda lat, lon: f'```json\n{{"lat": {lat:.6f}, "lon": "{lon:.6f}"}}\n```',
    "markdown": lambda lat, lon: f"- **Latitude:** {lat:.6f}°\n- **Longitude:** *{lon:.6f}*",
    "table": lambda lat, lon: f"| Latitude | Longitude |\n|---|---|\n| {lat:.6f} | {lon:.6f} |",
}


@pytest.mark.parametrize("writing", WRITINGS.values(), ids=WRITINGS.keys())
@given(lat=latitudes, lon=longitudes)
def test_writings_of_the_same_place_parse_alike(writing, lat, lon):
    answer = parse_answer(writing(lat, lon))
    assert answer.ok, answer
    assert answer.lat == pytest.approx(lat, abs=1.1e-6)
    assert degrees_apart(answer.lon, lon) <= 1.1e-6


# --- cost and weight ----------------------------------------------------------------------------------------------

HOSTILE = [
    *["1", "1.", "1,", "1 ", "1°", "1°1'", "1°1'1\"", "1 N ", "N", "-", "1e", "９", " ", "\n", "\n ", "\t"],
    *[
        "<think>",
        "</think>",
        "<think></think>",
        "{",
        "}",
        "{}",
        '{"',
        "[",
        "(",
        "<",
        "<a",
        "<|",
        '"',
        '\\"',
        "'",
        "\\n",
    ],
    *["Latitude:", "Latitude ", "Latitude: 1 ", "lat", "lat/lon", "lat (", "Coordinates: (", "lat=1,lon=2;", "City: "],
    *[
        "City: a\n",
        'City: "',
        "city/",
        "|",
        "|a",
        "| lat | lon |\n",
        "*",
        "_",
        "`",
        "---\n",
        "final answer ",
        "1.1, 1.1\n",
    ],
]


@pytest.mark.parametrize("prefix", ["", 'Latitude: 1\nLongitude: 2\nCity: "'])
def test_hostile_texts_take_linear_time(prefix):
    for piece in HOSTILE:
        text = (prefix + piece * 8_000)[:8_000]
        start = time.process_time()
        check_sound(parse_answer(text))
        # Typically 0.01 to 0.1 s; anything quadratic takes over one. Of the processor: others do not count.
        assert time.process_time() - start < 1.0, repr(piece)


def test_an_answer_at_the_end_of_a_long_text():
    assert parse_answer("blah {1, 2} | " * 10_000 + "\n\n" + A) == ANSWER_A


def test_light_import():
    code = "import sys, geospot.answer.parse; print([m for m in ('torch', 'tinker', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


NAMES = st.text(st.sampled_from("ABcdéßñ日本ЖКäøŁ' -unkowaNA.,:°12()"), max_size=14)


@given(NAMES, NAMES, NAMES, st.integers(-9_200_000, 9_200_000), st.integers(-18_500_000, 18_500_000), st.integers(1, 5))
def test_the_short_cut_for_the_usual_form_reads_what_the_full_parser_reads(city, region, country, lat, lon, decimals):
    lines = [f"{key}: {name}" for key, name in (("City", city), ("Region", region), ("Country", country)) if name]
    lines += [f"Latitude: {lat / 1e5:.{decimals}f}", f"Longitude: {lon / 1e5:.{decimals}f}"]
    text = "\n".join(lines)
    assert parse_answer(text) == read_answer(text)


@pytest.mark.parametrize(
    "name", ["unknown", "NA", "None", "n/a", "Latitude", "final answer", "Ho Chi Minh City", "O'Fallon"]
)
def test_the_short_cut_knows_names_that_are_none(name):
    text = f"City: {name}\nRegion: {name}\nCountry: {name}\nLatitude: 1.50\nLongitude: -2.25"
    assert parse_answer(text) == read_answer(text)


WHOLE = "City: Paris\nCountry: France\nLatitude: 48.85\nLongitude: 2.35"


@pytest.mark.parametrize(
    ("text", "share"),
    [
        (WHOLE, 1.0),
        (WHOLE + "\n\n", 1.0),
        (WHOLE.replace("Paris", "Mexico City"), 1.0),
        (WHOLE.replace("City: Paris\n", ""), 3 / 4),  # one of four left out
        ("It is Paris.\n" + WHOLE, 4 / 5),  # one added
        (WHOLE.replace("City: Paris", "City: Paris\nCity: Paris"), 4 / 5),  # one repeated
        (WHOLE.replace("Paris", "City: City: City: Country: United States"), 3 / 5),
        (WHOLE.replace("48.85", "about 48.85"), 3 / 5),
        (WHOLE.replace("Country", "Region: Here\nCountry"), 4 / 5),  # not asked for
        ("48.85, 2.35", 0.0),
        ("", 0.0),
    ],
)
def test_form_is_the_share_of_lines_that_are_asked_for_and_there(text, share):
    assert in_form(text) == pytest.approx(share)


def test_a_region_is_in_form_where_it_is_asked_for():
    text = WHOLE.replace("Country", "Region: Here\nCountry")
    assert in_form(text, region=True) == 1.0
    assert in_form(WHOLE, region=True) == pytest.approx(4 / 5)


@given(st.text(max_size=400))
def test_form_is_a_share_of_any_text(text):
    assert 0 <= in_form(text) <= 1
