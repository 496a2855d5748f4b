"""The reward by hand, each knob, and its properties."""

import re
import sys
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
from gaming import MOMENTS
from hypothesis import given
from hypothesis import strategies as st

from geospot.curves import CURVES
from geospot.earth.place import Place
from geospot.errors import RunError
from geospot.reward import TAU_SCHEDULES, AdaptiveTau, RewardConfig, combine, reward_parts, weighted_parts


@dataclass
class Said:
    lat: float | None = None
    lon: float | None = None
    city: str | None = None
    region: str | None = None
    country: str | None = None
    error: str | None = None


SF = Place(37.7749, -122.4194, "San Francisco", "California", "United States")
PERFECT = Said(37.7749, -122.4194, "San Francisco", "California", "United States")
# 1 degree of latitude is 111.195 km on the sphere of R = 6371.0088 km.
DEGREE_KM = 6371.0088 * np.pi / 180
CONFIG = RewardConfig()


def total(said, truth=SF, progress=0.0, config=CONFIG) -> float:
    return float(reward_parts([said], [truth], progress, config).total[0])


def test_defaults_are_the_missions():
    assert (CONFIG.coord_tau, CONFIG.coord_weight, CONFIG.hierarchy_weight) == (25.0, 0.7, 0.1)


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_a_perfect_answer_earns_1(progress):
    assert total(PERFECT, progress=progress) == pytest.approx(1.0)


def test_by_hand():
    """One degree north of the truth, same country, wrong city; California by the coordinates."""
    said = Said(38.7749, -122.4194, "Redding", None, "USA")
    early = 0.3 * np.exp(-DEGREE_KM / 2000) + (0.7 / 3) * (1 + 1 + 0)
    late = 0.7 * np.exp(-DEGREE_KM / 25) + 0.1 * (1 + 1 + 0)
    middle = 0.5 * np.exp(-DEGREE_KM / np.sqrt(2000 * 25)) + (0.7 / 3 + 0.1) / 2 * 2
    for progress, expected in ((0.0, early), (0.5, middle), (1.0, late)):
        assert total(said, progress=progress) == pytest.approx(expected, abs=1e-9)


def test_parts_by_hand():
    parts = reward_parts(
        [PERFECT, Said(36.7749, -122.4194, "Fresno", None, "US"), Said(error="empty")], [SF] * 3, 1.0, CONFIG
    )
    assert parts.distance_km[:2] == pytest.approx([0, DEGREE_KM], abs=1e-6)
    assert np.isnan(parts.distance_km[2])
    assert parts.coordinate == pytest.approx([1, np.exp(-DEGREE_KM / 25), 0])
    assert parts.country.tolist() == [1, 1, 0]
    assert parts.region.tolist() == [1, 0, 0]  # 36.77 N, 122.42 W is the Pacific, 40 km off
    assert parts.city.tolist() == [1, 0, 0]
    assert parts.format.tolist() == [1, 1, 0]
    assert parts.total[2] == 0


def test_tau_tightens_geometrically():
    assert [CONFIG.at(p).tau_km for p in (0, 0.5, 1)] == pytest.approx([2000, np.sqrt(2000 * 25), 25])


@pytest.mark.parametrize(
    ("knob", "value", "progress"),
    [
        ("coord_tau_start", 500.0, 0.0),
        ("coord_tau", 100.0, 1.0),
        ("coord_weight_start", 0.1, 0.0),
        ("coord_weight", 0.4, 1.0),
        ("hierarchy_weight_start", 0.1, 0.0),
        ("hierarchy_weight", 0.05, 1.0),
        ("format_weight", 0.1, 0.5),
    ],
)
def test_each_knob_changes_the_reward(knob, value, progress):
    """At the progress where it acts, alone, and where every other weight is 0 (a sum in a divisor would cancel it)."""
    said = Said(38.0, -122.4194, "Redding", None, "USA")
    base = replace(CONFIG, coord_weight=0.5, coord_weight_start=0.2, hierarchy_weight_start=0.2)
    assert abs(total(said, SF, progress, replace(base, **{knob: value})) - total(said, SF, progress, base)) > 1e-3
    if "tau" not in knob:
        alone = {f.name: 0.0 for f in fields(CONFIG) if "weight" in f.name}
        pair = {knob, knob.removesuffix("_start"), f"{knob.removesuffix('_start')}_start"} & alone.keys()
        full = RewardConfig(**alone | dict.fromkeys(pair, value))
        half = RewardConfig(**alone | dict.fromkeys(pair, value / 2))
        assert total(said, SF, progress, half) == pytest.approx(total(said, SF, progress, full) / 2)


