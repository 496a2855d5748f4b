"""What importing a part of geospot brings with it: what a command refuses, it refuses without loading torch."""

import subprocess
import sys

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


def test_a_configuration_is_imported_without_those_of_other_commands():
    code = "import sys; from geospot.config import EvalConfig; print('geospot.config.loops' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
