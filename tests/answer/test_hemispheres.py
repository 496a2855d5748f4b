"""The right half of the Earth or a refusal: letters, words and marks of many languages, and parts without marks."""

import pytest

from geospot.answer import parse_answer

LETTERS = {
    "Leveysaste: 60,17° P\nPituusaste: 24,94° I": (60.17, 24.94),
    "Leveysaste: 33,9° E\nPituusaste: 70,6° L": (-33.9, -70.6),
    "Leveysaste: 60,17° N\nPituusaste: 24,94° E": (60.17, 24.94),
    "Szélesség: 47,5° É\nHosszúság: 19,04° K": (47.5, 19.04),
    "Szélesség: 33,9° D\nHosszúság: 70,6° Ny": (-33.9, -70.6),
    "Enlem: 33,9° G\nBoylam: 70,6° B": (-33.9, -70.6),
    "Zeměpisná šířka: 50,08° S\nZeměpisná délka: 14,43° V": (50.08, 14.43),
    "Zeměpisná šířka: 33,9° J\nZeměpisná délka: 70,6° Z": (-33.9, -70.6),
    "Zeměpisná šířka: 33,9° S\nZeměpisná délka: 18,4° E": (-33.9, 18.4),
    "Zemepisná šírka: 48,15° s. š.\nZemepisná dĺžka: 17,11° v. d.": (48.15, 17.11),
    "Zemljepisna širina: 46,05° s. g. š.\nZemljepisna dolžina: 14,51° v. g. d.": (46.05, 14.51),
    "Geografska širina: 45,81° S\nGeografska dužina: 15,98° I": (45.81, 15.98),
    "Geografska širina: 45,81° N\nGeografska dužina: 15,98° E": (45.81, 15.98),
    "Breddegrad: 33,9° S\nLengdegrad: 70,6° V": (-33.9, -70.6),
    "Latitudine: 44,43° N\nLongitudine: 70,6° V": (44.43, -70.6),
    "Latitude: 38,72° N\nLongitude: 26,1° L\nPaís: Portugal": (38.72, 26.1),
    "Breedtegraad: 33,9° Z\nLengtegraad: 70,6° W": (-33.9, -70.6),
    "Vĩ độ: 10,8° B\nKinh độ: 106,7° Đ": (10.8, 106.7),
    "Vĩ độ: 33,9° N\nKinh độ: 70,6° T": (-33.9, -70.6),
    "Vĩ độ: 10.8° N\nKinh độ: 106.7° E": (10.8, 106.7),
    "Lintang: 6,2° U\nBujur: 70,8° B": (6.2, -70.8),
    "Platums: 33,9° D\nGarums: 70,6° R": (-33.9, -70.6),
    "Platuma: 54,69° Š\nIlguma: 25,28° R": (54.69, 25.28),
    "Gjerësia: 41,33° V\nGjatësia: 19,82° L": (41.33, 19.82),
    "Географска ширина: 44,8° С\nГеографска дужина: 20,46° И": (44.8, 20.46),
    "纬度：33.9（南）\n经度：70.6（西）": (-33.9, -70.6),
    "ละติจูด: 33.9 ใต้\nลองจิจูด: 70.6 ตะวันตก": (-33.9, -70.6),
    "Ширина: 42,7° север\nДължина: 23,32° изток": (42.7, 23.32),
    "Latitudinea: 44.43° N\nLongitudinea: 26.10° E": (44.43, 26.1),
    "Latitud sur: 33,45\nLongitud oeste: 70,66": (-33.45, -70.66),
    "Latitud (S): 33,45\nLongitud (O): 70,66": (-33.45, -70.66),
    "40.4168° de latitud norte y 3.7038° de longitud oeste": (40.4168, -3.7038),
    "40,4° di latitudine nord e 3,7° di longitudine ovest": (40.4, -3.7),
    "23,5° de latitude sul e 46,6° de longitude oeste": (-23.5, -46.6),
    "27.47°S lat., 153.02°E long.": (-27.47, 153.02),
    "Latitude: 33.9 [S]\nLongitude: 70.6 [W]": (-33.9, -70.6),
    "Latitude: 33.9, S\nLongitude: 70.6, W": (-33.9, -70.6),
    "Latitude: 33.9 deg. S\nLongitude: 70.6 deg. W": (-33.9, -70.6),
    "Latitude: minus 33.9\nLongitude: negative 70.6": (-33.9, -70.6),
    "Latitude: 50.08° A small town\nLongitude: 14.43°": (50.08, 14.43),
}
UNKNOWN_SIDES = [
    "50.08° N, 14.43° V",
    "50.08° N, 14.43° L",
    "50.08° N, 14.43° K",
    "33.9° J, 18.4° V",
    "Latitude: 50.08°\nLongitude: 14.43° Z",
    "Latitude: 33.9° J\nLongitude: 14.43°",
    "Latitude: 50.08° N\nLongitude: 14.43° (R)",
    "خط العرض: ٣٣٫٩-\nخط الطول: ٧٠٫٦-",
    "Latitude: 33.9-\nLongitude: 70.6-",
]
PARTS = [
    "N 51° 13.200 W 004° 24.000",
    "N51 13.200 W004 24.000",
    "51° 13.200 N, 4° 24.000 W",
    "51 13.2 N 4 24.0 W",
    "51 13 12 N, 4 24 0 W",
    "51-13-12N 004-24-00W",
    "51:13:12 N, 4:24:00 W",
    "Latitude: 51 13 12 N\nLongitude: 4 24 0 W",
    "Latitude: 51:13:12\nLongitude: -4:24:00",
    "Latitude: N 51° 13.200\nLongitude: W 004° 24.000",
    "Coordinates: 51 13 12 N, 4 24 0 W",
    "51°13'12 N, 4°24'00 W",
    '{"lat_deg": 51, "lat_min": 13.2, "lat_dir": "N", "lon_deg": 4, "lon_min": 24, "lon_dir": "W"}',
]
WRITINGS = [
    "Coordinates (lat 48.8584, lon 2.2945)",
    "Coordinates (latitude: 48.8584, longitude: 2.2945)",
    "Coordinates (~48.8584, ~2.2945)",
    "The coordinates, (48.8584, 2.2945), point to Paris.",
    "I'd estimate the coordinates to be (48.8584, 2.2945).",
    "(φ, λ) = (48.8584, 2.2945)",
    "<gml:pos>48.8584 2.2945</gml:pos>",
    "https://example.com/48.8584,2.2945",
    "Latitude -> 48.8584\nLongitude -> 2.2945",
    "Latitude in degrees: 48.8584\nLongitude in degrees: 2.2945",
]


