"""`geospot study PLAN out=FOLDER`: variants of `train` over seeds, from one or more starts, compared with intervals."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import chz

from geospot.config import SftConfig, StudyConfig, TrainConfig
from geospot.errors import RunError
from geospot.files import FolderLock, write_bytes_atomic, write_json_atomic
from geospot.progress import Progress
from geospot.report.study_page import study_text, write_study_page
from geospot.runs.config import typed_config
from geospot.runs.control import Stopped
from geospot.runs.folder import drop_weights
from geospot.scoring.results import finite
from geospot.training.outcomes import Results, left_over, results, results_json, warned
from geospot.training.plan import BY_HAND, Plan, PlannedRun, check_runs, read_plan
from geospot.training.side_by_side import run_all, steps_done


def run(config: StudyConfig) -> Results:
    """Make the runs that are missing, print the table, write everything; returns the results."""
    if config.figures:
        import geospot.report.study_figure  # noqa: F401  refused before the work where matplotlib is missing
    out = Path(config.out).expanduser()
    plan = _plan(config, out)
    out.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(out)
    try:
        if not config.finished_only:
            make_runs(config, plan)
        found = results(plan, config.resamples, config.seed)
        notes = [note for note in (left_over(plan), *warned(plan)) if note]
        print("\n".join([study_text(plan, found), *notes]))
        _write(out, config, plan, found, notes)
    finally:
        lock.release()
    return found


def _plan(config: StudyConfig, out: Path) -> Plan:
    threads = config.threads or max(1, _cores() // config.jobs)
    plan = read_plan(config.plan, out, threads)
    check_runs(plan)
    return plan


def _cores() -> int:
    """Of those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_runs(config: StudyConfig, plan: Plan) -> None:
    """All that are not finished: the starts first. RunError names those that failed."""
    every = [*plan.sft_runs, *plan.runs]
    total = sum(run.config.max_steps for run in every if run.config is not None)
    done = sum(steps_done(run) for run in every)

    def finish(run: PlannedRun) -> None:
        if not config.keep_weights and run.variant is not None and run.config is not None:
            drop_weights(run.path)

    for run in every:
        if run.is_finished:
            finish(run)  # a kill behind the last step may have left them
    try:
        with Progress("study", total=total, initial=done) as bar:
            for runs in (plan.sft_runs, plan.runs):
                waiting = [run for run in runs if not run.is_finished and run.config is not None]
                if failed := run_all(waiting, config.jobs, fit, bar, finish) if waiting else {}:
                    reasons = "\n".join(f"  {name}: {reason}" for name, reason in failed.items())
                    raise RunError(f"{len(failed)} of {len(waiting)} runs failed:\n{reasons}\nThe same command tries "
                                   "them again; finished_only=true reports on the others")  # fmt: skip
    except Stopped:
        left = sum(not run.is_finished for run in every)
        print(f"The study stopped with {left} of {len(every)} runs to go; the same command goes on from here.")
        raise
    unfinished = [run.name for run in plan.runs if not run.is_finished]
    if plan.starts == (BY_HAND,) and unfinished:
        raise RunError(f"not finished: {', '.join(unfinished)}; finished_only=true reports on the others")


def fit(command: str, settings: Mapping[str, Any]) -> None:
    """One run, in this process or another."""
    if command == "sft":
        from geospot.sft import fit as fit_sft

        fit_sft(SftConfig(**settings))
    else:
        from geospot.train import fit as fit_train

        fit_train(TrainConfig(**settings))


def _write(out: Path, config: StudyConfig, plan: Plan, found: Results, notes: list[str]) -> None:
    write_json_atomic(out / "study.json", finite(results_json(plan, found)))
    text = "\n".join([study_text(plan, found), *notes]) + "\n"
    write_bytes_atomic(out / "study.txt", text.encode())
    write_study_page(out / "report.html", plan, found, typed_config(chz.asdict(config)), notes)
    written = ["study.json", "study.txt", "report.html"]
    if config.figures:
        from geospot.report.study_figure import save_study_figure

        written += save_study_figure(out, plan, found)
    print(f"wrote {', '.join(written)} in {out}", file=sys.stdout)


def check(config: StudyConfig) -> None:
    """What `dry_run=true` does: read the plan, and say which runs there would be."""
    plan = _plan(config, Path(config.out).expanduser())
    every = [*plan.sft_runs, *plan.runs]
    finished = sum(run.is_finished for run in every)
    steps = sum(run.config.max_steps - steps_done(run) for run in every if run.config and not run.is_finished)
    counts = {"variants": len(plan.variants), "starts": len(plan.starts), "runs": len(every)}
    print(f"plan        {config.plan}: {', '.join(f'{what} {n}' for what, n in counts.items())}")
    for run in every:
        print(f"run         {run.path}{': finished' if run.is_finished else ''}")
    print(f"to do       {len(every) - finished} runs, {steps:,} steps\ndry run: nothing was written")