def test_knobs_are_all_tested():
    assert {f.name for f in fields(RewardConfig)} == {
        "coord_tau_start", "coord_tau", "coord_weight_start", "coord_weight", "hierarchy_weight_start",
        "hierarchy_weight", "format_weight", "form_penalty", "reward_curve", "tau_schedule",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"coord_weight": 0.9}, "at the end of a run a perfect answer would earn 1.2"),
        ({"format_weight": 0.1}, "at the start of a run"),
        ({"coord_tau": 0.0}, "coord_tau=0.0"),
        ({"coord_tau": 3000.0}, "coord_tau=3000.0 > coord_tau_start=2000.0"),
        ({"coord_weight": -0.1}, "coord_weight=-0.1"),
        ({"hierarchy_weight": float("nan")}, "hierarchy_weight=nan"),
        ({"coord_weight_start": 0.0, "hierarchy_weight_start": 0.0}, "at the start"),
        ({"form_penalty": -1.0}, "form_penalty=-1.0: must be >= 0"),
        ({"reward_curve": "expp"}, "reward_curve=expp: must be one of exp, two_scale"),
        ({"tau_schedule": "cosin"}, "tau_schedule=cosin: must be one of geometric"),
        ({"reward_curve": "linear", "coord_tau": 50.0}, "coord_tau=50.0: reward_curve=linear has no tau"),
        ({"reward_curve": "thresholds", "tau_schedule": "adaptive"}, "tau_schedule=adaptive: reward_curve=thresholds"),
        ({"form_penalty": 1.0}, "form_penalty=1.0: must be below 1"),
        ({"reward_curve": "math:exp"}, "reward_curve=math:exp: with tau 2000 km it raises TypeError"),
        ({"reward_curve": "math:exp", "coord_tau": 0.0}, "coord_tau=0.0: must be > 0 km"),
    ],
)
def test_bad_configs_say_what_is_wrong(change, says):
    with pytest.raises(ValueError, match=says.replace(".", r"\.")):
        RewardConfig(**change)


@pytest.mark.parametrize("progress", [-0.1, 1.1, float("nan")])
def test_progress_is_a_share(progress):
    with pytest.raises(ValueError, match="progress"):
        CONFIG.at(progress)


def test_missing_truth_labels_neither_pay_nor_cost():
    """The mean over the labels that are there stands for the others; with none, the coordinates do."""
    only_country = Place(37.7749, -122.4194, country="US")
    nothing = Place(37.7749, -122.4194)
    for truth in (only_country, nothing):
        assert total(PERFECT, truth) == pytest.approx(1.0)
        assert total(Said(error="empty"), truth) == 0
    wrong = Said(37.7749, -122.4194, country="France")
    assert total(wrong, only_country) == pytest.approx(0.3)
    degree = Said(38.7749, -122.4194)
    assert total(degree, nothing) == pytest.approx(np.exp(-DEGREE_KM / 2000))


def test_labels_without_coordinates_earn_nothing():
    """A policy that was paid for them learned to leave out the coordinates, which might contradict the labels."""
    said = Said(None, None, "San Francisco", "California", "US", error="no coordinates")
    assert total(said) == 0.0
    assert total(said, progress=1.0) == 0.0


def test_as_many_truths_as_answers():
    with pytest.raises(ValueError, match="2 answers for 1 truths"):
        reward_parts([PERFECT, PERFECT], [SF], 0.0, CONFIG)


def test_no_answers_no_rewards():
    assert reward_parts([], [], 0.0, CONFIG).total.shape == (0,)


def test_impossible_coordinates_are_missing():
    """A latitude of 95 or a longitude of 1e9 is no place, though sines of them exist."""
    for lat, lon in ((95.0, 0.0), (0.0, 1e9), (float("nan"), 0.0), (float("inf"), 0.0)):
        parts = reward_parts([Said(lat, lon, country="US")], [SF], 0.0, CONFIG)
        assert np.isnan(parts.distance_km[0])
        assert parts.coordinate[0] == 0
        assert parts.format[0] == 0


