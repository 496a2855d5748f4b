"""Two models over the 210,122 pictures of OSV-5M's test set: every metric, interval, group and paired difference.

    uv run python benchmarks/evaluate.py [--pictures 210122] [--answers 10000]

    ... --pictures 0 leaves only what --answers measures: `geospot eval predictions=FILE` as a process of its own, from
    its start to its exit, on 10,000 rows of nested JSON with labels and on as many answers as text.

The predictions are made up: answers around true places, some far off, one in a hundred failed. The peer is the loop
that papers use: draw rows, take the metrics, repeat (numpy), for the 11 metrics of the main table; it is timed over
a few resamples and scaled up. The clock starts with arrays in memory and a loaded gazetteer; reading files is apart.
"""

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from geospot._version import __version__
from geospot.earth.gazetteer import Gazetteer
from geospot.progress import table
from geospot.scoring.breakdown import confusions, group_names, group_tables
from geospot.scoring.guesses import Guesses
from geospot.scoring.judge import judge
from geospot.scoring.metrics import difference, intervals, resample, summarize
from geospot.scoring.metrics.bootstrap import N_RESAMPLES
from geospot.scoring.tables.evaluations import read_pair
from geospot.scoring.truths import Truths

LOOPS = 20


def make(n: int) -> tuple[Truths, list[Guesses]]:
    """True places near cities, labelled, and two models' guesses."""
    rng, cities, earth = np.random.default_rng(0), Gazetteer.load().cities, Gazetteer.load()
    weight = np.sqrt(cities.population + 1000.0)
    row = rng.choice(len(cities), n, p=weight / weight.sum())
    lat = np.clip(cities.lat[row] + rng.normal(0, 0.1, n), -89, 89)
    lon = (cities.lon[row] + rng.normal(0, 0.1, n) + 180) % 360 - 180
    at = earth.locate(lat, lon)
    labels = {"country": at.country.tolist(), "region": at.region.tolist(), "city": at.city.tolist()}
    keys = [str(i) for i in range(n)]
    return Truths(keys, lat, lon, labels), [guess(f"model {k}", keys, lat, lon, k, cities) for k in (1, 2)]


def guess(name: str, keys: list[str], lat, lon, seed: int, cities) -> Guesses:
    """Lognormal distances; one guess in ten is another city of the world, one in a hundred fails."""
    rng, n = np.random.default_rng(seed), len(keys)
    far, failed = rng.random(n) < 0.1, rng.random(n) < 0.01
    degrees, bearing = rng.lognormal(0, 1.6, n) * (1 + 0.1 * seed), rng.uniform(0, 2 * np.pi, n)
    guessed_lat = np.clip(lat + degrees * np.sin(bearing), -90, 90)
    guessed_lon = (lon + degrees * np.cos(bearing) / np.maximum(np.cos(np.radians(lat)), 0.1) + 180) % 360 - 180
    other = rng.integers(len(cities), size=n)
    guessed_lat[far], guessed_lon[far] = cities.lat[other[far]], cities.lon[other[far]]
    guessed_lat[failed] = guessed_lon[failed] = np.nan
    return Guesses(name, keys, guessed_lat, guessed_lon, tuple("empty" if bad else None for bad in failed.tolist()))


def evaluate(truths: Truths, models: list[Guesses]) -> dict[str, float]:
    """Everything that eval and compare report; seconds by part."""
    took, clock = {}, time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        took[name], clock = time.perf_counter() - clock, time.perf_counter()

    evaluations = [judge(truths, guesses) for guesses in models]
    predictions = [e.predictions for e in evaluations]
    lap("distances and reverse geocoding")
    for p in predictions:
        summarize(p)
    lap("metrics")
    samples = resample(predictions)
    lap(f"{N_RESAMPLES:,} resamples of both")
    for p, found in zip(predictions, samples, strict=True):
        intervals(p, found)
    difference(*predictions, *samples)
    lap("intervals and paired differences")
    names = group_names(truths)
    for e in evaluations:
        group_tables(e, names)
        confusions(e)
    lap("tables by country, continent, density, income")
    return took


def peer(truths: Truths, models: list[Guesses]) -> float:
    """Seconds that the plain loop would take for as many resamples of two models and their difference."""
    first, second = (judge(truths, guesses).predictions for guesses in models)
    rng, n, radii = np.random.default_rng(0), len(truths), (1, 25, 200, 750, 2500)
    hits = [[p.geo_country_hit, p.geo_region_hit, p.geo_city_hit] for p in (first, second)]
    km = [np.nan_to_num(p.distance_km, nan=20015.0) for p in (first, second)]
    started = time.perf_counter()
    for _ in range(LOOPS):
        rows = rng.integers(n, size=n)
        for distance, labels in zip(km, hits, strict=True):
            d = distance[rows]
            np.median(d), np.mean(d), np.mean(5000 * np.exp(-d / 1492.7))
            for radius in radii:
                np.mean(d <= radius)
            for label in labels:
                np.nanmean(label[rows])
    return (time.perf_counter() - started) / LOOPS * N_RESAMPLES


