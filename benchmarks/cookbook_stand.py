"""What `benchmarks/cookbook.py` runs: the cookbook in its environment, the server, recipes with small numbers."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
NAME = "Qwen/Qwen3-VL-30B-A3B-Instruct"  # by which the cookbook chooses a renderer
REQUIREMENTS = ("tinker-cookbook[math-rl]==0.6.1", "tinker==0.38.0", "pyrage")
LIMIT_S = 1800  # of a command, on a busy machine
_RL = "batch_size=2 group_size=4 lora_rank=4 max_tokens=8 max_steps=2 save_every=1"
# Their data sets are set in the recipes, with batches of 128.
_BASIC_SL = "lora_rank=4 save_every=2 eval_every=2 max_steps=3"
_BASIC_RL = "lora_rank=4 max_tokens=8 max_steps=2 num_epochs=2 save_every=1"
_ASYNC = "async_config.max_steps_off_policy=1 async_config.groups_per_batch=4"
_DISTIL = "groups_per_batch=2 group_size=2 lora_rank=4 max_tokens=8 max_steps=2 save_every=1 eval_every=0 "
# Name -> module of the cookbook and its arguments.
RECIPES = {
    "sl_loop": ("sl_loop", "batch_size=8 max_length=256 lora_rank=4 save_every=2 max_steps=5"),
    "sl_basic": ("sl_basic", _BASIC_SL),
    "rl_loop importance_sampling": ("rl_loop", _RL + " loss_fn=importance_sampling"),
    "rl_loop cispo": ("rl_loop", _RL + " loss_fn=cispo"),
    "rl_loop gspo": ("rl_loop", _RL + " loss_fn=gspo"),
    "rl_loop stable_reinforce": ("rl_loop", _RL + " loss_fn=stable_reinforce"),
    "rl_basic sync": ("rl_basic", _BASIC_RL),
    "rl_basic async ppo": ("rl_basic", f"{_BASIC_RL} {_ASYNC} async_config.loss_fn=ppo"),
    "rl_basic async stable_reinforce": ("rl_basic", f"{_BASIC_RL} {_ASYNC}"),
    "preference dpo": ("preference.dpo.train", "batch_size=4 max_length=256 max_steps=2"),
    "distillation on-policy": (
        "distillation.on_policy_distillation",
        f"{_DISTIL} teacher_model={NAME} dataset=deepmath",
    ),
    "distillation top-k (sdft)": ("sdft.train", f"{_DISTIL} topk=5"),
    "vision classifier": (
        "vlm_classifier.train",
        "renderer_name=qwen3_vl_instruct lora_rank=4 batch_size=4 max_steps=2 save_every=1 eval_every=1 n_eval=4 "
        "max_tokens=8 num_epochs=1",
    ),
}
_WITH_FOLDER = {"vlm_classifier.train": "experiment_dir"}  # what a recipe calls its folder, where it is not log_path
_NO_QUESTION = ("preference", "distillation", "sdft", "vlm")  # recipes that ask what to do with an old folder, by a key


@dataclass
class Stand:
    """Where the cookbook and the server are."""

    python: str
    folder: Path
    server: subprocess.Popen | None = None
    url: str = ""
    env: dict[str, str] = field(default_factory=dict)

    def start(self, port: int = 0) -> None:
        """A small model under a name that the cookbook knows, served."""
        words = [f"model_name={NAME}", f"port={port}", f"checkpoint_dir={self.folder / 'served'}", "threads=1"]
        words += ["device=cpu", f"request_log={self.folder / 'requests.jsonl'}"]
        command = [sys.executable, "-m", "geospot", "serve", *words]
        self.server = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, text=True)
        assert self.server.stdout is not None
        for line in self.server.stdout:
            if "base_url=" in line:
                self.url = line.partition("base_url=")[2].split()[0]
                quiet = {"HF_HUB_OFFLINE": "1", "TINKER_TELEMETRY": "0", "TINKER_API_KEY": "tml-cookbook"}
                self.env = {
                    **os.environ,
                    **quiet,
                    "TINKER_BASE_URL": self.url,
                    "PYTHONPATH": str(HERE / "cookbook_made"),
                }
                self.env.pop("PYTHONDONTWRITEBYTECODE", None)  # each start would compile thousands of files anew
                return
        raise SystemExit("the server did not start")

    def stop(self, *, kill: bool = False) -> None:
        """End the server, with SIGKILL or as it should be."""
        assert self.server is not None
        self.server.kill() if kill else self.server.terminate()
        self.server.wait()

    def recipe(self, name: str, log: str | None = None, extra: str = "") -> list[str]:
        """The command of a recipe."""
        module, words = RECIPES[name]
        place = _WITH_FOLDER.get(module, "log_path")
        logs = self.folder / "logs" / (log or slug(name))
        words = f"model_name={NAME} base_url={self.url} {place}={logs} {words} {extra}"
        if module.startswith(_NO_QUESTION):
            words += " behavior_if_log_dir_exists=resume"
        return [self.python, "-m", f"tinker_cookbook.recipes.{module}", *words.split()]

    def run(self, name: str, command: list[str]) -> str:
        """What a command prints; Failed where it fails."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=LIMIT_S,
        )  # fmt: skip
        said = done.stdout + done.stderr
        with open(self.folder / f"{slug(name)}.log", "a") as log:
            log.write(said)
        if done.returncode:
            lines = [line for line in said.splitlines() if line.strip()]
            raise Failed(lines[-1] if lines else f"status {done.returncode}")
        return said

    def saved(self, log: str, kind: str = "state_path") -> str:
        """The newest checkpoint that a recipe has noted."""
        lines = (self.folder / "logs" / log / "checkpoints.jsonl").read_text().splitlines()
        return [path for line in lines if (path := json.loads(line).get(kind))][-1]


class Failed(Exception):
    """A command of the cookbook did, or showed what it should not."""


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


def slug(name: str) -> str:
    return re.sub(r"\W+", "-", name).strip("-") if "_" not in name or " " in name else name