def test_zero_is_a_coordinate():
    gulf = Place(0.0, 0.0)
    assert total(Said(0.0, 0.0), gulf) == pytest.approx(1.0)


# --- curves and schedules ---

shares = st.floats(0, 1)

FAR, NEAR = 1500.0, 25.0
ON_ONE_CURVE = {
    "exp": lambda d, tau: np.exp(-d / tau),
    "two_scale": lambda d, tau: (np.exp(-d / tau) + np.exp(-d / 1500)) / 2,
    "linear": lambda d, tau: 1 - d / (np.pi * 6371.0088),
    "geoguessr": lambda d, tau: np.exp(-d / 1492.7),
    "thresholds": lambda d, tau: sum(d <= r for r in (1, 25, 200, 750, 2500)) / 5,
    "multi_scale": lambda d, tau: sum(np.exp(-d / s) for s in (25, 200, 750, 2500)) / 4,
}


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("distance_km", [0.0, 1.0, 25.0, 111.0, 749.9, 2501.0, 9000.0])
def test_curves_by_hand(curve, distance_km):
    weights = RewardConfig(reward_curve=curve).at(0.5)
    assert weights.coordinate_worth([distance_km]) == pytest.approx(ON_ONE_CURVE[curve](distance_km, weights.tau_km))
    assert weights.coordinate_worth([np.nan]) == 0


def test_the_curve_and_tau_reach_the_reward():
    said = Said(38.7749, -122.4194)
    one_degree = {"exp": np.exp(-DEGREE_KM / 25), "linear": 1 - 1 / 180}
    for curve, worth in one_degree.items():
        parts = reward_parts([said], [SF], 1.0, RewardConfig(reward_curve=curve))
        assert parts.coordinate[0] == pytest.approx(worth)
        assert parts.total[0] >= 0.7 * worth - 1e-9
    weights = RewardConfig(tau_schedule="adaptive").at(1.0, 300.0)
    assert weighted_parts([said], [SF], weights).coordinate[0] == pytest.approx(np.exp(-DEGREE_KM / 300))


# Every curve, one's own among them, wherever each schedule brings tau.
moments = st.sampled_from(sorted(MOMENTS))


@given(moments, st.floats(0, 20_100), st.floats(0, 20_100))
def test_every_curve_is_in_0_to_1_and_never_rises_under_every_schedule(moment, one, other):
    near, far = sorted((one, other))
    worth = MOMENTS[moment].coordinate_worth([near, far])
    assert 1 >= worth[0] >= worth[1] >= 0


@given(moments, st.floats(-80, 80), st.floats(0.01, 20))
def test_every_curve_is_the_same_across_the_date_line_under_every_schedule(moment, lat, off):
    truth, mirrored = Place(lat, 179.99), Place(lat, -179.99)
    east = weighted_parts([Said(lat, 179.99 - off)], [mirrored], MOMENTS[moment])
    west = weighted_parts([Said(lat, -179.99 + off)], [truth], MOMENTS[moment])
    assert east.distance_km == pytest.approx(west.distance_km, abs=1e-6)
    assert east.total == pytest.approx(west.total, abs=1e-6)


@pytest.mark.parametrize("schedule", TAU_SCHEDULES)
def test_schedules_begin_at_the_start_end_at_the_end_and_never_loosen(schedule):
    config = RewardConfig(tau_schedule=schedule)
    taus = [config.at(progress).tau_km for progress in np.linspace(0, 1, 41)]
    assert (taus[0], taus[-1]) == (pytest.approx(2000), pytest.approx(25))
    assert (np.diff(taus) <= 1e-9).all()


def test_schedules_by_hand():
    halfway = {name: RewardConfig(tau_schedule=name).at(0.5).tau_km for name in ("geometric", "linear", "cosine")}
    assert halfway == {
        "geometric": pytest.approx(np.sqrt(2000 * 25)), "linear": pytest.approx(1012.5), "cosine": pytest.approx(1012.5)
    }  # fmt: skip
    steps = {round(RewardConfig(tau_schedule="steps").at(p).tau_km, 6) for p in np.linspace(0, 1, 41)}
    assert sorted(steps) == pytest.approx([25, 25 * 80 ** (1 / 3), 25 * 80 ** (2 / 3), 2000])


