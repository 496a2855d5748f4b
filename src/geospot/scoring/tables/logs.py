"""Evaluation logs of Inspect (`.eval`: a zip of a JSON file per sample) as rows, with or without its own package."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geospot.errors import TableError


def read_inspect_log(path: Path) -> list[tuple[int, dict]]:
    """(number, row) of each sample: `id`, `epoch`, `target`, `metadata`, `output`, `error`; TableError for no log."""
    try:
        rows = list(_samples(path))
    except NotImplementedError:  # a compression that only Inspect's own reader knows
        rows = _by_package(path)
    except (zipfile.BadZipFile, OSError, ValueError, RecursionError) as error:
        raise TableError(f"{path}: not a whole log of Inspect ({error})") from None
    if not rows:
        raise TableError(f"{path}: a log of Inspect without samples; it was written before any was finished")
    rows.sort(key=lambda row: row.get("epoch") or 1)
    return list(enumerate(map(_row, rows), start=1))


def _samples(path: Path) -> Iterator[dict[str, Any]]:
    with zipfile.ZipFile(path) as log:
        for name in log.namelist():
            if name.startswith("samples/") and name.endswith(".json"):
                yield json.loads(log.read(name))


def _by_package(path: Path) -> list[dict[str, Any]]:
    try:
        from inspect_ai.log import read_eval_log  # pyrefly: ignore[missing-import]
    except ImportError:
        raise TableError(
            f"{path}: compressed in a way that Python's zipfile cannot read; install inspect_ai, whose reader is then "
            "used, or write the log as JSON: inspect log convert --to json"
        ) from None
    return [json.loads(sample.model_dump_json()) for sample in read_eval_log(str(path)).samples or ()]


def _row(sample: dict[str, Any]) -> dict[str, Any]:
    """What an evaluation needs of a sample; `output` is empty where the model's call failed."""
    row = {key: sample.get(key) for key in ("id", "epoch", "target", "metadata", "output", "error")}
    if isinstance(row["error"], dict):
        row["error"] = str(row["error"].get("message", "error"))
    return row
