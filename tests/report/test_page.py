"""The report: great circles, charts and tables by hand, and a page that survives what models write."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib import resources
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from geospot.earth.distance import EARTH_RADIUS_KM, haversine_km
from geospot.report import Chart, Example, Row, Series, StageAnswer, Table, pick_examples, write_report
from geospot.report.atlas import great_circle, split_at_date_line
from geospot.report.charts import chart_html, linear_ticks, log_ticks, tick_label
from geospot.report.document import example_html
from geospot.report.maps import world_map_html
from geospot.report.metric_tables import table_html
from geospot.report.page import coordinates, distance_class, escape, kilometres, percent
from geospot.scoring.metrics import Predictions, bootstrap_intervals, summarize

NAN = float("nan")
HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>\" ' & \x00\x1b[31m \ud800 </style></title>"
JPEG = b"\xff\xd8\xff\xe0 not really a picture"

lats, lons = st.floats(-90, 90), st.floats(-180, 180)


# --- great circles ---


@given(lats, lons, lats, lons)
@example(0.0, 0.0, 0.0, 180.0)  # antipodes
@example(90.0, 0.0, -90.0, 0.0)
@example(10.0, 20.0, 10.0, 20.0)
@example(-17.0, 180.0, -17.0, -179.0)
def test_great_circle_is_the_shortest_way_in_small_steps(lat1, lon1, lat2, lon2):
    points = great_circle(lat1, lon1, lat2, lon2)
    assert tuple(points[0]) == (lat1, lon1)
    assert tuple(points[-1]) == (lat2, lon2)
    steps_km = haversine_km(*points[:-1].T, *points[1:].T)
    assert steps_km.max() <= 1.0001 * np.pi / 180 * EARTH_RADIUS_KM + 0.001
    assert steps_km.sum() == pytest.approx(haversine_km(lat1, lon1, lat2, lon2), rel=1e-6, abs=0.01)


@given(lats, lons, lats, lons)
@example(0.0, 180.0, 0.0, -180.0)
@example(-17.0, 179.0, -17.0, -179.0)
@example(80.0, 0.0, 80.0, 180.0)  # over the pole
def test_pieces_stay_on_the_map_and_join_at_its_edges(lat1, lon1, lat2, lon2):
    pieces = split_at_date_line(great_circle(lat1, lon1, lat2, lon2))
    for piece in pieces:
        assert np.all(np.abs(piece[:, 1]) <= 180)
        assert np.all(np.abs(piece[:, 0]) <= 90)
        assert np.all(np.abs(np.diff(piece[:, 1])) <= 180)
    for before, after in pairwise(pieces):
        assert abs(before[-1, 1]) == 180
        assert after[0].tolist() == [before[-1, 0], -before[-1, 1]]
    assert tuple(pieces[0][0]) == (lat1, lon1)
    assert tuple(pieces[-1][-1]) == (lat2, lon2)


def test_split_by_hand():
    (only,) = split_at_date_line(np.array([[0.0, -10.0], [0.0, 10.0]]))
    assert only.tolist() == [[0, -10], [0, 10]]
    west_to_east = split_at_date_line(np.array([[0.0, 170.0], [1.0, 179.0], [2.0, -179.0], [3.0, -170.0]]))
    assert [piece.tolist() for piece in west_to_east] == [
        [[0, 170], [1, 179], [1.5, 180]],
        [[1.5, -180], [2, -179], [3, -170]],
    ]
    back = split_at_date_line(np.array([[0.0, -178.0], [4.0, 176.0]]))  # 2 of 6 degrees of the way
    assert back[0][-1] == pytest.approx([4 / 3, -180])


# --- the coastlines file ---


def inside(lat: float, lon: float, rings: list[np.ndarray]) -> bool:
    """Even-odd ray casting over all rings (lakes cut out of land count themselves out)."""
    crossings = 0
    for ring in rings:
        (x1, y1), (x2, y2) = ring[:-1].T, ring[1:].T
        cuts = (y1 > lat) != (y2 > lat)
        with np.errstate(divide="ignore", invalid="ignore"):
            crossings += np.sum(cuts & (lon < x1 + (lat - y1) / (y2 - y1) * (x2 - x1)))
    return crossings % 2 == 1


def test_coastlines_hold_the_land_and_do_not_streak_across_the_map():
    raw = resources.files("geospot.earth").joinpath("coastlines.json").read_bytes()
    assert len(raw) < 150_000
    atlas = json.loads(raw)
    countries = {
        code: [np.reshape(line, (-1, 2)) / atlas["units_per_degree"] for line in lines]
        for code, lines in atlas["countries"].items()
    }
    rings = [ring for lines in countries.values() for ring in lines]
    inland = {"FR": (47.0, 2.0), "NA": (-22.0, 17.0), "LS": (-29.5, 28.2), "XK": (42.6, 20.9), "RU": (67.0, -175.0)}
    assert {code: inside(*place, countries[code]) for code, place in inland.items()} == dict.fromkeys(inland, True)
    assert not inside(-29.5, 28.2, countries["ZA"])  # Lesotho is a hole in South Africa
    land = [(48.9, 2.4), (-33.0, 147.0), (39.0, -100.0), (67.0, -175.0), (67.0, 178.5), (-89.0, 50.0), (-89.0, -179.0)]
    sea = [(0.0, -30.0), (30.0, -150.0), (-40.0, 90.0), (60.0, -178.0), (70.0, -179.9), (42.0, 51.0)]
    assert [place for place in land if not inside(*place, rings)] == []
    assert [place for place in sea if inside(*place, rings)] == []
    for ring in rings:
        assert ring[0].tolist() == ring[-1].tolist()
        jumps = np.abs(np.diff(ring[:, 0])) > 20
        assert np.all(np.abs(ring[:-1][jumps, 1]) == 90)  # only along the south pole, which is an edge of the map
    assert np.max(np.abs(np.concatenate(rings)), axis=0).tolist() == [180, 90]


# --- text ---


def test_numbers_as_text():
    assert [kilometres(x) for x in (0.04, 9.94, 9.96, 1234.5, NAN)] == ["0.0", "9.9", "10", "1,234", "–"]
    assert [percent(x) for x in (0.1234, 1.0, NAN)] == ["12.3", "100.0", "–"]
    assert coordinates(-33.861, 151.207) == "33.86° S, 151.21° E"
    assert [distance_class(d) for d in (0, 25, 25.1, 750, 2500, 2501)] == ["d0", "d0", "d1", "d2", "d3", "d4"]


def test_escape():
    assert escape("<a b=\"c\" d='e'>&") == "&lt;a b=&quot;c&quot; d=&#x27;e&#x27;&gt;&amp;"
    assert escape("a\x00b\x1bc\ud800d\x85e\n") == "a\ufffdb\ufffdc\ufffdd\ufffde\n"
    assert escape("x" * 2000, limit=3) == "xxx … (2,000 characters)"
    assert escape("&&&&", limit=4) == "&amp;" * 4


# --- tables ---


def test_table_shows_values_intervals_and_the_best_of_each_column():
    rows = [
        Row(
            "A", {"n": 4.0, "median_km": 1234.0, "acc_25km": 0.5, "text_city_acc": NAN}, {"median_km": (900.0, 1500.0)}
        ),
        Row("B <b>", {"n": 4.0, "median_km": 2000.0, "acc_25km": 0.625}),
    ]
    page = table_html(Table("eval", rows, "far & wide"))
    assert '<td class="first best" data-label="Median, km">1,234<small>900–1,500</small></td>' in page
    assert '<td class="first" data-label="Median, km">2,000</td>' in page
    assert '<td class="best" data-label="% within 25 km">62.5</td>' in page
    assert "City" not in page  # no row says anything of cities
    assert "B &lt;b&gt;" in page
    assert "4 places · far &amp; wide" in page
    assert "nan" not in page


def test_answered_table_reads_the_answered_keys():
    predictions = Predictions([0, 0], [0, 0], [0, NAN], [10, NAN])
    page = table_html(Table("eval", [Row("A", summarize(predictions), bootstrap_intervals(predictions, 50))]))
    everyone, answered = page.split("<details>")
    assert ">10,564<" in everyone  # (1111.95 + 20015.11) / 2
    assert ">1,112<" in answered
    assert "% failed" in everyone
    assert "% failed" not in answered


# --- charts ---


def test_ticks_by_hand():
    assert linear_ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert linear_ticks(-3, 12, 5) == [0, 5, 10]
    assert linear_ticks(0, 300, 6) == [0, 50, 100, 150, 200, 250, 300]
    assert log_ticks(25, 2000) == [50, 100, 200, 500, 1000, 2000]
    assert log_ticks(1e-5, 1) == [1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1]
    assert [tick_label(x) for x in (0, 1500, 0.25, -2, 1e-5)] == ["0", "1,500", "0.25", "−2", "1e−05"]


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(4, 8))
def test_linear_ticks_are_inside_and_even(low, width, count):
    ticks = linear_ticks(low, low + width, count)
    assert 1 <= len(ticks) <= count + 1
    assert low - 1e-6 * width <= ticks[0] <= ticks[-1] <= low + width + 1e-6 * width
    assert np.allclose(np.diff(ticks), np.diff(ticks)[:1], rtol=1e-4)


def test_chart_scales_the_first_and_last_point_to_the_plot():
    page = chart_html(Chart("Reward", [Series("r", [0, 10], [0.0, 1.0])]))
    # x from 50 to 388; y from 194 (0) to 10 (1.04), so 1.0 lies at 194 - 184 / 1.04 = 17.1
    assert 'class="curve" d="M50.0 194.0L388.0 17.1"' in page
    assert "<b>1</b>" in page


def test_chart_leaves_gaps_and_draws_bands():
    gap = chart_html(Chart("r", [Series("r", range(5), [1, 2, NAN, 4, float("inf")], [0, 1, NAN, 3, 3], [2] * 5)]))
    assert gap.count('class="curve"') == 2
    assert gap.count('class="band"') == 2
    logarithmic = chart_html(Chart("tau", [Series("t", [0, 1, 2], [0, 10, 100])], log=True))
    assert "nan" not in gap + logarithmic
    assert "inf" not in gap + logarithmic


def test_chart_of_one_value_or_none():
    assert "<svg" in chart_html(Chart("one", [Series("r", [0], [0.0])]))
    assert "<svg" in chart_html(Chart("one", [Series("r", [7], [7.0])], log=True))
    assert "No values" in chart_html(Chart("none", [Series("r", [0, 1], [NAN, NAN])]))
    assert "No values" in chart_html(Chart("none", [Series("r", [], [])]))


def test_chart_refuses_what_it_cannot_draw():
    with pytest.raises(ValueError, match=r"'r' of 'c': .* lengths \[2, 3, 2, 2\]"):
        chart_html(Chart("c", [Series("r", [0, 1], [1, 2, 3])]))
    with pytest.raises(ValueError, match="0 series"):
        chart_html(Chart("c", []))


# --- map and examples ---


def test_map_draws_every_stage_and_marks_failures():
    truth = [0.0, 10.0, 20.0], [0.0, 10.0, 179.0]
    first = Predictions(*truth, [0, NAN, 20], [20, NAN, -179], failures=(None, HOSTILE, None))
    page = world_map_html({"first": first, "second": Predictions(*truth, *truth)})
    assert page.count('type="radio"') == 2
    assert page.count(" checked") == 1
    one, two = page.split('<g class="stage stage-1">')
    assert one.count('class="guess"') == 2
    assert one.count('class="truth none"') == 1
    assert '<g class="pair d3"><title>2,224 km apart\ntruth 0.00° N, 0.00° E\nguess 0.00° N, 20.00° E</title>' in one
    assert 'class="guess" d="M20000 9000h0"' in one  # (0, 20): hundredths of a degree from 180 W and 90 N
    crossing = re.search(r'class="line" d="(M35900 7000l[^"]*)"', one).group(1)
    assert crossing.count("M") == 2  # cut at the date line
    assert two.count('class="guess"') == 3
    assert "1 of them with a failed answer" in page
    assert "<script" not in page


def test_map_shows_the_same_places_for_every_stage():
    rng = np.random.default_rng(0)
    truth = rng.uniform(-60, 60, 400), rng.uniform(-180, 180, 400)
    page = world_map_html({name: Predictions(*truth, *truth) for name in "ab"}, max_places=50)
    assert page.count('class="guess"') == 100
    shown = [re.findall(r'class="truth" d="([^"]*)"', stage) for stage in page.split("stage stage-1")[:2]]
    assert len(shown[0]) == 50
    assert shown[0] == shown[1]


def test_pick_examples():
    assert pick_examples([5, NAN, 1, 9, 3], 2) == [(2, "best"), (4, "best"), (1, "worst"), (3, "worst")]
    assert pick_examples([5, NAN, 1, 9, 3], 1, middle=1) == [(2, "best"), (0, "median"), (1, "worst")]
    assert sorted(index for index, _ in pick_examples([1, 2], 4, middle=3)) == [0, 1]


def test_example_embeds_the_picture_unchanged():
    page = example_html(
        Example("best", [JPEG], "Lyon", 45.76, 4.84, [StageAnswer("SFT", "", None), StageAnswer("B", "x", 12.3)])
    )
    (data,) = re.findall(r'src="data:image/jpeg;base64,([^"]*)"', page)
    assert base64.b64decode(data) == JPEG
    assert "empty answer" in page
    assert ">failed<" in page
    assert '<span class="distance d0">12 km</span>' in page
    with pytest.raises(ValueError, match=r"starts with b'<svg'"):
        example_html(Example("best", [b"<svg"], "", 0, 0, []))


# --- the page ---


class Tags(HTMLParser):
    """Collects each start tag with its attributes, and all text."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def hostile_report(path):
    predictions = Predictions([1, 2], [3, 4], [1, NAN], [3, NAN], failures=(None, HOSTILE))
    row = Row(HOSTILE, summarize(predictions), bootstrap_intervals(predictions, 20))
    return write_report(
        path,
        title=HOSTILE,
        tables=[Table(HOSTILE, [row], HOSTILE)],
        maps={HOSTILE: predictions},
        charts=[Chart(HOSTILE, [Series(HOSTILE, [0, 1], [1, 2])] * 2, x_label=HOSTILE)],
        examples=[Example(HOSTILE, [JPEG], HOSTILE, 1, 3, [StageAnswer(HOSTILE, HOSTILE, 1.0)])],
        configuration={HOSTILE: HOSTILE},
        versions={HOSTILE: HOSTILE},
        command=HOSTILE,
        notes=[HOSTILE],
    )


