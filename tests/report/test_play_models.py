"""Whom the game is played against, where its difficulty comes from, and several people at one server."""

import json
import threading
from contextlib import ExitStack

import chz
import numpy as np
import pytest
from live_site import LOOPBACK, get, post, serving
from made import jpeg, until
from servers.models import Said
from servers.models import serving as serving_models

from geospot.asking.guesser import Guess, Guesser, make_guess
from geospot.commands.play import known_errors
from geospot.config import PlayConfig
from geospot.data.samples import Sample
from geospot.earth.distance import MAX_DISTANCE_KM
from geospot.earth.place import Place
from geospot.report.live.borderlines import UNITS_PER_DEGREE, borderlines
from geospot.report.live.deck import Deck
from geospot.report.live.opponent import Opponent
from geospot.report.live.playing import Play
from geospot.report.live.site import make_site
from geospot.report.live.uploads import Photos
from geospot.runs.folder import RunFolder


def deck() -> Deck:
    samples = [Sample(f"k{i}", (jpeg(i),), Place(10.0 * i - 30, 15.0 * i)) for i in range(6)]
    return Deck.of("eval", samples, "world", {})


def test_difficulty_is_the_error_in_the_last_evaluation_on_the_same_set(tmp_path, capsys):
    folder = tmp_path / "run"
    with RunFolder.create(folder, {"data": "bluemarble", "eval_data": "auto"}) as run:
        for step, km in ((0, 900.0), (5, 30.0)):
            rows = [
                {"split": "eval", "sample_key": key, "group_index": i, "member_index": 0, "text": "", "distance_km": d}
                for i, (key, d) in enumerate([("a", km), ("b", None)])
            ]
            run.add_rollouts(step, rows)
            run.log(step, {"loss": 1.0})
        run.add_checkpoint(5, folder / "checkpoints" / "000005", {})
    config = PlayConfig(checkpoint=str(folder))
    assert known_errors(config, "eval") == {"a": 30.0, "b": MAX_DISTANCE_KM}  # no answer is the worst
    assert known_errors(config, "regions") == {}
    assert known_errors(chz.replace(config, data="photos/"), "eval") == {}
    assert known_errors(chz.replace(config, checkpoint=None), "eval") == {}
    (folder / "rollouts.sqlite").write_bytes(b"no database" * 100)
    assert known_errors(config, "eval") == {}
    assert "no choice of difficulty" in capsys.readouterr().out


class Recording:
    """A model that answers at once, when it is let to, and not at first."""

    def __init__(self) -> None:
        self.go, self.seen = threading.Event(), []

    def guess_place(self, sample: Sample, *, samples: int) -> Guess:
        self.go.wait()
        self.seen.append(sample.key)
        if self.seen == ["k0"]:
            raise ValueError("a bad moment")
        return make_guess(sample.key, ["Latitude: 1\nLongitude: 2"])

    def close(self) -> None:
        pass


def test_a_place_that_somebody_waits_for_comes_first_and_one_that_failed_is_asked_again():
    model, places = Recording(), deck().samples
    opponent = Opponent(lambda: model, "m", samples=1)
    opponent.ask(places)  # of a game that may have been left since
    found = []
    waiting = threading.Thread(target=lambda: found.append(opponent.guess(places[4])))
    until(lambda: opponent._jobs.qsize() == len(places) - 1)  # one is being asked
    waiting.start()
    until(lambda: opponent._jobs.qsize() == len(places))
    model.go.set()
    waiting.join()
    assert model.seen[1] == "k4"
    assert [opponent.guess(place).lat for place in places] == [1.0] * len(places)
    opponent.close()
    opponent._thread.join()
    assert sorted(model.seen) == ["k0", "k0", "k1", "k2", "k3", "k4", "k5"]


