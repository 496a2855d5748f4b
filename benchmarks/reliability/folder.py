"""What disks, people and clocks do to a run folder: nothing that was saved is lost, and one clear sentence says why.

    uv run python benchmarks/reliability/folder.py [--out FILE]          # Linux; best as root, or with user namespaces

Each scenario breaks a GRPO run of the tiny model in some way: a disk that is full from the start, at some write or from
some moment on (a small tmpfs), a folder that may not be written, a second writer, damaged files, signals sent twice, a
clock that jumps, a memory limit. It must end with a status other than 0 and one sentence that fits, without a
traceback; what was saved before must still be there; and once the cause is gone the same command must go on to what
the unbroken run gave, to the byte.
"""

import argparse
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from breakage import BIG, blank, cut, grow, jumping_clock, scribble, shrink, tmpfs
from kills import configuration, contents, finish, prepare

import geospot.train
from geospot._version import __version__
from geospot.config import TrainConfig
from geospot.earth.gazetteer import Gazetteer
from geospot.progress import Progress, table
from geospot.runs.folder import read_metrics
from geospot.runs.rollouts import query_rollouts

INSIDE = "GEOSPOT_FOLDER_BENCHMARK_MOUNTS"
STEPS = 5
# From nothing to what a run needs in all, some 170 MB: where each kind of write meets the end.
FREE_KB = (0, 8, 40, 400, 20_000, 57_000, 75_000, 112_000, 131_000)


class Bench:
    """A warm start, the unbroken run, and what every scenario gave."""

    def __init__(self, work: Path) -> None:
        self.work, self.rows = work, []
        self.checkpoint = prepare(work)
        Gazetteer.load()
        whole = self.config(work / "whole")
        if code := finish(self.start(whole, work / "whole.log")):
            raise SystemExit(f"the unbroken run ended with {code}: {(work / 'whole.log').read_text()[-2000:]}")
        self.whole = contents(work / "whole")

    def config(self, folder: Path) -> list[str]:
        """The words of the command line."""
        config = configuration(self.work, self.checkpoint, "x", 0)
        words = {name: getattr(config, name) for name in TrainConfig.__chz_fields__}
        words |= {"log_path": str(folder), "max_steps": STEPS}
        usual = TrainConfig()
        return [f"{k}={v}" for k, v in words.items() if v != getattr(usual, k)]

    def start(self, words: list[str], log: Path, before: Callable[[], None] = lambda: None) -> int:
        """A process that runs the command; what it prints goes to a file."""
        sys.stdout.flush()
        if pid := os.fork():
            return pid
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        code = 1
        try:
            before()
            geospot.train.main(words)
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(bool(error.code))
            if isinstance(error.code, str):
                print(error.code, file=sys.stderr)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def judge(self, name: str, code: int, log: Path, says: str, saved: dict | None, folder: Path) -> None:
        """Note what is wrong with how a broken run ended; `says` is what its sentence must match, "" for none."""
        text = log.read_text(errors="replace")
        wrong = []
        if "Traceback" in text:
            wrong.append("traceback")
        if says and code == 0:
            wrong.append("status 0")
        if says and not re.search(says, text, re.DOTALL):
            wrong.append(f"does not say {says!r}")
        if saved is not None and (lost := lost_of(saved, folder)):
            wrong.append(f"lost {lost}")
        self.rows.append({"scenario": name, "status": code, "wrong": wrong, "said": last_line(text)})
        print(self.rows[-1], flush=True)

    def resume(self, folder: Path, log: Path) -> None:
        """The same command, now that the cause is gone: it must end as the unbroken run did."""
        if code := finish(self.start(self.config(folder), log)):
            self.rows[-1]["wrong"].append(f"the resume ended with {code}: {last_line(log.read_text(errors='replace'))}")
            return
        got = contents(folder)
        self.rows[-1]["wrong"] += [f"{key} differ after the resume" for key in got if got[key] != self.whole[key]]


def last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("GRPO")]
    return re.sub(r"/\S*/", ".../", " ".join(lines[-3:]))[-300:] if lines else ""


def saved_in(folder: Path) -> dict[str, Any] | None:
    """What a run has saved up to its last checkpoint; None where there is none yet."""
    path = folder / "checkpoints.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    kept = [line for line in lines if not line["pruned"]]
    if not kept:
        return None
    return {"steps": kept[-1]["step"], "checkpoint": kept[-1]["path"], "metrics": read_metrics(folder)}


