"""What importing a part of geospot brings with it: what a command refuses, it refuses without loading torch."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "tinker", "transformers")


@pytest.mark.parametrize("module", ["geospot.train", "geospot.sft", "geospot.asking.guesser"])
def test_the_recipe_is_imported_without_what_it_runs_on(module):
    code = f"import {module}, sys; print([name for name in {HEAVY} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