@pytest.mark.parametrize(("text", "point"), LETTERS.items())
def test_hemispheres_of_other_languages(text, point):
    answer = parse_answer(text)
    assert (answer.lat, answer.lon) == pytest.approx(point), answer.error


@pytest.mark.parametrize("text", UNKNOWN_SIDES)
def test_a_letter_that_no_word_explains_is_refused(text):
    assert not parse_answer(text).ok


@pytest.mark.parametrize("text", PARTS)
def test_parts_without_marks(text):
    answer = parse_answer(text)
    assert (answer.lat, answer.lon) == pytest.approx((51.22, -4.4)), answer.error


def test_an_upper_case_e_is_no_and():
    answer = parse_answer("S 33° 54.000 E 018° 24.000")
    assert (answer.lat, answer.lon) == pytest.approx((-33.9, 18.4))


@pytest.mark.parametrize("text", WRITINGS)
def test_pairs_as_they_are_said(text):
    answer = parse_answer(text)
    assert (answer.lat, answer.lon) == (48.8584, 2.2945)


@pytest.mark.parametrize("tail", ["35, 40 minutes from the city", "3, 5 of 10", "12, 14 and 15 Main Street"])
def test_counts_are_no_pair(tail):
    answer = parse_answer(f"Latitude: 46.5\nLongitude: 8.1\nLocation: {tail}")
    assert (answer.lat, answer.lon) == (46.5, 8.1)


def test_names_in_objects():
    text = '{"country": {"name": "France", "code": "FR"}, "city": ["Paris"], "lat": 48.86, "lon": 2.35}'
    answer = parse_answer(text)
    assert (answer.city, answer.country, answer.lat) == ("Paris", "France", 48.86)
    assert parse_answer('{"country": ["France", "Spain"], "lat": 48.86, "lon": 2.35}').country is None
