"""Where the local engine computes: the device behind `device=`, and how many processes share its passes."""

import os

from geospot.errors import EngineError, ModelError


def resolve_device(wanted: str) -> str:
    """The device behind "auto"; ModelError for a GPU that is not there. Of several processes each has its own GPU."""
    import torch

    gpus, size = torch.cuda.device_count(), team_size()
    if wanted == "cpu" or (wanted == "auto" and not gpus):
        return "cpu"
    if not gpus:
        raise ModelError(f"device={wanted}: torch sees no GPU here; device=cpu works everywhere")
    _, _, number = wanted.partition(":")
    if size > 1:
        if number:
            raise ModelError(f"device={wanted}: all {size} processes would share it; set device=cuda, a GPU for each")
        if int(number := os.environ["LOCAL_RANK"]) >= gpus:
            raise ModelError(
                f"device={wanted}: no GPU for process {number} (from 0) of this machine, torch sees {gpus}; set "
                f"--nproc-per-node {gpus}, or device=cpu"
            )
        return f"cuda:{number}"
    if number and int(number) >= gpus:
        raise ModelError(f"device={wanted}: torch sees {gpus} GPUs, from cuda:0; the last is cuda:{gpus - 1}")
    return "cuda" if wanted == "auto" else wanted


def team_size() -> int:
    """How many processes torchrun or accelerate started for this command; EngineError where they cannot meet."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if size > 1 and missing:
        raise EngineError(
            f"WORLD_SIZE={size} without {', '.join(missing)}: start with torchrun, which sets them all, or unset "
            "WORLD_SIZE for one process"
        )
    return size


def is_follower() -> bool:
    """Whether this process stands beside a first one, which runs the command."""
    return team_size() > 1 and int(os.environ["RANK"]) > 0
