"""Two runs side by side on one machine: what threads that wait by spinning cost them, and what waiting otherwise costs.

uv run python benchmarks/shared_machine.py --turns 5

A GRPO step of the tiny model is timed in a process alone and in two processes at once, in turns over the ways in which
OpenMP's threads may wait for work. The peer is torch as it comes, in the same turns. A fair share would be twice the
time. `least` is the least disturbed turn, for a machine on which others work.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from typing import Any

WAYS: dict[str, dict[str, str]] = {
    "as it comes": {"GOMP_SPINCOUNT": "300000"},  # what libgomp does where nothing is set
    "passive": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"},
    "spin 1000": {"GOMP_SPINCOUNT": "1000"},
    "spin 3000": {"GOMP_SPINCOUNT": "3000"},
    "spin 10000": {"GOMP_SPINCOUNT": "10000"},
    "geospot": {},
}
TOKENS = 24


def child(threads: int, batch: int, group: int) -> None:
    """Says ready, and the seconds of a step for every line that it reads."""
    from geospot.engine.local.waiting import share_cores_here

    share_cores_here()  # before torch is loaded, as in every command
    import tempfile

    import numpy as np
    from grpo_step import one_step, samples_of

    from geospot.config import TrainConfig
    from geospot.engine.open import open_engine
    from geospot.models.loading import load_processing
    from geospot.models.prompt import Renderer

    config = TrainConfig(batch_size=batch, group_size=group, max_tokens=TOKENS, threads=threads, lora_rank=0)
    renderer, scramble = Renderer(load_processing(config.model_name)), np.random.default_rng(0)
    samples = samples_of(batch, 0)
    with tempfile.TemporaryDirectory() as folder, open_engine(config, checkpoint_dir=folder) as service:
        training = service.create_lora_training_client(config.model_name, rank=0, seed=0).result()
        for step in range(2):
            one_step(training, renderer, config, samples, step, scramble)
        print("ready", flush=True)
        for _ in sys.stdin:
            started = time.perf_counter()
            one_step(training, renderer, config, samples, 0, scramble)
            print(time.perf_counter() - started, flush=True)


class Child:
    """A process that does a step when it is asked to."""

    def __init__(self, environment: dict[str, str], words: list[str]):
        names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")
        env = {key: value for key, value in os.environ.items() if key not in names}
        command = [sys.executable, __file__, "--child", *words]
        self.process = subprocess.Popen(
            command, env=env | environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def wait(self) -> None:
        """Until it is ready."""
        while self._read().strip() != "ready":
            pass

    def _read(self) -> str:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            raise SystemExit("a child ended")
        return line

    def ask(self) -> None:
        """Begin a step."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def answer(self) -> float:
        """Seconds that it took."""
        while True:
            try:
                return float(self._read())
            except ValueError:  # what the engine prints
                continue


def step_s(children: list[Child], steps: int) -> float:
    """Seconds per step of the slower of children that work at the same time."""
    started = time.perf_counter()
    for _ in range(steps):
        for one in children:
            one.ask()
    for one in children:
        for _ in range(steps):
            one.answer()
    return (time.perf_counter() - started) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--child", action="store_true")
    args = parser.parse_args()
    if args.child:
        child(args.threads, args.batch, args.group)
        return
    from geospot.progress import table

    load = os.getloadavg()[0]
    words = ["--threads", str(args.threads), "--batch", str(args.batch), "--group", str(args.group)]
    pairs = {way: [Child(WAYS[way], words) for _ in range(2)] for way in args.ways.split(",")}
    for one in (one for pair in pairs.values() for one in pair):
        one.wait()
    times: dict[str, dict[str, list[float]]] = {way: {"alone": [], "two": []} for way in pairs}
    for turn in range(args.turns):
        for way in list(pairs) if turn % 2 == 0 else list(pairs)[::-1]:
            times[way]["alone"].append(step_s(pairs[way][:1], args.steps))
            times[way]["two"].append(step_s(pairs[way], args.steps))
    for pair in pairs.values():
        for one in pair:
            one.process.kill()
    least = min(times.get("as it comes", next(iter(times.values())))["alone"])
    rows: list[dict[str, Any]] = []
    for way, found in times.items():
        alone, two = (statistics.median(found[key]) for key in ("alone", "two"))
        rows.append({
            "waiting": way, "alone, s": alone, "least": min(found["alone"]), "two, s": two, "least of two":
            min(found["two"]), "two / alone": two / alone, "least alone / as it comes": min(found["alone"]) / least,
        })  # fmt: skip
    print(f"load before {load:.1f}, behind {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores\n")
    print(table(rows, 160))
    facts = {"device": platform.machine(), "cores": os.cpu_count(), "load": load, "turns": args.turns, "n": args.steps}
    facts |= {"batch": args.batch, "group": args.group}
    print(json.dumps({"benchmark": "shared_machine", "peer": "torch as it comes", **facts, "rows": rows}))


if __name__ == "__main__":
    main()
