"""The tab for photos of one's own: what it takes in, what it gives away, and the page itself in a browser."""

import base64
import http.client
import io
import json
import struct
import threading
import urllib.parse
import zlib
from collections.abc import Iterator
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_site import HOSTILE, LOOPBACK, get, post, serving
from made import jpeg, until
from starlette.exceptions import HTTPException

from geospot.asking.calibration import CalibratedOn, calibrate
from geospot.asking.guesser import Guess, make_guess
from geospot.asking.photos import Photo
from geospot.asking.prior import Prior
from geospot.report.live.opponent import Opponent
from geospot.report.live.site import make_site
from geospot.report.live.uploads import MOST_NAME, Photos, read_prior, shown_name

SAID = [f"City: Paris {HOSTILE}\nCountry: France\nLatitude: 48.85\nLongitude: 2.35"] * 3
SAID += ["Latitude: 52.52\nLongitude: 13.40", "no idea"]


def calibration():
    rng = np.random.default_rng(0)
    spread = rng.uniform(100, 900, 60)
    subject = CalibratedOn("tiny", None, None, 5, 1.0, False)
    return calibrate(spread * rng.uniform(0, 1, 60), spread, np.arange(60), subject, "made", ["eval"])


class Model:
    """Guesses what is in SAID, once it is let to."""

    def __init__(self) -> None:
        self.seen: list[Photo] = []
        self.go = threading.Event()
        self.go.set()

    def guess(self, photos: list[Photo], *, samples: int, prior: Prior | None, total: int) -> Iterator[Guess]:
        self.go.wait()
        self.seen += photos
        for photo in photos:
            yield make_guess(photo.name, SAID, calibration=calibration(), prior=prior, warning=photo.warning)

    def close(self) -> None:
        pass


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def site(model):
    opponent = Opponent(lambda: model, "a <b>model</b>", samples=5)
    with serving(make_site(Photos(opponent, 512 * 512).routes(), hosts=LOOPBACK)) as address:
        yield address
    model.go.set()
    opponent.close()


def photo(seed: int = 0, at: tuple[float, float] | None = None) -> bytes:
    """A JPEG, with a position in its EXIF where one is given."""
    from PIL import Image

    image, out = Image.open(io.BytesIO(jpeg(seed, 224, 168))), io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "a secret description"
    if at:
        lat, lon = at
        exif.get_ifd(0x8825).update({1: "N" if lat > 0 else "S", 2: (abs(lat), 0.0, 0.0),
                                     3: "E" if lon > 0 else "W", 4: (abs(lon), 0.0, 0.0)})  # fmt: skip
    image.save(out, "JPEG", exif=exif)
    return out.getvalue()


def sent(site: str, data: bytes, **query: str) -> tuple[int, dict]:
    return post(f"{site}/api/photo?{urllib.parse.urlencode(query)}", data)


def answered(site: str, token: str) -> dict:
    found: list[dict] = []

    def there() -> bool:
        found[:] = json.loads(get(f"{site}/api/photos?photo={token}")[1])
        return found[0]["state"] in ("done", "failed")

    until(there)
    return found[0]


def test_a_photo_is_guessed_with_both_circles_and_compared_with_its_own_position(site, model):
    status, one = sent(site, photo(at=(45.76, 4.84)), name="C:\\holiday\\a.jpg")
    assert status == 200, one
    done = answered(site, one["photo"])
    assert (done["name"], done["own"]["lat"], done["own"]["lon"]) == ("a.jpg", 45.76, 4.84)
    assert "Lyon" in done["own"]["place"]
    guess = done["guess"]
    assert guess["own_km"] == pytest.approx(391.5, abs=1)  # from Paris to Lyon
    assert [p for p, _ in guess["circles"]] == [0.5, 0.9]
    expected = [float(calibration().radius_km(model_spread(), p)) for p in (0.5, 0.9)]
    assert [km for _, km in guess["circles"]] == pytest.approx(expected)
    assert [round(c["share"], 1) for c in guess["candidates"]] == [0.6, 0.2]
    assert (guess["answers"], guess["unread"], guess["outside"]) == (5, 1, 0)


