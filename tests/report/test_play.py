"""The game's rules, and what its server gives away before a guess: nothing."""

import io
import json
import threading
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_site import HOSTILE, LOOPBACK, get, post, serving
from made import jpeg, until

from geospot.__main__ import main
from geospot.asking.guesser import Guess, Guesser, make_guess
from geospot.data.samples import Sample
from geospot.earth.distance import haversine_km
from geospot.earth.place import Place
from geospot.errors import DataError, GeospotError
from geospot.report.live.deck import LETTERS, Deck, code_of_seed, new_code, read_code
from geospot.report.live.game import Game
from geospot.report.live.opponent import Opponent
from geospot.report.live.playing import Play
from geospot.report.live.site import make_site

CITIES = [("Lyon", "France", 45.76, 4.84), ("Lima", "Peru", -12.05, -77.04), ("Cairo", "Egypt", 30.04, 31.24),
          ("Oslo", "Norway", 59.91, 10.75), ("Perth", "Australia", -31.95, 115.86), ("Quito", "Ecuador", -0.22, -78.51),
          ("Tokyo", "Japan", 35.68, 139.69), ("Nairobi", "Kenya", -1.29, 36.82)]  # fmt: skip


def with_position(picture: bytes, lat: float, lon: float) -> bytes:
    """The JPEG with coordinates in its EXIF and a comment."""
    from PIL import Image

    image, out = Image.open(io.BytesIO(picture)), io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = f"taken at {lat}, {lon}"
    exif.get_ifd(0x8825).update({1: "N", 2: (abs(lat), 0.0, 0.0), 3: "E", 4: (abs(lon), 0.0, 0.0)})
    image.save(out, "JPEG", exif=exif, comment=f"{lat} {lon}".encode())
    return out.getvalue()


def deck(views: int = 1, errors_km: dict[str, float] | None = None) -> Deck:
    samples = [
        Sample(f"{city}-{i}", tuple(with_position(jpeg(10 * i + v), lat, lon) for v in range(views)),
               Place(lat, lon, city, None, country))
        for i, (city, country, lat, lon) in enumerate(CITIES)
    ]  # fmt: skip
    return Deck.of("eval", samples, "world", errors_km or {})


@pytest.fixture(scope="module")
def site():
    play = Play(deck(views=2), None)
    with serving(make_site(play.routes(), hosts=LOOPBACK)) as address:
        yield address


def begun(site: str, **wishes: object) -> dict:
    status, game = post(f"{site}/api/begin", wishes)
    assert status == 200, game
    return game


def truth_words(number: int, samples: list[Sample]) -> list[str]:
    """What would give a place away: its names, its key and its coordinates, as any of them may be written."""
    place = samples[number].place
    return [str(place.city), str(place.country), samples[number].key, f"{place.lat:.2f}"[:5], f"{place.lon:.2f}"[:5]]


def test_nothing_that_is_sent_before_a_guess_says_where_it_is(site):
    made = deck(views=2)
    game = begun(site, code="AAAAA")
    for number, dealt in enumerate(made.deal("AAAAA", 5), start=1):
        sent = [json.dumps(game["pictures"]), get(f"{site}/api/game?game={game['game']}")[1]]
        for token in game["pictures"]:
            status, body, headers = get(f"{site}/api/picture/{token}")
            assert status == 200
            sent += [body, str(headers)]
            assert "Exif" not in body
            assert not {"etag", "last-modified", "content-disposition"} & {name.lower() for name in headers}
        everything = "\n".join(sent)
        results = "\n".join(json.dumps(one) for one in game["results"])  # of rounds that are over
        for word in truth_words(dealt, list(made.samples)):
            assert word not in everything.replace(results, ""), (number, word)
        assert post(f"{site}/api/next", {"game": game["game"]})[1]["round"] == number  # no round is skipped
        assert get(f"{site}/api/model?game={game['game']}&round={number}")[0] == 422
        _, game = post(f"{site}/api/guess", {"game": game["game"], "round": number, "lat": 10.0, "lon": 20.0})
        truth = game["results"][-1]["truth"]
        assert (truth["lat"], truth["lon"]) == (made.samples[dealt].place.lat, made.samples[dealt].place.lon)
        _, game = post(f"{site}/api/next", {"game": game["game"]})
    assert game["ended"]


