"""kill -9 at random moments: does a run that was killed and started again equal the one that was not, to the byte?

    uv run python benchmarks/reliability/kills.py [--kills 50] [--seed 0] [--out FILE]

A GRPO run of the tiny model, from an SFT checkpoint whose answers still differ, so that rewards are above 0 and every
step moves the weights. It is killed after a random time, or a random time after it entered a phase (opening, loading,
rewinding, evaluating, sampling, updating, logging, saving, pruning), and started again by the same configuration, until
it ends. Then its metrics, rollouts, checkpoints and positions must be those of the unbroken run. The processes are
forked from one that has imported everything, so that they spend their time in the run.
"""

import argparse
import hashlib
import json
import mmap
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import chz
from small_runs import write_shards

import geospot.train
import geospot.training.loop
from geospot._version import __version__
from geospot.asking.requests import Asked
from geospot.config import SftConfig, TrainConfig
from geospot.earth.gazetteer import Gazetteer
from geospot.progress import Progress, table
from geospot.runs.checkpoints import read_checkpoints
from geospot.runs.folder import RunFolder, read_metrics
from geospot.runs.rollouts import query_rollouts
from geospot.sft import run as run_sft

STEPS, MOST_KILLS = 8, 9  # of a run, before it may end
PHASES = ("between", "opening", "loading", "rewinding", "evaluating", "sampling", "updating", "logging", "saving",
          "pruning")  # fmt: skip
AIMED = (*PHASES[1:], "saving", "saving", "pruning", "updating", "updating", "evaluating")
LEARNS = 0.15, 0.85  # rewards at which answers differ, so that a step moves the weights
TIMES = ("time/", "step_seconds")


