"""An epoch over 11,088 local shards: time to the first sample, memory over the epoch, a resume in the middle.

uv run python benchmarks/streaming_memory.py

Each start is a process of its own. The memory is the resident set of the process that reads (the workers hold one batch
each); the bound is the formula in geospot.data.stream. The peer of the resume is reading from the epoch's start again.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

SHARDS, EACH, BUFFER, WORKERS, OPEN = 11_088, 4, 1000, 2, 4
SAMPLES = SHARDS * EACH
HERE = Path(__file__)


def make(folder: Path) -> None:
    """11,088 names for eight shards of four 512-px JPEGs each: the keys repeat, the bytes are read as any others."""
    import numpy as np
    from streaming import make_picture

    from geospot.data.samples import Sample
    from geospot.data.tar import write_shard
    from geospot.earth.place import Place

    rng = np.random.default_rng(0)
    for i in range(8):
        samples = [Sample(f"{i}-{j}", (make_picture(rng),), Place(1.0 + i, 2.0 + j)) for j in range(EACH)]
        write_shard(folder / f"source-{i}", samples)
    for i in range(SHARDS):
        os.link(folder / f"source-{i % 8}", folder / f"{i:05d}.tar")
    (folder / "shards.txt").write_text("".join(f"{i:05d}.tar\n" for i in range(SHARDS)))


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def read(folder: str, n: int, state_file: str, resume: bool) -> None:
    """In a process of its own: from the manifest, or from a saved state, `n` samples on."""
    started = time.perf_counter()
    from geospot.data.sources import open_source
    from geospot.data.stream import SampleStream

    state = json.loads(Path(state_file).read_text()) if resume else None
    source = open_source(f"{folder}/shards.txt")
    with SampleStream(source, seed=0, buffer=BUFFER, workers=WORKERS, open_parts=OPEN, start=state, epochs=1) as stream:
        first = next(stream)
        first_s = time.perf_counter() - started
        digests, rss = [digest(first)], []
        for i in range(1, n):
            digests.append(digest(next(stream)))
            if i % (SAMPLES // 20) == 0:
                rss.append(round(rss_mb()))
            if i == SAMPLES // 2 and not resume:
                Path(state_file).write_text(json.dumps(stream.state()))
        print(json.dumps({"first_s": first_s, "digests": digests, "rss_mb": rss}))


def digest(sample) -> int:
    import zlib

    return zlib.crc32(sample.pictures[0], zlib.crc32(sample.key.encode()))


def run(folder: str, n: int, resume: bool) -> dict:
    command = [sys.executable, str(HERE), "read", folder, str(n), f"{folder}/state.json", str(int(resume))]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    if len(sys.argv) > 1:
        read(sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5] == "1")
        return
    with TemporaryDirectory() as temp:
        folder = Path(temp)
        make(folder)
        record = os.path.getsize(folder / "source-0") / EACH
        first_s = min(run(temp, 1, False)["first_s"] for _ in range(3))
        started = time.perf_counter()
        epoch = run(temp, SAMPLES, False)
        seconds = time.perf_counter() - started
        half = SAMPLES // 2 + 1
        again = [run(temp, 1000, True) for _ in range(3)]
        same = all(a["digests"] == epoch["digests"][half : half + 1000] for a in again)
    resume_s = min(a["first_s"] for a in again)
    bound_mb = (BUFFER * record + OPEN * 3 * min(32 * record, 4e6 + record) + (3 * WORKERS + 1) * 16 * record) / 1e6
    answer = {
        "benchmark": "streaming_memory",
        "cores": os.cpu_count(),
        "shards": SHARDS,
        "samples": SAMPLES,
        "first_sample_s": first_s,
        "record_kb": record / 1e3,
        "buffers_bound_mb": bound_mb,
        "rss_mb_each_5_percent": epoch["rss_mb"],
        "epoch_s": seconds,
        "resume_first_sample_s": resume_s,
        "resume_sequence_identical": same,
        "peer": "reading the first half of the epoch again",
        "ratio": seconds / 2 / resume_s,
    }
    print(json.dumps(answer))
    if not same:
        raise SystemExit("the resumed sequence differs")


if __name__ == "__main__":
    main()