def test_the_page_itself_knows_no_place_of_the_set(site):
    page = get(f"{site}/")[1]
    about = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert about["places"] == len(CITIES)
    assert all(sample.key not in page for sample in deck().samples)


def test_a_picture_is_the_same_picture_without_its_metadata(site):
    from PIL import Image

    token = begun(site, code="AAAAA")["pictures"][0]
    play_sample = deck(views=2).samples[deck(views=2).deal("AAAAA", 5)[0]]
    shown = urllib.request.urlopen(f"{site}/api/picture/{token}").read()
    there, here = (np.asarray(Image.open(io.BytesIO(d)), float) for d in (play_sample.pictures[0], shown))
    assert np.abs(there - here).mean() < 4
    assert not Image.open(io.BytesIO(shown)).getexif()


def test_points_and_kilometres_are_those_of_the_world_map(site):
    game = begun(site, code="BBBBB")
    _, game = post(f"{site}/api/guess", {"game": game["game"], "round": 1, "lat": 48.85, "lon": 2.35})
    [one] = game["results"]
    km = float(haversine_km(one["truth"]["lat"], one["truth"]["lon"], 48.85, 2.35))
    assert one["km"] == pytest.approx(km)
    assert one["points"] == round(5000 * np.exp(-km / 1492.7))


def test_a_second_guess_changes_nothing(site):
    game = begun(site)
    first = post(f"{site}/api/guess", {"game": game["game"], "round": 1, "lat": 0, "lon": 0})[1]
    truth = first["results"][0]["truth"]
    again = {"game": game["game"], "round": 1, "lat": truth["lat"], "lon": truth["lon"]}
    assert post(f"{site}/api/guess", again)[1]["results"] == first["results"]


@pytest.mark.parametrize(
    ("path", "value", "status"),
    [("begin", {"code": "no code at all"}, 422), ("begin", {"mode": "chess"}, 422), ("begin", {"level": "hard"}, 422),
     ("begin", {"seconds": -1}, 422), ("begin", {"seconds": "x"}, 422), ("begin", {"seconds": True}, 422),
     ("begin", b"[" * 9000, 422), ("begin", b'{"code": "\\ud800"}', 422), ("begin", b'{"mode": "\\ud800"}', 422),
     ("begin", [], 422), ("begin", b"{", 422),
     ("begin", b"x" * 20_000, 413), ("guess", {"game": "none", "round": 1}, 404), ("next", {}, 404)],
)  # fmt: skip
def test_what_no_page_sends_is_refused(site, path, value, status):
    found, answer = post(f"{site}/api/{path}", value)
    assert (found, set(answer)) == (status, {"detail"})


@pytest.mark.parametrize(
    "where",
    [{"lat": 91, "lon": 0}, {"lat": "1", "lon": 0}, {"lat": 0, "lon": 1e9}, {"lat": 10**400, "lon": 0},
     {"lat": float("nan"), "lon": 0}, {"lat": float("-inf"), "lon": 0}, {"lat": True, "lon": 0}],
)  # fmt: skip
def test_a_guess_off_the_earth_is_refused(site, where):
    game = begun(site)
    assert post(f"{site}/api/guess", {"game": game["game"], "round": 1, **where})[0] == 422


def test_pages_of_other_servers_cannot_play(site):
    assert post(f"{site}/api/begin", {}, Origin="http://evil.example")[0] == 403
    assert post(f"{site}/api/begin", {}, Host="evil.example")[0] == 403


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_guess_that_comes_too_late_is_none():
    clock = Clock()
    game = Game(deck(), "AAAAA", seconds=20, clock=clock)
    clock.now = 19.0
    assert game.state()["seconds_left"] == 1.0
    assert game.guess(1, 0.0, 0.0)["km"] is not None
    game.next()
    clock.now += 60.0
    assert game.guess(2, 0.0, 0.0) | {"truth": 0, "country": 0} == {
        "truth": 0, "country": 0, "guess": None, "km": None, "points": 0,
    }  # fmt: skip


