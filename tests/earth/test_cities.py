"""The city table is read from its JSON once; what is kept gives the same table, and its loss costs time alone."""

import numpy as np
import pytest

from geospot.earth import cities


@pytest.fixture(scope="module")
def made():
    return cities.make_table()


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_the_kept_table_is_the_table(made, tmp_path, monkeypatch):
    monkeypatch.setenv("GEOSPOT_CACHE", str(tmp_path / "new" / "folder"))
    assert same(cities.read_table(), made)
    assert cities.cache_path().is_file()
    monkeypatch.setattr(cities, "make_table", lambda: pytest.fail("the JSON was read again"))
    assert same(cities.read_table(), made)


@pytest.mark.parametrize("damage", [b"", b"no archive", None])
def test_a_damaged_table_is_made_anew(made, tmp_path, monkeypatch, damage):
    monkeypatch.setenv("GEOSPOT_CACHE", str(tmp_path))
    monkeypatch.setattr(cities, "make_table", lambda: made)
    cities.read_table()
    whole = cities.cache_path().read_bytes()
    cities.cache_path().write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert same(cities.read_table(), made)
    assert cities.cache_path().read_bytes() == whole


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
    for column in ("alternates", "country", "admin1"):
        assert len(made[column].tobytes().decode().split(cities.BETWEEN)) == len(names)
