"""geospot's local engine beside TRL's GRPOTrainer and transformers' generate, on the same model, pictures and tokens.

    uv venv peer && VIRTUAL_ENV=peer uv pip install torch transformers peft trl datasets pillow    # once
    uv run python benchmarks/vs_trl --peer-python peer/bin/python [--part step vocabulary profile scaling learning]

Both sides run at once but take turns, a step each, so that other work on the machine slows both alike; what counts is
the median of the turns' ratios. Prints tables for people and one JSON line last; `--out` keeps that in a file.

    step        8 prompts x 16 answers x 48 tokens, LoRA 8: the whole step and the sampling in it; generate alone
    vocabulary  the same with 32k tokens
    profile     our step by kind of operation, beside the time of its operations at the matrix products' rate
    scaling     our step over group size, batch and answer length, against the operations that it cannot do without
    learning    the reward over 3 seeds from the same warm start
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import task
import torch

from geospot.progress import table

HERE = Path(__file__).parent
WARM_UP = 2  # turns that are not counted: caches fill, allocators settle


class Side:
    """A process that does a step when it is its turn."""

    def __init__(self, python: str, script: str, **settings):
        words = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
        env = os.environ | {"OMP_NUM_THREADS": str(settings["threads"]), "KMP_BLOCKTIME": "0", "HF_HUB_OFFLINE": "1"}
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the process)
        self._process = subprocess.Popen(
            [python, str(HERE / script), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
            text=True, env=env,
        )  # fmt: skip
        self._read()

    def _read(self) -> dict:
        for line in self._process.stdout:
            if line.startswith("ROW "):
                return json.loads(line[4:])
        self._log.seek(0)
        raise SystemExit(f"a side stopped:\n{self._log.read()[-3000:]}")

    def turn(self, last: bool) -> dict:
        """Do one step; what it took."""
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        row = self._read()
        if not last:
            self._read()  # ready again
        return row

    def close(self) -> None:
        """Let it end."""
        self._process.stdin.close()
        self._process.wait()


def in_turns(sides: dict[str, Side], steps: int) -> dict[str, list[dict]]:
    """Steps of all sides, one after the other."""
    rows = {name: [] for name in sides}
    for step in range(steps):
        for name, side in sides.items():
            rows[name].append(side.turn(last=step == steps - 1))
    for side in sides.values():
        side.close()
    return rows


def ratio(peer: list[dict], ours: list[dict], key: str, our_key: str | None = None) -> dict[str, float]:
    """How many times as long the peer took: median, least and most of the turns' ratios; seconds; CPU seconds."""
    a, b = ([r[k] for r in rows[WARM_UP:]] for rows, k in ((peer, key), (ours, our_key or key)))
    each = np.array(a) / np.array(b)
    cpu = [np.median([r[k + "_cpu"] for r in rows[WARM_UP:]]) for rows, k in ((peer, key), (ours, our_key or key))]
    return {
        "ratio": float(np.median(each)), "least": float(each.min()), "most": float(each.max()),
        "peer_s": float(np.median(a)), "ours_s": float(np.median(b)), "cpu_ratio": float(cpu[0] / cpu[1]),
        "turns": len(each),
    }  # fmt: skip


def compare(args, model: str, steps: int) -> dict:
    """The three sides in turns: TRL, ours, generate."""
    shared = {
        "model": model, "prompts": 8, "group": 16, "new_tokens": 48, "threads": args.threads, "steps": steps,
        "seed": 0, "lr": 1e-4, "fixed_length": 1,
    }  # fmt: skip
    sides = {
        "trl": Side(args.peer_python, "peer.py", mode="grpo", **shared),
        "ours": Side(sys.executable, "ours.py", mode="grpo", **shared),
        "generate": Side(args.peer_python, "peer.py", mode="generate", **shared),
    }
    rows = in_turns(sides, steps)
    return {
        "whole step, against TRL": ratio(rows["trl"], rows["ours"], "step"),
        "sampling, against TRL's (generate with its preparation)": ratio(rows["trl"], rows["ours"], "sample"),
        "sampling, against TRL's generate call alone": ratio(rows["trl"], rows["ours"], "generate", "sample"),
        "sampling, against transformers' generate": ratio(rows["generate"], rows["ours"], "sample"),
    }