def test_a_streak_ends_with_the_first_wrong_country():
    made = deck()
    game = Game(made, "CCCCC", mode="streak")
    assert game.length == len(CITIES)
    place = made.samples[made.deal("CCCCC", 8)[0]].place
    assert game.guess(1, place.lat + 0.05, place.lon)["right"]
    assert not game.ended
    game.next()
    wrong = game.guess(2, -80.0, 0.0)
    assert (wrong["right"], wrong["guessed_country"], game.ended) == (False, "Antarctica", True)
    game.next()
    assert len(game.rounds) == 2


def test_the_same_code_deals_the_same_places_to_two_people():
    assert deck().deal("QWERT", 5) == deck().deal("QWERT", 5)
    assert deck().deal("QWERT", 5) != deck().deal("QWERS", 5)
    assert len(set(deck().deal("QWERT", 5))) == 5
    assert code_of_seed(7) == code_of_seed(7) != code_of_seed(8)


@given(st.text(max_size=12))
def test_a_code_is_read_as_people_write_it_or_refused(text):
    try:
        code = read_code(text)
    except DataError:
        return
    assert len(code) in (5, 7)
    assert set(code) <= set(LETTERS)
    assert read_code(f" {code[:2].lower()}-{code[2:]} ") == code


def graded(errors: dict[str, float], n: int = 30) -> Deck:
    """So many places, whose difficulty is known."""
    first = deck().samples[0]
    places = [replace(first, key=f"k{i:02}", place=Place(i, -i)) for i in range(n)]
    return Deck.of("eval", places, "world", errors)


def test_the_code_of_a_game_brings_a_friend_its_places_or_says_that_they_are_not_there():
    mine = graded({f"k{i:02}": float(i) for i in range(30)})
    game = Game(mine, "QWERT", "five", "hard")
    code = game.state()["code"]
    assert mine.unseal(code.lower().replace("-", " ")) == ("QWERT", "five", "hard")
    assert mine.unseal("qwert") == ("QWERT", None, None)
    assert len({mine.seal("QWERT", mode, level) for mode in ("five", "streak") for level in mine.levels}) == 8
    with serving(make_site(Play(mine, None).routes(), hosts=LOOPBACK)) as address:
        theirs = begun(address, code=code, mode="streak", level="any")  # what a page begins with unless it is changed
        assert (theirs["code"], theirs["mode"], theirs["level"]) == (code, "five", "hard")
    others = graded({f"k{i:02}": float(-i) for i in range(30)}), graded({}), deck()  # other checkpoint, none, other set
    for other in others:
        with pytest.raises(DataError, match="other places"):
            other.unseal(code)


def test_a_seed_is_where_one_begins_and_not_where_one_stays():
    with serving(make_site(Play(deck(), None, code=code_of_seed(7)).routes(), hosts=LOOPBACK)) as address:
        assert begun(address)["code"].startswith(code_of_seed(7))
        assert not begun(address, code=None)["code"].startswith(code_of_seed(7))


def test_a_guess_at_the_very_place_is_in_the_right_country_whatever_its_label_is():
    there = Place(18.22, -66.43, "Utuado", None, "United States")  # Puerto Rico, which has a code of its own
    made = Deck.of("eval", [Sample("k", (jpeg(1),), there)], "world", {})
    assert Game(made, "AAAAA", mode="streak").guess(1, 18.22, -66.43)["right"]
    assert Game(made, "AAAAA", mode="streak").guess(1, 39.0, -98.0)["right"]
    assert not Game(made, "AAAAA", mode="streak").guess(1, 10.0, -40.0)["right"]


def test_new_codes_can_be_read():
    assert read_code(new_code())