def lost_of(saved: dict[str, Any], folder: Path) -> str:
    """What of it is no longer there."""
    steps = saved["steps"]
    if read_metrics(folder)[:steps] != saved["metrics"][:steps]:
        return "metrics"
    newer = saved_in(folder)
    if not (folder / saved["checkpoint"]).exists() and (newer is None or newer["steps"] <= steps):
        return "the checkpoint"
    with suppress(Exception):
        found = query_rollouts(folder, "SELECT count(DISTINCT step) AS n FROM rollouts WHERE split = 'train'")
        return "" if found[0]["n"] >= steps else "rollouts"
    return ""


def stop_after(bench: Bench, folder: Path, steps: int, number: int = signal.SIGINT) -> int:
    """Begin a run and stop it politely once it has logged so many steps; its exit status."""
    log = bench.work / "begin.log"
    pid = bench.start(bench.config(folder), log)
    wait_for(pid, lambda: logged(folder) >= steps)
    with suppress(ProcessLookupError):
        os.kill(pid, number)
    return finish(pid)


def wait_for(pid: int, ready: Callable[[], bool]) -> None:
    while not ready() and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.002)


def logged(folder: Path) -> int:
    metrics = folder / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def full_disks(bench: Bench, bar: Progress) -> None:
    """Room for so much and no more; then room again."""
    place, log = bench.work / "disk", bench.work / "full.log"
    for kb in FREE_KB:
        with tmpfs(place, f"{kb + 4}k"):
            folder = place / "run"
            code = finish(bench.start(bench.config(folder), log))
            bench.judge(
                f"disk full after {kb} kB", code, log, r"cannot write|No space left|not enough room", None, folder
            )
            if code == 0:
                bench.rows[-1]["wrong"] = ["had room enough"]
            grow(place)
            bench.resume(folder, log)
        bar.advance(1)


def disks_that_fill(bench: Bench, bar: Progress, rng: random.Random, times: int = 4) -> None:
    """Somebody else takes all room at some moment of a run that has saved."""
    place, log = bench.work / "disk", bench.work / "fills.log"
    for _ in range(times):
        with tmpfs(place, BIG):
            folder, after = place / "run", rng.randint(1, STEPS - 2)
            pid = bench.start(bench.config(folder), log)
            wait_for(pid, lambda folder=folder, after=after: logged(folder) >= after)
            time.sleep(rng.random() * 0.3)
            shrink(place, rng.choice((0, 4, 64)))
            code = finish(pid)
            bench.judge(
                f"disk full from step {after} on", code, log, r"cannot write|No space left", saved_in(folder), folder
            )
            grow(place)
            bench.resume(folder, log)
        bar.advance(1)


def read_only(bench: Bench, bar: Progress) -> None:
    """A folder that may not be written: a new run, and one that has saved."""
    place, log = bench.work / "disk", bench.work / "ro.log"
    with tmpfs(place, BIG):
        stop_after(bench, place / "run", 2)
        saved = saved_in(place / "run")
        for name, folder in (("new", place / "new"), ("begun", place / "run")):
            subprocess.run(["mount", "-o", "remount,ro", place], check=True)
            code = finish(bench.start(bench.config(folder), log))
            bench.judge(f"read-only, {name}", code, log, r"[Rr]ead-only", saved if name == "begun" else None, folder)
            subprocess.run(["mount", "-o", "remount,rw", place], check=True)
        bench.resume(place / "run", log)
    bar.advance(1)


def two_writers(bench: Bench, bar: Progress) -> None:
    folder, log = bench.work / "two", bench.work / "two.log"
    first = bench.start(bench.config(folder), bench.work / "first.log")
    wait_for(first, lambda: logged(folder) >= 1)
    code = finish(bench.start(bench.config(folder), log))
    bench.judge("a second writer", code, log, "being written by another process", None, folder)
    if finish(first):
        bench.rows[-1]["wrong"].append("the first was harmed")
    bench.resume(folder, log)
    bar.advance(1)


DAMAGES = {  # name: (files, what is done to them, what must be said)
    "rollouts cut": ("rollouts.sqlite", cut, r"rollouts\.sqlite"),
    "rollouts scribbled": ("rollouts.sqlite", lambda p: p.write_bytes(b"no database" * 1000), r"rollouts\.sqlite"),
    "config cut": ("config.json", cut, r"config\.json"),
    "config blank": ("config.json", blank, r"config\.json"),
    "a line of the metrics scribbled": ("metrics.jsonl", scribble, r"metrics\.jsonl line \d"),
    "a line of the checkpoints scribbled": ("checkpoints.jsonl", scribble, r"checkpoints\.jsonl line \d"),
    "position gone": ("positions/*.json", Path.unlink, "position"),
    "position cut": ("positions/*.json", cut, "position"),
    "largest file of the checkpoint cut": ("{newest}/*", cut, "checkpoint"),
    "files of the checkpoint blank": ("{newest}/*", blank, "checkpoint"),
    "files of the checkpoint gone": ("{newest}/*", Path.unlink, "checkpoint"),
}


