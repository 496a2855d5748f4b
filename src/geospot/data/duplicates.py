"""What comes twice in a set, and what two sets share.

Equal hashes are found by sorting: 24 bytes for each while it lasts. Neighbours are found in a tree of the other set's
places: about 120 bytes a place while it lasts.
"""

from dataclasses import dataclass

import numpy as np

from geospot.data.inspect import Inspection

EXAMPLES = 5


@dataclass(frozen=True)
class Repeats:
    """How many are there more than once (the first of each not counted), and a few pairs of rows."""

    n: int
    pairs: list[tuple[int, int]]


def repeats(values: np.ndarray) -> Repeats:
    """Equal values among (N,) ones."""
    order = np.argsort(values, kind="stable")
    again = np.flatnonzero(values[order][1:] == values[order][:-1])
    return Repeats(len(again), [(int(order[i]), int(order[i + 1])) for i in again[:EXAMPLES]])


def shared(values: np.ndarray, others: np.ndarray) -> Repeats:
    """Values that are among the others, too; pairs are (row, row of the other)."""
    order = np.argsort(others, kind="stable")
    both = np.flatnonzero(np.isin(values, others))
    rows = order[np.searchsorted(others, values[both[:EXAMPLES]], sorter=order)]
    return Repeats(len(both), list(zip(both[:EXAMPLES].tolist(), rows.tolist(), strict=True)))


def near(found: Inspection, others: Inspection, km: float, chunk: int = 100_000) -> Repeats:
    """Places with one of the others within `km`; pairs are (row, row of the nearest other)."""
    from scipy.spatial import cKDTree

    from geospot.earth.distance import chord, unit_vectors

    if not (found.places and others.places):
        return Repeats(0, [])
    tree = cKDTree(unit_vectors(others.lat, others.lon), balanced_tree=False, compact_nodes=False)
    lat, lon, reach = found.lat, found.lon, float(chord(km))
    n, pairs = 0, []
    for start in range(0, found.places, chunk):
        part = slice(start, start + chunk)
        # A hair beyond, since the bound itself is left out and coordinates are kept to a metre.
        distance, row = tree.query(unit_vectors(lat[part], lon[part]), distance_upper_bound=reach + 1e-9)
        hits = np.flatnonzero(np.isfinite(distance))
        n += len(hits)
        pairs += [(int(start + i), int(row[i])) for i in hits[: EXAMPLES - len(pairs)]]
    return Repeats(n, pairs)


@dataclass(frozen=True)
class Overlap:
    """What two sets share. Keys alone are no leak: sets that are numbered share them."""

    km: float
    near: Repeats
    pictures: Repeats
    keys: Repeats

    @property
    def leaks(self) -> bool:
        """Whether a model trained on one set has seen something of the other."""
        return bool(self.near.n or self.pictures.n)


def overlap(found: Inspection, others: Inspection, km: float) -> Overlap:
    """What `found` shares with `others`."""
    return Overlap(km, near(found, others, km), shared(found.digests, others.digests), shared(found.keys, others.keys))