def show(title: str, result: dict) -> None:
    """A comparison as a table."""
    print(f"\n{title}\n")
    print(table(
        {"": name, "ratio": f"{r['ratio']:.1f}", "least..most": f"{r['least']:.1f}..{r['most']:.1f}",
         "by CPU time": f"{r['cpu_ratio']:.1f}", "peer s": f"{r['peer_s']:.2f}", "ours s": f"{r['ours_s']:.2f}"}
        for name, r in result.items()
    ), flush=True)  # fmt: skip


def scaling(args, model: str) -> list[dict]:
    """Our step over each of group, batch and length, beside the time of its operations at the matrix products' rate."""
    base, rows = {"prompts": 8, "group": 16, "new_tokens": 48}, []
    grid = [{"group": n} for n in (2, 4, 8, 16, 32, 64)]
    grid += [{"prompts": n} for n in (1, 2, 4, 8, 16, 32, 64)]
    grid += [{"new_tokens": n} for n in (12, 24, 48, 96, 192)]
    for change in grid:
        shape = base | change
        settings = shape | {"threads": args.threads, "steps": 4, "seed": 0, "lr": 1e-4, "fixed_length": 1}
        done = in_turns({"ours": Side(sys.executable, "ours.py", mode="grpo", model=model, **settings)}, 4)["ours"]
        least = {key: min(r[key] for r in done[WARM_UP:]) for key in ("step", "sample", "step_cpu")}
        floor = gflop(**shape) / matmul_gflops(args.threads)
        name = next(iter(change))
        rows.append({"varied": name, **shape, **{f"{k}_s": v for k, v in least.items()}, "floor_s": floor})
        lines = table([{
            "varied": name, "prompts": shape["prompts"], "group": shape["group"], "tokens": shape["new_tokens"],
            "step s": f"{least['step']:.3f}", "sample s": f"{least['sample']:.3f}", "floor s": f"{floor:.3f}",
            "step / floor": f"{least['step'] / floor:.1f}",
        }]).splitlines()  # fmt: skip
        print("\n".join(lines if len(rows) == 1 else lines[-1:]), flush=True)
    return rows


def profile(args, model: str) -> dict:
    """Where our step's time goes: seconds by part and kind of operation, and what a large matrix product would take."""
    shape = {"prompts": 8, "group": 16, "new_tokens": 48}
    settings = shape | {"threads": args.threads, "steps": 5, "seed": 0, "lr": 1e-4, "fixed_length": 1}
    done = in_turns({"ours": Side(sys.executable, "ours.py", mode="profile", model=model, **settings)}, 5)["ours"]
    rate = matmul_gflops(args.threads)
    rows = sorted(done[-1]["profile"], key=lambda row: (row["part"], -row["seconds"]))
    print("\nour step by kind of operation; the profiler itself takes a microsecond or two a call\n")
    print(table(
        {"part": r["part"], "kind": r["kind"], "ms": f"{1000 * r['seconds']:.0f}", "calls": r["calls"],
         "GFLOP/s": f"{r['gflop'] / r['seconds']:.0f}" if r["gflop"] else "",
         "at the full rate, ms": f"{1000 * r['gflop'] / rate:.0f}" if r["gflop"] else ""}
        for r in rows
    ), flush=True)  # fmt: skip
    step = float(np.median([row["step"] for row in done[WARM_UP:-1]]))
    floor = gflop(**shape) / rate
    print(f"a step without the profiler {step:.2f} s; its operations at {rate:.0f} GFLOP/s {floor:.2f} s", flush=True)
    return {"rows": rows, "step_s": step, "floor_s": floor, "gflops": rate}