def test_difficulty_follows_the_model_s_own_error():
    errors = {sample.key: float(i) for i, sample in enumerate(deck().samples)}
    few = deck(errors_km=errors)
    assert few.levels == ("any",)  # eight places are too few to tell easy from hard
    many = graded({f"k{i:02}": float(i) for i in range(30)})
    dealt = {
        level: {float(many.samples[i].key[1:]) for i in many.deal("AAAAA", 30, level)} for level in many.levels[1:]
    }
    assert [len(found) for found in dealt.values()] == [10, 10, 10]
    assert max(dealt["easy"]) < min(dealt["medium"]) < max(dealt["medium"]) < min(dealt["hard"])


class Known:
    """An opponent who always says the same."""

    title = "a <b>model</b>"

    def ask(self, samples: list[Sample]) -> None:
        self.asked = [sample.key for sample in samples]

    def guess(self, sample: Sample) -> Guess:
        said = f"City: {HOSTILE}\ud83d\nCountry: France\nLatitude: 48.0\nLongitude: 2.0"
        return make_guess(sample.key, [said, said, "no idea"])


def test_the_model_is_asked_about_all_places_of_a_game_at_its_beginning():
    play = Play(deck(), Known())
    with serving(make_site(play.routes(), hosts=LOOPBACK)) as address:
        game = begun(address, code="AAAAA")
        assert play.opponent.asked == [deck().samples[i].key for i in deck().deal("AAAAA", 5)]
        post(f"{address}/api/guess", {"game": game["game"], "round": 1, "lat": 0, "lon": 0})
        model = json.loads(get(f"{address}/api/model?game={game['game']}&round=1")[1])
    assert (model["lat"], model["lon"]) == (48.0, 2.0)
    assert [round(one["share"], 2) for one in model["candidates"]] == [0.67]
    assert HOSTILE in model["words"]


def test_an_opponent_answers_each_place_once_and_says_when_it_cannot(tiny_folder):
    made = []

    def make() -> Guesser:
        made.append(Guesser(tiny_folder, device="cpu", threads=1, max_tokens=8))
        return made[-1]

    opponent, sample = Opponent(make, "tiny", samples=2), deck(views=2).samples[0]
    assert opponent.guess(sample) is opponent.guess(sample)
    assert len(opponent.guess(sample).texts) == 2
    assert len(made) == 1
    opponent.close()
    gone = Opponent(lambda: Guesser("no/such-model"), "none", samples=2)
    with pytest.raises(GeospotError, match="no/such-model"):
        gone.guess(sample)
    gone.close()


def pin(page, x: float = 0.5, y: float = 0.5) -> None:
    world = page.locator(".world.guessing")
    world.wait_for()  # the picture may be there before the map is
    box = world.bounding_box()
    world.click(position={"x": box["width"] * x, "y": box["height"] * y})


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_a_whole_game_in_a_browser(open_page, width, dark):
    made = deck(views=2)
    with serving(make_site(Play(made, Known()).routes(), hosts=LOOPBACK)) as address:
        page = open_page(address, width=width, dark=dark)
        page.get_by_label("Code of a friend").fill("aaa-aa")
        page.get_by_role("button", name="Play").click()
        for number, dealt in enumerate(made.deal("AAAAA", 5), start=1):
            page.locator(".picture-view[data-loaded]").wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            told = [f"{r.url} {r.headers} {r.body()!r}" for r in page.responses if "/static/" not in r.url]
            words = truth_words(dealt, list(made.samples))
            assert not [one for one in told if words[2] in one], number
            games = "\n".join(one for one in told if "/api/" in one)  # the page names all large cities of the Earth
            assert not [word for word in words if word in games], number
            pin(page, 0.15 * number, 0.4)
            page.get_by_role("button", name="Guess").click()
            page.locator(".result h2", has_text="km away").wait_for()
            page.locator(".rival li", has_text="67 %").wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            if number == 2:  # a page that is loaded anew goes on where it was
                page.responses.clear()  # a browser forgets their bodies then
                page.reload()
                page.locator(".result h2", has_text="km away").wait_for()
            page.get_by_role("button", name="Summary" if number == 5 else "Next place").click()
        page.get_by_role("heading", name="of 25,000 points").wait_for()
        assert page.locator(".rounds tbody tr").count() == 5
        with page.expect_download() as download:
            page.get_by_role("button", name="Save this picture").click()
        assert download.value.suggested_filename == f"geospot-{made.seal('AAAAA', 'five', 'any')}.png"
        assert page.locator("img[src=x]").count() == 0


