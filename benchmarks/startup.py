"""CPU seconds of the commands that people wait for: help, refusals, and 889 answers that somebody else's model gave.

    uv run python benchmarks/startup.py [--rows 889] [--repeats 5] [--keep FOLDER]

User and system time of a process from its start to its exit, median of the repeats after one that is not counted and
that leaves its byte code, as a user's first start does: without it, compiling the modules is a second of each. Two
models' answers of several lines each to made-up places near cities of the whole world, as models give them: labelled
lines, prose, JSON, a refusal. `--keep` leaves the answers and all that the commands wrote, to compare two versions.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from geospot.earth.countries import countries
from geospot.earth.gazetteer import Gazetteer
from geospot.progress import table

FORMS = (
    "City: {city}\nRegion: {region}\nCountry: {country}\nCoordinates: {lat:.2f}, {lon:.2f}",
    "The road markings and the vegetation suggest {country}, perhaps near {city}.\n\n"
    "**Latitude:** {lat:.4f}\n**Longitude:** {lon:.4f}",
    'It looks like {city}.\n```json\n{{"city": "{city}", "region": "{region}", "country": "{country}", '
    '"lat": {lat:.4f}, "lon": {lon:.4f}}}\n```',
    "I believe that this is {city}, {region}, {country}: {north}, {east}.",
)


def write_answers(path: Path, n: int, spread_deg: float, seed: int) -> None:
    """n rows: a truth near a city, and an answer near the truth; one in ten another city, one in fifty a refusal."""
    places, rng = np.random.default_rng(0), np.random.default_rng(seed)
    earth = Gazetteer.load()
    rows = places.choice(len(earth.cities), n)
    lat = np.clip(earth.cities.lat[rows] + places.normal(0, 0.05, n), -89, 89)
    lon = earth.cities.lon[rows] + places.normal(0, 0.05, n)
    said = np.where(rng.random(n) < 0.1, rng.integers(len(earth.cities), size=n), rows)
    said_lat = np.clip(earth.cities.lat[said] + rng.normal(0, spread_deg, n), -89, 89)
    said_lon = earth.cities.lon[said] + rng.normal(0, spread_deg, n)
    at = earth.locate(said_lat, said_lon)
    with path.open("w") as file:
        for i in range(n):
            y, x, country = float(said_lat[i]), float(said_lon[i]), at.country[i]
            text = FORMS[i % len(FORMS)].format(
                city=at.city[i] or "unknown", region=at.region[i] or "unknown", lat=y, lon=x,
                country=countries().name(country) if country else "unknown",
                north=f"{abs(y):.3f}° {'N' if y >= 0 else 'S'}", east=f"{abs(x):.3f}° {'E' if x >= 0 else 'W'}",
            )  # fmt: skip
            if i % 50 == 49:
                text = "I'm sorry, but I can't determine the location of this picture."
            row = {"id": f"{i:05d}.jpg", "lat": float(lat[i]), "lon": float(lon[i]), "response": text}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def cpu_seconds(words: list[str], folder: Path, expected: int) -> float:
    """User and system seconds of `geospot WORDS` in a folder; RuntimeError where its status is another."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    run = subprocess.run([sys.executable, "-m", "geospot", *words], cwd=folder, env=env, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if run.returncode != expected:
        raise RuntimeError(f"geospot {' '.join(words)} left with {run.returncode}: {run.stderr[-500:]}")
    (folder / f"{words[0].lstrip('-')}.txt").write_text(run.stdout + run.stderr)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(folder: Path, n: int, repeats: int) -> dict[str, float]:
    """The median by command."""
    for name, spread_deg, seed in (("a", 0.5, 1), ("b", 1.0, 2)):
        write_answers(folder / f"{name}.jsonl", n, spread_deg, seed)
    commands = {
        "--help": 0, "--version": 0, "train --help": 0, "guess missing.jpg": 2, "sft wrong=1": 2, "train steps=ten": 2,
        "eval predictions=a.jsonl report=false out=quiet": 0, "eval predictions=a.jsonl out=eval": 0,
        "compare a.jsonl b.jsonl": 0, "compare a.jsonl b.jsonl out=compare": 0,
    }  # fmt: skip
    return {
        command: statistics.median([cpu_seconds(command.split(), folder, expected) for _ in range(repeats + 1)][1:])
        for command, expected in commands.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=889)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = arguments.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        took = measure(folder.resolve(), arguments.rows, arguments.repeats)
    print(table({"command": f"geospot {command}", "CPU seconds": f"{s:.2f}"} for command, s in took.items()))
    print(json.dumps({"benchmark": "startup", "rows": arguments.rows, "load": os.getloadavg()[0], "cpu_s": took}))


if __name__ == "__main__":
    main()
