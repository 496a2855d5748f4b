"""What watching costs a training run: seconds per step with and without somebody on the page of `geospot watch`.

    python benchmarks/watch_cost.py [turns=24] [steps=8] [batch=8] [group=8] [warm_up=40] [data=... eval_data=...]
        [out=FILE.json]

One GRPO run of the tiny model (after a short warm start) trains in a process of its own, and `geospot watch` serves its
folder in another, both on this machine. A watcher, which asks for what the page asks for (the page, the run, each new
step's answers and the words of one picture), comes and goes: for `steps` steps there is one, for `steps` steps there is
none, the order of each pair drawn by a seed, so that what else happens on the machine falls on both. A step's time is
that between two lines of metrics.jsonl, so that writing the answers beside a reader counts, too.

Prints the ratio of seconds with a watcher to seconds without (mean of the pairs' logarithms; 95 % interval by
resampling pairs), of all steps and of all but the first of each turn, in which the page is opened; and one JSON line
last. On a machine that is busy with other work the server and the run compete for what is left, and the ratio is of no
use: `load` says how busy it was. The browser that draws the page is not part of it: it is the watcher's.
"""

import json
import os
import platform
import queue
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

TOKENS, RESAMPLES, LOOK_S = 24, 10_000, 0.02
Pairs = list[tuple[list[float], list[float]]]  # of (seconds of the steps watched, of those not watched)


class Watcher:
    """What an open page does, in a thread: it is sent each step, and asks for its answers and for one picture."""

    def __init__(self, address: str) -> None:
        self.address, self.stopped, self.messages = address, threading.Event(), 0
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _ask(self, path: str, **query: object) -> bytes:
        with urllib.request.urlopen(f"{self.address}{path}?{urllib.parse.urlencode(query)}", timeout=60) as answer:
            return answer.read()

    def _watch(self) -> None:
        self._ask("/")
        run = json.loads(self._ask("/api/runs"))[0]["id"]
        steps = json.loads(self._ask("/api/run", run=run))["answers"].get("train", [])
        if steps:
            self._ask("/api/answers", run=run, split="train", step=0, to=steps[-1][0])
        with urllib.request.urlopen(f"{self.address}/api/events", timeout=60) as events:
            for line in events:
                if self.stopped.is_set():
                    return
                if not line.startswith(b"data: {") or not (new := json.loads(line[6:]).get("new")):
                    continue
                step = new[-1]["step"]
                self._ask("/api/answers", run=run, split="train", step=step, to=step)
                self._ask("/api/picture", run=run, split="train", step=step, group=0)
                self.messages += 1

    def stop(self) -> None:
        """Close the page; the thread ends with the next line that the server sends."""
        self.stopped.set()


