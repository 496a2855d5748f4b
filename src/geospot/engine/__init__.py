"""The one seam: training loops speak the Tinker API; what stands behind it is opened here."""

import os
import signal
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
        from geospot.errors import EngineError

        if (size := team_size()) > 1:
            raise EngineError(
                f"engine=tinker with WORLD_SIZE={size}: the service does the work, and one process asks for it; "
                "start it without torchrun, or set engine=local"
            )
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
            batch_invariant=config.batch_invariant,
            compile=config.compile,
        )
    )


def resolve_device(wanted: str) -> str:
    """The device behind "auto"; ModelError for a GPU that is not there. Of several processes each has its own GPU."""
    import torch

    from geospot.errors import ModelError

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
        from geospot.errors import EngineError

        raise EngineError(
            f"WORLD_SIZE={size} without {', '.join(missing)}: start with torchrun, which sets them all, or unset "
            "WORLD_SIZE for one process"
        )
    return size


def is_follower() -> bool:
    """Whether this process stands beside a first one, which runs the command."""
    return team_size() > 1 and int(os.environ["RANK"]) > 0


def lead(config: Any) -> None:
    """In the first process of several, before all else: meet the others, which end when it ends, however it ends."""
    if team_size() > 1:
        from geospot.engine.local.team import Team

        Team.of(resolve_device(config.device))


def follow(config: Any) -> None:
    """Do a share of each pass of the first process until it ends (data parallel, see `engine.local.team`)."""
    service = local_engine(config)
    # Sent to all processes, they ask the first to stop: it needs the others for the step that it finishes.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    service.follow()


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
