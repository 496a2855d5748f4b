"""Samples a second from local shards of 512-px JPEGs: geospot's stream, plain webdataset, datasets' streaming.

uv run --with webdataset --with datasets python benchmarks/streaming.py [FOLDER]

All three read the same shards, shuffle in a buffer of 1,000, and give each sample to the same function (decode to its
end, resize, encode), in as many worker processes. The ceiling is that function alone, on records that the same number
of processes hold in memory. The contenders take short turns, since the machine's speed wanders; the ratios are medians
over the turns, with their quartiles.
"""

import itertools
import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
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
AHEAD, TIMED, TURNS = 120, 300, 6  # samples left out and taken in a turn
SIDES = (336, 512)  # pixels a side: 512 is what training takes by default, decoded and not resized
OPTIONS = ReadOptions(max_pixels=SIDES[0] ** 2)


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
    return [shard.url for shard in find_shards(str(folder))]


def make_sample(i: int, pictures: list[bytes]) -> Sample:
    rng = np.random.default_rng([1, i])
    place = Place(float(rng.uniform(-60, 70)), float(rng.uniform(-180, 180)), None, None, "France")
    return Sample(f"{i:06d}", (pictures[int(rng.integers(len(pictures)))],), place)


def read_group(group: dict) -> Sample:
    """What webdataset and datasets run on a sample."""
    fields = group["json"]
    fields = fields if isinstance(fields, dict) else json.loads(fields)
    picture = group["jpg"]["bytes"] if isinstance(group["jpg"], dict) else group["jpg"]
    return read_sample(Record(group["__key__"], fields, (picture,), ("jpg",)), OPTIONS)


def geospot_samples(shards: list[str]) -> Iterator:
    yield from SampleStream(Shards("", shards), seed=0, buffer=1000, options=OPTIONS, workers=WORKERS)


def webdataset_samples(shards: list[str]) -> Iterator:
    import webdataset as wds

    data = wds.WebDataset(shards, shardshuffle=len(shards), seed=0).shuffle(1000).map(read_group).repeat()
    yield from wds.WebLoader(data, batch_size=None, num_workers=WORKERS)


def datasets_samples(shards: list[str]) -> Iterator:
    import datasets
    import torch

    data = datasets.load_dataset("webdataset", data_files={"train": shards}, split="train", streaming=True)
    data = data.cast_column("jpg", datasets.Image(decode=False)).shuffle(seed=0, buffer_size=1000).repeat(None)

    def read(group: dict) -> dict:
        sample = read_group(group)
        return {"key": sample.key, "picture": sample.pictures[0], "lat": sample.place.lat, "lon": sample.place.lon}

    data = data.map(read, remove_columns=["jpg", "json", "__key__", "__url__"])
    yield from torch.utils.data.DataLoader(data, batch_size=None, num_workers=WORKERS)


def ceiling_samples(shards: list[str]) -> Iterator:
    """Decoding alone: each process on its own records in memory; a counter is all that it hands over."""
    # As bytes: what lies on disk is read before the clock starts.
    records = []
    for record in Shards("", shards).read(0):
        records.append(
            replace(record, pictures=tuple(p if isinstance(p, bytes) else p.read() for p in record.pictures))
        )
    done = multiprocessing.Semaphore(0)
    ahead = multiprocessing.Semaphore(16 * WORKERS)  # as the others: no more than a few samples ahead
    for _ in range(WORKERS):
        multiprocessing.Process(target=_decode_for_ever, args=(records, ahead, done), daemon=True).start()
    while True:
        done.acquire()
        ahead.release()
        yield None


def _decode_for_ever(records: list[Record], ahead, done) -> None:
    for record in itertools.cycle(records):
        ahead.acquire()
        read_sample(record, OPTIONS)
        done.release()


CONTENDERS = {
    "ceiling": ceiling_samples,
    "geospot": geospot_samples,
    "webdataset": webdataset_samples,
    "datasets": datasets_samples,
}


def measure(side: int, shards: list[str]) -> list[dict]:
    """Rates of all, in turns; a turn begins behind what was prefetched while the others ran."""
    global OPTIONS
    OPTIONS = ReadOptions(max_pixels=side * side)
    streams = {name: make(shards) for name, make in CONTENDERS.items()}
    turns: list[dict[str, float]] = []
    for turn in range(-1, TURNS):  # the first one is for warming up
        names = list(streams)
        rates = {}
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            for _ in range(AHEAD if turn >= 0 else 200):
                next(streams[name])
            started = time.perf_counter()
            for _ in range(TIMED):
                next(streams[name])
            rates[name] = TIMED / (time.perf_counter() - started)
        if turn >= 0:
            turns.append(rates)
    rows = []
    for name in streams:
        ratios = sorted(t["geospot"] / t[name] for t in turns)
        rows.append(
            {
                "pixels": f"{SIDE} -> {side}",
                "who": name,
                "samples_per_s": statistics.median(t[name] for t in turns),
                "geospot_is": statistics.median(ratios),
                "low": ratios[len(ratios) // 4],
                "high": ratios[-1 - len(ratios) // 4],
            }
        )
    return rows


def main() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    shards = make_shards(Path(sys.argv[1]) if len(sys.argv) > 1 else cache_folder() / "benchmark-shards")
    rows = []
    for side in SIDES:
        rows += run_apart(side, shards)
        print(table(rows[-len(CONTENDERS) :]), flush=True)
    facts = {"workers": WORKERS, "cores": os.cpu_count(), "turns": TURNS, "samples_a_turn": TIMED}
    print(json.dumps({"benchmark": "streaming", "peers": ["webdataset", "datasets"], **facts, "rows": rows}))


def run_apart(side: int, shards: list[str]) -> list[dict]:
    """`measure` in a process of its own: the workers of one size are gone before those of the next."""
    words = [sys.executable, __file__, "measure", str(side), json.dumps(shards)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            return json.loads(process.stdout.readline())
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # the loaders' workers wait for work that never comes


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        print(json.dumps(measure(int(sys.argv[2]), json.loads(sys.argv[3]))), flush=True)
    else:
        main()
