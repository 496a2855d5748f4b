"""One epoch over loopback http through 100 injected faults: is every intact sample delivered exactly once?

uv run python benchmarks/streaming_faults.py

The server is the tests' hub (listing, resolve, signed redirects to a second host, ranges) in a process of its own. The
faults are dropped connections, stalls, drips, 429 with Retry-After, 503, 500, wrong Content-Length, expired redirects
and ignored ranges, spread over the files; besides them one shard is cut off, one has a damaged header, one changes
between two reads and one is gone. The same epoch without faults is the peer.
"""

import json
import os
import random
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from servers.hub import Fault, plan_faults, serve_apart
from streaming import make_picture

from geospot.data.samples import ReadOptions, Sample
from geospot.data.sources import open_source
from geospot.data.stream import SampleStream
from geospot.data.tar import pack_samples
from geospot.earth.place import Place
from geospot.net.retry import RetryPolicy

SHARDS, EACH, FAULTS = 40, 50, 100
CUT, DAMAGED, CHANGED, GONE = 3, 11, 19, 27
POLICY = RetryPolicy(first_s=0.05, longest_s=1.0, stall_s=1.0, connect_s=5.0)


def main() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    pictures = [make_picture(rng) for _ in range(20)]
    files, keys = {}, {}
    for shard in range(SHARDS):
        keys[shard] = [f"{shard:02d}-{i:03d}" for i in range(EACH)]
        samples = [Sample(key, (pictures[i % 20],), Place(1.0, 2.0)) for i, key in enumerate(keys[shard])]
        files[f"train/{shard:02d}.tar"] = pack_samples(samples)
    clean = epoch(files, [])
    hurt = dict(files)
    names = list(hurt)
    cut = len(hurt[names[CUT]]) * 2 // 3
    hurt[names[CUT]] = hurt[names[CUT]][:cut]
    damaged = bytearray(hurt[names[DAMAGED]])
    at = damaged.find(f"{DAMAGED:02d}-020.jpg".encode())
    damaged[at : at + 8] = random.Random(0).randbytes(8)
    hurt[names[DAMAGED]] = bytes(damaged)
    whole = {n: len(d) for i, (n, d) in enumerate(hurt.items()) if i not in (CHANGED, GONE)}
    faults = plan_faults(whole, FAULTS, seed=1)
    faults += [Fault("change", names[CHANGED], at=1_000_000), Fault("404", names[GONE], times=10**6)]
    got = epoch(hurt, faults)
    intact = {k for shard in range(SHARDS) if shard not in (CUT, CHANGED, GONE) for k in keys[shard]}
    intact -= {f"{DAMAGED:02d}-020"}
    intact |= {k for k in keys[CUT] if files[names[CUT]].find(f"{k}.jpg".encode()) < cut - 70_000}
    counts = Counter(got["keys"])
    answer = {
        "benchmark": "streaming_faults",
        "cores": os.cpu_count(),
        "faults": Counter(fault.kind for fault in got["delivered"]),
        "samples": len(counts),
        "intact": len(intact),
        "intact_missing": len(intact - set(counts)),
        "delivered_twice": sum(n > 1 for n in counts.values()),
        "skipped": got["skipped"],
        "retries": got["retries"],
        "seconds": got["seconds"],
        "seconds_without_faults": clean["seconds"],
        "peer": "the same epoch without faults",
        "ratio": got["seconds"] / clean["seconds"],
        "tokens_sent_to_the_data_host": got["leaks"],
    }
    print(json.dumps(answer))
    if answer["intact_missing"] or answer["delivered_twice"] or answer["tokens_sent_to_the_data_host"]:
        raise SystemExit("the epoch is not exact")


def epoch(files: dict[str, bytes], faults: list[Fault]) -> dict:
    """All keys of one epoch, and what the stream and the server say of it."""
    with serve_apart(files, faults=faults, tokens=["hf_secret"]) as server:
        os.environ |= {"HF_ENDPOINT": server.endpoint, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_secret"}
        use_endpoint(server.endpoint)
        source = open_source(f"hf://datasets/{server.repo}/train/*.tar")
        source._policy = {"policy": POLICY}
        warnings.simplefilter("ignore")
        started = time.perf_counter()
        options = ReadOptions(max_pixels=336 * 336)
        with SampleStream(source, seed=0, options=options, workers=2, epochs=1) as stream:
            keys = [sample.key for sample in stream]
            skipped = dict(stream.skipped)
        seconds = time.perf_counter() - started
        return {
            "keys": keys,
            "skipped": skipped,
            "retries": dict(source.retries),
            "seconds": seconds,
            "delivered": server.delivered,
            "leaks": len(server.leaks),
        }


def use_endpoint(endpoint: str) -> None:
    """What HF_ENDPOINT does at huggingface_hub's import, for the second server of this process."""
    from huggingface_hub import constants

    constants.ENDPOINT, constants.HF_HUB_OFFLINE = endpoint, False
    constants.HUGGINGFACE_CO_URL_TEMPLATE = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"


if __name__ == "__main__":
    main()
