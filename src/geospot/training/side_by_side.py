"""Runs one after another in this process, or several side by side as processes of their own, with one progress line.

What a run prints goes into a file beside its folder. One that fails does not stop the others.
"""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import chz

from geospot.errors import GeospotError
from geospot.progress import Progress
from geospot.runs.control import Stopped, StopRequest
from geospot.runs.folder import read_metrics
from geospot.training.plan import PlannedRun

# Imported once by the process that the runs are forked from: torch and what comes with it take seconds.
PRELOAD = ["geospot.train", "geospot.engine.local.service", "tinker"]

Fit = Callable[[str, Mapping[str, Any]], object]  # called with a run's command and the values of its configuration


def run_all(
    runs: Sequence[PlannedRun], jobs: int, fit: Fit, bar: Progress, done: Callable[[PlannedRun], object]
) -> dict[str, str]:
    """Make the runs, `jobs` at a time; `done` is called with each that ended well. Returns name -> why it failed.

    `fit` is a function of a module, so that another process finds it by its name. Raises Stopped if asked to stop.
    """
    failed: dict[str, str] = {}
    with _Watch(runs, bar):
        for run, ok in (_one_by_one if jobs == 1 else _processes)(runs, jobs, fit):
            if ok:
                done(run)
            else:
                failed[run.name] = _last_line(_log(run))
    return failed


def steps_done(run: PlannedRun) -> int:
    """How many steps of a run are in its folder."""
    if run.config is None or not (run.path / "metrics.jsonl").is_file():
        return 0
    rows = read_metrics(run.path)
    return min(rows[-1]["step"] + 1, run.config.max_steps) if rows else 0


def _one_by_one(runs: Sequence[PlannedRun], jobs: int, fit: Fit) -> Any:
    """In this process: nothing is shared, and Ctrl-C goes straight to the run."""
    for run in runs:
        with open(_log(run), "a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
            try:
                fit(run.command, _settings(run))
                ok = True
            except GeospotError as error:
                print(error)
                ok = False
            except Exception:
                traceback.print_exc()
                ok = False
        yield run, ok


def _processes(runs: Sequence[PlannedRun], jobs: int, fit: Fit) -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    waiting, going = list(runs), dict[BaseProcess, PlannedRun]()
    asked = False
    with StopRequest("Stopping: each run finishes its step and saves; press Ctrl-C again to stop at once.") as stop:
        try:
            while going or (waiting and not stop.requested):
                while waiting and len(going) < jobs and not stop.requested:
                    run = waiting.pop(0)
                    process = context.Process(target=_work, args=(fit, run.command, _settings(run), str(_log(run))))
                    process.start()
                    going[process] = run
                wait([process.sentinel for process in going], timeout=0.5)
                if stop.requested and not asked:
                    asked = True
                    for process in going:
                        process.terminate()  # a run takes it as a request
                for process in [process for process in going if not process.is_alive()]:
                    process.join()
                    run = going.pop(process)
                    if not stop.requested or process.exitcode == 0:
                        yield run, process.exitcode == 0
        finally:
            for process in going:
                process.kill()
                process.join()
        stop.obey()


def _work(fit: Fit, command: str, settings: Mapping[str, Any], log: str) -> None:
    """A run in a process of its own, which does not outlive the one that started it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with open(log, "a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        fit(command, settings)
    except Stopped as stopped:
        sys.exit(128 + stopped.number)
    except GeospotError as error:
        print(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _end_with_parent() -> None:
    """After a kill of the study its runs must not go on: the same command would find their folders in use."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _settings(run: PlannedRun) -> dict[str, Any]:
    return chz.asdict(run.config)


def _log(run: PlannedRun) -> Path:
    """Where what a run prints goes; in a folder that is there."""
    run.path.parent.mkdir(parents=True, exist_ok=True)
    return run.path.with_name(f"{run.path.name}.log")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    return f"{lines[-1] if lines else 'it was killed'} (see {log})"


class _Watch:
    """Moves a progress bar by the steps that appear in the runs' folders, from a thread of its own."""

    def __init__(self, runs: Sequence[PlannedRun], bar: Progress, every_s: float = 1.0) -> None:
        self._bar, self._every_s = bar, every_s
        self._left = {run.name: (run, steps_done(run)) for run in runs}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._ended.wait(self._every_s):
            self._look()

    def _look(self) -> None:
        for name, (run, before) in list(self._left.items()):
            now = steps_done(run)
            if now > before:  # a run that goes on after a kill begins a little before
                self._bar.advance(now - before, last=name)
                self._left[name] = run, now
            if run.is_finished:
                del self._left[name]
