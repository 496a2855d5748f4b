"""How often a study's 95 % interval holds a known difference: of seeds and places together, on simulated runs.

uv run python benchmarks/study_coverage.py

Beside geospot's interval (`scoring.metrics.seeds`): the usual hierarchical bootstrap, which resamples seeds and then
places and takes percentiles, and the paired interval over places that takes the seeds as given.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from geospot._version import __version__
from geospot.progress import Progress, table
from geospot.scoring.metrics.bootstrap import draw_counts
from geospot.scoring.metrics.seeds import across_seeds

TRUE_KM, PLACES, RESAMPLES = -30.0, 100, 400
# Seeds, and standard deviations in km of what a seed, a place, and a seed at a place add to the difference.
CASES = (
    ("3 seeds, mostly places", 3, 10.0, 150.0, 100.0),
    ("3 seeds, mostly seeds", 3, 30.0, 10.0, 10.0),
    ("5 seeds, mostly places", 5, 10.0, 150.0, 150.0),
    ("5 seeds, both", 5, 20.0, 150.0, 150.0),
    ("5 seeds, mostly seeds", 5, 30.0, 10.0, 10.0),
    ("10 seeds, both", 10, 20.0, 150.0, 150.0),
)


def differences(rng: np.random.Generator, seeds: int, seed_km: float, place_km: float, both_km: float) -> np.ndarray:
    """How much nearer one variant is at each place (S, P), km; what a place adds is skewed as distances are."""
    place = place_km * (rng.exponential(1.0, (1, PLACES)) - 1)
    both = both_km * (rng.exponential(1.0, (seeds, PLACES)) - 1)
    return TRUE_KM + rng.normal(0, seed_km, (seeds, 1)) + place + both


def held(case: tuple, runs: int) -> dict[str, float]:
    """Percent of simulated studies whose interval holds the difference."""
    name, seeds, *spread = case
    shares, found = draw_counts(PLACES, RESAMPLES, 0, 0) / PLACES, {"geospot": 0, "percentiles": 0, "places only": 0}
    for run in range(runs):
        rng = np.random.default_rng([19, run])
        km = differences(rng, seeds, *spread)
        resampled = km @ shares.T  # (S, R)
        interval = across_seeds(km.mean(axis=1), resampled, PLACES)
        found["geospot"] += interval.low <= TRUE_KM <= interval.high
        drawn = rng.integers(seeds, size=(seeds, RESAMPLES))
        for kind, values in (
            ("percentiles", np.take_along_axis(resampled, drawn, axis=0).mean(axis=0)),
            ("places only", resampled.mean(axis=0)),
        ):
            low, high = np.quantile(values, [0.025, 0.975])
            found[kind] += low <= TRUE_KM <= high
    return {"study": name} | {kind: 100 * n / runs for kind, n in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    with Progress("simulating", total=len(CASES)) as bar:
        for case in CASES:
            rows.append(held(case, arguments.runs))
            bar.advance(1)
    print(table({k: f"{v:.1f}" if isinstance(v, float) else v for k, v in row.items()} for row in rows))
    noise = 196 * np.sqrt(0.95 * 0.05 / arguments.runs)
    print(f"Percent of {arguments.runs:,} simulated studies of {PLACES} places; simulation noise +-{noise:.1f}.")
    facts = {
        "benchmark": "study_coverage", "date": time.strftime("%Y-%m-%d"), "device": f"{os.cpu_count()} cores",
        "geospot": __version__, "runs": arguments.runs, "places": PLACES, "resamples": RESAMPLES, "rows": rows,
    }  # fmt: skip
    print(json.dumps(facts))
    if arguments.out:
        arguments.out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
