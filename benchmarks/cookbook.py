"""The Tinker cookbook's recipes, unmodified, against `geospot serve` with a small untrained model: what runs, and whose
fault it is where one does not.

uv run python benchmarks/cookbook.py [--recipes sl_loop,rl_loop] [--python COOKBOOK_PYTHON]

The cookbook's transformers range excludes ours: it runs in an environment of its own, which uv makes. Data and rewards
are made up, since nothing is downloaded; nothing else of a recipe is changed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from geospot.progress import table

NAME = "Qwen/Qwen3-VL-30B-A3B-Instruct"  # by which the cookbook chooses a renderer
REQUIREMENTS = ("tinker-cookbook[math-rl]==0.6.1", "tinker==0.38.0")
SHIM = """
import datasets, random
random.seed(0)
def _made(name, *args, **kwargs):
    pairs = [(a, b) for a in range(8) for b in range(8)]
    rows = [{"question": f"What is {a} + {b}?", "answer": f"It is so. #### {a + b}"} for a, b in pairs]
    chats = [{"messages": [{"role": "user", "content": r["question"]}, {"role": "assistant", "content": r["answer"]}]}
             for r in rows]
    made = datasets.Dataset.from_list(rows if "gsm8k" in str(name) else chats)
    whole = datasets.DatasetDict(train=made, test=made, train_sft=made, test_sft=made)
    return whole if kwargs.get("split") is None else made
datasets.load_dataset = _made
"""
REWARD = """
import tinker_cookbook.recipes.rl_loop as loop
loop.get_reward = lambda response, answer: float(len(response) % 2)
"""
SMALL = "model_name={name} base_url={url} log_path={log}"
RECIPES = {
    "sl_loop": ("tinker_cookbook.recipes.sl_loop", SMALL + " batch_size=8 max_length=256 lora_rank=4 save_every=2"),
    **{
        f"rl_loop {loss}": (
            "tinker_cookbook.recipes.rl_loop",
            SMALL + f" batch_size=2 group_size=4 lora_rank=4 max_tokens=8 max_steps=2 save_every=1 loss_fn={loss}",
        )
        for loss in ("importance_sampling", "cispo", "gspo", "stable_reinforce")
    },
}


def environment(folder: Path) -> str:
    """The cookbook's own Python, made by uv."""
    subprocess.run(["uv", "venv", "-q", "--python", "3.11", str(folder)], check=True)
    python = str(folder / "bin/python")
    # The index may lack the newest tml-renderers, which only the tokenizers of its makers' own models need.
    override = folder / "override.txt"
    override.write_text("tml-renderers\n")
    command = ["uv", "pip", "install", "-q", "--python", python, "--override", str(override), *REQUIREMENTS]
    subprocess.run(command, check=True)
    return python


def serve(folder: Path) -> tuple[subprocess.Popen, str]:
    """A small model under the name that the cookbook knows, and where it is served."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import vlm_families

    vlm_families.save(folder / NAME, "qwen3_vl")
    words = [f"model_name={NAME}", "port=0", f"checkpoint_dir={folder / 'served'}", "threads=1", "device=cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "geospot", "serve", *words], cwd=folder, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "base_url=" in line:
            return process, line.partition("base_url=")[2].split()[0]
    raise SystemExit("the server did not start")


def run(python: str, url: str, folder: Path, name: str) -> tuple[str, str, float]:
    """What became of a recipe, the last line of its error, and how long it took."""
    module, words = RECIPES[name]
    log = folder / "logs" / name.replace(" ", "-")
    arguments = words.format(name=NAME, url=url, log=log).split()
    code = SHIM + (REWARD if "rl_loop" in name else "")
    code += (
        f"\nimport sys, chz\nsys.argv = ['x', *{arguments!r}]\nimport {module} as m\nchz.nested_entrypoint(m.main)\n"
    )
    started = time.monotonic()
    env = {
        **os.environ,
        "TINKER_API_KEY": "tml-cookbook",
        "HF_HUB_OFFLINE": "1",
        "TINKER_TELEMETRY": "0",
        "PYTHONPATH": "",
    }
    done = subprocess.run([python, "-c", code], cwd=folder, env=env, capture_output=True, text=True, timeout=900)
    (folder / f"{name.replace(' ', '-')}.log").write_text(done.stdout + done.stderr)
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return (
        ("works" if done.returncode == 0 else "fails"),
        (said[-1][:100] if done.returncode else ""),
        (time.monotonic() - started),
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", default=",".join(RECIPES), help="which, by name")
    parser.add_argument("--python", help="of an environment that has the cookbook; none: one is made")
    parser.add_argument("--folder", help="for models, logs and checkpoints; none: a temporary one")
    given = parser.parse_args()
    folder = Path(given.folder or tempfile.mkdtemp(prefix="cookbook-"))
    folder.mkdir(parents=True, exist_ok=True)
    python = given.python or environment(folder / "environment")
    server, url = serve(folder)
    try:
        rows = []
        for name in given.recipes.split(","):
            result, why, seconds = run(python, url, folder, name)
            rows.append({"recipe": name, "result": result, "why": why, "seconds": round(seconds)})
            print(name, result, why, flush=True)
    finally:
        server.terminate()
        server.wait()
    print(table(rows))


if __name__ == "__main__":
    main()
