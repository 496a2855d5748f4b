"""`geospot guess out=map.html`: the photo, its candidates and the calibrated circle on a map; and what is refused."""

import io
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from geospot.asking.calibration import CalibratedOn, Calibration
from geospot.asking.guesser import Guess, make_guess
from geospot.config import GuessConfig
from geospot.report.guess_page import write_guess_page

PARIS, NEW_YORK = "City: Paris\nCountry: France\nLatitude: 48.85\nLongitude: 2.35", "Latitude: 40.7\nLongitude: -74.0"
KNOWN = Calibration(CalibratedOn("m", None, None, 4, 1.0, False), "d", 50, 0.5, (0.0, 0.9, 1.0), (1.0, 20.0, 5000.0))
HOSTILE = "<script>alert(1)</script>\" ' & \x00 \ud800"


def jpeg() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (90, 60), (40, 120, 90)).save(out, "JPEG")
    return out.getvalue()


def some_guess(name: str = "a.jpg", **options: object) -> Guess:
    return make_guess(name, [PARIS, PARIS, PARIS, NEW_YORK], **options)


def test_the_page_has_the_photo_the_candidates_and_the_circle(tmp_path):
    path = write_guess_page(tmp_path / "map.html", [some_guess(calibration=KNOWN)], {"a.jpg": jpeg()})
    page = path.read_text(encoding="utf-8")
    assert "Where was a.jpg taken?" in page
    assert page.count('class="mark"') == 2
    assert page.count('class="circle"') == 1
    assert page.count("data:image/jpeg;base64,") == 1
    assert "90 % probability" in re.search(r'<p class="lead">(.*?)</p>', page)[1]
    assert "://" not in page  # nothing to fetch, nobody to tell


def test_without_a_calibration_there_is_no_circle(tmp_path):
    page = write_guess_page(tmp_path / "map.html", [some_guess()], {}).read_text(encoding="utf-8")
    assert 'class="circle"' not in page
    assert "not calibrated" in page


def test_a_coarse_guess_has_no_map_and_no_coordinates(tmp_path):
    page = write_guess_page(tmp_path / "map.html", [some_guess(coarse=True)], {}).read_text(encoding="utf-8")
    assert "France" in page
    for secret in ("48.8", "2.35", "40.7", 'class="frame"'):
        assert secret not in page


def test_photos_without_a_guess_are_there_and_counted(tmp_path):
    guesses = [some_guess(), make_guess("b.jpg", ["no idea"])]
    page = write_guess_page(tmp_path / "map.html", guesses, {"b.jpg": jpeg()}).read_text(encoding="utf-8")
    assert "for each of 2 photos. One has none." in page
    assert "No place in this answer (no coordinates)" in page


def test_what_a_model_or_a_file_name_says_stays_text(tmp_path):
    guess = make_guess(HOSTILE, [PARIS.replace("Paris", HOSTILE.split("\x00")[0])], warning=HOSTILE)
    page = write_guess_page(tmp_path / "map.html", [guess], {HOSTILE: jpeg()}, command=HOSTILE).read_text("utf-8")
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4


@given(st.floats(-90, 90), st.floats(-180, 180), st.floats(1, 20_000))
@example(lat=0.0, lon=37.0, radius_km=1.0)
def test_the_map_shows_the_guess_wherever_it_is(tmp_path_factory, lat, lon, radius_km):
    known = Calibration(KNOWN.subject, "d", 50, 0.5, (0.0, 0.9, 1.0), (radius_km, radius_km, radius_km))
    guess = make_guess("a", [f"Latitude: {lat:.4f}\nLongitude: {lon:.4f}"], calibration=known)
    path = write_guess_page(tmp_path_factory.getbasetemp() / "map.html", [guess], {})
    page = path.read_text(encoding="utf-8")
    left, top, width, height = map(float, re.search(r'viewBox="([^"]*)"', page)[1].split())
    x, y = map(int, re.search(r'class="candidate first"[^>]* d="M(-?\d+) (-?\d+)h0"', page).groups())
    assert left - 1 <= x <= left + width + 1
    assert top - 1 <= y <= top + height + 1
    # As a word: 0° N, 37° E is Nanyuki.
    assert not re.search(r"\bnan\b", page.split("</style>")[1].split("<script>")[0], re.IGNORECASE)


@pytest.mark.parametrize(
    ("out", "kind"), [("g.html", "html"), ("g.HTM", "html"), ("g.kml", "kml"), ("g.txt", "text"), ("g", "text")]
)
def test_the_suffix_says_the_format(out, kind):
    assert GuessConfig(photos=("a.jpg",), out=out).chosen_format() == kind


@pytest.mark.parametrize("out", ["g.pdf", "g.xlsx", "g.geojsn", "map.htmll"])
def test_an_unknown_suffix_is_refused_rather_than_filled_with_text(out):
    with pytest.raises(ValueError, match=rf"out={re.escape(out)}: must end in .*\.geojson.*or name the format"):
        GuessConfig(photos=("a.jpg",), out=out)
    assert GuessConfig(photos=("a.jpg",), out=out, format="csv").chosen_format() == "csv"


def test_a_page_cannot_be_printed_on_a_terminal():
    with pytest.raises(ValueError, match="format=html needs a file"):
        GuessConfig(photos=("a.jpg",), format="html")


def test_a_line_of_the_list_lights_its_dot(tmp_path, in_browser):
    path = write_guess_page(tmp_path / "map.html", [some_guess(calibration=KNOWN)], {"a.jpg": jpeg()})
    lit = in_browser(
        path, "document.querySelectorAll('.candidates li')[1].dispatchEvent(new PointerEvent('pointerenter'));"
        "return [...document.querySelectorAll('.lit')].map(e => e.dataset.tip)",
    )  # fmt: skip
    assert len(lit) == 1
    assert lit[0].startswith("2. 25 %")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_the_window(tmp_path, width, in_browser):
    name = "a-very-long-name-of-a-photo-" * 6 + ".jpg"
    guesses = [some_guess(name, calibration=KNOWN), some_guess("b.jpg")]
    path = write_guess_page(tmp_path / "map.html", guesses, {name: jpeg()}, command="geospot guess " + "x" * 300)
    assert in_browser(path, "return document.documentElement.scrollWidth", width=width) == width
