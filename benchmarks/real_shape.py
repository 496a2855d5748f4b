"""Every command on a model of Qwen2.5-VL-3B's exact shape, on this machine: minutes, peak memory, checkpoint sizes.

    uv run python benchmarks/real_shape.py [--size 3b] [--threads 2] [--part commands,peer,grid,stop] [--folder DIR]

The model has random weights in bfloat16, two shards in hub format and the real tokenizer (`real_model.py`); it is
deleted at the end. Random weights never end an answer: each takes `max_tokens`. `--size small` (0.39 billion
parameters) shows within minutes that all of it works.

    commands  sft, resume, train, guess, eval, export; the peak beside the line that is printed before
    peer      the same forward, generation and backward by transformers + peft
    grid      estimate and peak in ten configurations, at smaller sizes
    stop      SIGINT at ten moments of runs
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import real_model
import torch
from PIL import Image

from geospot.data.samples import Sample
from geospot.data.tar import write_shard
from geospot.earth.place import Place
from geospot.progress import table

CITIES = [("Lyon", "France", 45.76, 4.84), ("Lima", "Peru", -12.05, -77.04), ("Cairo", "Egypt", 30.04, 31.24)]
# Answers of random weights are all worth nothing: only a KL term has groups without a signal trained on.
LEARNS = "kl_coef=0.01"
PEER_S = 900  # for all passes of one contender
PEER = Path(__file__).with_name("real_peer.py")
# What prints its own peak at the end: what the system tells a parent of its children is the largest of all so far.
CHILD = """
import atexit, runpy, sys
def peak():
    with open("/proc/self/status") as lines:
        print("VmHWM", next(line.split()[1] for line in lines if line.startswith("VmHWM")), file=sys.stderr)
atexit.register(peak)
sys.argv = ["geospot", *sys.argv[1:]]
runpy.run_module("geospot", run_name="__main__")
"""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="3b", choices=real_model.SIZES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--part", default="commands,peer,grid,stop")
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--only", default="", help="of the grid: those whose name has one of these words, by commas")
    args = parser.parse_args()
    place = args.folder or Path(tempfile.mkdtemp(prefix="geospot-real-"))
    place.mkdir(parents=True, exist_ok=True)
    parts, found = args.part.split(","), {}
    bench = Bench(place, args.threads)
    try:
        if {"commands", "peer", "stop"} & set(parts):
            model = bench.model(args.size)
            found["parameters"] = bench.parameters[args.size]
            for part in ("commands", "peer", "stop"):
                if part in parts:
                    found[part] = {"commands": commands, "peer": peer, "stop": stop}[part](bench, model)
            shutil.rmtree(model)
        if "grid" in parts:
            found["grid"] = grid(bench, args.only.split(","))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    facts = {"benchmark": "real_shape", "date": str(date.today()), "size": args.size, "threads": args.threads}
    facts |= {"cpu": torch.backends.cpu.get_cpu_capability(), "torch": torch.__version__}
    print(json.dumps(facts | found))


class Bench:
    """The folder of a benchmark: models, data, runs."""

    def __init__(self, place: Path, threads: int):
        self.place, self.threads = place, threads
        self.parameters: dict[str, int] = {}
        for name, side in (("photos", 512), ("small", 112)):
            # More than the largest batch: a picture that comes twice in one is computed once.
            for split, count in (("train", 64 if side == 512 else 256), ("eval", 2 if side == 512 else 64)):
                write_shard(place / f"{name}-{split}.tar", samples(split, count, side))
        save_picture(place / "photo.jpg", 99, (640, 480))

    def model(self, size: str) -> Path:
        """The folder of a model, made where it is not there."""
        folder = self.place / f"model-{size}"
        index = folder / "model.safetensors.index.json"
        if index.exists():
            self.parameters[size] = json.loads(index.read_text())["metadata"]["total_size"] // 2
        else:
            print(f"making a model of size {size} ...", file=sys.stderr, flush=True)
            self.parameters[size] = real_model.save(folder, size)
        return folder

    def data(self, name: str = "photos") -> list[str]:
        """Keys for the data: its own pictures, one place held out."""
        train, held_out = (self.place / f"{name}-{split}.tar" for split in ("train", "eval"))
        return [f"data={train}", f"eval_data={held_out}", "holdout_km=0", "data_workers=0"]

    def start(self, *words: object) -> subprocess.Popen[str]:
        """A geospot command in a process of its own."""
        env = os.environ | {"OMP_NUM_THREADS": str(self.threads), "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-c", CHILD, *map(str, words), f"threads={self.threads}", "device=cpu"]
        return subprocess.Popen(
            command, cwd=self.place, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def run(self, name: str, *words: object) -> dict:
        """Run a command to its end: seconds, measured and estimated peak in GiB, and what it printed."""
        started, process = time.monotonic(), self.start(*words)
        out, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"{name} ended with status {process.returncode}:\n{out[-3000:]}")
        row = {"what": name, "seconds": round(time.monotonic() - started, 1)} | memory_of(out)
        print(row, file=sys.stderr, flush=True)
        return row | {"out": out}


def memory_of(out: str) -> dict:
    """Measured and estimated peak (GiB) in what a command printed, and their ratio."""
    measured = int(re.findall(r"VmHWM (\d+)", out)[-1]) / 2**20
    said = [float(n) for n in re.findall(r"memory, GiB: ([\d.]+) at most", out)]
    row = {"peak": round(measured, 2)}
    return row | ({"estimate": max(said), "ratio": round(max(said) / measured, 3)} if said else {})


def commands(bench: Bench, model: Path) -> list[dict]:
    """The mission's commands, one after the other."""
    common = [f"model_name={model}", *bench.data(), "eval_places=1", "batch_size=1"]
    sft, grpo = bench.place / "sft", bench.place / "grpo"
    more = ["max_steps=1", "group_size=2", LEARNS, "max_tokens=12", f"log_path={grpo}", f"checkpoint={sft}"]
    rows = [
        bench.run("sft, 2 steps", "sft", *common, "max_steps=2", "max_tokens=12", f"log_path={sft}"),
        bench.run("sft, resumed for a third", "sft", *common, "max_steps=3", "max_tokens=12", f"log_path={sft}"),
        bench.run("train, 1 step x 2 answers", "train", *common, *more),
    ]
    rows[0]["steps"] = step_seconds(sft)
    rows[0]["checkpoint_mb"] = size_mb(sft / "checkpoints" / "000002")
    rows[2]["checkpoint_mb"] = size_mb(grpo / "checkpoints" / "000001")
    asked = [f"checkpoint={grpo}", "max_tokens=12"]
    rows.append(bench.run("guess, 640x480", "guess", bench.place / "photo.jpg", *asked))
    rows.append(bench.run("guess, the model itself", "guess", bench.place / "photo.jpg", f"model_name={model}",
                          "max_tokens=12"))  # fmt: skip
    held_out = [bench.data()[1].replace("eval_data", "data"), "data_workers=0", "eval_places=1"]
    rows.append(bench.run("eval, 1 place", "eval", *held_out, *asked, f"out={bench.place / 'eval'}"))
    rows.append(export(bench, grpo))
    shown(rows, "a command, start to end")
    return [{key: value for key, value in row.items() if key != "out"} for row in rows]


