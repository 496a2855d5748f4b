"""The page of `geospot watch` in a real browser."""

import shutil
from contextlib import ExitStack

import pytest
from live_site import HOSTILE, LOOPBACK, GrowingRun, serving
from made import until

from geospot.report.live.following import followed_runs
from geospot.report.live.replay import write_replay
from geospot.report.live.site import make_site
from geospot.report.live.watching import Watch
from geospot.runs.folder import RunFolder


@pytest.fixture
def run(tmp_path):
    made = GrowingRun(tmp_path / "runs" / "one", said=HOSTILE)
    made.step()
    yield made
    made.run.close()


def site_of(run):
    watch = Watch(run.path.parent)
    return make_site(watch.routes(), hosts=LOOPBACK, lifespan=watch.lifespan)


def step_shown(page) -> str:
    return page.locator("output.at").inner_text()


def test_steps_appear_in_every_open_window_and_the_slider_goes_back(run, open_page):
    with serving(site_of(run)) as address:
        wide, narrow = open_page(address), open_page(address, width=390, dark=True)
        for page in (wide, narrow):
            page.get_by_text("12 answers to 3 pictures").wait_for()
            assert step_shown(page) == "step 0"
        run.step()
        run.step()
        for page in (wide, narrow):
            until(lambda page=page: step_shown(page) == "step 2")
            assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
        slider = wide.get_by_role("slider", name="Step")
        slider.fill("1")
        assert step_shown(wide) == "step 1"
        wide.get_by_text("3 pictures, median 225 km.").wait_for()  # of 112.5, 225 and 337.5; what failed is nowhere
        run.step()
        until(lambda: slider.get_attribute("max") == "3")
        assert step_shown(wide) == "step 1"  # who looks back is not torn away
        until(lambda: step_shown(narrow) == "step 3")


def test_words_of_a_model_stay_words(run, open_page):
    with serving(site_of(run)) as address:
        page = open_page(address)
        page.get_by_label("Picture").select_option("1")
        page.get_by_text("Lima, Peru").wait_for()
        assert page.locator(".said pre").first.inner_text() == HOSTILE.format("Lima")
        assert page.locator("img").count() == 0
        assert page.locator("table.pairs b").count() == 0  # data=<b>made</b>


def test_a_true_place_on_the_map_is_pointed_at_and_clicked(run, open_page):
    with serving(site_of(run)) as address:
        page = open_page(address)
        page.get_by_text("12 answers to 3 pictures").wait_for()
        box = page.locator(".world").bounding_box()
        picked = page.get_by_label("Picture")
        for x in range(0, int(box["width"]), 10):  # Lyon lies somewhere on this line of the map
            for y in (0.24, 0.27, 0.30):
                page.mouse.move(box["x"] + x, box["y"] + y * box["height"])
                if page.locator(".tip-card").count():
                    assert "km from the true place" in page.locator(".tip-card").inner_text()
                    page.mouse.click(box["x"] + x, box["y"] + y * box["height"])
                    until(lambda: picked.input_value() != "")
                    return
        raise AssertionError("no true place was found on the map")


def test_a_server_that_is_started_again_is_found_again(run, open_page):
    with ExitStack() as first:
        address = first.enter_context(serving(site_of(run)))
        page = open_page(address)
        page.get_by_text("12 answers to 3 pictures").wait_for()  # and nothing is asked of it any more
        first.close()
        page.get_by_text("The connection is lost").wait_for()
    run.step()
    with serving(site_of(run), port=int(address.rpartition(":")[2])):
        until(lambda: step_shown(page) == "step 1")


def test_all_runs_are_on_the_map_together_and_what_a_run_lacks_is_said(run, open_page, tmp_path):
    two = GrowingRun(tmp_path / "runs" / "two")
    two.step()
    two.run.close()
    run.step()
    run.run.close()
    with RunFolder.create(tmp_path / "runs" / "bare", {"command": "sft", "max_steps": 3}) as bare:
        for step in range(3):
            bare.log(step, {"loss": 1.0})
    with serving(site_of(run)) as address:
        page = open_page(address)
        page.get_by_text("12 answers to 3 pictures").wait_for()
        page.get_by_role("checkbox", name="two").check()
        page.get_by_label("colour").select_option("run")
        until(lambda: page.evaluate(COLOURED) > 20)  # the second run's answers, over those of the first
        page.get_by_role("checkbox", name="bare").check()
        page.locator(".run", has_text="bare").get_by_role("button", name="map").click()
        page.get_by_text("No answers have been logged.").wait_for()
        shutil.rmtree(two.path)
        page.locator(".run small", has_text="deleted").wait_for()


def test_no_run_is_dropped_where_as_many_are_chosen_as_there_are_colours(run, open_page, tmp_path):
    for i in range(8):
        with RunFolder.create(tmp_path / "runs" / f"other-{i}", {"command": "sft", "max_steps": 3}) as other:
            other.log(0, {"loss": 1.0})
    with serving(site_of(run)) as address:
        page = open_page(address)
        page.get_by_text("12 answers to 3 pictures").wait_for()
        for i in range(7):
            page.get_by_role("checkbox", name=f"other-{i}").check()
        assert page.get_by_role("checkbox", name="other-7").is_disabled()
        assert page.get_by_role("checkbox", name="one").is_checked()
        page.get_by_role("checkbox", name="other-3").uncheck()
        page.get_by_role("checkbox", name="other-7").check()


# How many pixels of the map have the colour of the second run.
COLOURED = """() => {
  const canvas = [...document.querySelectorAll(".look canvas")].pop();
  const probe = document.createElement("canvas").getContext("2d");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  probe.fillStyle = colour(COLOURS[1]);
  probe.fillRect(0, 0, 1, 1);
  const wanted = probe.getImageData(0, 0, 1, 1).data;
  let n = 0;
  for (let i = 0; i < data.length; i += 4) n += [0, 1, 2, 3].every((k) => Math.abs(data[i + k] - wanted[k]) < 24);
  return n;
}"""


def test_a_replay_plays_from_a_file(run, open_page, tmp_path):
    run.step()
    other = GrowingRun(tmp_path / "runs" / "two")
    other.step()
    followed = followed_runs(tmp_path / "runs")
    for one in followed:
        one.poll()
    page = open_page(write_replay(tmp_path / "replay.html", followed, "two runs").as_uri())
    until(lambda: step_shown(page) == "step 1")
    page.get_by_role("button", name="Play the steps").click()
    until(lambda: step_shown(page) == "step 0" or page.get_by_role("button", name="Pause").count())
    until(lambda: step_shown(page) == "step 1" and page.get_by_role("button", name="Play the steps").count())
    page.get_by_role("checkbox", name="two").check()
    page.get_by_label("Picture").select_option("0")
    page.get_by_text("Lyon, France").wait_for()
    assert page.locator(".panel canvas").count() > 2
    other.run.close()