def started(words: list[str], wanted: str, log: Path) -> tuple[subprocess.Popen[str], str]:
    """A command of geospot in a process, once it has printed what matches `wanted`; and what did."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "geospot", *words], stdout=subprocess.PIPE, stderr=log.open("a"), text=True
    )
    for line in process.stdout or ():
        if found := re.search(wanted, line):
            threading.Thread(target=lambda: [None for _ in process.stdout or ()], daemon=True).start()
            return process, found[0]
    raise SystemExit(f"{' '.join(words)} ended: {log.read_text()[-2000:]}")


def logged(path: Path, training: subprocess.Popen[str]) -> "queue.Queue[float]":
    """The moments at which a line was added to metrics.jsonl."""
    moments: queue.Queue[float] = queue.Queue()

    def look() -> None:
        size = 0
        while training.poll() is None:
            now = path.stat().st_size if path.exists() else 0
            if now > size:
                size = now
                moments.put(time.perf_counter())
            time.sleep(LOOK_S)

    threading.Thread(target=look, daemon=True).start()
    return moments


def measured(moments: "queue.Queue[float]", address: str, turns: int, steps: int) -> tuple[Pairs, int]:
    """Seconds per step in pairs of turns, and how many steps the watchers were sent."""
    order, pairs, sent = random.Random(0), [], 0
    last = [moments.get(timeout=600) for _ in range(4)][-1]  # the first steps warm up
    for _ in range(turns):
        pair: dict[bool, list[float]] = {}
        for watched in order.sample([True, False], 2):
            watcher = Watcher(address) if watched else None
            pair[watched] = []
            for _ in range(steps):
                now = moments.get(timeout=600)
                pair[watched].append(now - last)
                last = now
            if watcher is not None:
                sent += watcher.messages
                watcher.stop()
        pairs.append((pair[True], pair[False]))
        print(f"  watched {np.mean(pair[True]):.3f} s, alone {np.mean(pair[False]):.3f} s per step", flush=True)
    return pairs, sent


def ratio(pairs: Pairs, middle: Any) -> list[float]:
    """[ratio, low, high] of the seconds with a watcher to those without."""
    logs = np.log([[middle(part) for part in pair] for pair in pairs])
    difference = logs[:, 0] - logs[:, 1]
    drawn = np.random.default_rng(0).choice(difference, (RESAMPLES, len(difference))).mean(axis=1)
    return [round(float(np.exp(x)), 4) for x in (difference.mean(), *np.quantile(drawn, (0.025, 0.975)))]


def main(
    turns: int = 24,
    steps: int = 8,
    batch: int = 8,
    group: int = 8,
    warm_up: int = 40,
    data: str = "bluemarble",
    eval_data: str = "auto",
    out: str = "",
) -> None:
    """Measure."""
    with tempfile.TemporaryDirectory() as folder:
        place, log = Path(folder), Path(folder) / "stderr.txt"
        sft, run = place / "sft", place / "runs" / "train"
        shared = [f"max_tokens={TOKENS}", "eval_places=8", "lora_rank=0", "model_name=geospot/tiny",
                  f"data={data}", f"eval_data={eval_data}", f"batch_size={batch}", "data_workers=0"]  # fmt: skip
        words = ["sft", *shared, f"max_steps={warm_up}", f"eval_every={warm_up}", f"log_path={sft}"]
        subprocess.run([sys.executable, "-m", "geospot", *words], check=True, stdout=subprocess.DEVNULL)
        most = 2 * turns * steps + 1000
        words = ["train", *shared, f"checkpoint={sft}", f"max_steps={most}", "save_every=100000",
                 f"group_size={group}", "eval_every=100000", f"log_path={run}"]  # fmt: skip
        run.parent.mkdir()
        training, _ = started(words, "", log)
        watching, address = started(["watch", str(run.parent), "port=0", "open=false"], r"http://[\d.:]+", log)
        try:
            pairs, sent = measured(logged(run / "metrics.jsonl", training), address, turns, steps)
        finally:
            for process in (training, watching):
                process.kill()
                process.wait()
    result = {
        "benchmark": "watch_cost", "commit": commit(), "device": platform.machine(), "cores": os.cpu_count(),
        "turns": turns, "steps": steps, "batch": batch, "group": group, "n": 2 * turns * steps, "steps_sent": sent,
        "alone_s": round(float(np.mean([np.mean(alone) for _, alone in pairs])), 4),
        "ratio": ratio(pairs, np.mean), "load": os.getloadavg()[0],
        "ratio_once_open": ratio(pairs, lambda part: np.mean(part[1:])),
        "pairs_s": [[round(float(np.mean(part)), 4) for part in pair] for pair in pairs],
    }  # fmt: skip
    for name in ("ratio", "ratio_once_open"):
        value, low, high = result[name]
        print(f"{name:<17} {value:.4f} [{low:.4f}, {high:.4f}]: watching costs {100 * (value - 1):+.2f} %")
    if out:
        Path(out).write_text(json.dumps(result) + "\n")
    print(json.dumps(result))


def commit() -> str:
    """Of this checkout."""
    words = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()


if __name__ == "__main__":
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    main(**{name: int(value) if value.isdecimal() else value for name, value in given.items()})
