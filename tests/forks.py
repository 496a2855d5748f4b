"""A process of its own that a test may kill: a fork of this one, without the seconds that importing torch takes."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess


def start(work: Callable[[], object], stdout: int | None = None) -> BaseProcess:
    """Start `work` in a fork. What it prints goes to the file descriptor `stdout`, if one is given."""

    def child() -> None:
        if stdout is not None:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os.dup2(stdout, 1)
            os.dup2(stdout, 2)
            sys.stdout = sys.stderr = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 pytest's capture is the parent's
        work()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    return process


def run(work: Callable[[], object]) -> int:
    """The exit status of `work` in a fork; the negative number of the signal that ended it."""
    process = start(work)
    process.join(600)
    if process.exitcode is None:
        process.kill()
        process.join()
    return int(process.exitcode or 0)
