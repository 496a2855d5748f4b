"""The Blue Marble world: places on land, evenly spread, and held-out sets that are what they claim to be."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from geospot.data.world.mosaic import BlueMarble, WorldConfig, is_land
from geospot.earth.anchors import anchor_cities, nearest_anchor
from geospot.earth.distance import EARTH_RADIUS_KM, chord, destination, haversine_km, unit_vectors


@pytest.fixture(scope="module")
def world():
    return BlueMarble()


def test_known_land_and_sea():
    land = [(48.85, 2.35), (-33.9, 151.0), (0.3, 32.6), (64.1, -21.0)]
    sea = [(0.0, 0.0), (30.0, -40.0), (-75.0, 0.0), (50.0, -179.0)]
    assert is_land(*np.array(land).T).all()
    assert not is_land(*np.array(sea).T).any()


def test_places_are_on_land_and_spread_evenly_over_the_sphere(world):
    places = BlueMarble(WorldConfig(n_far_caps=0)).places("train", 20_000)
    assert is_land(*places.T).all()
    # On an even spread the share of places in a band of latitude is the share of the land's area there.
    rng = np.random.default_rng(7)
    lat, lon = np.degrees(np.arcsin(rng.uniform(-1, 1, 400_000))), rng.uniform(-180, 180, 400_000)
    land = lat[is_land(lat, lon)]
    bands = np.arange(-60, 91, 15)
    want = np.histogram(land, bands)[0] / len(land)
    have = np.histogram(places[:, 0], bands)[0] / len(places)
    assert np.abs(want - have).max() < 0.015


def test_the_same_seed_gives_the_same_places_and_another_seed_others(world):
    np.testing.assert_array_equal(world.places("eval"), BlueMarble().places("eval"))
    assert not np.array_equal(world.places("eval"), BlueMarble(WorldConfig(seed=1)).places("eval"))
    np.testing.assert_array_equal(world.places("train", 500), world.places("train", 3000)[:500])


@pytest.mark.parametrize("stream", ["train", "pretrain"])
def test_no_training_place_is_near_an_eval_place(world, stream):
    tree = cKDTree(unit_vectors(*world.places("eval").T))
    nearest, _ = tree.query(unit_vectors(*world.places(stream, 20_000).T))
    assert nearest.min() >= chord(world.config.eval_gap_km)


@pytest.mark.parametrize("stream", ["train", "pretrain", "eval"])
def test_no_pixel_of_an_eval_far_picture_is_in_another_picture(world, stream):
    """Corner to corner: two pictures can only overlap when their centres are nearer than two half diagonals."""
    far = world.places("eval-far")
    others = world.places(stream, 20_000)
    distance = haversine_km(others[:, :1], others[:, 1:], far[:, 0], far[:, 1])
    assert distance.min() > world.config.width_km * np.sqrt(2)


def test_eval_far_places_lie_in_their_caps(world):
    far, centres = world.places("eval-far"), world.far_centres
    distance = haversine_km(far[:, :1], far[:, 1:], centres[:, 0], centres[:, 1]).min(axis=1)
    assert distance.max() <= world.config.far_cap_km
    assert len(far) == world.config.n_eval_far


def test_a_picture_shows_the_ground_around_its_centre(world):
    """Each pixel against a plain look-up of the mosaic at the pixel's own coordinates."""
    lat, lon, pixels, width = 40.0, 179.0, world.config.pixels, world.config.width_km
    picture = world.picture(lat, lon).astype(int)
    for row, col in [(0, 0), (10, 90), (56, 56), (111, 3), (111, 111)]:
        east = ((col + 0.5) / pixels - 0.5) * width
        north = (0.5 - (row + 0.5) / pixels) * width
        there = destination(lat, lon, np.degrees(np.arctan2(east, north)), np.hypot(east, north))
        source_row = int(np.clip((90 - there[0]) / 180 * 2700, 0, 2699))
        source_col = int((there[1] + 180) / 360 * 5400) % 5400
        around = world._source[max(0, source_row - 1) : source_row + 2, [(source_col + d) % 5400 for d in (-1, 0, 1)]]
        assert (picture[row, col] >= around.min((0, 1)) - 1).all()
        assert (picture[row, col] <= around.max((0, 1)) + 1).all()


@pytest.mark.parametrize("lat", [89.9, 66.0, 0.0, -59.9])
def test_the_date_line_leaves_no_seam(world, lat):
    """The same place by two names, and a picture whose two halves lie on either side of it."""
    east, west = world.picture(lat, 180.0).astype(int), world.picture(lat, -180.0).astype(int)
    assert np.abs(east - west).max() <= 1
    middle = np.abs(np.diff(west, axis=1)).mean(axis=(0, 2))
    assert middle[55] <= 3 * np.median(middle) + 1


def test_zoom_is_a_knob():
    """A coast 300 km away is in a wide picture and not in a narrow one."""
    wide = BlueMarble(WorldConfig(width_km=2000)).picture(46.0, 3.0).astype(int)
    narrow = BlueMarble(WorldConfig(width_km=200)).picture(46.0, 3.0).astype(int)
    blue = [((p[..., 2] > p[..., 0] + 40) & (p[..., 2] > 60)).mean() for p in (wide, narrow)]
    assert blue[0] > 0.05
    assert blue[1] == 0.0


def test_too_many_far_cells_are_refused_by_name():
    with pytest.raises(ValueError, match="n_far_caps=200"):
        _ = BlueMarble(WorldConfig(n_far_caps=200)).far_centres


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split='test'"):
        BlueMarble().places("test", 3)


def test_anchor_cities_are_far_apart_within_a_country():
    names, codes, xyz = anchor_cities()
    assert {"Shanghai", "Istanbul", "Lagos"} <= set(names)
    for code in ("CN", "US", "BR"):
        mine = xyz[codes == code]
        cosine = mine @ mine.T - 2 * np.eye(len(mine))
        assert np.arccos(cosine.max()) * EARTH_RADIUS_KM > 399


def test_nearest_anchor_stays_in_the_country():
    assert nearest_anchor([47.9], [1.9], ["FR"]) == ["Paris"]
    assert nearest_anchor([47.9], [1.9], ["DE"]) != ["Paris"]
