"""Pages as a reader has them: what fits a narrow window, what the map does, what is told apart."""

import io
from pathlib import Path

import numpy as np
import pytest

from geospot.data.samples import Sample
from geospot.earth.place import Place
from geospot.report import Chart, Example, Row, Series, StageAnswer, Table, write_report
from geospot.report.evaluation import report_evaluations
from geospot.report.gallery import Gallery
from geospot.scoring.guesses import Guesses
from geospot.scoring.judge import judge
from geospot.scoring.truths import Truths


def picture(shade: int) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (60, 40), (shade, 120, 90)).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """The report of an evaluation of 40 pictures, three of them without an answer."""
    folder = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    keys = [f"picture-{i}" for i in range(40)]
    lat, lon = rng.uniform(-50, 60, 40), rng.uniform(-170, 170, 40)
    off = np.geomspace(0.05, 40, 40)
    failures = ["no longitude" if i % 15 == 7 else None for i in range(40)]
    gone = np.array([f is not None for f in failures])
    guesses = Guesses(
        "a-model", keys, np.where(gone, np.nan, lat + off / 4), np.where(gone, np.nan, lon + off / 9), tuple(failures)
    )
    places = [Place(a, b, "Somewhere", None, "FR") for a, b in zip(lat.tolist(), lon.tolist(), strict=True)]
    evaluation = judge(Truths.of(keys, places), guesses)
    gallery = Gallery()
    gallery.offer([Sample(k, (picture(6 * i),), p) for i, (k, p) in enumerate(zip(keys, places, strict=True))], guesses)
    report_evaluations(
        folder, {"a-model": evaluation}, data="", configuration={"model_name": "a" * 90},
        about={"predictions": "m.csv"}, gallery={"a-model": gallery},
    )  # fmt: skip
    return folder / "report.html"


CUT = """
const shown = '.numbers td, .numbers th, p, .opening img, pre, figure, .frame, .card, summary';
const wide = [...document.querySelectorAll(shown)]
  .filter(e => e.checkVisibility() && !(e.getBoundingClientRect().right <= innerWidth + 1));
return {page: document.documentElement.scrollWidth, cut: wide.map(e => e.textContent.slice(0, 40))};
"""


@pytest.mark.parametrize("width", [1280, 390])
def test_every_number_is_in_sight_without_scrolling_sideways(page, width, in_browser):
    assert in_browser(page, CUT, width=width) == {"page": width, "cut": []}


def test_a_narrow_table_says_what_each_number_is(page, in_browser):
    labels = in_browser(
        page, "return [...document.querySelectorAll('.numbers tr')].slice(0, 8).flatMap(r => [...r.cells]).filter(c =>"
        "c.checkVisibility() && c.tagName === 'TD').map(c => getComputedStyle(c, '::before').content)", width=390,
    )  # fmt: skip
    assert '"% failed"' in labels
    assert '"% country by text"' not in labels  # these guesses name none
    assert '"% country (geo)"' in labels
    assert "none" not in labels


def test_a_page_begins_with_a_sentence_and_a_picture_with_its_answer_and_its_map(page, in_browser):
    order = in_browser(
        page, "return [...document.querySelectorAll('h1, .lead, .opening img, .opening pre, .opening svg, h2')]"
        ".slice(0, 6).map(e => e.tagName + (e.className.baseVal ?? e.className))",
    )  # fmt: skip
    assert order == ["H1", "Plead", "IMG", "PRE", "svg", "H2"]


MAP = "const frame = document.querySelector('.mapbox .frame'), svg = frame.querySelector('svg');"
BOX = "const box = () => svg.getAttribute('viewBox').split(' ').map(Number);"


def test_the_map_zooms_to_where_the_pointer_is_and_comes_back(page, in_browser):
    home, near, under, again = in_browser(page, MAP + BOX + """
    const home = box(), area = svg.getBoundingClientRect();
    const at = {clientX: area.left + area.width / 4, clientY: area.top + area.height / 3, cancelable: true};
    const under = b => [b[0] + b[2] / 4, b[1] + b[3] / 3].map(Math.round);
    frame.dispatchEvent(new WheelEvent('wheel', {...at, deltaY: -100}));
    const still = box();
    for (let i = 0; i < 3; i++) frame.dispatchEvent(new WheelEvent('wheel', {...at, deltaY: -100, ctrlKey: true}));
    const near = box();
    frame.nextElementSibling.lastChild.click();
    if (String(still) !== String(home)) throw Error('the wheel took the page from the reader');
    return [home, near, [under(home), under(near)], box()];
    """)  # fmt: skip
    assert near[2] < 0.5 * home[2]
    assert np.abs(np.subtract(*under)).max() <= home[2] / 1000  # a pixel, in which events are given
    assert again == home


