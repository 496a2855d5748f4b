"""`geospot runs`: the run folders below a folder, how far each is and how good."""

import os

from geospot.config import RunsConfig
from geospot.errors import RunError
from geospot.progress import table
from geospot.runs.overview import RunInfo, find_runs


def run(config: RunsConfig) -> list[RunInfo]:
    """Print a line per run; returns them."""
    if not os.path.isdir(config.folder):
        raise RunError(f"folder={config.folder}: no such folder; runs are made by geospot sft and geospot train")
    found = find_runs(config.folder)
    if not found:
        print(f"no run in {config.folder}; geospot sft and geospot train make them")
        return []
    print(table(_row(info) for info in found))
    print("\ngeospot report RUN draws a page of one, finished or not")
    return found


def _row(info: RunInfo) -> dict[str, str]:
    best = "–"
    if info.best is not None:
        step, km, name = info.best
        best = f"{km:,.0f} km on {name}, step {step}"
    return {
        "run": str(info.path),
        "state": info.state,
        "steps": f"{info.steps}" if info.max_steps is None else f"{info.steps} of {info.max_steps}",
        "best median": best,
        "size": _size(info.size_bytes),
        "checkpoint": "–" if info.checkpoint is None else f"step {info.checkpoint.step}",
        "trained by": f"{info.command} {info.model}".strip(),
    }


def _size(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.1f} MB"
