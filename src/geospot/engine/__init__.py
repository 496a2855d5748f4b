"""The one seam: training loops speak the Tinker API; what stands behind it is opened here."""

import os
from typing import Any

import chz


def settle_engine(config: Any):
    """The config with engine=auto settled and all refused that can be refused before any work.

    auto is `tinker` where `base_url` is set, or where the environment has a key and the service lists the model; else
    `local`. Raises EngineError or ModelError with what would do.
    """
    if config.engine == "auto":
        from geospot.engine.choose import choose

        config = chz.replace(config, engine=choose(config))
    if config.engine == "tinker":
        from geospot.engine.tinker.checks import Server, check_lora_rank, check_model

        server = Server.find(config.base_url)
        check_model(server, config.model_name)
        if hasattr(config, "rank"):
            check_lora_rank(server, config.rank)
    else:
        resolve_device(config.device)
    return config


def open_engine(config: Any, checkpoint_dir: str = "checkpoints"):
    """The service client for a config (`geospot.config.EngineConfig`); close it, or use it as a context manager.

    What it gives has the methods of `tinker.ServiceClient`, and so have the clients it creates.
    """
    if config.engine == "auto":
        config = settle_engine(config)
    if config.engine == "local":
        return local_engine(config, checkpoint_dir)
    from geospot.engine.tinker.checks import Server
    from geospot.engine.tinker.service import TinkerOptions, TinkerServiceClient

    return TinkerServiceClient(TinkerOptions(Server.find(config.base_url), silent_s=config.server_timeout_s))


def local_engine(config: Any, checkpoint_dir: str = "checkpoints"):
    """The engine in this process."""
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


def weights_info(path: str, base_url: str | None = None):
    """What a checkpoint belongs to (`base_model`, `lora_rank`, ...), as `tinker.types.WeightsInfoResponse`.

    A tinker:// path is asked of the server at `base_url`, anything else is a folder of the local engine.
    """
    if "://" in path:
        from geospot.engine.tinker.checks import Server

        return Server.find(base_url).weights_info(path)
    from tinker import types

    from geospot.engine.local.state import read_spec

    spec, _ = read_spec(path)
    trained = {name: getattr(spec, name) for name in ("train_unembed", "train_mlp", "train_attn")}
    return types.WeightsInfoResponse(
        base_model=spec.base_model, is_lora=spec.lora_rank > 0, lora_rank=spec.lora_rank, **trained
    )
