"""What stands behind the seam (`geospot.engine.protocols`) is chosen and opened here, from a configuration."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import chz

from geospot.engine.local.options import resolve_device, team_size
from geospot.engine.protocols import ServiceClient
from geospot.errors import EngineError
from geospot.models.loading import is_tiny
from geospot.runs.checkpoints import is_remote, last_checkpoint

if TYPE_CHECKING:
    from geospot.engine.local.service import LocalServiceClient


class EngineSettings(Protocol):
    """What of a command's configuration concerns the engine (`geospot.config.EngineConfig` explains each)."""

    @property
    def model_name(self) -> str: ...
    @property
    def engine(self) -> Literal["auto", "local", "tinker"]: ...
    @property
    def base_url(self) -> str | None: ...
    @property
    def server_timeout_s(self) -> float: ...
    @property
    def device(self) -> str: ...
    @property
    def dtype(self) -> Literal["auto", "float32", "bfloat16"]: ...
    @property
    def threads(self) -> int: ...
    @property
    def max_batch_tokens(self) -> int: ...
    @property
    def max_sample_tokens(self) -> int: ...
    @property
    def picture_cache_mb(self) -> int: ...
    @property
    def gradient_checkpointing(self) -> bool: ...
    @property
    def merge_lora(self) -> bool: ...
    @property
    def batch_invariant(self) -> bool: ...
    @property
    def compile(self) -> bool: ...


Config = TypeVar("Config", bound=EngineSettings)


def settle_engine(config: Config) -> Config:
    """The config with engine=auto settled and all refused that can be refused before any work.

    auto is `tinker` where `base_url` is set, or where the environment has a key and the service lists the model; else
    `local`. Raises EngineError or ModelError with what would do.
    """
    if config.engine == "auto":
        config = chz.replace(config, engine=choose(config))
    if config.engine == "tinker":
        from geospot.engine.tinker.checks import Server, check_lora_rank, check_model, check_parts

        if (size := team_size()) > 1:
            raise EngineError(
                f"engine=tinker with WORLD_SIZE={size}: the service does the work, and one process asks for it; "
                "start it without torchrun, or set engine=local"
            )
        server = Server.find(config.base_url)
        check_model(server, config.model_name)
        if (rank := getattr(config, "rank", None)) is not None:
            check_lora_rank(server, rank)
            check_parts(getattr(config, "parts", None), rank)
    else:
        resolve_device(config.device)
    return config


def choose(config: EngineSettings) -> Literal["local", "tinker"]:
    """engine=auto: the service where it has the model and the environment a key for it, else this process.

    Says what it chose where that is not obvious; a service that cannot be asked is passed over with a word.
    """
    if config.base_url is not None:
        return "tinker"
    name = config.model_name
    if checkpoint := getattr(config, "checkpoint", None):
        path = _weights(checkpoint)
        if is_remote(path):
            return "tinker"
        if (Path(path).expanduser() / "state.json").is_file():
            return "local"
    if not os.environ.get("TINKER_API_KEY") or is_tiny(name) or Path(name).expanduser().exists():
        return "local"
    from geospot.engine.tinker.checks import Server, check_model

    try:
        check_model(Server.find(None), name)
    except EngineError as error:
        print(f"engine=local although TINKER_API_KEY is set: {error}")
        return "local"
    print(f"engine=tinker: TINKER_API_KEY is set and the service has {name}; engine=local would stay here")
    return "tinker"


def _weights(checkpoint: str) -> str:
    """Where the weights are: of a run folder its newest checkpoint, else the path itself."""
    folder = Path(checkpoint).expanduser()
    newest = last_checkpoint(folder) if (folder / "checkpoints.jsonl").is_file() else None
    return newest.path if newest else checkpoint


def open_engine(
    config: EngineSettings,
    checkpoint_dir: str = "checkpoints",
    *,
    name: str | None = None,
    about: Mapping[str, str] | None = None,
) -> ServiceClient:
    """The service client for a config; close it, or use it as a context manager.

    name, about: of the run, for whoever looks at a service's list of sessions and runs.
    """
    if config.engine == "auto":
        config = settle_engine(config)
    if config.engine == "local":
        return local_engine(config, checkpoint_dir)
    from geospot.engine.tinker.checks import Server
    from geospot.engine.tinker.service import TinkerOptions, TinkerServiceClient

    said = {"display_name": name, "user_metadata": dict(about or {})}
    return TinkerServiceClient(TinkerOptions(Server.find(config.base_url), silent_s=config.server_timeout_s, **said))


def local_engine(
    config: EngineSettings, checkpoint_dir: str = "checkpoints", *, for_clients: bool = False
) -> "LocalServiceClient":
    """The engine in this process: for the loops here, or as the service is where it is `for_clients`."""
    from geospot.engine.local.options import MAX_CONTEXT
    from geospot.engine.local.service import LocalOptions, LocalServiceClient

    return LocalServiceClient(
        LocalOptions(
            checkpoint_dir=checkpoint_dir,
            dtype=config.dtype,
            device=resolve_device(config.device),
            threads=config.threads or None,
            max_batch_tokens=config.max_batch_tokens,
            max_sample_tokens=config.max_sample_tokens,
            picture_cache_bytes=config.picture_cache_mb << 20,
            gradient_checkpointing=config.gradient_checkpointing,
            merge_lora=config.merge_lora,
            batch_invariant=config.batch_invariant,
            compile=config.compile,
            skip_unweighted=not for_clients,
            takes_turns=for_clients,
            max_context=MAX_CONTEXT if for_clients else None,
        )
    )


def lead(config: EngineSettings) -> None:
    """In the first process of several, before all else: meet the others, which end when it ends, however it ends."""
    if team_size() > 1:
        from geospot.engine.local.team import Team

        Team.of(resolve_device(config.device))


def follow(config: EngineSettings) -> None:
    """Do a share of each pass of the first process until it ends (data parallel, see `engine.local.team`)."""
    service = local_engine(config)
    # Sent to all processes, they ask the first to stop: it needs the others for the step that it finishes.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    service.follow()
