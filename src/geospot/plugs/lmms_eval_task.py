"""lmms-eval: a task in a folder of its own, made from a table of truths or from what `geospot eval` takes as `data`.

    python -m geospot.plugs.lmms_eval_task task --truth test.csv --images photos/
    python -m lmms_eval --include_path task --tasks geolocation --log_samples --output_path logs --model ...

The folder holds the task's YAML, its rows and its pictures; nothing is fetched. lmms-eval is not imported here.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from geospot.answer import prompt_text
from geospot.cli import reported
from geospot.earth.score import ACCURACY_RADII_KM
from geospot.errors import DataError
from geospot.plugs.examples import Picture, find_pictures, place_of
from geospot.plugs.worth import worth

if TYPE_CHECKING:
    from PIL.Image import Image

TASK = "geolocation"
# lmms-eval looks for a task's functions in a file beside its YAML; where they lie says where the pictures are.
_UTILS = '''"""Made by geospot.plugs.lmms_eval_task, as all of this folder; the numbers are those of `geospot eval`."""

from pathlib import Path

from geospot.plugs.lmms_eval_task import median_of, results, visuals_in

visuals = visuals_in(Path(__file__).parent)
'''
_METRICS = ("geoguessr_score", "distance_km", *(f"acc_{radius}km" for radius in ACCURACY_RADII_KM), "failure_rate")


def write_task(
    out: str | Path, pictures: Iterable[Picture], *, region: bool = False, max_new_tokens: int = 1024
) -> int:
    """Write the task's folder; returns how many pictures it has. DataError where there is none, or the folder is full.

    The YAML names the rows by their whole path, as lmms-eval wants: a folder that moves is made again.
    """
    folder = Path(out).expanduser().resolve()
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder}: is not empty; name another folder for the task")
    (folder / "pictures").mkdir(parents=True)
    text, n = prompt_text(region), 0
    with (folder / f"{TASK}.jsonl").open("w", encoding="utf-8") as file:
        for n, picture in enumerate(pictures, start=1):
            facts: dict[str, object] = dict.fromkeys(("country", "region", "city"))
            row = {"key": picture.key, **facts, **picture.facts, "target": picture.target, "question": text,
                   "pictures": _save(picture, folder / "pictures", n)}  # fmt: skip
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    if not n:
        raise DataError(f"{folder}: there are no pictures to write")
    (folder / f"{TASK}_utils.py").write_text(_UTILS, encoding="utf-8")
    (folder / f"{TASK}.yaml").write_text(_yaml(folder, max_new_tokens), encoding="utf-8")
    return n


def _save(picture: Picture, folder: Path, number: int) -> list[str]:
    """The names of its files, which say nothing of where it was taken, as a key may."""
    names = []
    for i, (data, kind) in enumerate(picture.encoded()):
        names.append(f"{number:06d}{f'-{i}' if i else ''}.{kind}")
        (folder / names[-1]).write_bytes(data)
    return names


def _yaml(folder: Path, max_new_tokens: int) -> str:
    metrics = "".join(map(_metric, _METRICS))
    return f"""\
task: {TASK}
dataset_path: json
dataset_kwargs:
  data_files: {{"test": {json.dumps(str(folder / f"{TASK}.jsonl"))}}}
test_split: test
output_type: generate_until
doc_to_visual: !function {TASK}_utils.visuals
doc_to_text: question
doc_to_target: target
process_results: !function {TASK}_utils.results
generation_kwargs:
  max_new_tokens: {max_new_tokens}
  temperature: 0
  do_sample: false
metric_list:
{metrics}metadata:
  - version: 1.0
"""


def _metric(name: str) -> str:
    aggregation = f"!function {TASK}_utils.median_of" if name == "distance_km" else "mean"
    better = json.dumps(name not in ("distance_km", "failure_rate"))
    return f"  - metric: {name}\n    aggregation: {aggregation}\n    higher_is_better: {better}\n"


def visuals_in(folder: Path) -> "Callable[[Mapping[str, Any]], list[Image]]":
    """`doc_to_visual`: the pictures of a row, from the task's folder."""

    def visuals(doc: Mapping[str, Any]) -> "list[Image]":
        from PIL import Image

        found = []
        for name in doc["pictures"]:
            with Image.open(folder / "pictures" / name) as image:
                found.append(image.convert("RGB"))
        return found

    return visuals


def results(doc: Mapping[str, Any], answers: Sequence[Any]) -> dict[str, float]:
    """`process_results`: what the first answer to a row is worth; none is a failed one."""
    text = answers[0] if answers else ""
    return worth(text if isinstance(text, str) else str(getattr(text, "text", "") or ""), place_of(doc))[1]


def median_of(values: Sequence[float]) -> float:
    """The median, half the Earth for a failed answer: as `geospot eval` counts it."""
    return float(median(values))


def main(words: Sequence[str] | None = None) -> None:
    """The command of this module."""
    parser = argparse.ArgumentParser(prog="python -m geospot.plugs.lmms_eval_task", description=__doc__.split("\n")[0])
    parser.add_argument("out", help="folder of the task, new")
    parser.add_argument("--truth", help="table of a key and true coordinates (CSV, JSON, Parquet)")
    parser.add_argument("--images", help="folder of its pictures; the table's own unless given")
    parser.add_argument("--data", help="in place of a table: what geospot eval takes as data (default: bluemarble)")
    parser.add_argument("--sets", help="names of its held-out sets, with commas between", default="")
    parser.add_argument("--places", help="at most so many of each set; 0: all", type=int, default=0)
    parser.add_argument("--region", help="the question asks for a Region line, too", action="store_true")
    given = parser.parse_args(words)
    with reported("plugs.lmms_eval_task"):
        found = find_pictures(
            given.truth, given.images, given.data, sets=tuple(filter(None, given.sets.split(","))), places=given.places
        )
        n = write_task(given.out, found, region=given.region)
        print(f"wrote {n:,} pictures and the task {TASK} to {given.out}")


if __name__ == "__main__":
    main()
