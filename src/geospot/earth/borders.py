"""Which polygon holds a point: Natural Earth's 10 m admin-1 polygons (public domain), cut into rows of latitude.

Each row keeps, from west to east, the longitudes at which a polygon begins or the land ends. A lookup is then one
binary search, so a million points take a fraction of a second and no geometry library is needed. Rows are
ROW_DEG apart, which puts a point at most half of that (560 m) on the wrong side of a border.
"""

import io
import json
import lzma
import zlib
from functools import cached_property
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from geospot.earth.cities import kept_arrays
from geospot.earth.distance import tree_of, unit_vectors

FORMAT = 1  # raise it when the arrays change
STEP_DEG = 0.0005  # the unit of the packed vertices; scripts/build_borders.py writes it
ROW_STEPS = 20
ROW_DEG = ROW_STEPS * STEP_DEG
CELL_STEPS = 400  # 0.2 degrees: most of these cells lie in one polygon, which saves the search
ALONG_STEPS = 100  # 0.05 degrees: longer edges get points between their ends where points along borders are needed

# A crossing is one integer: its row, its longitude, its polygon, and whether that begins there or ends.
_POLYGON_BITS, _X_BITS = 13, 20
_X_SHIFT = _POLYGON_BITS + 1
_ROW_SHIFT = _X_SHIFT + _X_BITS
_NORTH_STEPS, _EAST_STEPS = int(90 / STEP_DEG), int(180 / STEP_DEG)
_ROWS = 2 * _NORTH_STEPS // ROW_STEPS

if TYPE_CHECKING:
    from scipy.spatial import cKDTree