def model_spread() -> float:
    return make_guess("a", SAID).spread_km


def test_neither_the_model_nor_the_page_gets_what_the_file_says(site, model):
    _, one = sent(site, photo(at=(45.76, 4.84)), name="a.jpg")
    answered(site, one["photo"])
    shown = get(f"{site}/api/photo/picture/{one['photo']}")[1]
    for picture in (model.seen[0].picture.decode("latin-1"), shown):
        assert "Exif" not in picture
        assert "secret" not in picture


@pytest.mark.parametrize("at", [(0.0, 0.0), (95.0, 10.0)])
def test_a_position_that_is_none_is_no_place_to_compare_with(site, at):
    _, one = sent(site, photo(at=at), name="a.jpg")
    assert (one["tells"], one["own"]) == (True, None)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "it is empty"), (b"<svg onload=alert(1)>", "is an SVG drawing"), (b"%PDF-1.7", "is a PDF"),
     (b"\0" * 400, "zero bytes"), (photo()[:600], ""), (b"PK\3\4" + b"\0" * 40, "")],
)  # fmt: skip
def test_what_is_no_photo_is_refused_in_a_sentence(site, data, reason):
    status, one = sent(site, data, name="odd.jpg")
    assert (status, one["state"], one["photo"]) == (200, "failed", None)
    assert reason in one["reason"]
    assert len(one["reason"]) < 300


def test_a_bomb_of_pixels_is_refused_before_it_is_decoded(site):
    header = b"IHDR" + struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    status, one = sent(site, b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9_000_000) + b"IDAT" + bytes(99))
    assert (status, one["reason"].partition(":")[2].split(":")[0]) == (200, " picture too large")


def test_uploads_are_bounded_in_bytes_and_number(site, model, monkeypatch):
    from geospot.report.live import uploads

    server = http.client.HTTPConnection(urllib.parse.urlsplit(site).netloc, timeout=600)
    server.putrequest("POST", "/api/photo")
    server.putheader("Content-Length", str(1 << 40))
    server.endheaders()  # and not a byte more: what is declared is enough
    answer = server.getresponse()
    assert (answer.status, json.loads(answer.read())) == (413, {"detail": "too large: more than 64 MB"})
    server.close()
    monkeypatch.setattr(uploads, "MOST_PHOTOS", 2)
    model.go.clear()
    assert [sent(site, photo(i))[0] for i in range(3)] == [200, 200, 429]


def test_only_so_many_photos_are_kept_and_none_that_waits_is_dropped(site, model, monkeypatch):
    from geospot.report.live import uploads

    monkeypatch.setattr(uploads, "MOST_KEPT", 2)
    first = sent(site, photo())[1]["photo"]
    answered(site, first)
    model.go.clear()
    waiting = [sent(site, photo(i))[1]["photo"] for i in (1, 2, 3)]
    states = json.loads(get(f"{site}/api/photos?photo={first}&photo={'&photo='.join(waiting)}")[1])
    assert [one["photo"] for one in states] == waiting
    assert [one["before"] for one in states] == [0, 1, 2]
    assert get(f"{site}/api/photo/picture/{first}")[0] == 404


def test_other_pages_cannot_send_photos_and_a_key_is_asked_of_each_request(model):
    photos = Photos(Opponent(lambda: model, "m", samples=5), None)
    with serving(make_site(photos.routes(), key="sesame", hosts=None)) as address:
        for path in ("photo", "api/photos", "api/photo/picture/x", "api/photos/export?format=csv", "api/photo/known"):
            assert get(f"{address}/{path}")[0] == 401
        assert sent(address, photo())[0] == 401
        key = {"Cookie": "geospot-key=sesame"}
        assert post(f"{address}/api/photo", photo(), **key)[0] == 200
        assert post(f"{address}/api/photo", photo(), Origin="http://evil.example", **key)[0] == 403
    assert len(photos.shown) == 1
    photos.opponent.close()


