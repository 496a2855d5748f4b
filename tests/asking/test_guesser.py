"""Guesses: clusters on the sphere, radii that hold, photos without metadata, and formats that others can read."""

import csv
import io
import json
from dataclasses import replace
from functools import cache
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from geospot.answer import Answer
from geospot.asking.calibration import CalibratedOn, Calibration, calibrate
from geospot.asking.cluster import gather, read_draws
from geospot.asking.consensus import guesses_of_draws
from geospot.asking.download import PhotoError
from geospot.asking.guesser import make_guess
from geospot.asking.likeness import ALPHA, Likeness, picture_features
from geospot.asking.photos import clean, find_photos, read_photos
from geospot.earth.circle import circle_rings
from geospot.earth.distance import MAX_DISTANCE_KM, destination, haversine_km
from geospot.errors import RunError
from geospot.report.guess_files import FORMATS, KML, as_text

SUBJECT = CalibratedOn("m", None, None, 8, 1.0, False)


def answer(lat, lon, **labels) -> Answer:
    return Answer(lat, lon, **labels)


# --- candidates ---


def test_candidates_by_hand():
    paris = [answer(48.85, 2.35, city="Paris", country="France"), answer(48.86, 2.36, city="Paris", country="France")]
    rest = [answer(40.7, -74.0, country="United States"), Answer(None, None, error="empty")]
    draws = gather([rest[0], *paris, rest[1]])
    assert [c.mass for c in draws.candidates] == [0.5, 0.25]
    assert draws.candidates[0].city == "Paris"
    assert haversine_km(draws.candidates[0].lat, draws.candidates[0].lon, 48.855, 2.355) < 1
    assert (draws.candidates[1].lat, draws.candidates[1].lon) == (40.7, -74.0)
    assert draws.failures == ("empty",)
    assert gather([rest[1]]).candidates == ()


def test_clusters_do_not_mind_the_date_line_or_the_poles():
    (one,) = gather([answer(10, 179.9), answer(10, -179.9)]).candidates
    assert abs(one.lon) > 179.8
    (pole,) = gather([answer(89.9, 0), answer(89.9, 120), answer(89.9, -120)]).candidates
    assert pole.lat > 89.9


points = st.tuples(st.floats(-90, 90), st.floats(-180, 179.9))


@given(st.lists(points, min_size=1, max_size=12), st.integers(0, 3))
def test_masses_sum_to_the_answers_that_were_read(coordinates, failed):
    answers = [answer(*p) for p in coordinates] + [Answer(None, None, error="empty")] * failed
    draws = gather(answers)
    masses = [c.mass for c in draws.candidates]
    assert sum(masses) == pytest.approx(len(coordinates) / len(answers))
    assert masses == sorted(masses, reverse=True)
    assert draws.spread_km >= 1 - 1e-9
    assert all(abs(c.lat) <= 90 and abs(c.lon) <= 180 for c in draws.candidates)


def test_one_answer_is_the_guess_digit_for_digit():
    guesses, spread = guesses_of_draws("m", ["a"], [read_draws(["Latitude: 12.3456\nLongitude: -7.8901"])])
    assert (guesses.lat[0], guesses.lon[0], spread[0]) == (12.3456, -7.8901, pytest.approx(1.0))


# --- calibration ---


def simulated(rng, n: int):
    """Pictures of different difficulty; answers spread as they err, more or less; a few fail."""
    hard = rng.lognormal(5, 1.2, n)
    km, spread = hard * np.sqrt(np.abs(rng.standard_cauchy(n))), hard * rng.lognormal(0, 0.4, n)
    failed = rng.random(n) < 0.02
    return np.where(failed, np.nan, km), np.where(failed, np.nan, spread)


def test_radii_hold_the_truth_of_new_pictures_as_often_as_they_say_and_so_says_the_report():
    held, told, radii = {p: [] for p in (0.5, 0.8, 0.9, 0.95)}, {p: [] for p in (0.5, 0.8, 0.9, 0.95)}, []
    for run in range(20):
        rng = np.random.default_rng(run)
        found = calibrate(*simulated(rng, 400), np.arange(400), SUBJECT, "simulated")
        km, spread = simulated(rng, 1000)
        for p in held:
            radius = np.nan_to_num(found.radius_km(spread, p), nan=0)
            held[p].append(np.mean(np.nan_to_num(km, nan=np.inf) <= radius))
        for row in found.reliability:
            told[row.probability].append(row.coverage)
            assert row.low <= row.coverage <= row.high
        radii.append(np.corrcoef(np.log(radius[radius > 0]), np.log(spread[radius > 0]))[0, 1])
    for p in held:
        assert np.mean(held[p]) == pytest.approx(p, abs=0.02)
        assert np.mean(told[p]) == pytest.approx(p, abs=0.02)
    assert min(radii) > 0.9  # harder pictures get larger circles


