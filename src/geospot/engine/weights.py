"""Checkpoints of either engine by path: what they belong to, and their weights alone."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinker import types


def weights_info(path: str, base_url: str | None = None) -> "types.WeightsInfoResponse":
    """What a checkpoint belongs to (`base_model`, `lora_rank`, ...).

    A tinker:// path is looked up on the server at `base_url` (None: the hosted service), anything else is a folder of
    the local engine. RunError where the folder is not a checkpoint, EngineError where the server does not answer.
    """
    if "://" in path:
        from geospot.engine.tinker.checks import Server

        return Server.find(base_url).weights_info(path)
    from geospot.engine.local.state import read_spec

    spec, _ = read_spec(path)
    from tinker import types  # after what may be refused: the SDK takes seconds to import

    trained = {name: getattr(spec, name) for name in ("train_unembed", "train_mlp", "train_attn")}
    return types.WeightsInfoResponse(
        base_model=spec.base_model, is_lora=spec.lora_rank > 0, lora_rank=spec.lora_rank, **trained
    )


def fetch_weights(path: str, out: str | Path, *, base_url: str | None = None, silent_s: float = 45.0) -> Path:
    """The weights of a checkpoint in the folder `out`: a PEFT adapter, or a local checkpoint that trained all weights.

    base_url, silent_s: the server of a tinker:// path, and the seconds without a sign of life after which it is dead.
    """
    if "://" in path:
        from geospot.engine.tinker.checks import Server
        from geospot.engine.tinker.service import download

        return download(Server.find(base_url), path, out, silent_s)
    from geospot.engine.export import write_external

    return write_external(path, out)