def from_files(truths: Truths, models: list[Guesses]) -> float:
    """Seconds to read two predictions files and a table of truths."""
    with tempfile.TemporaryDirectory() as folder:
        truth = Path(folder) / "truth.csv"
        with open(truth, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "latitude", "longitude", *truths.labels])
            writer.writerows(zip(truths.keys, truths.lat.tolist(), truths.lon.tolist(), *truths.labels.values(),
                                 strict=True))  # fmt: skip
        paths = []
        for guesses in models:
            paths.append(Path(folder) / f"{guesses.name}.csv")
            with open(paths[-1], "w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["id", "lat", "lon"])
                writer.writerows(zip(guesses.keys, guesses.lat.tolist(), guesses.lon.tolist(), strict=True))
        started = time.perf_counter()
        for path in paths:
            read_pair(path, truth_file=truth)
        return time.perf_counter() - started


def answer_rows(n: int) -> dict[str, list[dict]]:
    """The same made-up answers as nested JSON and as text, with labels; pictures lie near cities, as photos do."""
    truths, (guesses, _) = make(n)
    labels = {level: truths.labels[level] for level in ("city", "country")}
    rows: dict[str, list[dict]] = {"nested JSON": [], "text": []}
    for i, key in enumerate(truths.keys):
        said = {level: values[i] for level, values in labels.items()}
        true = {"lat": float(truths.lat[i]), "lng": float(truths.lon[i]), **said}
        failed = guesses.failures[i] is not None
        at = {} if failed else {"lat": float(guesses.lat[i]), "lon": float(guesses.lon[i])}
        rows["nested JSON"].append({"meta": {"file": f"{key}.jpg"}, "ground_truth": true, "prediction": at | said})
        told = f"It looks like {said['city']}.\n```json\n{json.dumps(at | said)}\n```"
        rows["text"].append({"id": f"{key}.jpg", "ground_truth": true, "response": told})
    return rows


def answer_files(n: int) -> dict[str, dict[str, float]]:
    """Wall and CPU seconds of `geospot eval predictions=FILE` on each kind of file, import and output included."""
    took = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in answer_rows(n).items():
            path = Path(folder) / ("answers.json" if "JSON" in name else "answers.jsonl")
            lines = [json.dumps(row, ensure_ascii=False) for row in rows]
            path.write_text(f"[{','.join(lines)}]" if path.suffix == ".json" else "\n".join(lines))
            before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            words = ["eval", f"predictions={path}", f"out={folder}/{path.suffix}", "report=false"]
            subprocess.run([sys.executable, "-m", "geospot", *words], check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            took[name] = {"wall_s": time.perf_counter() - started, "cpu_s": cpu}
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=int, default=210_122)
    parser.add_argument("--answers", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    files = answer_files(arguments.answers) if arguments.answers else {}
    for name, seconds in files.items():
        print(f"{arguments.answers:,} answers as {name}: {seconds['wall_s']:.1f} s, {seconds['cpu_s']:.1f} s of CPU")
    if not arguments.pictures:
        print(json.dumps({"benchmark": "evaluate", "date": time.strftime("%Y-%m-%d"), "answer_files": files}))
        return
    truths, models = make(arguments.pictures)
    cpu = time.process_time()
    took = evaluate(truths, models)
    cpu = time.process_time() - cpu
    total = sum(took.values())
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    reading = from_files(*make(arguments.pictures))
    loop = peer(*make(arguments.pictures))
    core = sum(took[key] for key in took if "resamples" in key or "intervals" in key)
    print(table({"part": key, "seconds": f"{seconds:.2f}"} for key, seconds in took.items()))
    print(f"\n{arguments.pictures:,} pictures, two models: {total:.1f} s, {cpu:.1f} s of CPU, {memory_mb:,.0f} MB")
    print(f"reading two predictions files and the truths: {reading:.1f} s")
    print(f"plain numpy loop, 11 metrics, no groups: {loop:.0f} s; geospot, all metrics: {core:.1f} s")
    print(f"geospot is {loop / core:.1f} times as fast")
    facts = {
        "benchmark": "evaluate", "date": time.strftime("%Y-%m-%d"), "device": f"{os.cpu_count()} cores",
        "geospot": __version__, "numpy": np.__version__, "pictures": arguments.pictures, "resamples": N_RESAMPLES,
        "seconds": took, "total_s": total, "cpu_s": cpu, "memory_mb": memory_mb, "read_s": reading,
        "answer_files": files, "peer": "plain numpy loop", "peer_s": loop, "times_as_fast": loop / core,
    }  # fmt: skip
    print(json.dumps(facts))
    if arguments.out:
        arguments.out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
