"""Splits by place: whatever lies on two sides of one is as far apart as was promised."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geospot.data.splits import CellSplit, NearHeldOut, OneSide
from geospot.earth.distance import destination, haversine_km
from geospot.earth.place import Place

SPLIT = CellSplit(fraction=0.2, cell_km=100, margin_km=10, seed=1)
latitudes = st.floats(-90, 90)
longitudes = st.floats(-180, 180)


@given(lat=latitudes, lon=longitudes, bearing=st.floats(0, 360), km=st.floats(0, 9.999))
@settings(max_examples=300)
def test_no_training_place_lies_within_the_margin_of_an_evaluation_place(lat, lon, bearing, km):
    near_lat, near_lon = destination(lat, lon, bearing, km)
    sides = {SPLIT.side(lat, lon), SPLIT.side(float(near_lat), float(near_lon))}
    assert sides != {"train", "eval"}


def test_over_all_pairs_of_a_dense_patch():
    """Places about 5 km apart near a pole, across the date line and at the equator."""
    split = CellSplit(fraction=0.5, cell_km=100, margin_km=10)
    for lat0, lon0 in ((84.0, 10.0), (-47.0, 178.0), (0.0, -1.0)):
        lats = lat0 + np.linspace(-1.5, 1.5, 70)
        lons = (lon0 + np.linspace(-1.5, 1.5, 70) / np.cos(np.radians(lat0)) + 180) % 360 - 180
        grid = [(float(a), float(b)) for a in lats for b in lons]
        sides = np.array([split.side(*place) for place in grid])
        evals, trains = (np.array(grid)[sides == side] for side in ("eval", "train"))
        assert len(evals) > 50
        assert len(trains) > 500
        apart = haversine_km(evals[:, None, 0], evals[:, None, 1], trains[None, :, 0], trains[None, :, 1])
        assert apart.min() >= split.margin_km


def test_the_share_that_is_held_out_is_the_one_asked_for():
    rng = np.random.default_rng(0)
    lats = np.degrees(np.arcsin(rng.uniform(-1, 1, 20_000)))
    sides = [SPLIT.side(float(lat), float(lon)) for lat, lon in zip(lats, rng.uniform(-180, 180, 20_000), strict=True)]
    held = sides.count("eval") + sides.count("rim")
    assert held / 20_000 == pytest.approx(0.2, abs=0.03)
    assert sides.count("eval") / held == pytest.approx(0.8 * 0.8, abs=0.06)  # all but 10 km at each border of 100


def test_the_split_is_the_same_again_and_another_for_another_seed():
    places = [(float(lat), float(lon)) for lat in range(-80, 81, 5) for lon in range(-180, 180, 5)]
    again = CellSplit(0.2, 100, 10, seed=1)
    other = CellSplit(0.2, 100, 10, seed=2)
    assert [SPLIT.side(*p) for p in places] == [again.side(*p) for p in places]
    assert [SPLIT.side(*p) for p in places] != [other.side(*p) for p in places]


@pytest.mark.parametrize(("kind", "says"), [((0, 100, 1), "eval_fraction=0"), ((0.1, 100, 50), "holdout_km=50")])
def test_a_split_that_cannot_be_is_refused(kind, says):
    with pytest.raises(ValueError, match=says):
        CellSplit(*kind)


@given(lat=latitudes, lon=longitudes, bearing=st.floats(0, 360), km=st.floats(0, 30))
@settings(max_examples=200)
def test_places_near_a_held_out_one_are_refused_with_the_reason(lat, lon, bearing, km):
    refuse = NearHeldOut([Place(lat, lon), Place(0.0, 0.0)], km=10)
    near = Place(*(float(x) for x in destination(lat, lon, bearing, km)))
    if km < 9.99:
        assert refuse(near) == "within 10 km of a held-out place"
    elif km > 10.01 and haversine_km(near.lat, near.lon, 0, 0) > 10.01:
        assert refuse(near) is None


def test_refusals_travel_to_workers():
    for refuse in (NearHeldOut([Place(1.0, 2.0)], 5), OneSide(SPLIT, "train")):
        again = pickle.loads(pickle.dumps(refuse))
        assert again(Place(1.001, 2.0)) == refuse(Place(1.001, 2.0))
