"""Data parallel: two processes on the CPU (gloo) make the updates that one makes."""

import os
import signal
import socket
from pathlib import Path

import forks
import numpy as np
import pytest
import team_run
from engine_reference import assert_same_draws, load_reference
from tinker import types
from torch import distributed
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from geospot.engine.local.team import Team

TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


def under_torchrun(folder: str, out: Path) -> dict[str, np.ndarray]:
    """What two processes find that torchrun's launcher starts, as forks: they need not import torch again."""
    config = LaunchConfig(
        1, 1, 2, rdzv_backend="c10d", rdzv_endpoint="localhost:0", run_id=out.stem, max_restarts=0, start_method="fork"
    )  # fmt: skip
    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    before = [signal.getsignal(number) for number in handled]  # the launcher sets its own and leaves them
    try:
        elastic_launch(config, team_run.in_a_team)(folder, str(out))
    finally:
        for number, handler in zip(handled, before, strict=True):
            signal.signal(number, handler)
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
    together = under_torchrun(tiny_folder, tmp_path / "two.npz")
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


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def lose_the_first(rank: str, port: int, when: str) -> None:
    """In a fork: two processes meet, and the first is killed meanwhile or afterwards."""
    os.environ |= TORCHRUN | {"RANK": rank, "LOCAL_RANK": rank, "MASTER_PORT": str(port)}
    if when == "meeting" and rank == "0":
        distributed.new_group = die
    team = Team.of("cpu")
    assert team is not None
    if team.rank == 0:
        die()
    team.follow(lambda spec: pytest.fail("there is no share"))


@pytest.mark.parametrize("when", ["meeting", "working"])
def test_a_follower_ends_when_the_first_process_dies(when, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    first = forks.start(lambda: lose_the_first("0", port, when))
    with (tmp_path / "printed").open("w") as printed:
        left = forks.start(lambda: lose_the_first("1", port, when), stdout=printed.fileno())
    for process in (first, left):
        process.join(600)
    assert (first.exitcode, left.exitcode) == (-signal.SIGKILL, 1)
    assert "EngineGone: process 1 (from 0) of 2 lost the others" in (tmp_path / "printed").read_text()
