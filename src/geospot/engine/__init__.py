"""The one seam: training loops speak the Tinker API; what stands behind it is opened here."""

import os
from typing import Any


def open_engine(config: Any, checkpoint_dir: str = "checkpoints"):
    """The service client for a config (`geospot.config.EngineConfig`); close it, or use it as a context manager.

    What it gives has the methods of `tinker.ServiceClient`, and so have the clients it creates.
    """
    from geospot.engine.local.service import LocalOptions, LocalServiceClient

    device = resolve_device(config.device)
    dtype = config.dtype
    if dtype == "auto":
        dtype = "bfloat16" if device.startswith("cuda") else "float32"
    return LocalServiceClient(
        LocalOptions(
            checkpoint_dir=checkpoint_dir,
            dtype=dtype,
            device=device,
            threads=config.threads or None,
            max_batch_tokens=config.max_batch_tokens,
            max_sample_tokens=config.max_sample_tokens,
            picture_cache_bytes=config.picture_cache_mb << 20,
            gradient_checkpointing=config.gradient_checkpointing,
            merge_lora=config.merge_lora,
            compile=config.compile,
        )
    )


def resolve_device(wanted: str) -> str:
    """The device behind "auto"; ModelError for a GPU that is not there. Of several processes each has its own GPU."""
    import torch

    from geospot.models.loading import ModelError

    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device={wanted}: torch sees no GPU here; device=cpu works everywhere")
    if wanted == "cuda" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        wanted = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(wanted)
    return wanted


def is_follower() -> bool:
    """Whether torchrun or accelerate started this process beside a first one, which runs the command."""
    return int(os.environ.get("RANK", "0")) > 0


def follow(config: Any) -> None:
    """Do a share of each pass of the first process until it ends (data parallel, see `engine.local.team`)."""
    open_engine(config).follow()


def read_spec(checkpoint: str):
    """What a checkpoint belongs to (`base_model`, `lora_rank`, ...), and how many optimizer steps it has seen."""
    from geospot.engine.local.state import read_spec as read

    return read(checkpoint)