def test_the_game_can_be_played_by_keyboard(open_page):
    with serving(make_site(Play(deck(), None).routes(), hosts=LOOPBACK)) as address:
        page = open_page(address)
        page.get_by_role("button", name="Play").press("Enter")
        page.locator(".world.guessing").press("Enter")  # the middle of the map
        page.get_by_role("button", name="Guess").press("Enter")
        page.locator(".result h2", has_text="km away").wait_for()
        until(lambda: page.evaluate("document.activeElement.tagName") == "H2")  # is read aloud
        page.get_by_role("button", name="Next place").press("Enter")
        until(lambda: page.evaluate("document.activeElement.className") == "pictures-box")  # and not at the top again


class Slow(Known):
    """Says another place each time, once it is let to."""

    def __init__(self) -> None:
        self.go, self.said = (
            threading.Event(),
            iter(["Latitude: 48.85\nLongitude: 2.35", "Latitude: -12.05\nLongitude: -77.04"]),
        )

    def guess(self, sample: Sample) -> Guess:
        said = next(self.said)
        self.go.wait()
        return make_guess(sample.key, [said])


def test_who_plays_on_without_the_model_is_not_shown_its_answer_of_another_game(open_page):
    made, model = deck(), Slow()
    one = Deck.of("eval", made.samples[:1], "world", {})
    with serving(make_site(Play(one, model).routes(), hosts=LOOPBACK)) as address:
        page = open_page(address)
        page.get_by_role("button", name="Play").press("Enter")
        page.locator(".world.guessing").press("Enter")
        page.get_by_text("Your pin:").wait_for()
        page.reload()
        page.get_by_text("Your pin:").wait_for()
        page.get_by_role("button", name="Guess").press("Enter")
        page.get_by_text("The model is still thinking").wait_for()
        page.get_by_role("button", name="Summary").press("Enter")
        page.get_by_text("The model is still thinking").wait_for()  # nobody has won so far
        page.get_by_role("button", name="Other game").press("Enter")
        page.get_by_label("Game").select_option("streak")
        page.get_by_role("button", name="Play").press("Enter")
        page.get_by_text("In which country?").wait_for()
        assert page.get_by_text("Your pin:").count() == 0
        page.locator(".world.guessing").press("Enter")
        page.get_by_role("button", name="Guess").press("Enter")
        page.get_by_role("button", name="Summary").press("Enter")
        page.locator(".rounds td", has_text="thinking").wait_for()
        model.go.set()
        km = haversine_km(made.samples[0].place.lat, made.samples[0].place.lon, -12.05, -77.04)
        page.locator(".rounds td", has_text=f"{km:,.0f} km").wait_for()
        page.locator(".rounds td", has_text="✗").wait_for()


def test_time_runs_out_in_the_browser(open_page):
    with serving(make_site(Play(deck(), None, seconds=1).routes(), hosts=LOOPBACK)) as address:
        page = open_page(address)
        page.get_by_role("button", name="Play").click()
        page.get_by_role("heading", name="No guess in time").wait_for()


@pytest.mark.parametrize("words", [["data=nowhere"], ["checkpoint=nowhere"], ["tiles=file:///etc"], ["seconds=-1"],
                                   ["checkpoint=none", "set=neither", "data={shards}"]])  # fmt: skip
def test_what_cannot_be_played_is_refused_in_one_message(words, shards, capsys):
    with pytest.raises(SystemExit) as end:
        main(["play", *(word.format(shards=shards / "eval.tar") for word in words), "open=false"])
    assert end.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
