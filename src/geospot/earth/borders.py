"""Which polygon holds a point: Natural Earth's 10 m admin-1 polygons (public domain), cut into rows of latitude.

Each row keeps, from west to east, the longitudes at which a polygon begins or the land ends. A lookup is then one
binary search, so a million points take a fraction of a second and no geometry library is needed. Rows are
ROW_DEG apart, which puts a point at most half of that (560 m) on the wrong side of a border.
"""

import io
import json
import lzma
import zlib
from importlib.resources import files

import numpy as np

from geospot.earth.cities import kept_arrays
from geospot.earth.distance import tree_of, unit_vectors

FORMAT = 2  # raise it when the arrays change
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
# Points along borders are sorted by bands of latitude, a cell high, and within a band from west to east.
_BANDS, _BAND_STRIDE = 2 * _NORTH_STEPS // CELL_STEPS, 2 * _EAST_STEPS + 1
_PAIRS = 1_000_000  # pairs of a point at sea and one along a border that are compared at once: under 100 MB


class Borders:
    """The polygons. `at(lat, lon)` is the polygon of each point; `nearest_shore` serves those at sea."""

    def __init__(self) -> None:
        packed = (files("geospot.earth") / "data" / "borders.xz").read_bytes()
        table = kept_arrays(f"borders-{zlib.crc32(packed):08x}-{FORMAT}", lambda: make_borders(packed))
        self.polygons: list[dict] = json.loads(table["polygons"].tobytes())
        self._keys, self._polygon, self._cells = table["keys"], table["polygon"], table["cells"]
        self._along, self._along_y, self._along_polygon = table["along"], table["along_y"], table["along_polygon"]

    def at(self, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
        """Index into `polygons` of the one that holds each point (N,), -1 at sea. Finite degrees, lon any turn."""
        row = np.clip((lat + 90.0) * (1 / ROW_DEG), 0, _ROWS - 1).astype(np.int64)
        x = np.minimum(((lon + 180.0) % 360.0) * (1 / STEP_DEG), 2 * _EAST_STEPS - 1).astype(np.int64)
        cell = row // (CELL_STEPS // ROW_STEPS) * (2 * _EAST_STEPS // CELL_STEPS) + x // CELL_STEPS
        found = self._cells[cell]
        mixed = np.flatnonzero(found == -2)
        found[mixed] = _search(self._keys, self._polygon, row[mixed], x[mixed])
        return found

    def nearest_shore(self, vectors: np.ndarray, chord: float) -> tuple[np.ndarray, np.ndarray]:
        """The polygon nearest to each unit vector (N, 3), -1 for none within `chord`, and the chord to it (inf).

        Looks only at the points along borders in the bands and meridians within reach. Most points at sea have none,
        so a tree of all 872,401 would take longer to build than it saves.
        """
        found, chords = np.full(len(vectors), -1), np.full(len(vectors), np.inf)
        start, stop = self._within_reach(vectors, chord)
        pairs = np.cumsum((stop - start).sum(axis=1))
        parts = np.searchsorted(pairs, np.arange(_PAIRS, pairs[-1], _PAIRS)) if len(pairs) else []
        for part in np.split(np.arange(len(vectors)), parts):
            size = (stop[part] - start[part]).ravel()
            first = np.cumsum(size) - size
            i = np.arange(size.sum()) + np.repeat(start[part].ravel() - first, size)  # the points to compare with
            of = np.repeat(np.repeat(part, start.shape[1]), size)
            x = self._along[i] % _BAND_STRIDE - _EAST_STEPS
            apart = vectors[of] - unit_vectors(self._along_y[i] * STEP_DEG, x * STEP_DEG)
            square = apart[:, 0] ** 2 + apart[:, 1] ** 2 + apart[:, 2] ** 2
            near = np.flatnonzero(square < chord * chord)
            near = near[np.lexsort([square[near], of[near]])]
            near = near[np.unique(of[near], return_index=True)[1]]
            found[of[near]], chords[of[near]] = self._along_polygon[i[near]], np.sqrt(square[near])
        return found, chords

    def _within_reach(self, vectors: np.ndarray, chord: float) -> tuple[np.ndarray, np.ndarray]:
        """Slices (N, S) of the points along borders that hold all within `chord` of each unit vector (N, 3)."""
        reach = 2 * np.arcsin(min(chord / 2, 1.0)) + 1e-9
        lat, lon = np.arcsin(np.clip(vectors[:, 2], -1, 1)), np.arctan2(vectors[:, 1], vectors[:, 0])
        # The meridians that touch a circle of this radius; all where it holds a pole.
        across = np.sin(reach) / np.maximum(np.cos(lat), 1e-300)
        width = np.where(np.abs(lat) + reach < np.pi / 2, np.arcsin(np.minimum(across, 1.0)), np.pi)
        west, east = (np.degrees(lon + side * width) / STEP_DEG + _EAST_STEPS for side in (-1, 1))
        south, north = (_band(np.degrees(lat + side * reach) / STEP_DEG) for side in (-1, 1))
        band = south[:, None] + np.arange(int((north - south).max(initial=0)) + 1)  # (N, bands)
        band, beyond = np.minimum(band, _BANDS - 1), band > north[:, None]
        slices = []
        for turn in (-2 * _EAST_STEPS, 0, 2 * _EAST_STEPS):  # a circle may cross the date line
            ends = np.floor(west + turn) - 1, np.ceil(east + turn) + 1
            low, high = (np.clip(end, 0, 2 * _EAST_STEPS).astype(np.int64)[:, None] for end in ends)
            keys = band * _BAND_STRIDE
            start = np.searchsorted(self._along, keys + low)
            stop = np.searchsorted(self._along, keys + high, side="right")
            missed = (ends[1] < 0)[:, None] | (ends[0] > 2 * _EAST_STEPS)[:, None] | beyond
            slices.append((start, np.where(missed, start, stop)))
        start, stop = (np.concatenate(both, axis=1) for both in zip(*slices, strict=True))
        return start, stop


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
    return {"polygons": file["polygons"], "keys": keys, "polygon": polygon, "cells": cells,
            **_banded(along, along_polygon)}  # fmt: skip


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


def _banded(along: np.ndarray, polygon: np.ndarray) -> dict[str, np.ndarray]:
    """The points along borders (2, P) for `nearest_shore`: sorted by band and longitude, one at each position.

    A point that several polygons share belongs to the one that a k-d tree of all points finds first.
    """
    x, y = along
    order = tree_of(unit_vectors(y * STEP_DEG, x * STEP_DEG), leafsize=32).indices
    key = (_band(y) * _BAND_STRIDE + x + _EAST_STEPS)[order]
    order = order[np.unique(np.stack([key, y[order]]), axis=1, return_index=True)[1]]
    key = _band(y[order]) * _BAND_STRIDE + x[order] + _EAST_STEPS
    return {"along": key.astype(np.int32), "along_y": y[order].astype(np.int32), "along_polygon": polygon[order]}


def _band(y: np.ndarray) -> np.ndarray:
    """The band of each latitude (in steps from the equator)."""
    return np.clip((y + _NORTH_STEPS) // CELL_STEPS, 0, _BANDS - 1).astype(np.int64)


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
