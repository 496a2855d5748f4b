"""Data parallel: two processes on the CPU (gloo) make the updates that one makes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import team_run
from engine_reference import assert_same_draws, load_reference
from tinker import types

HERE = Path(__file__).parents[2]
TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


def run(tiny_folder, out, *launcher: str) -> dict[str, np.ndarray]:
    command = [sys.executable, *launcher, str(HERE / "team_run.py"), tiny_folder, str(out)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(np.load(out))


def sequences(tokens: np.ndarray, logprobs: np.ndarray) -> list[list[types.SampledSequence]]:
    """Of each prompt, from arrays (prompts * members, T)."""
    made = [
        types.SampledSequence("length", "", _tokens_list=t.tolist(), _logprobs_list=q.tolist())
        for t, q in zip(tokens, logprobs, strict=True)
    ]
    return [made[i : i + team_run.MEMBERS] for i in range(0, len(made), team_run.MEMBERS)]


def test_two_processes_make_the_updates_of_one_and_the_second_outlives_ctrl_c(tiny_folder, renderer, tmp_path):
    team_run.main(tiny_folder, str(tmp_path / "one.npz"))
    alone = dict(np.load(tmp_path / "one.npz"))
    together = run(
        tiny_folder, tmp_path / "two.npz", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"
    )
    assert (alone.pop("world"), together.pop("world")) == (1, 2)
    assert (alone.pop("signals"), together.pop("signals")) == (0, 2)
    assert alone.keys() == together.keys()
    assert "weights" in str(alone["error"])
    first = (sequences(found.pop("tokens0"), found.pop("sampled0")) for found in (alone, together))
    base, wanted = load_reference(tiny_folder), team_run.drawn(0)  # an adapter begins with 0
    for prompt, one, two in zip(team_run.prompts(renderer), *first, strict=True):
        assert_same_draws(one, two, prompt, wanted, base, renderer.processing)
    for name, value in alone.items():
        if name == "error":
            assert str(value) == str(together[name])
        else:
            np.testing.assert_allclose(together[name], value, rtol=1e-3, atol=2e-5, err_msg=name)


LEFT_ALONE = """
import os, signal, sys
from torch import distributed
from geospot.engine.local.team import Team

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[1] == "meeting" and os.environ["RANK"] == "0":
    distributed.new_group = die
team = Team.of("cpu")
if team.rank == 0:
    die()
team.follow(None)
"""


@pytest.mark.parametrize("when", ["meeting", "working"])
def test_a_follower_ends_when_the_first_process_dies(when):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | TORCHRUN | {"MASTER_PORT": str(port), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", LEFT_ALONE, when]
    with subprocess.Popen(command, env=env | {"RANK": "0", "LOCAL_RANK": "0"}):
        left = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert left.returncode == 1
    assert "EngineGone: process 1 (from 0) of 2 lost the others" in left.stderr
