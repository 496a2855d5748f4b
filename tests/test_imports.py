"""What importing a part of geospot brings with it: what a command refuses, it refuses without loading torch."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import geospot

HEAVY = ("torch", "tinker", "transformers")


def test_the_recipe_is_imported_without_what_it_runs_on():
    code = f"""
import importlib, sys
for module in ("geospot.train", "geospot.sft", "geospot.asking.guesser"):
    importlib.import_module(module)
    print(module, *(name for name in {HEAVY} if name in sys.modules))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == ["geospot.train", "geospot.sft", "geospot.asking.guesser"]


def test_a_module_is_found_by_its_name():
    """Few names stand in two rooms, and few files are too short for a room of their own (a command is one file)."""
    files = [path for path in (Path(geospot.__file__).parent).rglob("*.py") if path.stem != "__init__"]
    twice = {name for name, n in Counter(path.stem for path in files).items() if n > 1}
    assert len(twice) <= 4, twice
    short = [path.name for path in files if path.parent.name != "commands" and len(path.read_text().splitlines()) < 50]
    assert len(short) <= 15, short


def test_a_configuration_is_imported_without_those_of_other_commands():
    code = "import sys; from geospot.config import EvalConfig; print('geospot.config.loops' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
