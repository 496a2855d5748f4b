"""How often 95 % intervals hold the true value, on simulated data: geospot's, the plain percentiles', and scipy's BCa.

uv run python benchmarks/coverage.py
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
from scipy import stats

from geospot._version import __version__
from geospot.earth.distance import EARTH_RADIUS_KM
from geospot.progress import Progress, table
from geospot.scoring.metrics import Predictions, intervals, paired_differences, resample

RESAMPLES, PLACES = 2000, 200
DEGREE_KM = EARTH_RADIUS_KM * np.pi / 180


def at(km, place=None) -> Predictions:
    """Truths at (0, 0), answers due east at the given distances."""
    zeros = np.zeros(len(km))
    return Predictions(zeros, zeros, zeros, km / DEGREE_KM, place=place)


def exponential(rng) -> Predictions:
    """Distances of mean 1,000 km."""
    return at(rng.exponential(1000, PLACES))


def heavy(rng) -> Predictions:
    """Lognormal distances, as models have them: a median of 200 km and a mean of 616 km."""
    return at(np.minimum(rng.lognormal(np.log(200), 1.5, PLACES), 19_000))


def clustered(rng) -> Predictions:
    """100 places of four pictures that are about equally hard."""
    km = np.repeat(rng.exponential(800, 100), 4) + rng.exponential(200, 400)
    return at(km, np.repeat(np.arange(100), 4))


def heavy_truth(key: str) -> float:
    """By a large sample."""
    km = np.minimum(np.random.default_rng(99).lognormal(np.log(200), 1.5, 10_000_000), 19_000)
    return float({"median_km": np.median, "mean_km": np.mean}.get(key, lambda d: np.mean(d <= 25))(km))


CASES = (
    ("exponential", exponential, "median_km", 1000 * np.log(2)),
    ("exponential", exponential, "mean_km", 1000.0),
    ("exponential", exponential, "geoguessr_score", 5000 * 1492.7 / 2492.7),
    ("exponential", exponential, "acc_750km", float(1 - np.exp(-0.75))),
    ("lognormal", heavy, "median_km", 200.0),
    ("lognormal", heavy, "mean_km", heavy_truth("mean_km")),
    ("lognormal", heavy, "acc_25km", heavy_truth("acc_25km")),
    ("4 pictures a place", clustered, "mean_km", 1000.0),
)


def simulate(draw, key: str, truth: float, runs: int) -> dict[str, float]:
    """Coverage in percent of geospot's interval and of plain percentiles of the same resamples."""
    ours = plain = 0
    for run in range(runs):
        predictions = draw(np.random.default_rng([17, run]))
        (samples,) = resample([predictions], RESAMPLES, run, keys=[key])
        low, high = intervals(predictions, samples)[key]
        ours += low <= truth <= high
        low, high = np.quantile(samples[key], [0.025, 0.975])
        plain += low <= truth <= high
    return {"geospot": 100 * ours / runs, "plain percentiles": 100 * plain / runs}


def paired(runs: int) -> dict[str, float]:
    """The same for the difference of two models of which one is 100 km worse."""
    ours = peer = 0
    for run in range(runs):
        rng = np.random.default_rng([18, run])
        hard = rng.exponential(800, PLACES)
        a, b = hard + rng.exponential(300, PLACES), hard + rng.exponential(200, PLACES)
        found = paired_differences(at(a), at(b), RESAMPLES, run, keys=["mean_km"])["mean_km"]
        ours += found.low <= 100 <= found.high
        low, high = stats.bootstrap((a - b,), np.mean, n_resamples=RESAMPLES, rng=run).confidence_interval
        peer += low <= 100 <= high
    return {"geospot": 100 * ours / runs, "scipy BCa": 100 * peer / runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    with Progress("simulating", total=len(CASES) + 1) as bar:
        for data, draw, key, truth in CASES:
            rows.append({"data": data, "metric": key} | simulate(draw, key, truth, arguments.runs))
            bar.advance(1)
        rows.append({"data": "two models", "metric": "paired mean_km"} | paired(arguments.runs))
        bar.advance(1)
    noise = 100 * 1.96 * np.sqrt(0.95 * 0.05 / arguments.runs)
    shown = [{k: f"{v:.1f}" if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    keys = list(dict.fromkeys(key for row in shown for key in row))
    print(table({key: row.get(key, "") for key in keys} for row in shown))
    print(f"Percent of {arguments.runs:,} simulated data sets of {PLACES} places; simulation noise +-{noise:.1f}.")
    low, high = min(row["geospot"] for row in rows), max(row["geospot"] for row in rows)
    facts = {
        "benchmark": "coverage", "date": time.strftime("%Y-%m-%d"), "device": f"{os.cpu_count()} cores",
        "geospot": __version__, "runs": arguments.runs, "resamples": RESAMPLES, "lowest": low, "highest": high,
        "rows": rows,
    }  # fmt: skip
    print(json.dumps(facts))
    if arguments.out:
        arguments.out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