def test_a_model_behind_an_api_plays_and_is_shown_photos(monkeypatch):
    pytest.importorskip("openai", reason="needs the extra api")
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    with serving_models(lambda asked: Said("Latitude: 48.85\nLongitude: 2.35")) as models, ExitStack() as stack:
        opponent = Opponent(lambda: Guesser("openai/seer", base_url=f"{models.url}/v1"), "seer", samples=2)
        stack.callback(opponent.close)
        routes = [*Play(deck(), opponent).routes(), *Photos(opponent, 512 * 512).routes()]
        address = stack.enter_context(serving(make_site(routes, hosts=LOOPBACK)))
        game = post(f"{address}/api/begin", {})[1]
        post(f"{address}/api/guess", {"game": game["game"], "round": 1, "lat": 0, "lon": 0})
        model = json.loads(get(f"{address}/api/model?game={game['game']}&round=1")[1])
        assert (model["ok"], round(model["lat"], 2), model["circles"]) == (True, 48.85, [])
        token = post(f"{address}/api/photo?name=a.jpg", jpeg(99))[1]["photo"]
        opponent.submit(lambda guesser: next(iter(guesser.guess([])), None)).result()  # behind the photo
        [photo] = json.loads(get(f"{address}/api/photos?photo={token}")[1])
        assert (photo["state"], photo["guess"]["answers"]) == ("done", 2)


def test_two_people_with_one_code_play_the_same_places_each_by_themselves():
    with serving(make_site(Play(deck(), None).routes(), hosts=LOOPBACK)) as address:
        mine, yours = (post(f"{address}/api/begin", {"code": "ABCDE"})[1] for _ in range(2))
        assert mine["game"] != yours["game"]
        assert not set(mine["pictures"]) & set(yours["pictures"])  # one cannot look at the other's
        pictures = [get(f"{address}/api/picture/{game['pictures'][0]}")[1] for game in (mine, yours)]
        assert pictures[0] == pictures[1]
        post(f"{address}/api/guess", {"game": mine["game"], "round": 1, "lat": 0, "lon": 0})
        state = json.loads(get(f"{address}/api/game?game={yours['game']}")[1])
        assert state["results"] == []  # and learns nothing from the other's guess


def test_a_game_whose_server_was_started_again_says_so_in_the_browser(open_page):
    with serving(make_site(Play(deck(), None).routes(), hosts=LOOPBACK)) as address:
        page = open_page(address)
        page.get_by_role("button", name="Play").press("Enter")
        page.locator(".world.guessing").press("Enter")
    with serving(make_site(Play(deck(), None).routes(), hosts=LOOPBACK), port=int(address.rpartition(":")[2])):
        page.get_by_role("button", name="Guess").press("Enter")
        page.get_by_text("this game is over: the server was started again").wait_for()
        page.get_by_role("button", name="leave").press("Enter")
        page.get_by_role("heading", name="Where on Earth was this taken?").wait_for()
    page.trouble[:] = [said for said in page.trouble if "404" not in said]  # the game that is not there


def test_a_picture_fills_its_view_again_after_it_was_out_of_sight(open_page):
    with serving(make_site(Play(deck(), None).routes(), hosts=LOOPBACK)) as address:
        page = open_page(address)
        page.get_by_role("button", name="Play").press("Enter")
        page.locator(".picture-view[data-loaded]").wait_for()
        frames = "await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));"
        box = "document.querySelector('.pictures-box').style.display"
        page.evaluate(f"async () => {{ {box} = 'none'; {frames} {box} = ''; {frames} }}")
        view, image = page.locator(".picture-view"), page.locator(".picture-view img.leaflet-image-layer")
        until(lambda: image.bounding_box()["height"] > 0.9 * view.bounding_box()["height"])


def test_the_detailed_borders_are_closed_rings_on_the_earth_with_regions_apart_from_countries():
    data = borderlines()
    rings, n = np.frombuffer(data, "<i4", 2)
    sizes = np.frombuffer(data, "<i4", rings, 8)
    lon, lat = np.frombuffer(data, "<i2", 2 * n, 8 + 4 * rings).reshape(2, n) / UNITS_PER_DEGREE
    inner = np.frombuffer(data, np.uint8, n, 8 + 4 * rings + 4 * n)
    assert sizes.sum() == n
    assert len(data) == 8 + 4 * rings + 5 * n < 3_000_000
    first = np.cumsum(sizes) - sizes
    last = np.cumsum(sizes) - 1
    assert (lon[first] == lon[last]).all()
    assert (lat[first] == lat[last]).all()
    assert np.abs(lat).max() <= 90
    assert 180 - np.abs(lon).max() < 0.2
    assert 0.3 < inner.mean() < 0.6
    at = np.hypot(lat - 51.0, lon - 2.8) < 1.0  # around the border of France and Belgium
    assert 0 < inner[at].mean() < 1
