"""What came of a run: the held-out table from its folder, where everything is, and the next command to type."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from geospot.config import LoopConfig
from geospot.progress import table
from geospot.runs.checkpoints import Checkpoint, last_checkpoint, read_checkpoints
from geospot.runs.config import typed
from geospot.runs.folder import read_metrics
from geospot.runs.rollouts import query_rollouts
from geospot.scoring.guesses import Guesses
from geospot.scoring.judge import judge
from geospot.scoring.metrics import TITLES, Difference, Predictions, paired_differences
from geospot.scoring.truths import Truths
from geospot.training.guards import evaluation_warnings, step_warnings

# Column, key of metrics.jsonl, factor, digits. The first two get the paired difference.
COLUMNS = (
    ("median km", "median_km", 1, 0),
    ("score", "geoguessr_score", 1, 0),
    ("<25 km", "acc_25km", 100, 1),
    ("<200 km", "acc_200km", 100, 1),
    ("<750 km", "acc_750km", 100, 1),
    (TITLES["geo_country_acc"], "geo_country_acc", 100, 1),
    ("failed", "failure_rate", 100, 1),
)
PAIRED = ("median_km", "geoguessr_score")


def closing(run: Path, command: str, config: LoopConfig) -> str:
    """For a run that is finished; empty for one that is not."""
    last = last_checkpoint(run)
    if last is None or not last.final:
        return ""
    lines = [*held_out_tables(run), *(f"warning     {said}" for said in last_warnings(read_metrics(run)))]
    lines += [f"run folder  {run}", f"checkpoint  {last.path}"]
    if best := best_checkpoint(run):
        lines.append(f"best        {best.path} (before step {best.step})")
    elif last.step > 0 and last.loop_state.get("loop", {}).get("best", {}).get("step") == 0:
        start = last.loop_state["loop"].get("start_from") or config.model_name
        lines.append(f"best        where the run began: {start} (no evaluation since had a better score)")
    return "\n".join(["", *lines, *(f"next        {words}" for words in next_commands(run, command, config))])


def last_warnings(rows: Sequence[Mapping[str, float | None]]) -> list[str]:
    """What the last evaluation of a run and its last steps warn of, by the lines of its metrics.jsonl."""
    evaluated = [row for row in rows if any(key.endswith("/constant_km") for key in row)]
    return [*(evaluation_warnings(evaluated[-1]) if evaluated else []), *step_warnings(rows)]


def best_checkpoint(run: Path) -> Checkpoint | None:
    """The checkpoint with the best evaluation; None where that is the last one, or the start."""
    last = last_checkpoint(run)
    if last is None:
        return None
    best = last.loop_state.get("loop", {}).get("best", {}).get("step")
    found = [c for c in read_checkpoints(run) if c.step == best and c.exists]
    return found[-1] if found and best != last.step else None


def held_out_tables(run: Path) -> list[str]:
    """A table for each held-out set: before, best (by score) and last, with the paired difference last - before."""
    metrics, tables = read_metrics(run), []
    names = dict.fromkeys(key.rpartition("/")[0] for row in metrics for key in row if key.endswith("/failure_rate"))
    for name in names:
        rows = [row for row in metrics if row.get(f"{name}/geoguessr_score") is not None]
        if not rows:
            continue
        best = max(rows, key=lambda row: row[f"{name}/geoguessr_score"])
        stages = {"before": rows[0], "best": best, "last": rows[-1]}
        cells = [_cells(name, f"{stage}, step {row['step']}", row) for stage, row in stages.items()]
        if found := _difference(run, name, rows[0]["step"], rows[-1]["step"]):
            cells.append({name: "last - before, 95 %"} | {
                column: f"{d.value:+.0f} [{d.low:+.0f}, {d.high:+.0f}]" if (d := found.get(key)) else ""
                for column, key, *_ in COLUMNS
            })  # fmt: skip
        tables += [table(cells), ""]
    return tables


def _cells(name: str, stage: str, row: Mapping[str, float | None]) -> dict[str, str]:
    cells = {name: stage}
    for column, key, factor, digits in COLUMNS:
        value = row.get(f"{name}/{key}")
        cells[column] = "–" if value is None else f"{factor * value:.{digits}f}{' %' if factor == 100 else ''}"
    return cells


def _difference(run: Path, name: str, before: int, last: int) -> dict[str, Difference]:
    """Of the answers in the run folder; empty where they are not to the same pictures."""
    (keys, first), (keys_again, second) = (held_out_predictions(run, name, step) for step in (before, last))
    if before == last or not keys or keys != keys_again:
        return {}
    return paired_differences(second, first, keys=PAIRED)


def held_out_predictions(run: Path, name: str, step: int) -> tuple[list[str], Predictions]:
    """The keys of a set's pictures and a run's answers to them before a step, from its folder; none where it has none.

    Without labels: distances and what follows from them.
    """
    rows = query_rollouts(
        run, "SELECT sample_key, true_lat, true_lon, lat, lon, error FROM rollouts WHERE split = ? AND step = ? "
        "ORDER BY group_index", [name, step],
    )  # fmt: skip
    keys = [row["sample_key"] for row in rows]
    truths = Truths(keys, _column(rows, "true_lat"), _column(rows, "true_lon"))
    failures = tuple(row["error"] for row in rows)
    guesses = Guesses(name, keys, _column(rows, "lat"), _column(rows, "lon"), failures)
    return keys, judge(truths, guesses, labels=False).predictions


def _column(rows: Sequence[Mapping[str, float | None]], key: str) -> np.ndarray:
    return np.array([np.nan if row[key] is None else row[key] for row in rows], np.float64)


def next_commands(run: Path, command: str, config: LoopConfig) -> list[str]:
    """What to type next, with the keys of this run that the next command must be given again."""
    words = [f"checkpoint={run}"]
    data = config.eval_data if config.eval_data not in ("auto", "none", "cells") else None
    if config.data != "bluemarble" and data is None:
        data = "SOURCE"  # of held-out pictures, which this run did not have by name
    shown = _changed(config, "base_url", "max_pixels", "columns", "views")
    evaluation = ["eval", *words, *([f"data={data}"] if data else []), *shown]
    if command == "sft":
        keys = ("model_name", "base_url", "lora_rank", "lora_targets", "train_vision", "data", "eval_data",
                "holdout_km", "max_pixels", "max_tokens", "columns", "views", "region")  # fmt: skip
        commands = [["train", *words, *_changed(config, *keys)], evaluation]
    else:
        commands = [evaluation, ["guess", "PHOTO", *words, *_changed(config, "base_url")],
                    ["export", *words, f"out={run}/export", *_changed(config, "base_url")]]  # fmt: skip
    return [f"geospot {shlex.join(command)}" for command in commands]


def _changed(config: LoopConfig, *keys: str) -> list[str]:
    """Arguments for the keys that were not left at their defaults."""
    default = LoopConfig()
    return [f"{key}={typed(getattr(config, key))}" for key in keys if getattr(config, key) != getattr(default, key)]