def test_without_a_model_the_tab_says_so():
    with serving(make_site(Photos(None, None).routes(), hosts=LOOPBACK)) as address:
        assert sent(address, photo())[0] == 409
        assert '"model": null' in get(f"{address}/photo")[1]


def test_what_is_known_sets_answers_aside_and_can_be_changed(site):
    _, one = sent(site, photo(), name="a.jpg", country="Germany")
    done = answered(site, one["photo"])
    assert (done["known"], round(done["guess"]["lat"], 2), done["guess"]["outside"]) == ("in Germany", 52.52, 3)
    status, _ = post(f"{site}/api/photo/again", {"photo": one["photo"], "near": "48.85, 2.35", "within": "50"})
    assert status == 200
    done = answered(site, one["photo"])
    assert (round(done["guess"]["lat"], 2), done["guess"]["outside"]) == (48.85, 1)
    post(f"{site}/api/photo/again", {"photo": one["photo"], "country": "Peru"})
    guess = answered(site, one["photo"])["guess"]
    assert (guess["ok"], guess["outside"], guess["unread"]) == (False, 4, 1)


@pytest.mark.parametrize(
    ("query", "message"),
    [({"country": "Atlantis"}, "Country: Atlantis is none"), ({"near": "1, 2"}, "Near needs both"),
     ({"within": "3"}, "Near needs both"), ({"near": "Paris", "within": "3"}, "Near: Paris are no coordinates"),
     *(({"near": "1, 2", "within": km}, "Within:") for km in ("far", "-1", "0", "nan", "inf"))],
)  # fmt: skip
def test_what_is_not_understood_as_known_is_refused_in_words(query, message):
    with pytest.raises(HTTPException, match=message):
        read_prior(query)


@pytest.mark.parametrize("text", ["48.85, 2.35", "48.85 2.35", "48.85;2.35", "48°51'N 2°21'E", "48.85 N, 2.35 E"])
def test_coordinates_are_read_as_people_write_them(text):
    assert read_prior({"near": text, "within": "1,500"}) == Prior((), (48.85, 2.35), 1500.0)


@given(st.dictionaries(st.sampled_from(["country", "near", "within"]), st.text(max_size=30)))
def test_any_text_is_a_prior_or_refused(query):
    try:
        prior = read_prior(query)
    except HTTPException:
        return
    assert prior is None or prior.words


@given(st.text(max_size=300))
def test_any_name_of_a_file_becomes_one_line_of_text(name):
    shown = shown_name(name)
    assert 0 < len(shown) <= MOST_NAME
    assert shown.isprintable()
    assert "/" not in shown


def test_answers_are_exported_as_geojson_kml_and_csv(site):
    tokens = [sent(site, photo(i), name=name)[1]["photo"] for i, name in enumerate(("a.jpg", HOSTILE))]
    for token in tokens:
        answered(site, token)
    asked = f"{site}/api/photos/export?photo={tokens[0]}&photo={tokens[1]}&format="
    status, text, headers = get(f"{asked}geojson")
    assert (status, headers["content-disposition"]) == (200, 'attachment; filename="geospot-guesses.geojson"')
    features = json.loads(text)["features"]
    assert {f["properties"]["photo"] for f in features} == {"a.jpg", shown_name(HOSTILE)}
    assert sum(f["geometry"]["type"] == "MultiPolygon" for f in features) == 2
    ElementTree.fromstring(get(f"{asked}kml")[1])
    assert get(f"{asked}csv")[1].startswith("photo,rank,lat,lon")
    assert get(f"{asked}html")[0] == 422
    assert get(f"{site}/api/photos/export?format=csv&photo=no-such-photo")[0] == 404


def test_a_removed_photo_is_gone(site):
    token = sent(site, photo())[1]["photo"]
    assert post(f"{site}/api/photo/remove", {"photo": token}) == (200, {})
    assert json.loads(get(f"{site}/api/photos?photo={token}")[1]) == []


def test_the_page_is_answered_while_photos_are_guessed(site, model):
    model.go.clear()
    one = sent(site, photo())[1]
    states: list[str] = []

    def loading() -> bool:
        states.append(json.loads(get(f"{site}/api/photos?photo={one['photo']}")[1])[0]["state"])
        return states[-1] == "loading"

    until(loading)
    model.go.set()
    assert answered(site, one["photo"])["state"] == "done"


