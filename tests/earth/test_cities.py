"""The city table is read from its JSON once; what is kept gives the same table, and its loss costs time alone."""

import numpy as np
import pytest

from geospot.earth import cities
from geospot.earth.borders import Borders
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