@given(st.lists(st.lists(st.one_of(st.floats(0, 20_015), st.just(np.nan)), min_size=1, max_size=5), max_size=20))
def test_adaptive_tau_never_loosens_and_stays_between_start_and_end(steps):
    tau = AdaptiveTau(RewardConfig(tau_schedule="adaptive"))
    seen = [tau.tau_km]
    for distances in steps:
        tau.follow(distances)
        seen.append(tau.tau_km)
    assert seen[0] == 2000
    assert (np.diff(seen) <= 0).all()
    assert min(seen) >= 25


def test_adaptive_tau_follows_the_median_of_the_answers():
    tau = AdaptiveTau(RewardConfig(tau_schedule="adaptive"))
    tau.follow([300.0, 400.0, 500.0])
    assert tau.tau_km == pytest.approx(400)
    tau.follow([100.0, 100.0, 100.0])
    assert tau.tau_km == pytest.approx(400 ** (1 - AdaptiveTau.RATE) * 100**AdaptiveTau.RATE)
    for _ in range(200):
        tau.follow([100.0])
    assert tau.tau_km == pytest.approx(100)
    again = AdaptiveTau(RewardConfig(tau_schedule="adaptive"), dict(tau.state))
    again.follow([50.0])
    tau.follow([50.0])
    assert again.tau_km == tau.tau_km


def test_one_step_of_exact_answers_does_not_tighten_an_adaptive_tau_for_good():
    tau = AdaptiveTau(RewardConfig(tau_schedule="adaptive"))
    tau.follow([1000.0])
    tau.follow([0.0, 0.0, 4000.0])
    assert tau.tau_km == pytest.approx(1000 ** (1 - AdaptiveTau.RATE) * 25**AdaptiveTau.RATE)


def test_a_branch_with_other_ends_keeps_an_adaptive_tau_between_them():
    state = {"tau_km": 500.0, "log_median_km": np.log(500.0)}
    for start_km, end_km, expected in ((300.0, 25.0, 300.0), (2000.0, 600.0, 600.0), (2000.0, 25.0, 500.0)):
        config = RewardConfig(tau_schedule="adaptive", coord_tau_start=start_km, coord_tau=end_km)
        assert AdaptiveTau(config, state).tau_km == expected


def test_answers_without_coordinates_leave_an_adaptive_tau_where_it_is():
    tau = AdaptiveTau(RewardConfig(tau_schedule="adaptive"))
    for _ in range(3):
        tau.follow([np.nan, np.nan])
    assert tau.tau_km == 2000


@pytest.mark.parametrize("name", CURVES)
def test_only_a_curve_with_tau_has_one(name):
    weights = RewardConfig(reward_curve=name).at(0.5)
    moved = replace(weights, tau_km=weights.tau_km / 2).coordinate_worth([300.0])
    assert weights.has_tau == bool(moved != weights.coordinate_worth([300.0]))


lats, lons = st.floats(-90, 90), st.floats(-180, 180)
labels = st.lists(st.sampled_from([0.0, 1.0, np.nan]), min_size=3, max_size=3)


OWN = """
import math
import numpy as np
calls = 0
number = 3.0
def good(km, tau): return 1 / (1 + km / tau)
def single(km, tau): return (0.5 * np.exp(-km.astype("f4") / tau) + 0.5 * np.exp(-km.astype("f4") / 1500)).astype("f4")
def needs_one(km, tau):
    if km.min() < 0: raise ValueError
    return np.exp(-km / tau)
def listing(km, tau): return [1.0 if d < tau else 0.0 for d in km]
def in_place(km, tau):
    km /= -tau
    return np.exp(km)
def above_25(km, tau): return np.exp(-km / (tau - 24)) if tau >= 25 else -km
def scalar(km, tau): return 0.5
def of_math(km, tau): return math.exp(-km / tau)
def above(km, tau): return 2 - km / 20100
def rising(km, tau): return km / 20100
def moving(km, tau):
    global calls
    calls += 1
    return np.full(km.shape, 1 / calls)
def broken(km, tau): return np.full(km.shape, np.nan)
def of_the_batch(km, tau): return 1 - km / max(km.max(), 1)
def by_rank(km, tau): return 1 - np.argsort(np.argsort(km)) / len(km)
def by_position(km, tau): return np.linspace(1, 0, len(km))
def words(km, tau): return "near"
def fails_at_50(km, tau): return np.exp(-km / tau) * (1 if tau != 50 else 2)
def later(km, tau): return np.full(km.shape, 7.0 if len(km) == 4 else 0.5)
"""