def test_a_calibration_is_kept_whole_and_refuses_what_is_none(tmp_path):
    found = calibrate(*simulated(np.random.default_rng(0), 100), np.arange(100), SUBJECT, "simulated")
    found.save(tmp_path / "c.json")
    assert Calibration.load(tmp_path / "c.json") == found
    assert np.isnan(found.radius_km(np.nan, 0.9))
    assert found.radius_km(10.0, 0.999) == MAX_DISTANCE_KM  # 50 places cannot tell: the whole Earth
    (tmp_path / "d.json").write_text("{}")
    for bad in ("d.json", "nowhere.json"):
        with pytest.raises(RunError, match=bad):
            Calibration.load(tmp_path / bad)
    with pytest.raises(RunError, match="3 places are too few"):
        calibrate([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], np.arange(3), SUBJECT, "few")


# --- circles ---


@given(points, st.floats(1, 9000))
def test_a_circle_s_ring_is_on_the_map_closed_and_at_its_radius(centre, radius_km):
    lat, lon = centre
    rings = circle_rings(lat, lon, radius_km)
    assert rings
    for ring in rings:
        assert ring[0] == ring[-1]
        assert all(abs(x) <= 180 and abs(y) <= 90 for x, y in ring)
        x, y = np.array(ring[:-1]).T
        assert np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) > -1e-6  # counterclockwise
    rim = [(y, x) for ring in rings for x, y in ring if abs(x) < 179.99 and abs(y) < 89.99]
    away = haversine_km(lat, lon, *np.array(rim).T) if rim else np.array([radius_km])
    assert np.abs(away - radius_km).max() < max(0.02 * radius_km, 1)


def test_a_circle_over_the_date_line_is_two_pieces_and_over_a_pole_one_that_holds_it():
    assert len(circle_rings(10, 179.9, 100)) == 2
    (ring,) = circle_rings(89, 0, 500)
    assert (180.0, 90.0) in ring
    assert len(circle_rings(0, 0, MAX_DISTANCE_KM)) == 1


# --- outputs ---


def some_guesses():
    texts = ["City: Paris\nCountry: France\nLatitude: 48.85\nLongitude: 2.35"] * 3
    calibration = Calibration(SUBJECT, "d", 50, 0.5, (0.0, 0.9, 1.0), (1.0, 20.0, np.inf), sets=("eval",))
    return [
        make_guess("a & <b>.jpg", [*texts, "Latitude: 40.7\nLongitude: -74.0"], calibration=calibration),
        make_guess("b.jpg", ["no idea"]),
    ]


def test_every_format_can_be_read_back():
    guesses = some_guesses()
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](guesses))))
    assert [row["rank"] for row in rows] == ["1", "2", ""]
    assert (rows[0]["said_city"], rows[0]["mass"], rows[0]["probability"]) == ("Paris", "0.75", "0.9")
    assert rows[1]["at"] == "New York City, New York, United States"
    assert rows[1]["said_city"] == ""
    assert rows[2]["error"] == "no coordinates"
    photos = json.loads(FORMATS["json"](guesses))
    assert photos[0]["calibrated"]
    assert photos[0]["candidates"][1]["at"] == "New York City, New York, United States"
    features = json.loads(FORMATS["geojson"](guesses))["features"]
    assert features[0]["geometry"]["coordinates"] == [2.35, 48.85]  # longitude first
    assert [f["geometry"] and f["geometry"]["type"] for f in features] == ["Point", "MultiPolygon", "Point", None]
    kml = ElementTree.fromstring(FORMATS["kml"](guesses))
    marks = kml.findall(f".//{{{KML}}}Placemark")
    assert len(marks) == 4
    assert marks[0].find(f"{{{KML}}}name").text == "a & <b>.jpg: Paris, Île-de-France, France"
    assert marks[0].find(f"{{{KML}}}Point/{{{KML}}}coordinates").text == "2.35,48.85"
    text = as_text(guesses)
    assert "90 % probability, for pictures like those of d (eval)" in text
    assert "openstreetmap.org/?mlat=48.8500" in text
    assert "no place in this answer (no coordinates)" in text


