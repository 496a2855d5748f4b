"""engine=auto: the service where it has the model and the environment a key for it, else this process."""

import os
from pathlib import Path
from typing import Any, Literal

from geospot.engine.errors import EngineError
from geospot.models.loading import is_tiny


def choose(config: Any) -> Literal["local", "tinker"]:
    """Says what it chose where that is not obvious; a service that cannot be asked is passed over with a word."""
    if config.base_url is not None:
        return "tinker"
    name, checkpoint = config.model_name, getattr(config, "checkpoint", None) or ""
    if checkpoint.startswith("tinker://"):
        return "tinker"
    if (Path(checkpoint) / "state.json").is_file():
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