@pytest.fixture
def own_curves(tmp_path, monkeypatch):
    """A folder with a module of curves, which is the current one; Python's path does not have it."""
    (tmp_path / "own_curves.py").write_text(OWN)
    (tmp_path / "own_syntax.py").write_text("def f(:")
    (tmp_path / "own_needs.py").write_text("import no_such_package_at_all")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    yield tmp_path
    for name in ("own_curves", "own_syntax", "own_needs"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["good", "single", "needs_one", "listing", "in_place", "above_25"])
def test_a_curve_of_ones_own_lies_in_the_current_folder(name, own_curves):
    weights = RewardConfig(reward_curve=f"own_curves:{name}").at(0.0)
    worth = weights.coordinate_worth([100.0, np.nan, 1900.0])
    assert worth[1] == 0 < worth[2] <= worth[0] <= 1
    assert weights.coordinate_worth([]).shape == (0,)  # a step without any coordinates
    assert weights.coordinate_worth([np.nan]).tolist() == [0]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("own_curves:scalar", r"returns shape \(\) .*a number for each"),
        ("own_curves:of_math", "raises TypeError.*array of 201 distances"),
        ("own_curves:above", r"returns 2 for 0.0 km: must be in \[0, 1\]"),
        ("own_curves:broken", r"returns nan for 0.0 km: must be in \[0, 1\]"),
        ("own_curves:words", "raises ValueError"),
        ("own_curves:rising", "must never rise"),
        ("own_curves:moving", "pure function"),
        ("own_curves:of_the_batch", "each distance alone"),
        ("own_curves:by_rank", "each distance alone"),
        ("own_curves:by_position", "each distance alone"),
        ("own_curves:number", "it is a float, and no function number in .*own_curves.py"),
        ("own_curves:goo", "there is no function goo in .*own_curves.py. Did you mean good"),
        ("own_syntax:f", "importing own_syntax fails: SyntaxError"),
        ("own_needs:f", "importing own_needs fails: ModuleNotFoundError: No module named 'no_such_package_at_all'"),
        ("own_nowhere:f", r"there is no module own_nowhere: put own_nowhere.py into this folder \(/"),
        ("own_curves:", "must name a module and a function"),
        (":good", "must name a module and a function"),
        (".own_curves:good", "must name a module and a function"),
        ("own_curves.py:good", "must name a module and a function"),
        ("./own_curves.py:good", "must name a module and a function"),
    ],
)
@pytest.mark.usefixtures("own_curves")
def test_a_curve_of_ones_own_is_tried_before_any_work(name, says):
    with pytest.raises(ValueError, match=f"^reward_curve={re.escape(name)}: .*{says}"):
        RewardConfig(reward_curve=name)


def test_a_curve_of_ones_own_is_tried_at_the_taus_of_the_run(own_curves):
    RewardConfig(reward_curve="own_curves:fails_at_50")
    with pytest.raises(ValueError, match="with tau 50 km it returns 2"):
        RewardConfig(reward_curve="own_curves:fails_at_50", coord_tau_start=100.0, coord_tau=25.0)


def test_a_curve_that_goes_wrong_in_the_middle_of_a_run_ends_it_by_name(own_curves):
    weights = RewardConfig(reward_curve="own_curves:later").at(0.0)
    assert weights.coordinate_worth([1.0, 2.0]).tolist() == [0.5, 0.5]
    with pytest.raises(RunError, match=r"reward_curve=own_curves:later: with tau 2000 km it returns 7 for 1\.0 km"):
        weights.coordinate_worth([1.0, 2.0, 3.0, 4.0])


