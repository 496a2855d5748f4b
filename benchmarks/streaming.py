"""Samples a second from local shards of 512-px JPEGs: geospot's stream, plain webdataset, datasets' streaming.

uv run --with webdataset --with datasets python benchmarks/streaming.py [FOLDER]

All three read the same shards, shuffle in a buffer of 1,000, and give each sample to the same function (decode to its
end, resize to 336 x 336, encode), in as many worker processes. The ceiling is that function alone, on records that the
same number of processes hold in memory. The contenders take turns; the ratios are medians over the turns.
"""

import json
import multiprocessing
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from geospot.data.pictures import JPEG_QUALITY
from geospot.data.records import Record
from geospot.data.samples import ReadOptions, Sample, read_sample
from geospot.data.sources.webdataset import Shards, find_shards
from geospot.data.stream import SampleStream
from geospot.data.tar import write_shard
from geospot.earth.place import Place
from geospot.files import cache_folder
from geospot.progress import Progress, table

SHARDS, SHARD_SAMPLES, SIDE = 20, 1000, 512
WORKERS = 2
WARM, TIMED, TURNS = 300, 3000, 3
OPTIONS = ReadOptions(max_pixels=336 * 336)


def make_picture(rng: np.random.Generator) -> bytes:
    """A JPEG of about 60 kB, as a street view of this size has: noise at several scales."""
    import io

    from PIL import Image

    picture = np.full((SIDE, SIDE, 3), 128.0)
    for cells, strength in ((4, 50), (32, 30), (128, 18), (SIDE, 4)):
        noise = rng.normal(0, strength, (cells, cells, 3)).clip(-127, 127) + 128
        small = Image.fromarray(noise.astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        picture += np.asarray(small, dtype=float) - 128
    out = io.BytesIO()
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()


def make_shards(folder: Path) -> list[str]:
    """The shards in `folder`, made where they are missing; 200 different pictures, dealt out by a seed."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    pictures = []
    with Progress("making shards", total=SHARDS) as bar:
        for shard in range(SHARDS):
            path = folder / f"{shard:04d}.tar"
            if not path.is_file():
                pictures = pictures or [make_picture(rng) for _ in range(200)]
                write_shard(path, [make_sample(shard * SHARD_SAMPLES + i, pictures) for i in range(SHARD_SAMPLES)])
            bar.advance(1)
    return find_shards(str(folder))


def make_sample(i: int, pictures: list[bytes]) -> Sample:
    rng = np.random.default_rng([1, i])
    place = Place(float(rng.uniform(-60, 70)), float(rng.uniform(-180, 180)), None, None, "France")
    return Sample(f"{i:06d}", (pictures[int(rng.integers(len(pictures)))],), place)


def read_group(group: dict) -> int:
    """What webdataset and datasets run on a sample: the bytes of the prepared picture."""
    fields = group["json"]
    fields = fields if isinstance(fields, dict) else json.loads(fields)
    picture = group["jpg"]["bytes"] if isinstance(group["jpg"], dict) else group["jpg"]
    return read_sample(Record(group["__key__"], fields, (picture,), ("jpg",)), OPTIONS)


def rate(samples) -> float:
    """Samples a second after a warm start."""
    stream = iter(samples)
    for _ in range(WARM):
        next(stream)
    started = time.perf_counter()
    for _ in range(TIMED):
        next(stream)
    return TIMED / (time.perf_counter() - started)


def geospot_rate(shards: list[str], turn: int) -> float:
    with SampleStream(Shards("", shards), seed=turn, buffer=1000, options=OPTIONS, workers=WORKERS) as stream:
        return rate(stream)


def webdataset_rate(shards: list[str], turn: int) -> float:
    import webdataset as wds

    data = wds.WebDataset(shards, shardshuffle=len(shards), seed=turn).shuffle(1000).map(read_group)
    return rate(wds.WebLoader(data, batch_size=None, num_workers=WORKERS))


def datasets_rate(shards: list[str], turn: int) -> float:
    import datasets
    import torch

    data = datasets.load_dataset("webdataset", data_files={"train": shards}, split="train", streaming=True)
    data = data.cast_column("jpg", datasets.Image(decode=False)).shuffle(seed=turn, buffer_size=1000)
    # A function inside DataLoader's workers: map() would turn each result into Arrow and back.
    loader = torch.utils.data.DataLoader(_Mapped(data), batch_size=None, num_workers=WORKERS)
    return rate(loader)


class _Mapped:
    """`data` with `read_group` applied in the worker that iterates it."""

    def __new__(cls, data):
        import torch

        class Mapped(torch.utils.data.IterableDataset):
            def __iter__(self):
                return map(read_group, data)

        return Mapped()


def _ceiling_worker(records: list[Record], n: int, ready, go, done) -> None:
    for record in records[:100]:
        read_sample(record, OPTIONS)
    ready.wait()
    go.wait()
    for i in range(n):
        read_sample(records[i % len(records)], OPTIONS)
    done.put(time.perf_counter())


def ceiling_rate(shards: list[str], turn: int) -> float:
    """Decoding alone: each process on its own records in memory, nothing handed over."""
    records = list(Shards("", shards).read(turn % len(shards)))
    ready, go, done = multiprocessing.Barrier(WORKERS + 1), multiprocessing.Event(), multiprocessing.Queue()
    n = TIMED // WORKERS
    processes = [
        multiprocessing.Process(target=_ceiling_worker, args=(records, n, ready, go, done)) for _ in range(WORKERS)
    ]
    for process in processes:
        process.start()
    ready.wait()
    started = time.perf_counter()
    go.set()
    ended = max(done.get() for _ in processes)
    for process in processes:
        process.join()
    return WORKERS * n / (ended - started)


CONTENDERS = {
    "ceiling": ceiling_rate,
    "geospot": geospot_rate,
    "webdataset": webdataset_rate,
    "datasets": datasets_rate,
}


def main() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    shards = make_shards(Path(sys.argv[1]) if len(sys.argv) > 1 else cache_folder() / "benchmark-shards")
    turns = []
    for turn in range(TURNS):
        names = list(CONTENDERS)
        names = names[turn % len(names) :] + names[: turn % len(names)]
        turns.append({name: CONTENDERS[name](shards, turn) for name in names})
        print({name: round(value) for name, value in turns[-1].items()}, flush=True)
    rows = []
    for name in CONTENDERS:
        ratio = statistics.median(t["geospot"] / t[name] for t in turns)
        rows.append({"who": name, "samples_per_s": statistics.median(t[name] for t in turns), "geospot_is": ratio})
    print(table(rows))
    facts = {"workers": WORKERS, "cores": os.cpu_count(), "turns": TURNS, "samples_a_turn": TIMED}
    print(json.dumps({"benchmark": "streaming", **facts, "rows": rows}))


if __name__ == "__main__":
    main()
