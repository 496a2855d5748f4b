"""The city table is read from its JSON once; what is kept gives the same table, and its loss costs time alone."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from geospot.earth import borders, cities
from geospot.earth.borders import STEP_DEG, Borders
from geospot.earth.distance import chord, unit_vectors
from geospot.earth.gazetteer import COAST_KM, Gazetteer
from geospot.files import cache_folder


@pytest.fixture(scope="module")
def made():
    return cities.make_table()


def the_file():
    (path,) = cache_folder().glob("cities-*.npz")
    return path


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_the_kept_table_is_the_table(made, tmp_path, monkeypatch):
    monkeypatch.setenv("GEOSPOT_CACHE", str(tmp_path / "new" / "folder"))
    monkeypatch.setattr(cities, "make_table", lambda: made)  # what reading the JSON again would give takes seconds
    assert same(cities.read_table(), made)
    assert the_file().is_file()
    monkeypatch.setattr(cities, "make_table", lambda: pytest.fail("the JSON was read again"))
    assert same(cities.read_table(), made)


@pytest.mark.parametrize("damage", [b"", b"no archive", None])
def test_a_damaged_table_is_made_anew(made, tmp_path, monkeypatch, damage):
    monkeypatch.setenv("GEOSPOT_CACHE", str(tmp_path))
    monkeypatch.setattr(cities, "make_table", lambda: made)
    cities.read_table()
    whole = the_file().read_bytes()
    the_file().write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert same(cities.read_table(), made)
    assert the_file().read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_no_error(made, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GEOSPOT_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(cities, "make_table", lambda: made)
    assert same(cities.read_table(), made)


def test_columns_agree_in_length_and_know_lyon(made):
    names = made["name"].tobytes().decode().split(cities.BETWEEN)
    row = names.index("Lyon")
    assert len(names) == len(made["lat"]) > 150_000
    assert (round(made["lat"][row], 1), round(made["lon"][row], 1)) == (45.7, 4.8)
    assert len(made["alternates"].tobytes().decode().split(cities.BETWEEN)) == len(names)
    for column, code in (("country", "FR"), ("admin1", "FR.84")):
        codes = made[f"{column}_codes"].tobytes().decode().split(cities.BETWEEN)
        assert len(made[column]) == len(names)
        assert made[column].max() == len(codes) - 1
        assert codes[made[column][row]] == code


def test_kept_borders_are_the_borders(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOSPOT_CACHE", str(tmp_path))
    made, kept = Borders(), Borders()
    assert len(list(tmp_path.glob("borders-*.npz"))) == 1
    lat, lon = np.random.default_rng(0).uniform(-1, 1, (2, 20_000)) * [[90], [180]]
    assert np.array_equal(made.at(lat, lon), kept.at(lat, lon))
    assert made.polygons == kept.polygons


def test_a_city_bears_the_names_that_it_has_and_no_other():
    """`bears` looks at first letters before it folds: for every fortieth city, and for names of others."""
    table = cities.Cities()
    rows = range(0, len(table), 40)
    for row, other in zip(rows, [*rows[1:], rows[0]], strict=True):
        names = cities.Cities.names(table, row)
        table._folded.clear()
        for name in (*names, *cities.Cities.names(table, other)):
            table._folded.clear()
            assert table.bears(row, name) == (name in names), (row, name)


@pytest.fixture(scope="module")
def gazetteer():
    return Gazetteer.load()


@pytest.mark.parametrize("km", [COAST_KM, 150.0])
def test_the_nearest_shore_is_the_nearest_of_all_points_along_borders(gazetteer, km):
    rng = np.random.default_rng(3)
    near = rng.integers(len(gazetteer.cities), size=30)
    lat = np.r_[gazetteer.cities.lat[near] + rng.normal(0, 0.2, 30), rng.uniform(-19, -15, 20), 84.5, -90.0, 90.0, 0.0]
    lon = np.r_[
        gazetteer.cities.lon[near] + rng.normal(0, 0.2, 30), 180 + rng.normal(0, 0.5, 20), 178.0, 0.0, 0.0, -30.0
    ]
    vectors, of = unit_vectors(lat, lon), gazetteer.borders
    along = of._along % (2 * 360_000 + 1) - 360_000
    every = unit_vectors(of._along_y * STEP_DEG, along * STEP_DEG)
    distances, nearest = cKDTree(every, balanced_tree=False).query(vectors, distance_upper_bound=float(chord(km)))
    polygon, chords = of.nearest_shore(vectors, float(chord(km)))
    assert chords.tolist() == distances.tolist()
    assert polygon.tolist() == np.append(of._along_polygon, -1)[nearest].tolist()
    assert 20 < np.isfinite(chords).sum() < len(chords)


def test_many_points_at_sea_are_compared_a_part_at_a_time(gazetteer, monkeypatch):
    vectors = unit_vectors(np.linspace(-60, 70, 40), np.linspace(-75, 170, 40))
    whole = gazetteer.borders.nearest_shore(vectors, float(chord(400.0)))
    monkeypatch.setattr(borders, "_PAIRS", 500)
    parts = gazetteer.borders.nearest_shore(vectors, float(chord(400.0)))
    assert np.isfinite(whole[1]).any()
    assert [part.tolist() for part in parts] == [found.tolist() for found in whole]
    assert [len(found) for found in gazetteer.borders.nearest_shore(np.empty((0, 3)), 0.1)] == [0, 0]


def test_namesakes_are_the_cities_of_one_english_name(gazetteer):
    names = gazetteer.cities.name
    springfield, lyon = (int(np.flatnonzero(names == name)[0]) for name in ("Springfield", "Lyon"))
    found = gazetteer.cities.namesakes([springfield, lyon, springfield])
    assert found == np.flatnonzero(names == "Springfield").tolist()
    assert len(found) > 5
    assert gazetteer.cities.namesakes([lyon]) == []
