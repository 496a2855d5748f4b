"""engine=auto: the service where it has the model and the environment a key for it, else this process."""

import os
from pathlib import Path
from typing import Any, Literal

from geospot.errors import EngineError
from geospot.models.loading import is_tiny
from geospot.runs.checkpoints import is_remote, last_checkpoint


def choose(config: Any) -> Literal["local", "tinker"]:
    """Says what it chose where that is not obvious; a service that cannot be asked is passed over with a word."""
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