def damages(bench: Bench, bar: Progress) -> None:
    """Files that a bad disk or an editor changed; with the file put back the run goes on."""
    begun, log = bench.work / "begun", bench.work / "damage.log"
    stop_after(bench, begun, 3)
    for name, (pattern, hurt, says) in DAMAGES.items():
        folder = bench.work / "damaged"
        shutil.copytree(begun, folder)
        newest = (saved_in(folder) or {})["checkpoint"]
        files = sorted(folder.glob(pattern.format(newest=newest)), key=lambda p: p.stat().st_size)
        files = files[-1:] if "largest" in name else files
        for path in files:
            hurt(path)
        before = {p: p.read_bytes() for p in folder.rglob("*.jsonl")}
        code = finish(bench.start(bench.config(folder), log))
        bench.judge(name, code, log, says, None, folder)
        if any(path.read_bytes() != data for path, data in before.items()):
            bench.rows[-1]["wrong"].append("changed what was logged")
        if code == 0:
            shutil.rmtree(folder)
            continue
        for path in files:
            shutil.copy2(begun / path.relative_to(folder), path)
        for path in folder.glob("rollouts.sqlite-*"):
            path.unlink()
        bench.resume(folder, log)
        shutil.rmtree(folder)
        bar.advance(1)


def signals(bench: Bench, bar: Progress) -> None:
    """Twice the same signal, or one of each: the first saves, a second SIGINT ends at once."""
    for first, second in ((signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT),
                          (signal.SIGTERM, signal.SIGINT), (signal.SIGINT, signal.SIGTERM)):  # fmt: skip
        folder, log = bench.work / f"{first.name}-{second.name}", bench.work / "signals.log"
        pid = bench.start(bench.config(folder), log)
        wait_for(pid, lambda folder=folder: logged(folder) >= 2)
        for number in (first, second):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            time.sleep(0.02)
        code = finish(pid)
        saved = saved_in(folder)
        bench.judge(f"{first.name}, then {second.name}", code, log, "", saved, folder)
        bench.resume(folder, log)
        bar.advance(1)


def clock(bench: Bench, bar: Progress) -> None:
    folder, log = bench.work / "clock", bench.work / "clock.log"
    code = finish(bench.start(bench.config(folder), log, jumping_clock))
    bench.judge("a clock that jumps", code, log, "", None, folder)
    bench.resume(folder, log)
    bar.advance(1)


def memory(bench: Bench, bar: Progress) -> None:
    """A limit that the run meets while it opens, and one that it meets in a step."""
    for mb in (40, 200):
        folder, log = bench.work / f"memory{mb}", bench.work / "memory.log"
        stop_after(bench, folder, 2)
        saved = saved_in(folder)
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = held + (mb << 20)
        code = finish(bench.start(
            bench.config(folder), log, lambda limit=limit: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        ))  # fmt: skip
        bench.judge(f"{mb} MB of memory", code, log, "memory" if code else "", saved, folder)
        bench.resume(folder, log)
        bar.advance(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--disks", action="store_true", help="only what needs a small tmpfs")
    arguments = parser.parse_args()
    mounts = INSIDE in os.environ
    if not mounts and shutil.which("unshare") and not subprocess.run(["unshare", "-rm", "true"]).returncode:
        os.environ[INSIDE] = "1"  # in a mount namespace of its own: what is mounted here nobody else sees
        os.execvp("unshare", ["unshare", "-rm", sys.executable, *sys.argv])
    begun, rng = time.monotonic(), random.Random(0)
    with tempfile.TemporaryDirectory(prefix="folder-") as work:
        bench = Bench(Path(work))
        with Progress("scenarios") as bar:
            for scenario in () if arguments.disks else (two_writers, damages, signals, clock, memory):
                scenario(bench, bar)
            if mounts:
                read_only(bench, bar)
                disks_that_fill(bench, bar, rng)
                full_disks(bench, bar)
    failed = [row for row in bench.rows if row["wrong"]]
    facts = {
        "benchmark": "reliability_folder", "date": time.strftime("%Y-%m-%d"), "device": f"{os.cpu_count()} cores",
        "geospot": __version__, "scenarios": len(bench.rows), "failed": len(failed), "mounts": mounts,
        "rows": bench.rows, "seconds": round(time.monotonic() - begun, 1),
    }  # fmt: skip
    print(table([{**row, "wrong": "; ".join(row["wrong"]), "said": row["said"][:90]} for row in bench.rows]))
    print(json.dumps(facts))
    if arguments.out:
        arguments.out.write_text(json.dumps(facts, indent=1) + "\n")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