def test_the_map_is_dragged_and_stays_on_the_earth(page, in_browser):
    first, dragged, end = in_browser(page, MAP + BOX + """
    frame.nextElementSibling.firstChild.click(); frame.nextElementSibling.firstChild.click();
    const first = box(), area = svg.getBoundingClientRect();
    const touch = (type, x, y) => svg.dispatchEvent(new PointerEvent(type,
      {pointerId: 1, clientX: area.left + x, clientY: area.top + y, buttons: 1, bubbles: true}));
    svg.setPointerCapture = () => {};
    touch('pointerdown', 200, 100); touch('pointermove', 150, 100); const dragged = box();
    touch('pointermove', -9000, 100); touch('pointerup', -9000, 100);
    return [first, dragged, box()];
    """)  # fmt: skip
    assert dragged[0] > first[0]
    assert dragged[1:] == first[1:]
    assert end[0] + end[2] == 36000


def test_a_truth_and_its_guess_are_joined_where_the_pointer_is(page, in_browser):
    told, faint, bright = in_browser(page, MAP + """
    const [one, two] = [...svg.querySelectorAll('.pair')].slice(-2);
    one.dispatchEvent(new PointerEvent('pointermove', {bubbles: true, clientX: 300, clientY: 300}));
    await new Promise(r => setTimeout(r, 400));
    return [frame.querySelector('.tip').textContent, getComputedStyle(two).opacity, getComputedStyle(one).opacity];
    """)  # fmt: skip
    assert [line.split()[0] for line in told.splitlines()[1:]] == ["truth", "guess"]
    assert " km apart" in told
    assert float(faint) < 0.3 < float(bright)


def test_the_map_is_reached_by_the_keyboard(page, in_browser):
    before, after = in_browser(page, MAP + BOX + """
    frame.focus(); const before = box();
    document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: '+', bubbles: true}));
    return [before, box()];
    """)  # fmt: skip
    assert after[2] < before[2]


def test_dots_keep_their_size_when_the_map_is_zoomed(page, in_browser):
    strokes = in_browser(page, MAP + """
    return [...svg.querySelectorAll('.guess, .truth, .truth-rim')].map(e => getComputedStyle(e).vectorEffect);
    """)  # fmt: skip
    assert set(strokes) == {"non-scaling-stroke"}


def test_failed_answers_are_folded_and_others_are_not(tmp_path, in_browser):
    answers = [StageAnswer("base", "noise", None), StageAnswer("SFT", "City: Lyon", 12.0)]
    example = Example("best", [picture(9)], "Lyon, France", 45.8, 4.8, answers)
    path = write_report(tmp_path / "r.html", title="t", tables=[], examples=[example])
    seen = in_browser(
        path, "return [...document.querySelectorAll('.card dd')].map(d => [d.textContent, d.checkVisibility()])"
    )
    assert seen == [["City: Lyon", True], ["noise", False]]


def test_curves_differ_by_more_than_their_colour(tmp_path, in_browser):
    series = [Series(name, [0, 1], [0.0, i + 1.0]) for i, name in enumerate("abcd")]
    path = write_report(tmp_path / "r.html", title="t", tables=[], charts=[Chart("c", series)])
    dashes = in_browser(
        path, "return [...document.querySelectorAll('.curve')].map(c => getComputedStyle(c).strokeDasharray)"
    )
    assert len(set(dashes)) == 4


def test_a_row_without_an_answer_steps_back(tmp_path, in_browser):
    rows = [
        Row(name, {"n": 9.0, "failure_rate": rate, "median_km": km, "mean_km": km, "geoguessr_score": 1.0},
            {"median_km": (km, km + spread)})
        for name, rate, km, spread in (("none", 1.0, 20015.0, 0.0), ("some", 0.1, 90.0, 9.0))
    ]  # fmt: skip
    path = write_report(tmp_path / "r.html", title="t", tables=[Table("eval", rows)])
    sizes = in_browser(
        path, "return [...document.querySelector('.numbers tbody').rows].map(row => row.cells[2]).map(cell => "
        "[parseFloat(getComputedStyle(cell).fontSize), cell.innerText.replace(/\\s+/g, ' ')])",
    )  # fmt: skip
    assert [text for _, text in sizes] == ["20,015", "90 90–99"]
    assert sizes[0][0] < sizes[1][0]
