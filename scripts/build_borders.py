"""Pack Natural Earth's 10 m admin-1 polygons (public domain) into src/geospot/earth/data/borders.xz.

    apt-get download qgis-common && dpkg-deb -x qgis-common_*.deb qgis
    uv run --with shapely python scripts/build_borders.py qgis/usr/share/qgis/resources/data/world_map.gpkg

The file: an lzma-compressed .npz of `polygons` (JSON: per polygon its country, names and, where states disagree, its
claim), `ring_polygon` and `ring_size` (rings), and `steps`, the vertices in units of 0.0005 degrees (about 50 m) as
differences within each ring, split into byte planes, which compress better. Nothing is simplified. Rings keep the
inside on their left.
"""

import io
import json
import lzma
import sqlite3
import sys
from pathlib import Path

import numpy as np
import shapely

TARGET = Path(__file__).parent.parent / "src/geospot/earth/data/borders.xz"
STEP_DEG = 0.0005
# The Vatican is missing from the polygons: this box around its walls is cut out of Italy.
VATICAN = shapely.box(12.4458, 41.9003, 12.4580, 41.9072)
# Morocco's southern border as ISO-3166 draws it: 27 degrees 40 minutes north.
SAHARA_NORTH_DEG = 27 + 40 / 60

# Natural Earth's units without an ISO code of their own, by `adm0_a3`: (country, claim or None of CLAIMS).
UNITS = {
    "SOL": ("SO", "somaliland"),
    "CYN": ("CY", "northern_cyprus"),
    "ESB": ("CY", "akrotiri_dhekelia"),
    "WSB": ("CY", "akrotiri_dhekelia"),
    "USG": ("CU", "guantanamo"),
    "KAB": ("KZ", "baykonur"),
    "KAS": ("IN", "siachen"),
    "CLP": ("FR", None),
    "PGA": (None, "spratly"),
}
# Polygons by (iso_a2, name) that belong to a code of their own in ISO-3166, or whose country states disagree on.
PROVINCES = {
    ("FR", "Mayotte"): ("YT", None),
    ("FR", "La Réunion"): ("RE", None),
    ("FR", "Guadeloupe"): ("GP", None),
    ("FR", "Martinique"): ("MQ", None),
    ("FR", "Guyane française"): ("GF", None),
    ("NO", "Svalbard"): ("SJ", None),
    ("NO", "Jan Mayen"): ("SJ", None),
    ("NO", "Bouvet Island"): ("BV", None),
    ("RU", "Crimea"): ("UA", "crimea"),
    ("RU", "Sevastopol"): ("UA", "crimea"),
    ("MA", "Laâyoune - Boujdour - Sakia El Hamra"): ("EH", "western_sahara"),
    ("MA", "Oued el Dahab"): ("EH", "western_sahara"),
    ("-1", "Christmas Island"): ("CX", None),
    ("-1", "Cocos (Keeling) Islands"): ("CC", None),
    ("NL", "Bonaire"): ("BQ", None),
    ("NL", "Saba"): ("BQ", None),
    ("NL", "St. Eustatius"): ("BQ", None),
}
# Countries all of whose polygons carry a claim.
CLAIMED_COUNTRIES = {"EH": "western_sahara", "XK": "kosovo", "TW": "taiwan", "PS": "palestine", "FK": "falklands"}


def read(path: str) -> tuple[np.ndarray, list[dict]]:
    """Geometries and, for each, {country, claim, names}."""
    geometries, polygons = [], []
    query = "SELECT geom, iso_a2, name, adm0_a3, gn_name, woe_name FROM states_provinces"
    for blob, iso, name, unit, *others in sqlite3.connect(path).execute(query):
        country, claim = PROVINCES.get((iso, name)) or UNITS.get(unit) or (iso, None)
        names = list(dict.fromkeys(n for n in (name, *others) if n))
        polygon = {"country": country, "claim": claim or CLAIMED_COUNTRIES.get(country), "names": names}
        for geometry, extra in _split_sahara(shapely.from_wkb(_wkb(blob)), country):
            geometries.append(shapely.difference(geometry, VATICAN) if country == "IT" else geometry)
            polygons.append({**polygon, **extra})
    geometries.append(VATICAN)
    polygons.append({"country": "VA", "claim": None, "names": ["Vatican City"]})
    return np.array(geometries), polygons


def _wkb(blob: bytes) -> bytes:
    """The geometry inside a GeoPackage blob: after 8 bytes of header and an envelope whose size the flags tell."""
    return blob[8 + {0: 0, 1: 32, 2: 48, 3: 48, 4: 64}[(blob[3] >> 1) & 7] :]


def _split_sahara(geometry, country):
    """Moroccan provinces that reach into Western Sahara are cut at its northern border."""
    south = shapely.intersection(geometry, shapely.box(-18, 20, -8.6, SAHARA_NORTH_DEG)) if country == "MA" else None
    if south is None or south.area < 1e-6:
        return [(geometry, {})]
    return [
        (shapely.difference(geometry, south), {}),
        (south, {"country": "EH", "claim": "western_sahara"}),
    ]


def pack(geometries: np.ndarray, polygons: list[dict]) -> bytes:
    """The file's bytes."""
    parts, part_polygon = shapely.get_parts(shapely.orient_polygons(geometries), return_index=True)
    rings, ring_part = shapely.get_rings(parts, return_index=True)
    vertices, ring = shapely.get_coordinates(rings, return_index=True)
    steps = np.round(vertices / STEP_DEG).astype(np.int32)
    moved = np.ones(len(steps), dtype=bool)
    moved[1:] = (ring[1:] != ring[:-1]) | (steps[1:] != steps[:-1]).any(axis=1)
    steps, ring = steps[moved], ring[moved]
    sizes = np.bincount(ring, minlength=len(rings))
    starts = np.cumsum(sizes) - sizes
    differences = np.diff(steps, axis=0, prepend=np.zeros((1, 2), np.int32))
    differences[starts] = steps[starts]
    buffer = io.BytesIO()
    np.savez(
        buffer,
        polygons=np.frombuffer(json.dumps(polygons, ensure_ascii=False).encode(), np.uint8),
        ring_polygon=part_polygon[ring_part].astype(np.int16),
        ring_size=sizes.astype(np.int32),
        steps=np.ascontiguousarray(differences.T.astype("<i4")).view(np.uint8).reshape(2, -1, 4).transpose(0, 2, 1),
    )
    return lzma.compress(buffer.getvalue(), preset=9 | lzma.PRESET_EXTREME)


def main() -> None:
    geometries, polygons = read(sys.argv[1])
    odd = sorted({p["names"][0] for p in polygons if p["country"] is None or not p["country"].isalpha()})
    TARGET.write_bytes(pack(geometries, polygons))
    print(f"{TARGET.name}: {len(polygons)} polygons, {TARGET.stat().st_size:,} bytes; without a country: {odd}")


if __name__ == "__main__":
    main()