def test_hostile_text_stays_text(tmp_path):
    page = hostile_report(tmp_path / "report.html").read_text(encoding="utf-8")
    parser = Tags()
    parser.feed(page)
    assert {tag for tag, _ in parser.tags}.isdisjoint({"iframe", "object", "link", "base", "a", "form"})
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)  # the maps' own, the only one that the page allows
    assert script == resources.files("geospot.report").joinpath("map.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"; script-src 'sha256-{digest}'\"" in page
    for tag, attributes in parser.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "srcdoc"]
        assert attributes.get("href", "#").startswith("#") or tag != "use"
        assert "href" not in attributes or tag == "use"
        assert attributes.get("src", "data:").startswith("data:image/jpeg;base64,") or "src" not in attributes
    assert "".join(parser.text).count("<script>alert(1)</script>") >= 14
    assert "\x00" not in page


def test_page_needs_nothing_else(tmp_path):
    page = hostile_report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "://" not in page
    assert not re.search(r"@import|url\(|@font-face", page)
    assert "default-src 'none'" in page


def test_same_arguments_same_bytes_and_a_failed_write_keeps_the_old_file(tmp_path):
    path = hostile_report(tmp_path / "runs" / "report.html")
    before = path.read_bytes()
    assert hostile_report(path).read_bytes() == before
    with pytest.raises(ValueError, match="0 series"):
        write_report(path, title="t", tables=[], charts=[Chart("c", [])])
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_sections_that_are_not_given_are_not_there(tmp_path):
    page = write_report(tmp_path / "r.html", title="Only a title", tables=[]).read_text(encoding="utf-8")
    assert "<h2>" not in page
    assert "<h1>Only a title</h1>" in page