def gflop(prompts: int, group: int, new_tokens: int) -> float:
    """10^9 operations of a step: every prefix once and every answer token through the decoder, once to sample, once
    forward and once backward (the frozen weights need no gradient), attention and vocabulary included."""
    hidden, inner, layers, kv, vocabulary, prompt = 128, 512, 4, 64, 264, 99
    weights = layers * (2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * inner)
    answers = prompts * group * new_tokens
    seen = answers * (prompt + new_tokens / 2) + prompts * prompt * prompt / 2
    once = 2 * (answers + prompts * prompt) * weights + 4 * layers * hidden * seen + 2 * answers * hidden * vocabulary
    return once * (1 + 1 + 1) / 1e9


def matmul_gflops(threads: int) -> float:
    """What this machine's matrix product reaches at the model's shapes, 10^9 operations a second."""
    torch.set_num_threads(threads)
    a, b = torch.randn(4096, 128), torch.randn(128, 1024)
    best = 0.0
    for _ in range(30):
        started = time.perf_counter()
        a @ b
        best = max(best, 2 * a.numel() * 1024 / (time.perf_counter() - started) / 1e9)
    return best


def learning(args, steps: int) -> dict:
    """The mean reward of the last quarter of the steps on both sides, over three seeds."""
    with tempfile.TemporaryDirectory() as folder:
        print("\nwarm start of the model that both sides go on from", flush=True)
        task.save_model(folder, warm_steps=args.warm_steps)
        curves = {"trl": [], "ours": []}
        for seed in range(3):
            shared = {
                "model": folder, "mode": "grpo", "prompts": 8, "group": 16, "new_tokens": 48,
                "threads": args.threads, "steps": steps, "seed": seed, "lr": 1e-3, "fixed_length": 0,
            }  # fmt: skip
            sides = {
                "trl": Side(args.peer_python, "peer.py", **shared),
                "ours": Side(sys.executable, "ours.py", **shared),
            }
            for name, rows in in_turns(sides, steps).items():
                curves[name].append([r["reward"] for r in rows])
            print(f"  seed {seed}: " + ", ".join(
                f"{name} {np.mean(c[-1][: steps // 4]):.3f} -> {np.mean(c[-1][-steps // 4 :]):.3f}"
                for name, c in curves.items()
            ), flush=True)  # fmt: skip
    last = {name: [float(np.mean(c[-steps // 4 :])) for c in every] for name, every in curves.items()}
    return {"curves": curves, "last_quarter": last}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True, help="a python that has trl, peft and datasets")
    parser.add_argument("--part", nargs="+", default=["step", "vocabulary", "profile", "scaling", "learning"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--learning-steps", type=int, default=40)
    parser.add_argument("--warm-steps", type=int, default=300)
    parser.add_argument("--out", help="file for the JSON line")
    args = parser.parse_args()
    question = "import trl, transformers, torch; print(trl.__version__, transformers.__version__, torch.__version__)"
    asked = subprocess.run([args.peer_python, "-c", question], capture_output=True, text=True, check=True)
    versions = asked.stdout.split()
    out = {
        "benchmark": "vs_trl", "date": date.today().isoformat(), "machine": f"{os.cpu_count()} cores",
        "device": platform.machine(), "threads": args.threads, "torch": torch.__version__,
        "peer": dict(zip(("trl", "transformers", "torch"), versions, strict=True)),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as plain, tempfile.TemporaryDirectory() as large:
        task.save_model(plain)
        if "step" in args.part:
            out["step"] = compare(args, plain, args.steps)
            show("8 prompts x 16 answers x 48 tokens, LoRA 8", out["step"])
        if "profile" in args.part:
            out["profile"] = profile(args, plain)
        if "vocabulary" in args.part:
            task.save_model(large, vocabulary=32_768)
            out["vocabulary"] = compare(args, large, max(4, args.steps // 2))
            show("the same with a vocabulary of 32,768", out["vocabulary"])
        if "scaling" in args.part:
            print("\nour step against the operations it cannot do without", flush=True)
            out["scaling"] = scaling(args, plain)
    if "learning" in args.part:
        out["learning"] = learning(args, args.learning_steps)
    line = json.dumps(out)
    if args.out:
        Path(args.out).write_text(line + "\n")
    print("\n" + line)


if __name__ == "__main__":
    main()
