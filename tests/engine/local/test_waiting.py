"""Threads that wait let others have the core: set before torch is there, and only where nobody has set it."""

import os
import subprocess
import sys

import pytest

from geospot.engine.local.waiting import share_cores


def test_waiting_is_set_unless_the_user_or_torch_was_first():
    environment: dict[str, str] = {}
    assert share_cores(environment, ["numpy"])
    assert environment["KMP_BLOCKTIME"] == "0"
    assert int(environment["GOMP_SPINCOUNT"]) < 300_000
    late: dict[str, str] = {}
    assert not share_cores(late, ["torch"])
    assert late == {}


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_what_the_user_set_stays(name):
    environment = {name: "ACTIVE"}
    assert not share_cores(environment, [])
    assert environment == {name: "ACTIVE"}


@pytest.mark.parametrize("first", ["geospot.__main__", "geospot.sft", "geospot.asking.guesser"])
def test_every_way_in_sets_it_before_torch_is_imported(first):
    """What torch's threads read when it is loaded, seen at that moment."""
    code = f"""
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise SystemExit(0 if os.environ.get("GOMP_SPINCOUNT") else 1)
sys.meta_path.insert(0, Watch())
import {first}
from geospot.engine.open import local_engine
import geospot.engine.local.service
raise SystemExit(2)
"""
    env = {k: v for k, v in os.environ.items() if k not in ("KMP_BLOCKTIME", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    assert subprocess.run([sys.executable, "-c", code], env=env, timeout=120).returncode == 0
