"""Which polygon holds a point: Natural Earth's 10 m admin-1 polygons (public domain), cut into rows of latitude.

Each row keeps, from west to east, the longitudes at which a polygon begins or the land ends. A lookup is then one
binary search, so a million points take a fraction of a second and no geometry library is needed. Rows are
ROW_DEG apart, which puts a point at most half of that (560 m) on the wrong side of a border.
"""

import io
import json
import lzma
from functools import cached_property
from importlib.resources import files

import numpy as np
from scipy.spatial import cKDTree

from geospot.earth.distance import unit_vectors

STEP_DEG = 0.0005  # the unit of the packed vertices; scripts/build_borders.py writes it
ROW_STEPS = 20
ROW_DEG = ROW_STEPS * STEP_DEG

# A crossing is one integer: its row, its longitude, its polygon, and whether that begins there or ends.
_POLYGON_BITS, _X_BITS = 13, 20
_X_SHIFT = _POLYGON_BITS + 1
_ROW_SHIFT = _X_SHIFT + _X_BITS
_NORTH_STEPS, _EAST_STEPS = int(90 / STEP_DEG), int(180 / STEP_DEG)

# Edges longer than this get points between their ends before distances to the shore are taken.
_SHORE_STEP_DEG = 0.05


class Borders:
    """The polygons. `at(lat, lon)` is the polygon of each point; `nearest_shore` serves those at sea."""

    def __init__(self):
        packed = np.load(io.BytesIO(lzma.decompress((files("geospot.earth") / "data" / "borders.xz").read_bytes())))
        self.polygons: list[dict] = json.loads(packed["polygons"].tobytes())
        self._ring_polygon, sizes = packed["ring_polygon"], packed["ring_size"]
        planes = np.ascontiguousarray(packed["steps"].transpose(0, 2, 1))
        steps = planes.view("<i4").reshape(2, -1)
        starts = np.cumsum(sizes) - sizes
        self._steps = np.cumsum(steps, axis=1, dtype=np.int32)
        # The differences run on from ring to ring; each ring begins with its own first vertex.
        before = np.where(starts[:, None] > 0, self._steps[:, starts - 1].T, 0)
        self._steps -= np.repeat(before, sizes, axis=0).T
        self._ring = np.repeat(np.arange(len(sizes)), sizes)
        self._keys, self._polygon = self._rows()

    def _rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Sorted (row, longitude) keys of where something begins, and which polygon does; -1 for the sea."""
        (x, y), ring = self._steps, self._ring
        edge = np.flatnonzero((ring[1:] == ring[:-1]) & (y[1:] != y[:-1]))
        down = y[edge + 1] < y[edge]  # rings keep their inside on the left, so the inside lies east of these
        south, north = np.where(down, edge + 1, edge), np.where(down, edge, edge + 1)
        first, last = _row_above(y[south]), _row_above(y[north])
        crossings = last - first
        of = np.repeat(np.arange(len(edge)), crossings)
        row = first[of] + np.arange(len(of)) - np.repeat(np.cumsum(crossings) - crossings, crossings)
        slope = (x[north] - x[south]) / (y[north] - y[south])
        at = x[south][of] + slope[of] * (row * ROW_STEPS + ROW_STEPS // 2 - _NORTH_STEPS - y[south][of])
        key = (row.astype(np.int64) << _ROW_SHIFT) | ((np.rint(at).astype(np.int64) + _EAST_STEPS) << _X_SHIFT)
        polygon = self._ring_polygon[ring[edge]].astype(np.int64)
        key |= ((self._ring_polygon[ring[edge]].astype(np.int64) << 1) | down)[of]
        return _starts(key)

    def at(self, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
        """Index into `polygons` of the one that holds each point (N,), -1 at sea. Finite degrees, lon any turn."""
        row = np.clip((lat + 90.0) / ROW_DEG, 0, 2 * _NORTH_STEPS // ROW_STEPS - 1).astype(np.int64)
        x = (((lon + 180.0) % 360.0) / STEP_DEG + 0.5).astype(np.int64)
        i = np.searchsorted(self._keys, (row << _X_BITS) | x, side="right") - 1
        found = self._polygon[np.maximum(i, 0)]
        return np.where((i >= 0) & (self._keys[np.maximum(i, 0)] >> _X_BITS == row), found, np.int16(-1))

    @cached_property
    def _shore(self) -> tuple[cKDTree, np.ndarray]:
        """Points along all borders, and their polygons."""
        xy, polygon = self._steps.T * STEP_DEG, self._ring_polygon[self._ring]
        edge = np.flatnonzero(self._ring[1:] == self._ring[:-1])
        long = edge[np.abs(xy[edge + 1] - xy[edge]).max(axis=1) > _SHORE_STEP_DEG]
        pieces = np.ceil(np.abs(xy[long + 1] - xy[long]).max(axis=1) / _SHORE_STEP_DEG).astype(np.int64)
        of = np.repeat(np.arange(len(long)), pieces)
        share = (np.arange(len(of)) - np.repeat(np.cumsum(pieces) - pieces, pieces)) / pieces[of]
        between = xy[long][of] + share[:, None] * (xy[long + 1] - xy[long])[of]
        xy, polygon = np.concatenate([xy, between]), np.concatenate([polygon, polygon[long][of]])
        vectors = unit_vectors(xy[:, 1], xy[:, 0])
        return cKDTree(vectors, leafsize=32, balanced_tree=False, compact_nodes=False), polygon

    def nearest_shore(self, vectors: np.ndarray, chord: float) -> tuple[np.ndarray, np.ndarray]:
        """The polygon nearest to each unit vector (N, 3), -1 for none within `chord`, and the chord to it."""
        tree, polygon = self._shore
        chords, i = tree.query(vectors, distance_upper_bound=chord)
        return np.where(np.isfinite(chords), np.append(polygon, -1)[i], -1), chords


def _row_above(y: np.ndarray) -> np.ndarray:
    """The first row whose middle is not below y (in steps from the equator)."""
    return -((ROW_STEPS // 2 - (y + _NORTH_STEPS)) // ROW_STEPS)


def _starts(key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From crossings, where something begins (sorted) and which polygon does, -1 for the sea."""
    key.sort()
    for _ in range(2):  # a polygon that begins and ends at one longitude of a row has no width there
        empty = np.flatnonzero((key[1:] ^ key[:-1]) == 1)
        key = np.delete(key, np.concatenate([empty, empty + 1]))
    where = key >> _X_SHIFT
    first = np.flatnonzero(np.diff(where, prepend=-1))
    begins = np.where(key & 1, (key >> 1) & ((1 << _POLYGON_BITS) - 1), -1).astype(np.int16)
    return where[first], np.maximum.reduceat(begins, first)  # where one polygon ends another often begins: it counts
