"""A run on pictures that the model cannot read must end with its answers in form, and with a warning.

    uv run python benchmarks/unreadable.py [--photos FOLDER] [--seeds 0,1,2] [--steps 60] [--out FILE]

Two sets, made of a folder of photos with coordinates (CSV or EXIF, see docs/data.md), each with a warm start and GRPO
of the tiny model at the defaults of `geospot train`, but for smaller pictures and the sizes given here:

    photos  a third of the photos to train on, the others held out: the model learns the few by heart
    tiles   pieces of 112 x 112 pixels of them, each at a place drawn at random: no picture says where it was taken

Prints, for each seed, the held-out answers after the warm start and at the end: how many differ, how many of their
lines are in form, their median distance beside that of the best constant place, and what the run warned of. Ends with
status 1 where a run ended out of form or without a warning.
"""

import argparse
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import chdir, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from geospot import train
from geospot._version import __version__
from geospot.config import SftConfig, TrainConfig
from geospot.data.samples import Sample, SkipCounter
from geospot.data.sources import open_source
from geospot.data.stream import read_all
from geospot.data.tar import write_shard
from geospot.data.world.bluemarble import encode_jpeg, label_places
from geospot.data.world.mosaic import BlueMarble
from geospot.pictures import decode_image
from geospot.pictures.scaling import thumbnail
from geospot.progress import table
from geospot.runs.folder import read_metrics
from geospot.sft import fit as fit_sft
from geospot.training.guards import IN_FORM, WINDOW

PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "open_streetview"
SIDE = 112  # pixels of a tile, as of the pictures that the tiny model was made for
SIGNS = ("pictures", "distinct_answers", "in_form", "median_km", "constant_km", "failure_rate")


def photos_sets(photos: list[Sample]) -> dict[str, list[Sample]]:
    """Every third photo to train on."""
    return {"train": photos[::3], "eval": [photo for i, photo in enumerate(photos) if i % 3]}


def tiles_sets(photos: list[Sample], n_train: int, n_eval: int) -> dict[str, list[Sample]]:
    """Pieces of the photos at places on land that have nothing to do with them."""
    sheets = [decode_image(thumbnail(photo.pictures[0], 4 * SIDE)) for photo in photos]
    rng, world, sets = np.random.default_rng(0), BlueMarble(), {}
    for name, n in (("train", n_train), ("eval", n_eval)):
        places = label_places(world.places(name, n))
        sets[name] = [
            Sample(f"{name}-{i:05d}", (encode_jpeg(_piece(sheets, rng)),), place) for i, place in enumerate(places)
        ]
    return sets


def _piece(sheets: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    sheet = sheets[rng.integers(len(sheets))]
    top, left = (rng.integers(size - SIDE + 1) for size in sheet.shape[:2])
    return np.ascontiguousarray(sheet[top : top + SIDE, left : left + SIDE])


def one_run(sets: dict[str, list[Sample]], seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """A warm start and GRPO in a folder of their own; what they ended with."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        for name, samples in sets.items():
            write_shard(f"{name}.tar", samples)
        shared = {
            "data": "train.tar", "eval_data": "eval.tar", "max_pixels": SIDE * SIDE, "seed": seed, "device": "cpu",
            "threads": arguments.threads, "save_every": 0,
        }  # fmt: skip
        said, started = io.StringIO(), time.monotonic()
        with redirect_stdout(io.StringIO()):  # what the warm start says is not asked
            warm = train.WARM_START | {"max_steps": arguments.sft_steps, "batch_size": arguments.sft_batch}
            fit_sft(SftConfig(**shared | warm | {"log_path": "sft", "eval_every": arguments.sft_steps}))
        with redirect_stdout(said):
            config = TrainConfig(
                **shared, checkpoint="sft", log_path="run", max_steps=arguments.steps, batch_size=arguments.batch,
                group_size=arguments.group, eval_every=max(1, arguments.steps // 2),
            )  # fmt: skip
            train.run(config)
        rows = read_metrics("run")
        return {
            "before": _signs(rows), "after": _signs(reversed(rows)), "minutes": (time.monotonic() - started) / 60,
            "no_signal": float(np.mean(_column(rows, "groups_without_signal")[-WINDOW:])),
            "updates_skipped": sum(_column(rows, "updates_skipped")),
            "warned": list(dict.fromkeys(
                line.removeprefix("warning").lstrip(" :") for line in said.getvalue().splitlines()
                if line.startswith("warning"))),
        }  # fmt: skip


def _signs(rows: Iterable[dict[str, float]]) -> dict[str, float]:
    row = next(row for row in rows if "eval/in_form" in row)
    return {sign: row[f"eval/{sign}"] for sign in SIGNS}


def _column(rows: list[dict[str, float]], key: str) -> list[float]:
    return [row[key] for row in rows if row.get(key) is not None]


def shown(kind: str, seed: int, run: dict[str, Any]) -> dict[str, str]:
    """A row of the table."""
    before, after = run["before"], run["after"]
    return {
        "set": kind, "seed": str(seed), "pictures": f"{after['pictures']:.0f}",
        "different answers": f"{before['distinct_answers']:.0f} -> {after['distinct_answers']:.0f}",
        "in form": f"{before['in_form']:.1%} -> {after['in_form']:.1%}",
        "median km": f"{before['median_km']:,.0f} -> {after['median_km']:,.0f}",
        "constant": f"{after['constant_km']:,.0f}", "no signal": f"{run['no_signal']:.0%}",
        "warnings": str(len(run["warned"])), "ends well": "yes" if run["ends_well"] else "NO",
        "minutes": f"{run['minutes']:.1f}",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", type=Path, default=PHOTOS)
    parser.add_argument("--sets", default="photos,tiles")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--sft-steps", type=int, default=train.WARM_START["max_steps"])
    parser.add_argument("--sft-batch", type=int, default=train.WARM_START["batch_size"])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--tiles", default="2048,300", help="to train on, held out")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    photos = list(read_all(open_source(str(arguments.photos)), skipped=SkipCounter()))
    n_train, n_eval = (int(n) for n in arguments.tiles.split(","))
    rows, lines = [], []
    for kind in arguments.sets.split(","):
        sets = photos_sets(photos) if kind == "photos" else tiles_sets(photos, n_train, n_eval)
        for seed in map(int, arguments.seeds.split(",")):
            run = one_run(sets, seed, arguments)
            run["ends_well"] = run["after"]["in_form"] >= IN_FORM and bool(run["warned"])
            rows.append({"set": kind, "seed": seed} | run)
            lines.append(shown(kind, seed, run))
            print(table(lines[-1:]), *run["warned"], sep="\n", flush=True)
    print(table(lines))
    facts = {
        "benchmark": "unreadable", "date": time.strftime("%Y-%m-%d"), "device": f"{os.cpu_count()} cores",
        "geospot": __version__, "sft_steps": arguments.sft_steps, "steps": arguments.steps, "batch": arguments.batch,
        "group": arguments.group, "rows": rows,
    }  # fmt: skip
    print(json.dumps(facts))
    if arguments.out:
        arguments.out.write_text(json.dumps(facts, indent=1) + "\n")
    sys.exit(0 if all(row["ends_well"] for row in rows) else 1)


if __name__ == "__main__":
    main()