def export(bench: Bench, run: Path) -> dict:
    """The adapter as peft reads it."""
    started = time.monotonic()
    words = [sys.executable, "-m", "geospot", "export", f"checkpoint={run}", f"out={bench.place / 'adapter'}"]
    subprocess.run(words, check=True, cwd=bench.place, capture_output=True)
    seconds = round(time.monotonic() - started, 1)
    return {"what": "export", "seconds": seconds, "checkpoint_mb": size_mb(bench.place / "adapter")}


def peer(bench: Bench, model: Path) -> list[dict]:
    """The same passes by this engine and by transformers + peft, in processes of their own."""
    rows = []
    for who in ("geospot", "transformers"):
        words = [sys.executable, str(PEER), who, str(model), str(bench.threads)]
        env = os.environ | {"OMP_NUM_THREADS": str(bench.threads), "HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            out, err = process.communicate(timeout=PEER_S)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
        if process.returncode > 0:
            raise SystemExit(f"{who} ended with status {process.returncode}:\n{err[-3000:]}")
        rows.append({"who": who} | dict.fromkeys(("tower", "forward", "generation", "backward", "peak")))
        for line in out.splitlines():
            if line.startswith("{"):
                rows[-1] |= json.loads(line)
        print(rows[-1], file=sys.stderr, flush=True)
    print(f"\nseconds of the same passes; nothing: not done after {PEER_S} s in all\n{table(rows)}")
    return rows


# name, size, data, command, keys
GRID = [
    ("sft, batch 1", "small", "photos", "sft", ["batch_size=1", "dtype=bfloat16"]),
    ("sft, batch 1, float32", "small", "photos", "sft", ["batch_size=1", "dtype=float32"]),
    ("sft, batch 16", "least", "photos", "sft", ["batch_size=16", "dtype=bfloat16"]),
    ("sft, default batch, 112 px", "least", "small", "sft", []),
    ("sft, all weights", "least", "small", "sft", ["lora_rank=0", "batch_size=4"]),
    ("sft, recomputed", "small", "small", "sft", ["batch_size=16", "gradient_checkpointing=true", "dtype=bfloat16"]),
    ("train, 1 x 2", "small", "photos", "train", ["batch_size=1", "group_size=2", "dtype=bfloat16"]),
    ("train, 4 x 8, float32", "least", "small", "train", ["batch_size=4", "group_size=8"]),
    ("eval, 64 places", "least", "small", "eval", ["dtype=bfloat16"]),
    ("guess, 1 photo", "small", "photos", "guess", ["dtype=bfloat16"]),
]


def grid(bench: Bench, words: list[str]) -> list[dict]:
    """Estimate beside peak in ten configurations."""
    rows = []
    for name, size, data, command, keys in GRID:
        if not any(word in name for word in words):
            continue
        line: list[object] = [command, f"model_name={bench.model(size)}", *keys, "max_tokens=8"]
        if command in ("sft", "train"):
            line += [*bench.data(data), "max_steps=2", "eval_places=1", f"log_path={bench.place / f'grid{len(rows)}'}"]
            line += ["checkpoint=none", LEARNS] if command == "train" else []
        elif command == "eval":
            held_out = bench.data(data)[1].replace("eval_data", "data")
            line += [held_out, "data_workers=0", f"out={bench.place / 'grid-eval'}"]
        else:
            line.insert(1, bench.place / "photo.jpg")
        rows.append(bench.run(name, *line) | {"size": size})
    shown(rows, "estimate beside peak")
    return [{key: value for key, value in row.items() if key != "out"} for row in rows]


def stop(bench: Bench, model: Path, times: int = 10) -> list[dict]:
    """SIGINT at random moments: seconds until the process had ended, and whether a line said what it waited for.

    Every other pair of runs leaves out the evaluation in front, so that moments fall into sampling and the gradient.
    """
    rng, rows = random.Random(0), []
    for k in range(times):
        command, more = ("sft", []) if k % 2 else ("train", ["group_size=2", "checkpoint=none"])
        log = bench.place / f"stop-{command}-{k % 4 < 2}"
        words = [command, f"model_name={model}", *bench.data(), "eval_places=1", "batch_size=1", "max_tokens=12",
                 "max_steps=50", "lr_schedule=constant", f"log_path={log}", *more]  # fmt: skip
        if k % 4 >= 2:
            words = [word for word in words if not word.startswith("eval_")] + ["eval_data=none"]
        process, lines = bench.start(*words), []
        assert process.stdout is not None
        for line in process.stdout:  # it has opened all once it says what it will take
            lines.append(line)
            if line.startswith("this run"):
                break
        waited = rng.uniform(1, 200)
        time.sleep(waited)
        asked = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate()
        rows.append({
            "what": command, "evaluates": k % 4 < 2, "after": round(waited),
            "seconds": round(time.monotonic() - asked, 1), "status": process.returncode,
            "said": re.findall(r"(?:Still waiting|Waiting) for .*", out), "end": re.findall(r"stopped .*", out)[-1:],
        })  # fmt: skip
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def samples(split: str, count: int, side: int) -> list[Sample]:
    """Places with a picture of soft blotches."""
    rows = []
    for i in range(count):
        city, country, lat, lon = CITIES[i % 3]
        rows.append(Sample(f"{split}-{i:03d}", (picture(i, (side, side)),), Place(lat, lon, city, None, country)))
    return rows


def picture(seed: int, size: tuple[int, int]) -> bytes:
    """A JPEG of soft blotches."""
    path = Path(tempfile.gettempdir()) / f"geospot-real-{os.getpid()}.jpg"
    save_picture(path, seed, size)
    data = path.read_bytes()
    path.unlink()
    return data


def save_picture(path: Path, seed: int, size: tuple[int, int]) -> None:
    small = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path, "JPEG", quality=90)


def step_seconds(run: Path) -> list[float]:
    """Seconds of each step of a run, the evaluation in front of it included."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [round(row["step_seconds"], 1) for row in rows if "step_seconds" in row]


def size_mb(folder: Path) -> int:
    """All files of a folder."""
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6)


def shown(rows: list[dict], title: str) -> None:
    """A table for people."""
    names = ("what", "size", "seconds", "peak", "estimate", "ratio", "checkpoint_mb")
    used = [name for name in names if any(name in row for row in rows)]
    print(f"\n{title}\n{table([{name: row.get(name) for name in used} for row in rows])}")


if __name__ == "__main__":
    main()