def smooth(seed: int) -> bytes:
    """A small picture without an edge, brown or green."""
    rng = np.random.default_rng(seed)
    blotches = np.clip(rng.normal((90, 80, 60), 25, (4, 4, 3)), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(blotches).resize((112, 112), Image.Resampling.BICUBIC).save(out, "PNG")
    return out.getvalue()


def street(seed: int) -> bytes:
    """A picture with a sky, edges and noise, of another size."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (240, 320, 3), dtype=np.uint8) // 2
    pixels[:100] = (120, 170, 250)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@cache
def calibrated_on_smooth_pictures(n: int = 160) -> Calibration:
    rng = np.random.default_rng(0)
    features = np.array([picture_features([smooth(i)]) for i in range(n)])
    return calibrate(*simulated(rng, n), np.arange(n), SUBJECT, "satellites", ["eval"], features)


def test_a_radius_carries_its_set_and_a_picture_of_another_kind_gets_none_in_any_format(tmp_path):
    found = calibrated_on_smooth_pictures()
    found.save(tmp_path / "c.json")
    assert Calibration.load(tmp_path / "c.json") == found
    texts = ["Latitude: 48.85\nLongitude: 2.35", "Latitude: 48.86\nLongitude: 2.36"]
    like = make_guess("like.jpg", texts, calibration=found, picture=smooth(10_000))
    other = make_guess("other.jpg", texts, calibration=found, picture=street(0))
    assert like.radius_km is not None
    assert other.radius_km is None
    assert "does not look like them" in other.unlike
    for name, write in FORMATS.items():
        assert "pictures like those of satellites (eval)" in write([like]), name
        out = write([other])
        assert "calibrated on pictures of satellites (eval), and this one does not look like them" in out, name
        assert "Polygon" not in out
    assert "no radius: the radius is calibrated on pictures of satellites (eval)" in as_text([other])


def test_answers_farther_apart_than_any_of_the_calibration_get_no_radius():
    found = calibrated_on_smooth_pictures()
    texts = ["Latitude: 48.85\nLongitude: 2.35", "Latitude: -40\nLongitude: 170"] * 8
    guess = make_guess("a.jpg", texts, calibration=replace_widest(found, 50.0), picture=smooth(10_001))
    assert guess.radius_km is None
    assert "lie farther apart" in guess.unlike


def replace_widest(calibration: Calibration, km: float) -> Calibration:
    return replace(calibration, likeness=replace(calibration.likeness, spread_km=km))


def test_pictures_of_the_kind_are_refused_as_rarely_as_stated():
    features = np.random.default_rng(0).standard_t(3, (3000, 6))
    likeness = Likeness.of(features[:600], np.ones(600))
    refused = np.mean([bool(likeness.unlike(row, 1.0)) for row in features[600:]])
    assert refused <= 2.5 * ALPHA
    assert np.mean([bool(likeness.unlike(row + 30, 1.0)) for row in features[600:700]]) == 1


def test_a_name_elsewhere_is_quoted_and_said_to_disagree_in_every_format():
    guess = make_guess("a.jpg", ["City: Fort McMurray\nCountry: Canada\nLatitude: 60.78\nLongitude: -70.28"])
    assert (guess.city, guess.region, guess.country) == ("Fort McMurray", None, "Canada")
    assert str(guess.spot) == "Quebec, Canada, 316 km N of Kuujjuaq"
    for name, write in FORMATS.items():
        out = write([guess])
        assert "Fort McMurray, Quebec" not in out
        assert "Quebec, Canada, 316 km N of Kuujjuaq" in out, name
        assert "Fort McMurray is 2,372 km from these coordinates" in out, name
    text = as_text([guess])
    assert "1. Quebec, Canada, 316 km N of Kuujjuaq (60.7800, -70.2800)" in text
    assert "the model said Fort McMurray, Canada, which disagrees: Fort McMurray is 2,372 km from" in text
    mark = ElementTree.fromstring(FORMATS["kml"]([guess])).find(f".//{{{KML}}}Placemark/{{{KML}}}name")
    assert mark.text == "a.jpg: Quebec, Canada, 316 km N of Kuujjuaq"


def test_a_city_of_one_answer_is_not_put_into_the_region_of_another():
    texts = [
        "City: Paris\nRegion: \nCountry: France",
        "City: Paris\nCountry: France",
        "Region: Brittany\nCountry: France",
    ]
    texts = [f"{text}\nLatitude: 48.85\nLongitude: 2.35" for text in texts]
    (candidate,) = make_guess("a.jpg", texts).candidates
    assert (candidate.city, candidate.region) == ("Paris", None)


def test_a_radius_that_is_not_calibrated_is_said_to_be_none():
    assert "not calibrated for single answers" in as_text([make_guess("a", ["Latitude: 1.0\nLongitude: 2.0"])])


def test_a_coarse_guess_gives_no_coordinates_away_in_any_format():
    texts = ["City: Lyon\nCountry: France\nLatitude: 45.7642\nLongitude: 4.8357", "Latitude: 52.52\nLongitude: 13.405"]
    guess = make_guess("a.jpg", texts, coarse=True)
    assert [(c.country, c.mass) for c in guess.candidates] == [("France", 0.5), ("Germany", 0.5)]
    assert guess.lat is None
    assert guess.region == "Auvergne-Rhône-Alpes"
    for name, write in FORMATS.items():
        out = write([guess])
        assert "France" in out
        for secret in ("45.7", "4.83", "52.5", "Lyon", "openstreetmap"):
            assert secret not in out, (name, secret)


# --- photos ---


def photo(path, gps: bool = True, orientation: int = 1, size=(40, 20)):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "SECRET CAMERA"
    if gps:
        exif.get_ifd(0x8825).update({1: "S", 2: (33.0, 51.0, 24.0), 3: "E", 4: (151.0, 12.0, 36.0)})
    Image.new("RGB", size, (200, 30, 30)).save(path, exif=exif)
    return path


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_the_model_sees_pixels_and_no_metadata(tmp_path, ending):
    found = clean("p", photo(tmp_path / f"p.{ending}", orientation=6).read_bytes())
    assert found.gps == pytest.approx((-33.8567, 151.21), abs=1e-3)
    assert "(-33.85667, 151.21000)" in found.warning
    with Image.open(io.BytesIO(found.picture)) as image:
        assert image.size == (20, 40)  # upright
        assert not image.getexif()
        assert not {"exif", "xmp", "icc_profile", "comment"} & set(image.info)
    assert b"SECRET" not in found.picture
    assert b"Exif" not in found.picture


def test_a_photo_without_a_position_brings_no_warning_and_xmp_counts(tmp_path):
    assert clean("p", photo(tmp_path / "p.jpg", gps=False).read_bytes()).warning == ""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf exif:GPSLatitude="48,51.5N"/></x:xmpmeta>'
    Image.new("RGB", (9, 9)).save(tmp_path / "x.jpg", xmp=xmp)
    found = clean("x", (tmp_path / "x.jpg").read_bytes())
    assert "carries its position in its metadata" in found.warning
    assert b"GPSLatitude" not in found.picture


def test_large_photos_are_scaled_down_and_see_through_ones_lie_on_white(tmp_path):
    found = clean("p", photo(tmp_path / "p.jpg", size=(400, 300)).read_bytes(), max_pixels=1200)
    with Image.open(io.BytesIO(found.picture)) as image:
        assert image.size == (40, 30)
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "t.png")
    with Image.open(io.BytesIO(clean("t", (tmp_path / "t.png").read_bytes()).picture)) as image:
        assert image.getpixel((0, 0)) == (255, 255, 255)


def test_folders_and_files_are_found_and_unreadable_ones_named(tmp_path):
    photo(tmp_path / "b.JPG"), photo(tmp_path / "a.png"), (tmp_path / "c.txt").write_text("no")
    names = find_photos([str(tmp_path)])
    assert [name.rsplit("/", 1)[1] for name in names] == ["a.png", "b.JPG"]
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    (error,) = read_photos([str(tmp_path / "bad.jpg")], None)
    assert isinstance(error, PhotoError)
    assert "bad.jpg: unreadable image" in str(error)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_photos([str(tmp_path / "nowhere.jpg")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no picture in this folder"):
        find_photos([str(tmp_path / "empty")])


def test_the_ring_of_a_circle_starts_north():
    ((first, *_),) = circle_rings(10, 20, 111.195)
    assert first == pytest.approx(tuple(np.array(destination(10, 20, 0, 111.195))[::-1]), abs=1e-5)


def test_a_heic_of_a_phone_is_read():
    heif = pytest.importorskip("pillow_heif")
    out = io.BytesIO()
    heif.from_pillow(Image.new("RGB", (64, 48), (200, 30, 30))).save(out)
    photo = clean("IMG_1.HEIC", out.getvalue())
    picture = Image.open(io.BytesIO(photo.picture))
    assert picture.size == (64, 48)
    assert abs(picture.getpixel((30, 20))[0] - 200) < 12