class Board:
    """What a child says of itself in shared memory: its phase, how often it entered each and for how many seconds."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._seconds = memoryview(self._memory)[64 : 64 + 8 * len(PHASES)].cast("d")

    def reset(self) -> None:
        self._memory[: 64 + 8 * len(PHASES)] = bytes(64 + 8 * len(PHASES))

    def mean_s(self) -> dict[str, float]:
        return {name: self._seconds[i] / max(self.entered(name), 1) for i, name in enumerate(PHASES)}

    @property
    def phase(self) -> str:
        return PHASES[self._memory[0]]

    def entered(self, phase: str) -> int:
        return self._memory[1 + PHASES.index(phase)]

    @contextmanager
    def within(self, phase: str) -> Iterator[None]:
        index, before = PHASES.index(phase), self._memory[0]
        self._memory[0] = index
        self._memory[1 + index] = min(self._memory[1 + index] + 1, 255)
        begun = time.monotonic()
        try:
            yield
        finally:
            self._memory[0] = before
            self._seconds[index] += time.monotonic() - begun

    def watch(self, owner: object, name: str, phase: str) -> None:
        """Have a function say when it runs."""
        held = owner.__dict__[name]
        work: Callable = held.__func__ if isinstance(held, classmethod) else held

        def watched(*args: object, **options: object) -> object:
            with self.within(phase):
                return work(*args, **options)

        setattr(owner, name, classmethod(watched) if isinstance(held, classmethod) else watched)


def watch_everything(board: Board) -> None:
    loop = geospot.training.loop
    board.watch(RunFolder, "create", "opening")
    board.watch(loop, "_training_client", "loading")
    board.watch(RunFolder, "rewind", "rewinding")
    board.watch(loop.Loop, "evaluate", "evaluating")
    board.watch(Asked, "collect", "sampling")
    board.watch(geospot.train, "update", "updating")
    board.watch(RunFolder, "log", "logging")
    board.watch(RunFolder, "add_rollouts", "logging")
    board.watch(loop.Loop, "save", "saving")
    board.watch(RunFolder, "prune", "pruning")


def prepare(work: Path) -> str:
    """Shards of three places and a short SFT run; returns its checkpoint."""
    write_shards(work)
    run_sft(SftConfig(
        **common(work) | {"save_every": 4}, batch_size=12, max_steps=60, eval_every=60, learning_rate=2e-3,
        keep_checkpoints=20, log_path=str(work / "sft"),
    ))  # fmt: skip
    for checkpoint in read_checkpoints(work / "sft"):
        config = configuration(work, checkpoint.path, f"try{checkpoint.step}", 0)
        finish(start(chz.replace(config, max_steps=2, eval_data="none"), work / "tries.log"))
        steps = [row for row in read_metrics(config.log_path) if "reward" in row]
        if steps and all(LEARNS[0] < row["reward"] < LEARNS[1] for row in steps):
            return checkpoint.path
    raise SystemExit("no checkpoint of the SFT run is one whose answers differ")


def common(work: Path) -> dict:
    return {
        "data": str(work / "train.tar"), "eval_data": str(work / "eval.tar"), "max_tokens": 40, "threads": 1,
        "lora_rank": 0, "shuffle_buffer": 8, "device": "cpu", "holdout_km": 0.0, "data_workers": 0, "save_every": 1,
    }  # fmt: skip


def configuration(work: Path, checkpoint: str, name: str, seed: int) -> TrainConfig:
    return TrainConfig(
        **common(work), batch_size=3, group_size=4, max_steps=STEPS, eval_every=3, keep_checkpoints=2, num_substeps=2,
        learning_rate=3e-4, checkpoint=checkpoint, log_path=str(work / name), seed=seed,
    )  # fmt: skip


def start(config: TrainConfig, log: Path) -> int:
    """A process that runs it; its words go to a file."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    code = 1
    try:
        geospot.train.run(config)
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def finish(pid: int) -> int:
    """Exit code of a process; minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill(pid: int, board: Board, aim: tuple[str, int, float] | float) -> bool:
    """Kill a process after some seconds, or some after it entered a phase so often; False where it ended before."""
    begun = time.monotonic()
    while True:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return False
        if isinstance(aim, float):
            if time.monotonic() - begun >= aim:
                break
        elif board.entered(aim[0]) >= aim[1]:
            time.sleep(aim[2])
            break
        time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    return True


def draw_aim(
    rng: random.Random, session_s: float, mean_s: dict[str, float], resumes: bool
) -> tuple[str, int, float] | float:
    """Every fourth time any moment of a session, or of the first second of a resume; else one within a phase."""
    if rng.random() < 0.25:
        return rng.random() * session_s
    if resumes and rng.random() < 0.2:
        return "opening", 1, rng.random()
    phase = rng.choice(AIMED)
    entries = 1 if phase in PHASES[1:4] else rng.randint(1, 3)
    return phase, entries, rng.random() * mean_s[phase]


def contents(folder: Path) -> dict[str, Any]:
    """All that a run saved, but what the clock says."""
    rows = [{k: v for k, v in row.items() if not k.startswith(TIMES)} for row in read_metrics(folder)]
    lines = [json.loads(line) for line in (folder / "checkpoints.jsonl").read_text().splitlines()]
    files = [path for name in ("checkpoints", "positions") for path in sorted((folder / name).rglob("*"))]
    return {
        "metrics": rows,
        "rollouts": query_rollouts(folder, "SELECT * FROM rollouts ORDER BY step, split, group_index, member_index"),
        "checkpoints": [{k: v for k, v in line.items() if k != "time"} for line in lines],
        "files": {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
                  for path in files if path.is_file()},
        "names": sorted(p.name for p in folder.iterdir() if not p.name.endswith(("-wal", "-shm"))),
    }  # fmt: skip


def difference(one: Any, other: Any) -> str:
    """The first things that differ."""
    if isinstance(one, dict):
        one, other = sorted(one.items()), sorted(other.items())
    return str([item for item in one if item not in other][:3] + [item for item in other if item not in one][:3])[:600]


def campaign(kills: int, seed: int, work: Path) -> dict[str, object]:
    rng, board, log = random.Random(seed), Board(), work / "runs.log"
    checkpoint = prepare(work)
    Gazetteer.load()
    watch_everything(board)
    wholes: list[dict[str, Any]] = []
    for name in ("whole", "again"):  # two of them: is the unbroken run one that can be told from others?
        board.reset()
        begun = time.monotonic()
        if code := finish(start(configuration(work, checkpoint, name, seed), log)):
            raise SystemExit(f"the unbroken run ended with {code}: {log.read_text()[-2000:]}")
        session_s, mean_s = time.monotonic() - begun, board.mean_s()
        wholes.append(contents(work / name))
    if wholes[0] != wholes[1]:
        raise SystemExit("two unbroken runs differ: " + ", ".join(k for k in wholes[0] if wholes[0][k] != wholes[1][k]))
    killed, learned, phases, runs, failures = 0, 0, Counter(), 0, []
    with Progress("kills", total=kills) as bar:
        while killed < kills:
            folder, runs, here = work / f"run{runs}", runs + 1, 0
            while True:
                board.reset()
                pid = start(configuration(work, checkpoint, folder.name, seed), log)
                if (
                    here < MOST_KILLS
                    and killed < kills
                    and kill(pid, board, draw_aim(rng, session_s, mean_s, here > 0))
                ):
                    phases[board.phase] += 1
                    finish(pid)
                    metrics = folder / "metrics.jsonl"
                    learned += metrics.exists() and bool(metrics.read_bytes())
                    killed, here = killed + 1, here + 1
                    bar.advance(1)
                    continue
                if code := finish(pid):
                    failures.append(f"{folder.name}: ended with {code} after {here} kills: {log.read_text()[-1500:]}")
                    break
                got = contents(folder)
                failures += [
                    f"{folder.name}: {k} differ after {here} kills: {difference(got[k], wholes[0][k])}"
                    for k in got if got[k] != wholes[0][k]
                ]  # fmt: skip
                break
            shutil.rmtree(folder, ignore_errors=not failures)
    steps = [row for row in wholes[0]["metrics"] if "reward" in row]
    return {
        "kills": killed, "after_a_logged_step": learned, "runs": runs, "phases": dict(phases.most_common()),
        "rewards": [round(row["reward"], 3) for row in steps],
        "gradient_norms": [round(row["grad_norm"], 3) for row in steps],
        "answers": len(wholes[0]["rollouts"]), "files": len(wholes[0]["files"]), "failures": failures,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kills-") as work:
        found = campaign(arguments.kills, arguments.seed, Path(work))
    facts = {
        "benchmark": "reliability_kills", "date": time.strftime("%Y-%m-%d"), "device": f"{os.cpu_count()} cores",
        "geospot": __version__, "seed": arguments.seed, **found, "seconds": round(time.monotonic() - begun, 1),
    }  # fmt: skip
    print(table([{key: facts[key] for key in ("kills", "after_a_logged_step", "runs", "answers", "files", "seconds")}]))
    print(table([{"phase": name, "kills": n} for name, n in found["phases"].items()]))
    print("\n".join(found["failures"]) or "All runs equal the unbroken one.")
    print(json.dumps(facts))
    if arguments.out:
        arguments.out.write_text(json.dumps(facts, indent=1) + "\n")
    sys.exit(bool(found["failures"]))


if __name__ == "__main__":
    main()