def test_a_model_that_cannot_be_opened_says_why():
    def make() -> Model:
        raise ValueError("no such weights")

    opponent = Opponent(make, "m", samples=5)
    with serving(make_site(Photos(opponent, None).routes(), hosts=LOOPBACK)) as address:
        done = answered(address, sent(address, photo())[1]["photo"])
    assert (done["state"], done["reason"]) == ("failed", "no such weights")
    opponent.close()


# --- in a browser ---

EVENT = """([name, mime, data, kind]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type: mime }));
  const event = kind === "paste" ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true })
    : new DragEvent(kind, { dataTransfer: transfer, bubbles: true });
  document.querySelector("h1").dispatchEvent(event);
}"""


def brought(page, kind: str, name: str, data: bytes) -> None:
    """As if a visitor had dropped or pasted a file."""
    page.evaluate(EVENT, [name, "image/jpeg", base64.b64encode(data).decode(), kind])


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_photos_are_chosen_dropped_and_pasted_in_a_browser(site, open_page, width, dark):
    page = open_page(f"{site}/photo", width=width, dark=dark)
    files = [{"name": HOSTILE.replace("/", ":"), "mimeType": "image/jpeg", "buffer": photo(at=(45.76, 4.84))},
             {"name": "broken.jpg", "mimeType": "image/jpeg", "buffer": photo()[:600]}]  # fmt: skip
    page.get_by_label("Choose photos").set_input_files(files)
    page.get_by_text("391 km").wait_for()
    page.get_by_role("heading", name="Paris").wait_for()
    page.get_by_text("1 of 2 photos answered, 1 could not be.").wait_for()
    page.locator(".picture-view[data-loaded]").wait_for()
    page.get_by_text("for 50 of 100 photos such as these the true place lies within").wait_for()
    brought(page, "drop", "dropped.jpg", photo(2))
    brought(page, "paste", "image.png", photo(3))
    page.get_by_text("3 of 4 photos answered, 1 could not be.").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator(".strip button", has_text="broken.jpg").click()
    page.get_by_role("heading", name="No answer for this photo").wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name="KML").click()
    assert download.value.suggested_filename == "geospot-guesses.kml"
    assert page.locator("img[src=x]").count() == 0


def test_what_is_known_is_set_on_the_page_and_asked_again(site, open_page):
    page = open_page(f"{site}/photo")
    page.get_by_label("Choose photos").set_input_files(
        [{"name": "a.jpg", "mimeType": "image/jpeg", "buffer": photo(at=(45.76, 4.84))}]
    )
    page.get_by_role("heading", name="Paris").wait_for()
    page.get_by_text("Is something known of the place?").click()
    page.get_by_label("Country, or several").fill("Germany")
    page.get_by_role("button", name="Ask again").click()
    page.get_by_role("heading", name="Berlin").wait_for()
    page.get_by_text("3 of 5 answers lie elsewhere and are set aside").wait_for()
    page.get_by_label("Country, or several").fill("")
    page.locator(".world.guessing").press("Enter")  # the middle of the map, between Lyon and Berlin
    until(lambda: page.get_by_label("Near, degrees").input_value() != "")
    page.reload()  # what was brought is still there
    page.get_by_role("heading", name="Berlin").wait_for()


def test_a_server_that_was_started_again_says_that_the_photo_is_gone(model, open_page):
    model.go.clear()
    opponent = Opponent(lambda: model, "m", samples=5)
    with serving(make_site(Photos(opponent, None).routes(), hosts=LOOPBACK)) as address:
        page = open_page(f"{address}/photo")
        brought(page, "drop", "a.jpg", photo())
        page.get_by_text("the model is loading").first.wait_for()
    with serving(make_site(Photos(opponent, None).routes(), hosts=LOOPBACK), port=int(address.rpartition(":")[2])):
        page.get_by_text("does not have this photo any more").wait_for()
    model.go.set()
    opponent.close()
