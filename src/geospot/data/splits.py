"""Keeping places to train on away from places to evaluate on: by distance to a known set, or by cells of the map."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geospot.earth.distance import EARTH_RADIUS_KM, chord, unit_vectors
from geospot.earth.place import Place


class NearHeldOut:
    """Refuses places within `km` of any of the held-out ones; for `ReadOptions.refuse`."""

    def __init__(self, places: Sequence[Place], km: float):
        from scipy.spatial import cKDTree

        self.reason = f"within {km:g} km of a held-out place"
        self._chord = float(chord(km))
        points = [(place.lat, place.lon) for place in places]
        self._tree = cKDTree(unit_vectors(*np.array(points).reshape(-1, 2).T))

    def __call__(self, place: Place) -> str | None:
        """The reason, or None where the place may be trained on."""
        distance, _ = self._tree.query(unit_vectors(place.lat, place.lon), distance_upper_bound=self._chord)
        return self.reason if distance <= self._chord else None


@dataclass(frozen=True)
class CellSplit:
    """Divides the Earth into cells about `cell_km` wide and holds out `fraction` of them, chosen by `seed`.

    A place is "eval" in a held-out cell, at least `margin_km` from its border; "train" in any other cell; "rim" in
    between. So no evaluation place lies within `margin_km` of a training place, wherever both sets come from.
    """

    fraction: float
    cell_km: float
    margin_km: float
    seed: int = 0

    def __post_init__(self):
        if not 0 < self.fraction < 1:
            raise ValueError(f"eval_fraction={self.fraction}: must be between 0 and 1")
        if not 0 <= 2 * self.margin_km < self.cell_km:
            raise ValueError(
                f"holdout_km={self.margin_km}: must be below half of cell_km={self.cell_km}, or no place is left in "
                "the middle of a cell"
            )

    def side(self, lat: float, lon: float) -> str:
        """ "train", "eval" or "rim"."""
        km_a_degree = math.pi * EARTH_RADIUS_KM / 180
        bands = max(1, round(180 * km_a_degree / self.cell_km))
        height = 180 / bands
        band = min(int((lat + 90) / height), bands - 1)
        south, north = band * height - 90, (band + 1) * height - 90
        widest = math.cos(math.radians(min(abs(south), abs(north)) if south * north > 0 else 0))
        columns = max(1, round(360 * km_a_degree * widest / self.cell_km))
        width = 360 / columns
        column = int((lon + 180) / width) % columns
        digest = hashlib.blake2b(f"{self.seed}/{bands}/{band}/{column}".encode(), digest_size=8).digest()
        if int.from_bytes(digest, "big") / 2**64 >= self.fraction:
            return "train"
        to_parallel = min(lat - south if band else math.inf, north - lat if band < bands - 1 else math.inf)
        near = to_parallel * km_a_degree
        if columns > 1:
            west = (lon + 180) - int((lon + 180) / width) * width
            # To the border's whole meridian, which is never farther away than the border itself.
            degrees = min(west, width - west)
            reach = 1.0 if degrees >= 90 else math.sin(math.radians(degrees))
            near = min(near, EARTH_RADIUS_KM * math.asin(math.cos(math.radians(lat)) * reach))
        return "eval" if near >= self.margin_km else "rim"


@dataclass(frozen=True)
class OneSide:
    """Refuses places that a `CellSplit` puts on another side than "train" or "eval"; for `ReadOptions.refuse`."""

    split: CellSplit
    wanted: str

    def __call__(self, place: Place) -> str | None:
        """The reason, or None."""
        side = self.split.side(place.lat, place.lon)
        return None if side == self.wanted else REASONS[side]


REASONS = {
    "train": "in a training cell",
    "eval": "in a held-out cell",
    "rim": "on the rim of a held-out cell",
}