class Borders:
    """The polygons. `at(lat, lon)` is the polygon of each point; `nearest_shore` serves those at sea."""

    def __init__(self) -> None:
        packed = (files("geospot.earth") / "data" / "borders.xz").read_bytes()
        table = kept_arrays(f"borders-{zlib.crc32(packed):08x}-{FORMAT}", lambda: make_borders(packed))
        self.polygons: list[dict] = json.loads(table["polygons"].tobytes())
        self._keys, self._polygon, self._cells = table["keys"], table["polygon"], table["cells"]
        self._along = table["along"], table["along_polygon"]

    def at(self, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
        """Index into `polygons` of the one that holds each point (N,), -1 at sea. Finite degrees, lon any turn."""
        row = np.clip((lat + 90.0) * (1 / ROW_DEG), 0, _ROWS - 1).astype(np.int64)
        x = np.minimum(((lon + 180.0) % 360.0) * (1 / STEP_DEG), 2 * _EAST_STEPS - 1).astype(np.int64)
        cell = row // (CELL_STEPS // ROW_STEPS) * (2 * _EAST_STEPS // CELL_STEPS) + x // CELL_STEPS
        found = self._cells[cell]
        mixed = np.flatnonzero(found == -2)
        found[mixed] = _search(self._keys, self._polygon, row[mixed], x[mixed])
        return found

    @cached_property
    def _shore(self) -> "tuple[cKDTree, np.ndarray]":
        """A tree of the points along all borders, and their polygons."""
        (x, y), polygon = self._along
        vectors = unit_vectors(y * STEP_DEG, x * STEP_DEG)
        return tree_of(vectors, leafsize=32), polygon

    def nearest_shore(self, vectors: np.ndarray, chord: float) -> tuple[np.ndarray, np.ndarray]:
        """The polygon nearest to each unit vector (N, 3), -1 for none within `chord`, and the chord to it."""
        tree, polygon = self._shore
        chords, i = tree.query(vectors, distance_upper_bound=chord)
        return np.where(np.isfinite(chords), np.append(polygon, -1)[i], -1), chords


def border_rings() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The vertices (2, V) as (lon, lat) degrees, the ring of each (V,), and a number for the country of each ring (R,).

    Rings are closed: their last vertex is their first. What belongs to no country alone has numbers of its own.
    """
    file = np.load(io.BytesIO(lzma.decompress((files("geospot.earth") / "data" / "borders.xz").read_bytes())))
    rings, polygons = (
        _Rings(file["steps"], file["ring_polygon"], file["ring_size"]),
        json.loads(file["polygons"].tobytes()),
    )
    names = [polygon["country"] or f"{i}" for i, polygon in enumerate(polygons)]
    country = np.unique(names, return_inverse=True)[1][rings.ring_polygon]
    return rings.steps * STEP_DEG, rings.ring, country


def make_borders(packed: bytes) -> dict[str, np.ndarray]:
    """The arrays of `Borders` from the file that `scripts/build_borders.py` wrote."""
    file = np.load(io.BytesIO(lzma.decompress(packed)))
    rings = _Rings(file["steps"], file["ring_polygon"], file["ring_size"])
    keys, polygon = rings.rows()
    along, along_polygon = rings.along()
    cells = _whole_cells(keys, polygon, along)
    return {"polygons": file["polygons"], "keys": keys, "polygon": polygon, "cells": cells, "along": along,
            "along_polygon": along_polygon}  # fmt: skip


class _Rings:
    """Vertices in steps (2, V), x east of Greenwich and y north; the ring of each and the polygon of each ring."""

    def __init__(self, packed: np.ndarray, ring_polygon: np.ndarray, sizes: np.ndarray) -> None:
        steps = np.ascontiguousarray(packed.transpose(0, 2, 1)).view("<i4").reshape(2, -1)
        starts = np.cumsum(sizes) - sizes
        self.steps = np.cumsum(steps, axis=1, dtype=np.int32)
        # The differences run on from ring to ring; each ring begins with its own first vertex.
        before = np.where(starts[:, None] > 0, self.steps[:, starts - 1].T, 0)
        self.steps -= np.repeat(before, sizes, axis=0).T
        self.ring, self.ring_polygon = np.repeat(np.arange(len(sizes)), sizes), ring_polygon

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Sorted (row, longitude) keys of where something begins, and which polygon does; -1 for the sea."""
        (x, y), ring = self.steps, self.ring
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
        key |= ((self.ring_polygon[ring[edge]].astype(np.int64) << 1) | down)[of]
        return _starts(key)

    def along(self) -> tuple[np.ndarray, np.ndarray]:
        """Points along all borders, in steps (2, P), no farther apart than ALONG_STEPS, and their polygons (P,)."""
        xy, polygon = self.steps, self.ring_polygon[self.ring]
        span = np.abs(np.diff(xy, axis=1)).max(axis=0)
        long = np.flatnonzero((self.ring[1:] == self.ring[:-1]) & (span > ALONG_STEPS))
        pieces = span[long] // ALONG_STEPS
        of = np.repeat(np.arange(len(long)), pieces)
        share = (np.arange(len(of)) - np.repeat(np.cumsum(pieces) - pieces, pieces) + 1) / (pieces[of] + 1)
        start = xy[:, long][:, of]
        between = start + np.rint(share * (xy[:, long + 1][:, of] - start)).astype(np.int32)
        return np.concatenate([xy, between], axis=1), np.concatenate([polygon, polygon[long][of]])


def _whole_cells(keys: np.ndarray, polygon: np.ndarray, along: np.ndarray) -> np.ndarray:
    """For each cell of CELL_STEPS the polygon (or -1, sea) that covers it whole, -2 where a border crosses it."""
    y, x = _ROWS * ROW_STEPS // CELL_STEPS, 2 * _EAST_STEPS // CELL_STEPS
    row, column = (a.ravel() for a in np.mgrid[:y, :x])
    cells = _search(keys, polygon, row * (CELL_STEPS // ROW_STEPS), column * CELL_STEPS)
    border_x, border_y = along
    cells[np.minimum((border_y + _NORTH_STEPS) // CELL_STEPS, y - 1) * x
          + np.minimum((border_x + _EAST_STEPS) // CELL_STEPS, x - 1)] = -2  # fmt: skip
    at_row, at_x = keys >> _X_BITS, keys & ((1 << _X_BITS) - 1)
    cells[at_row * ROW_STEPS // CELL_STEPS * x + np.minimum(at_x // CELL_STEPS, x - 1)] = -2
    return cells


def _search(keys: np.ndarray, polygon: np.ndarray, row: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The polygon at longitude x (steps from the date line) of a row, -1 for the sea."""
    i = np.searchsorted(keys, (row << _X_BITS) | x, side="right") - 1
    return np.where(keys[i] >> _X_BITS == row, polygon[i], np.int16(-1))


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