def test_a_slow_curve_is_tried_once(own_curves):
    (own_curves / "own_slow.py").write_text(
        "import numpy as np\ncalls = []\ndef f(km, tau):\n    calls.append(tau)\n    return np.exp(-km / tau)\n"
    )
    RewardConfig(reward_curve="own_slow:f")
    calls = len(sys.modules["own_slow"].calls)
    config = RewardConfig(reward_curve="own_slow:f", form_penalty=0.1)
    config.at(0.3)
    assert len(sys.modules.pop("own_slow").calls) == calls > 0


def test_what_is_out_of_form_costs_as_much_where_the_place_earns_nothing():
    """Subtracted and cut off at 0 it would cost nothing there, where it is needed most."""
    lost, nothing = Said(-33.9, 151.2), Said(error="empty")
    said = [PERFECT, PERFECT, lost, lost, nothing]
    parts = reward_parts(said, [SF] * 5, 1.0, CONFIG, form=[1.0, 0.4, 1.0, 0.4, 1.0])
    cost = CONFIG.form_penalty
    assert parts.total == pytest.approx([1.0, 1 - 0.6 * cost, cost, 0.4 * cost, 0.0])
    assert reward_parts(said, [SF] * 5, 1.0, CONFIG).total == pytest.approx([1.0, 1.0, 0.0, 0.0, 0.0])  # no text


@given(moments, st.floats(0, 20_100), labels, st.floats(0, 1), st.floats(0.01, 1))
def test_better_form_earns_more_by_the_same_everywhere(moment, distance, labels, form, more):
    weights = MOMENTS[moment]
    better = min(form + more, 1.0)
    _, pay = combine([distance] * 2, [labels] * 2, [1, 1], weights, [form, better])
    assert pay[1] - pay[0] == pytest.approx(weights.form_penalty * (better - form))


@given(moments, st.floats(0, 20_100), st.floats(0, 20_100), labels, st.booleans(), st.floats(0, 1))
def test_in_0_1_and_non_increasing_in_distance(moment, near, far, labels, read, form):
    near, far = sorted((near, far))
    _, pay = combine([near, far], [labels, labels], [read, read], MOMENTS[moment], [form, form])
    assert 1 >= pay[0] >= pay[1] >= 0


@given(st.floats(0, 20_100), labels, shares, st.integers(0, 2))
def test_a_right_label_never_costs(distance, labels, progress, level):
    if np.isnan(labels[level]):
        return
    wrong, right = labels.copy(), labels.copy()
    wrong[level], right[level] = 0.0, 1.0
    _, pay = combine([distance, distance], [wrong, right], [1, 1], CONFIG.at(progress))
    assert pay[1] > pay[0]


words = st.one_of(st.none(), st.text(max_size=30), st.sampled_from(["France", "Paris", "US", "NA", "Bayern", "nan"]))


@given(
    st.one_of(st.none(), st.floats()), st.one_of(st.none(), st.floats()), words, words, words, lats, lons, words, shares
)
def test_in_0_1_for_anything(lat, lon, city, region, country, true_lat, true_lon, true_country, progress):
    parts = reward_parts(
        [Said(lat, lon, city, region, country)],
        [Place(true_lat, true_lon, city, region, true_country)],
        progress,
        CONFIG,
    )
    assert 0 <= parts.total[0] <= 1
    for part in (parts.coordinate, parts.country, parts.region, parts.city, parts.format):
        assert np.isnan(part[0]) or 0 <= part[0] <= 1


@given(lats, lons, st.sampled_from([-360.0, 360.0]), shares)
def test_longitude_wrap_and_the_date_line(lat, lon, turn, progress):
    """The same meridian written otherwise earns the same (where 360 degrees more is still a longitude)."""
    truth = Place(round(lat, 3), round(lon, 3) % 360 - 180)
    same = Said(truth.lat, truth.lon + turn) if abs(truth.lon + turn) <= 360 else Said(truth.lat, truth.lon)
    assert total(same, truth, progress) == pytest.approx(total(Said(truth.lat, truth.lon), truth, progress), abs=1e-6)


@given(lons, lons, shares)
def test_poles_have_no_longitude(one, other, progress):
    for pole in (-90.0, 90.0):
        assert total(Said(pole, one), Place(pole, other), progress) == pytest.approx(1.0, abs=1e-6)
