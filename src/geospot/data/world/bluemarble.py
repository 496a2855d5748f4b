"""The Blue Marble world packed into WebDataset shards, once, in the cache; streamed like any other set."""

import fcntl
import hashlib
import io
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from geospot.data.samples import Sample
from geospot.data.tar import write_shard
from geospot.data.world.mosaic import BlueMarble, WorldConfig
from geospot.earth.anchors import country_names, nearest_anchor
from geospot.earth.place import Place
from geospot.files import atomic_folder, cache_folder, remove_leftovers
from geospot.progress import Progress

SHARD_SAMPLES = 1024
JPEG_QUALITY = 90
LAYOUT = 1  # raise it when the same WorldConfig would give other shards

_world: BlueMarble | None = None  # of a worker process


def encode_jpeg(picture: np.ndarray) -> bytes:
    """uint8 (H, W, 3) -> JPEG."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()


def label_places(points: np.ndarray) -> list[Place]:
    """Places with country, region and nearest anchor city for (n, 2) coordinates on land."""
    from geospot.earth.gazetteer import Gazetteer

    gazetteer, names = Gazetteer.load(), country_names()
    found = gazetteer.locate(points[:, 0], points[:, 1])
    codes = np.array([code or "" for code in found.country])
    cities = nearest_anchor(points[:, 0], points[:, 1], codes)
    return [
        Place(round(float(lat), 5), round(float(lon), 5), city, region or None, names.get(code))
        for (lat, lon), city, region, code in zip(points, cities, found.region, codes, strict=True)
    ]


def _start_worker(config: WorldConfig) -> None:
    global _world
    _world = BlueMarble(config)


def _make_shard(path: Path, prefix: str, first: int, places: list[Place]) -> int:
    if (world := _world) is None:
        raise RuntimeError("_start_worker comes first")
    samples = (
        Sample(f"{prefix}-{first + i:07d}", (encode_jpeg(world.picture(place.lat, place.lon)),), place)
        for i, place in enumerate(places)
    )
    write_shard(path, samples)
    return len(places)


def ensure_shards(config: WorldConfig | None = None, *, n_train: int, workers: int | None = None) -> dict[str, Path]:
    """Folders of shards for `train` (unless n_train is 0), `eval` and `eval-far`; what the cache lacks is made."""
    config = config or WorldConfig()
    digest = hashlib.sha256(repr((LAYOUT, JPEG_QUALITY, sorted(asdict(config).items()))).encode()).hexdigest()[:12]
    root = cache_folder() / f"bluemarble-{digest}"
    sizes = {"train": n_train, "eval": config.n_eval, "eval-far": config.n_eval_far}
    folders = {split: root / f"{split}-{n}" for split, n in sizes.items() if n}
    if all(folder.is_dir() for folder in folders.values()):
        return folders
    root.mkdir(parents=True, exist_ok=True)
    with open(root / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a run started beside this one waits here, then finds everything made
        remove_leftovers(root)
        missing = {split: folder for split, folder in folders.items() if not folder.is_dir()}
        with Progress("making Blue Marble pictures", total=sum(sizes[split] for split in missing)) as bar:
            for split, folder in missing.items():
                _make_split(config, split, sizes[split], folder, workers or os.cpu_count() or 1, bar.advance)
    return folders


def _make_split(config: WorldConfig, split: str, n: int, folder: Path, workers: int, advance: Callable) -> None:
    places = label_places(BlueMarble(config).places(split, n))
    starts = range(0, n, SHARD_SAMPLES)
    pool = ProcessPoolExecutor(
        min(workers, len(starts)), mp_context=get_context("spawn"), initializer=_start_worker, initargs=(config,)
    )
    with atomic_folder(folder) as temp, pool:
        jobs = [
            pool.submit(_make_shard, temp / f"{split}-{i:05d}.tar", split, start, places[start : start + SHARD_SAMPLES])
            for i, start in enumerate(starts)
        ]
        for job in jobs:
            advance(job.result())
