"""Ways to write a place that real models use: other languages and scripts, map links, standards, JSON beside prose."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geospot.answer import CONTRADICTION, NO_COORDINATES, Answer, languages, parse_answer, read_answer
from geospot.answer.coordinates import plain
from geospot.answer.languages import all_words, to_english
from geospot.answer.links import read_link

LANGUAGES = {
    # a hemisphere in words behind English keys
    "Latitude: 40.4° Norte\nLongitude: 3.7° Oeste": (40.4, -3.7),
    "Latitude: 48.39° Nord\nLongitude: 4.49° Ouest": (48.39, -4.49),
    "Latitude: 33.9 Süd\nLongitude: 70.6 West": (-33.9, -70.6),
    "Latitude: 8,05° Sul\nLongitude: 34,9° Oeste": (-8.05, -34.9),
    "Latitude: 33.4 Sur\nLongitude: 151.2 Este": (-33.4, 151.2),
    # Spanish, Italian, French, Portuguese, Romanian
    "Latitud: 40,4° Norte\nLongitud: 3,7° O": (40.4, -3.7),
    "Latitud y Longitud: 40.4, -3.7": (40.4, -3.7),
    "Latitud: 40 grados 24 minutos Norte\nLongitud: 3 grados 42 minutos Oeste": (40.4, -3.7),
    "Coordenadas: 8,05° S, 34,9° O": (-8.05, -34.9),
    "Latitudine: 45,4° Nord\nLongitudine: 9,1° Est": (45.4, 9.1),
    "Latitudine: 45,4° Nord\nLongitudine: 9,1° Ovest": (45.4, -9.1),
    "Coordonnées : 48,39° N, 4,49° O": (48.39, -4.49),
    "La latitude est 48.85 et la longitude est -2.35.": (48.85, -2.35),
    "Coordenadas: 48.85 e 2.35": (48.85, 2.35),
    # German, Dutch, Nordic: here O is east
    "Breitengrad: 48,1° N\nLängengrad: 11,5° O": (48.1, 11.5),
    "Breite: 48,1° nördlich\nLänge: 11,5° östlich": (48.1, 11.5),
    "48,1° nördlicher Breite, 11,5° östlicher Länge": (48.1, 11.5),
    "nördliche Breite: 48,1\nöstliche Länge: 11,5": (48.1, 11.5),
    "Koordinaten: 48,1° N, 11,5° O": (48.1, 11.5),
    "52,4° noorderbreedte, 4,9° oosterlengte": (52.4, 4.9),
    "Bredde: 55,7° N\nLængde: 12,6° Ø": (55.7, 12.6),
    # Turkish, Polish, Czech, Vietnamese, Indonesian
    "Enlem: 41.0° K\nBoylam: 28.9° D": (41.0, 28.9),
    "Enlem: 33,9 G\nBoylam: 70,6 B": (-33.9, -70.6),
    "Enlem: 41,0 Kuzey\nBoylam: 28,9 Doğu": (41.0, 28.9),
    "Szerokość geograficzna: 52,23° N\nDługość geograficzna: 21,01° E": (52.23, 21.01),
    "50,08° s. š., 14,42° v. d.": (50.08, 14.42),
    "Vĩ độ: 21,03° Bắc\nKinh độ: 105,85° Đông": (21.03, 105.85),
    "Lintang: 6,2° LS\nBujur: 106,8° BT": (-6.2, 106.8),
    # Cyrillic, Greek, Arabic, Indian, Chinese, Japanese, Korean
    "Широта: 55,75° с. ш.\nДолгота: 37,62° в. д.": (55.75, 37.62),
    "55,75° северной широты, 37,62° восточной долготы": (55.75, 37.62),
    "Координаты: 40,7° с. ш., 74,0° з. д.": (40.7, -74.0),
    "Широта: 33.9 ю.ш.\nДолгота: 70.6 з.д.": (-33.9, -70.6),
    "Широта: 48 градусов 51 минута Ю\nДолгота: 2°21' З": (-48.85, -2.35),
    "Γεωγραφικό πλάτος: 37,98° Β\nΓεωγραφικό μήκος: 23,73° Α": (37.98, 23.73),
    "خط العرض: ٣٠٫٠٤ شمالاً\nخط الطول: ٣١٫٢٤ شرقاً": (30.04, 31.24),
    "خط العرض: 33.9 جنوبا\nخط الطول: 70.6 غربا": (-33.9, -70.6),
    "अक्षांश: २८.६१\nदेशांतर: ७७.२१": (28.61, 77.21),
    "Latitude: ๑๓.๗๕\nLongitude: ๑๐๐.๕๐": (13.75, 100.5),
    "纬度：39.9\n经度：116.4": (39.9, 116.4),
    "北纬39.9度，东经116.4度": (39.9, 116.4),
    "位于南纬33.87°、西经70.6°": (-33.87, -70.6),
    "经纬度：116.4, 39.9": (39.9, 116.4),
    "经纬度：39.9, 116.4": (39.9, 116.4),
    "緯度：３５．６８\n経度：１３９．６９": (35.68, 139.69),
    "北緯35度30分、東経139度30分": (35.5, 139.5),
    "南緯33.87度 西経70.6度": (-33.87, -70.6),
    "위도: 37.57\n경도: 126.98": (37.57, 126.98),
    "남위 33.57도, 서경 70.98도": (-33.57, -70.98),
}
FORMS = {
    # what stands in brackets behind a key, and around it
    "Coordinates (48.8584, 2.2945)": (48.8584, 2.2945),
    "The coordinates (48.8584, 2.2945) point to Paris.": (48.8584, 2.2945),
    "Coordinates (approx. 48.8584, 2.2945): the tower": (48.8584, 2.2945),
    "Latitude (48.8584), Longitude (2.2945)": (48.8584, 2.2945),
    "Latitude (-90 to 90): 48.8584\nLongitude (-180 to 180): 2.2945": (48.8584, 2.2945),
    "Latitude (WGS84): 48.8584\nLongitude (WGS84): 2.2945": (48.8584, 2.2945),
    "Coordinates (lon, lat): 2.2945, 48.8584": (48.8584, 2.2945),
    "Coordinates (lat, lon): 48.8584, 2.2945": (48.8584, 2.2945),
    "(lat, lon) = (48.8584, 2.2945)": (48.8584, 2.2945),
    "(latitude, longitude): (48.8584, 2.2945)": (48.8584, 2.2945),
    "[lon, lat] = [2.2945, 48.8584]": (48.8584, 2.2945),
    "27.47° S latitude and 153.02° E longitude": (-27.47, 153.02),
    "27.47 degrees south latitude, 153.02 degrees east longitude": (-27.47, 153.02),
    "27.47° latitude, 153.02° longitude": (27.47, 153.02),
    "153.02° longitude, -27.47° latitude": (-27.47, 153.02),
    "Latitude Guess: 51.22\nLongitude Guess: 4.40": (51.22, 4.4),
    "Latitude estimate: 51.22\nLongitude estimate: 4.40": (51.22, 4.4),
    "Latitude of the photo: 51.22\nLongitude of the photo: 4.40": (51.22, 4.4),
    "Latitude South: 33.9\nLongitude East: 151.2": (-33.9, 151.2),
    "West longitude: 70.6\nSouth latitude: 33.4": (-33.4, -70.6),
    "The position is (48.8584, 2.2945).": (48.8584, 2.2945),
    "The location (48.8584, 2.2945) is in Paris.": (48.8584, 2.2945),
    "緯度：南緯33.87度\n経度：東経151.21度": (-33.87, 151.21),
    # markup
    "Latitude: $48.85^{\\circ} \\mathrm{~N}$\nLongitude: $2.35^{\\circ} \\mathrm{~W}$": (48.85, -2.35),
    "<lat>48.8584</lat><lon>2.2945</lon>": (48.8584, 2.2945),
    "<latitude>48.8584</latitude>\n<longitude>2.2945</longitude>": (48.8584, 2.2945),
    "<coordinates>48.8584, 2.2945</coordinates>": (48.8584, 2.2945),
    "<Point><coordinates>2.2945,48.8584,0</coordinates></Point>": (48.8584, 2.2945),
    '<wpt lat="48.8584" lon="2.2945">': (48.8584, 2.2945),
    r"$48.8584^\circ \mathrm{N}, 2.2945^\circ \mathrm{E}$": (48.8584, 2.2945),
    r"\(33.87^{\circ}\,\text{S}, 151.21^{\circ}\,\text{E}\)": (-33.87, 151.21),
    r"$48^\circ 51^\prime \mathrm{N}, 2^\circ 21^\prime \mathrm{W}$": (48.85, -2.35),
    r"$$\boxed{48.85^\circ \text{N}, 2.35^\circ \text{W}}$$": (48.85, -2.35),
    # JSON
    '{"type": "Point", "coordinates": [2.2945, 48.8584]}': (48.8584, 2.2945),
    "{'type': 'Point', 'coordinates': [2.2945, 48.8584]}": (48.8584, 2.2945),
    '{"coordinates": [2.2945, 48.8584, 35.0], "type": "Point"}': (48.8584, 2.2945),
    '{"coordinates": [48.8584, 2.2945]}': (48.8584, 2.2945),
    '{"coordinates":[40,116]}': (40.0, 116.0),
    '{"lat": 40.7, "lat_dir": "N", "lon": 74.0, "lon_dir": "W"}': (40.7, -74.0),
    '{"lat_ref": "South", "lat": 33.9, "lng_ref": "W", "lng": 70.6}': (-33.9, -70.6),
    '{"GPSLatitude": 33.9, "GPSLatitudeRef": "S", "GPSLongitude": 70.6, "GPSLongitudeRef": "W"}': (-33.9, -70.6),
    "{'lat': 40.7, 'lat_dir': 'N', 'lon': 74.0, 'lon_dir': 'W'}": (40.7, -74.0),
    '{"latitude": {"degrees": 33, "minutes": 30, "direction": "S"}, "longitude": {"value": 70.5}}': (-33.5, 70.5),
    '{"latitude": 0, "longitude": "0.0"}': (0.0, 0.0),
    '{"guesses": [{"lat": 1, "lon": 2}, {"lat": 3, "lon": 4}]}': (3.0, 4.0),
    '{"latitud": 40.4, "longitud": "3.7° Oeste", "país": "España"}': (40.4, -3.7),
    # standards and links
    "geo:48.8584,2.2945;u=35": (48.8584, 2.2945),
    "geo:0,0?q=48.8584,2.2945(Tower)": (48.8584, 2.2945),
    "POINT(2.2945 48.8584)": (48.8584, 2.2945),
    "SRID=4326;POINT (2.2945 48.8584)": (48.8584, 2.2945),
    "+48.8584+002.2945/": (48.8584, 2.2945),
    "-33.8700-070.6000+035.0CRSWGS_84/": (-33.87, -70.6),
    "I say 8FW4V75V+8Q.": (48.8583125, 2.2944375),
    "[the tower](https://www.google.com/maps?q=48.8584,2.2945).": (48.8584, 2.2945),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), {**LANGUAGES, **FORMS}.items())
def test_forms(text, expected):
    answer = parse_answer(text)
    assert answer.ok, answer
    assert (answer.lat, answer.lon) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "link",
    [
        "https://www.google.com/maps/@48.8584,2.2945,17z",
        "https://www.google.com/maps/place/Eiffel+Tower/@48.8,2.2,17z/data=!3m1!4b1!4m6!8m2!3d48.8584!4d2.2945",
        "https://www.google.com/maps/place/48.8584,+2.2945",
        "https://www.google.com/maps/search/?api=1&query=48.8584%2C2.2945",
        "https://www.google.com/maps/@?api=1&map_action=pano&viewpoint=48.8584,2.2945&heading=-45",
        "https://www.google.com/maps/dir/?api=1&destination=48.8584,2.2945",
        "https://maps.google.com/?q=loc:48.8584,2.2945",
        "https://maps.google.com/maps?ll=48.1,2.1&q=48.8584,2.2945",
        "maps.google.com/?q=48.8584,2.2945",
        "https://maps.apple.com/?ll=48.8584,2.2945&q=Eiffel",
        "https://maps.apple.com/place?coordinate=48.8584,2.2945",
        "https://www.openstreetmap.org/?mlat=48.8584&mlon=2.2945#map=17/48.8/2.2",
        "https://www.openstreetmap.org/#map=17/48.8584/2.2945",
        "https://www.bing.com/maps?cp=48.8584~2.2945&lvl=16",
        "https://www.bing.com/maps?sp=point.48.8584_2.2945_Tower",
        "https://yandex.com/maps/?ll=2.2945%2C48.8584&z=16",
        "https://yandex.ru/maps/?pt=2.2945,48.8584&z=16",
        "https://2gis.ru/geo/2.2945,48.8584",
        "https://uri.amap.com/marker?position=2.2945,48.8584",
        "https://mapy.cz/zakladni?x=2.2945&y=48.8584&z=17",
        "https://wego.here.com/?map=48.8584,2.2945,15,normal",
        "https://waze.com/ul?ll=48.8584,2.2945",
        "https://www.waze.com/live-map/directions?to=ll.48.8584%2C2.2945",
        "https://www.mapillary.com/app/?lat=48.8584&lng=2.2945&z=17",
        "https://map.kakao.com/link/map/tower,48.8584,2.2945",
        "https://geohack.toolforge.org/geohack.php?params=48.8584_N_2.2945_E",
    ],
)
def test_map_links(link):
    answer = parse_answer(f"City: Paris\nSee {link}\nCountry: France")
    assert (answer.lat, answer.lon) == (48.8584, 2.2945)
    assert answer.country == "France"


@pytest.mark.parametrize(
    "link", ["https://example.org/a?x=1", "https://goo.gl/maps/abc", "geo:95,2", "8FW4V75V", "V75V+8Q"]
)
def test_links_without_a_place(link):
    assert not parse_answer(f"See {link} for it").ok


def test_a_link_never_replaces_written_coordinates():
    """Codes and links that models make up are often of another place."""
    text = "Latitude: 1.5\nLongitude: 2.5\nPlus code: 8FW4V75V+8Q\nhttps://www.google.com/maps?q=48.8584,2.2945"
    assert (parse_answer(text).lat, parse_answer(text).lon) == (1.5, 2.5)


@pytest.mark.parametrize(
    ("code", "lat", "lon"),
    [  # from the specification's own test data
        ("7FG49Q00+", 20.375, 2.775),
        ("7FG49QCJ+2V", 20.3700625, 2.7821875),
        ("8FVC2222+22", 47.0000625, 8.0000625),
        ("4VCPPQGP+Q9", -41.2730625, 174.7859375),
        ("CFX30000+", 89.5, 1.5),
    ],
)
def test_plus_codes(code, lat, lon):
    assert read_link(code) == pytest.approx((lat, lon), abs=0.51 if code == "CFX30000+" else 1e-7)


NO_PAIRS = [
    "Location: Zermatt (1,608 m)",
    "Location: Paris (2,161,000 people)",
    "Location: Paris (2 161 000 inhabitants)",
    "Location: near the 1,035 m peak",
    "Location: a peak (2,345.6 m)",
    "Location: (2, 5 km away)",
    "Guess: 12,345",
    "These coordinates fit the altitude (about 1,035 m).",
    "The coordinates lie at a height of (1'035 m).",
    "Position: 3,000 ft",
]


@pytest.mark.parametrize("text", NO_PAIRS)
def test_thousands_and_lengths_are_no_pair(text):
    assert parse_answer(text) == Answer(None, None, error=NO_COORDINATES)
    assert parse_answer(f"Latitude: 46.5\nLongitude: 8.1\n{text}") == Answer(46.5, 8.1)
    assert parse_answer(f"{text}\nLatitude: 46.5\nLongitude: 8.1") == Answer(46.5, 8.1)


def test_an_o_that_no_key_explains_is_refused():
    """West in Spanish, east in German: neither is guessed."""
    assert parse_answer("Coordinates: 40.4° N, 3.7° O").error == CONTRADICTION


INDIA = {"city": "Palakkad", "country": "India"}
PALAKKAD = '{"lat": 10.45, "long": 76.22, "city": "Palakkad", "country": "India"}'
WHOLE = {
    'Country: looks French.\n{"lat":48.86,"long":2.35,"city":"Paris","country":"France"}': (
        Answer(48.86, 2.35, "Paris", None, "France")
    ),
    'Country:\n```json\n{"lat":48.86,"long":2.35,"country":"France"}\n```': Answer(48.86, 2.35, country="France"),
    '{"lat":48.86,"long":2.35,"why":"Country: Spain, Latitude: 3","country":"France"}': Answer(
        48.86, 2.35, country="France"
    ),
    '{"country":"France","notes":"{not} City: Rome","lat":48.86,"lon":2.35}\nCountry: perhaps Italy': Answer(
        48.86, 2.35, country="France"
    ),
    f"{PALAKKAD}\n\nThe latitude 10.45 and longitude 76.22 lie in Kerala.": Answer(10.45, 76.22, **INDIA),
    f"{PALAKKAD}\nThat is near 10.8° N, 76.7° E.": Answer(10.45, 76.22, **INDIA),  # prose does not replace an object
    f"{PALAKKAD}\n\nFinal answer: 10.8° N, 76.7° E": Answer(10.8, 76.7),
    f"{PALAKKAD}\n\nCity: Bb\nLatitude: 3\nLongitude: 4": Answer(3.0, 4.0, "Bb"),
    "City: Palakkad\nCountry: India\nLatitude: 10.45\nLongitude: 76.22\n\nThe latitude 10.45 and longitude 76.22 lie "
    "in Kerala.": Answer(10.45, 76.22, **INDIA),
    "City: Palakkad\nCountry: India\nLatitude: 10.45\nLongitude: 76.22\n\nThat is about 10.5° N, 76.2° E.": Answer(
        10.45, 76.22, **INDIA
    ),
    'City: Palakkad\nCountry: India\n{"lat": 10.45, "lon": 76.22}': Answer(10.45, 76.22, **INDIA),
    '{"lat": 9.06, "lon": 7.49, "country": Nigeria, "heading": 90}': Answer(9.06, 7.49, country="Nigeria"),
    '{"lat": 9.06, "lon": 7.49, "country": "Nigeria, "heading": 90}': Answer(9.06, 7.49, country="Nigeria"),
    "{lat: 9.06, lon: 7.49, country: Nigeria, heading: 90}": Answer(9.06, 7.49, country="Nigeria"),
    "{'lat': 9.06, 'lon': 7.49, 'country': 'Nigeria', 'heading': 90,}": Answer(9.06, 7.49, country="Nigeria"),
    '{"lat": 9.06, "lon": 7.49, "country": "Nigeria",}': Answer(9.06, 7.49, country="Nigeria"),
    '{"type":"Feature","geometry":{"type":"Point","coordinates":[76.22,10.45]},"properties":{"city":"Palakkad",'
    '"country":"India"}}': Answer(10.45, 76.22, **INDIA),
    "<city>Palakkad</city><country>India</country><lat>10.45</lat><lon>76.22</lon>": Answer(10.45, 76.22, **INDIA),
    "Ciudad: Palakkad\nPaís: India\nLatitud: 10.45\nLongitud: 76.22": Answer(10.45, 76.22, **INDIA),
    "Stadt: Palakkad\nLand: India\nBreite: 10,45\nLänge: 76,22": Answer(10.45, 76.22, **INDIA),
    "Ville : Palakkad\nPays : India\nLatitude : 10,45\nLongitude : 76,22": Answer(10.45, 76.22, **INDIA),
    "Город: Palakkad\nСтрана: India\nШирота: 10.45\nДолгота: 76.22": Answer(10.45, 76.22, **INDIA),
    "城市：Palakkad\n国家：India\n纬度：10.45\n经度：76.22": Answer(10.45, 76.22, **INDIA),
    "国: India\n市: Palakkad\n緯度: 10.45\n経度: 76.22": Answer(10.45, 76.22, **INDIA),
    "Country: India\nLand: arid\nCity: Palakkad\nLatitude: 10.45\nLongitude: 76.22": Answer(10.45, 76.22, **INDIA),
    "Country: 🇮🇳\nLatitude: 10.45\nLongitude: 76.22": Answer(10.45, 76.22, country="🇮🇳"),
    "Country: India 🇮🇳\nLatitude: 10.45\nLongitude: 76.22": Answer(10.45, 76.22, country="India"),
    "| Stadt | Land | Breite | Länge |\n|-|-|-|-|\n| Palakkad | India | 10,45 | 76,22 |": Answer(10.45, 76.22, **INDIA),
    '{"lat": 40.7, "lat_dir": "S", "lon": 74, "lon_dir": "N"}': Answer(None, None, error=CONTRADICTION),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), WHOLE.items())
def test_whole_answers(text, expected):
    assert parse_answer(text) == expected


def test_words_of_other_languages_keep_the_length():
    for word in all_words():
        text = plain(f"{word}: 40.4° Norte, 3.7 oeste")
        assert len(to_english(text)) == len(text)


CANDIDATES = {
    "a list": '[{"lat": 1, "lon": 2, "probability": 0.6}, {"lat": 3, "lon": 4, "probability": 0.4}]',
    "the other way round": '[{"lat": 3, "lon": 4, "probability": 0.4}, {"lat": 1, "lon": 2, "probability": 0.6}]',
    "in an object": '{"all": [{"lat": 1, "lon": 2, "confidence": "70%"}, {"lat": 3, "lon": 4, "confidence": "8%"}]}',
    "in a fence": 'Sure:\n```json\n[\n {"lat": 1, "lon": 2, "prob": 60},\n {"lat": 3, "lon": 4, "prob": 40}\n]\n```',
    "nested": '[{"rank": 1, "point": {"lat": 1, "lon": 2}}, {"rank": 2, "point": {"lat": 3, "lon": 4}}]',
    "equally likely": '[{"lat": 1, "lon": 2, "prob": 0.5}, {"lat": 3, "lon": 4, "prob": 0.5}]',
    "one with a sign": '[{"lat": 3, "lon": 4, "prob": 40}, {"lat": 1, "lon": 2, "prob": "60%"}]',
    "one percent": '[{"lat": 1, "lon": 2, "prob": 60}, {"lat": 3, "lon": 4, "prob": 1}]',
    "a table": "| Rank | Lat | Lon | Probability |\n|--|--|--|--|\n| 1 | 1 | 2 | 60% |\n| 2 | 3 | 4 | 30% |\n\nBye!",
}  # fmt: skip


@pytest.mark.parametrize("text", CANDIDATES.values(), ids=CANDIDATES)
def test_of_candidates_that_say_how_likely_they_are_the_most_likely_is_the_answer(text):
    answer = parse_answer(text)
    assert (answer.lat, answer.lon) == (1.0, 2.0)


def test_candidates_of_which_one_does_not_say_how_likely_it_is_keep_their_order():
    assert parse_answer('[{"lat": 1, "lon": 2, "prob": 0.6}, {"lat": 3, "lon": 4}]').lat == 3
    assert parse_answer('[{"lat": 1, "lon": 2, "prob": true}, {"lat": 3, "lon": 4, "prob": "low"}]').lat == 3
    final = '[{"lat": 1, "lon": 2, "prob": 0.6}, {"lat": 3, "lon": 4, "prob": 0.4}]\nFinal answer: 5.12, 6.34'
    assert (parse_answer(final).lat, parse_answer(final).lon) == (5.12, 6.34)


@given(st.text(max_size=100))
def test_any_text_keeps_its_length(text):
    assert len(to_english(plain(text))) == len(text)


# Words of other languages, and what may stand around them.
SPOKEN = st.sampled_from([
    *all_words(), "north", "Norte", "südlich", "ovest", "ost", "degrees", "grad", "minutes", "sekund", "noorderbreedte",
    "latitude", "longitud", "breite", "minus ", "negative ", "s. š.", "север", "City", "country",
])  # fmt: skip
AROUND = st.sampled_from(
    ["48.85", "2", "°", "' ", '"', ": ", " ", "\n", ", ", "(", ")", "_", "O", "V", "Ny", "é", "°N"]
)
SHOUTED = st.sampled_from([str.lower, str.upper, str.title])


@given(st.lists(st.one_of(st.builds(lambda word, cased: cased(word), SPOKEN, SHOUTED), AROUND), max_size=14))
def test_a_quick_look_in_small_letters_finds_what_the_long_one_does(pieces):
    text = plain("".join(pieces))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(languages, "_rewritten", lambda pattern, put, flat: pattern.sub(put, flat))
        slow = to_english(text)
    assert to_english(text) == slow


PIECES = [
    '{"a":', '{"lat":', '{"lat":1,"lon":2}', '{"a":"', '{"a":1,', "{'lat': 1, 'lon': 2}",
    '{"type":"Point","coordinates":[', '{"a":[', '[{"lat":1},', "https://", "https://a.b/@1.1,",
    "https://a.b/?q=1.1,2.2 ", "geo:1,2 ", "maps.", "8FW4V75V+8Q ", "POINT(1 2) ", "+48.8+002.2/", "Latitud ",
    "Latitud: 1 Norte ", "北纬1度", "北", "48° Norte ", "40,4° ", "O", "1 O ", "Land:", "широта ", "с. ш. ",
    "1,000,", "1 000 ", "Coordinates (", "Coordinates (1,", "lat (lon ", "(lat, lon) = ", "\\text{",
    "\\text{a}", "^\\circ", "<lat>", "</lat>", "<lat>1", "🇫🇷", "1° N latitude ", "Latitude Guess ", "é", "ö",
    "e ", "1 e ", "!3d1!4d2", "https://a.b/place/", "Country: a, b: ", 'Country: a, "b": ', "lat_dir: N ",
    "Final answer: 1,1 ",
]  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
def test_hostile_texts_take_linear_time(piece):
    text = (piece * 20_000)[:20_000]
    start = time.process_time()
    read_answer(text)
    assert time.process_time() - start < 2.0  # typically 0.01 to 0.2 s; anything quadratic takes ten
