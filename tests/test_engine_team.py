"""Data parallel: two processes on the CPU (gloo) make the updates that one makes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import team_run

HERE = Path(__file__).parent


def run(tiny_folder, out, *launcher: str) -> dict[str, np.ndarray]:
    command = [sys.executable, *launcher, str(HERE / "team_run.py"), tiny_folder, str(out)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(np.load(out))


def test_two_processes_make_the_updates_of_one(tiny_folder, tmp_path):
    team_run.main(tiny_folder, str(tmp_path / "one.npz"))
    alone = dict(np.load(tmp_path / "one.npz"))
    together = run(
        tiny_folder, tmp_path / "two.npz", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"
    )
    assert (alone.pop("world"), together.pop("world")) == (1, 2)
    assert alone.keys() == together.keys()
    assert "weights" in str(alone["error"])
    for name, value in alone.items():
        if name == "error":
            assert str(value) == str(together[name])
        else:
            np.testing.assert_allclose(together[name], value, rtol=1e-3, atol=2e-5, err_msg=name)
