"""Which device and how many processes a run has, settled before any work."""

import pytest
import torch

from geospot.config import SftConfig
from geospot.engine.local.options import is_follower, resolve_device
from geospot.engine.open import settle_engine
from geospot.errors import EngineError, ModelError

TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


@pytest.fixture
def torchrun(monkeypatch):
    """As torchrun starts the second of two processes."""
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("wanted", "gpus", "found"),
    [("auto", 0, "cpu"), ("cpu", 2, "cpu"), ("auto", 2, "cuda"), ("cuda", 1, "cuda"), ("cuda:1", 2, "cuda:1")],
)
def test_the_device_of_one_process(wanted, gpus, found, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert resolve_device(wanted) == found


def test_a_gpu_that_is_not_there_is_refused_by_key(monkeypatch):
    for wanted, gpus, says in (("cuda", 0, "no GPU here; device=cpu"), ("cuda:7", 2, "2 GPUs.* the last is cuda:1")):
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        with pytest.raises(ModelError, match=rf"device={wanted}: torch sees {says}"):
            resolve_device(wanted)
    with pytest.raises(ValueError, match="device=cuda:one: must be auto, cpu, cuda or cuda:N"):
        SftConfig(device="cuda:one")


def test_each_of_several_processes_has_a_gpu_of_its_own(torchrun, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == resolve_device("cuda") == "cuda:1"
    assert resolve_device("cpu") == "cpu"
    with pytest.raises(ModelError, match="device=cuda:0: all 2 processes would share it; set device=cuda"):
        resolve_device("cuda:0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ModelError, match="torch sees 1; set --nproc-per-node 1, or device=cpu"):
        resolve_device("auto")


def test_a_follower_is_one_of_several(torchrun, monkeypatch):
    assert is_follower()
    monkeypatch.delenv("MASTER_PORT")
    with pytest.raises(EngineError, match="WORLD_SIZE=2 without MASTER_PORT: start with torchrun"):
        is_follower()
    monkeypatch.delenv("WORLD_SIZE")
    assert not is_follower(), "a RANK that something left behind"


def test_several_processes_do_not_ask_the_service(torchrun):
    with pytest.raises(EngineError, match=r"engine=tinker with WORLD_SIZE=2.*start it without torchrun"):
        settle_engine(SftConfig(engine="tinker", base_url="http://127.0.0.1:1"))
