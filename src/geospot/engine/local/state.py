"""Checkpoints of the local engine: a folder with the trainable tensors, the optimizer and what they belong to.

state.json             format, the model and LoRA settings, optimizer steps done
weights.safetensors    the trainable tensors by name
optimizer.safetensors  Adam's moments by name (absent in sampler weights)
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geospot.engine.local.options import ALL, NetworkSpec
from geospot.errors import RunError
from geospot.files import atomic_folder, write_bytes_atomic

if TYPE_CHECKING:
    import torch

FORMAT = 1
_EARLIER = "name an earlier checkpoint, or remove this folder: its run then goes on from the checkpoint before it"
Tensors = Mapping[str, "torch.Tensor"]


def save_checkpoint(
    folder: str | Path,
    spec: NetworkSpec,
    weights: Tensors,
    optimizer_state: Mapping[str, Tensors] | None,
    n_steps: int,
) -> Path:
    """Write a checkpoint whole or not at all; raises OSError (what was there stays) where the disk is full.

    weights: name -> tensor; optimizer_state: name -> {"exp_avg", "exp_avg_sq", "step"}, or None for sampler weights.
    """
    meta = {"format": FORMAT, "spec": asdict(spec), "n_steps": n_steps}
    with atomic_folder(folder) as temp:
        write_bytes_atomic(temp / "state.json", (json.dumps(meta, indent=1) + "\n").encode())
        _write_tensors(temp / "weights.safetensors", weights)
        if optimizer_state is not None:
            flat = {f"{name}/{key}": v for name, state in optimizer_state.items() for key, v in state.items()}
            _write_tensors(temp / "optimizer.safetensors", flat)
    return Path(folder)


def _write_tensors(path: Path, tensors: Tensors) -> None:
    from safetensors.torch import save

    # Serialised in memory and written by Python: a full disk is then an OSError that says so.
    path.write_bytes(save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}))


def read_spec(folder: str | Path) -> tuple[NetworkSpec, int]:
    """What a checkpoint belongs to, and how many optimizer steps it has seen."""
    path = Path(folder) / "state.json"
    if not path.is_file():
        have = "no such folder" if not Path(folder).is_dir() else "it has no state.json"
        raise RunError(f"{folder} is not a checkpoint of the local engine: {have}")
    try:
        meta = json.loads(path.read_text())
        if meta["format"] != FORMAT:
            raise RunError(f"{folder}: checkpoint format {meta['format']!r}; this version reads {FORMAT}")
        return _spec(meta["spec"]), int(meta["n_steps"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read ({error!r}); {_EARLIER}") from error


def _spec(saved: Mapping[str, Any]) -> NetworkSpec:
    """The spec of a checkpoint; those of earlier versions name with three flags what has adapters."""
    base, rank = saved["base_model"], saved["lora_rank"]
    if "parts" in saved:
        return NetworkSpec.of(base, rank, saved["parts"], saved["held"])
    flags = {"attention": saved["train_attn"], "mlp": saved["train_mlp"], "head": saved["train_unembed"]}
    return NetworkSpec.of(base, rank, [part for part, on in flags.items() if on] if rank else ALL)


def read_tensors(folder: str | Path, name: str, device: str) -> "dict[str, torch.Tensor]":
    """The tensors of `weights` or `optimizer`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(folder) / f"{name}.safetensors"
    if not path.is_file():
        why = "sampler weights cannot resume training" if name == "optimizer" else "the checkpoint is incomplete"
        raise RunError(f"{folder} lacks {path.name}: {why}; take one that save_state wrote")
    try:
        return load_file(path, device=device)
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path} cannot be read ({error}); {_EARLIER}") from error


def read_optimizer(folder: str | Path, device: str) -> "dict[str, dict[str, torch.Tensor]]":
    """name -> Adam state of each parameter: its moments on `device`, its step on the CPU, where AdamW reads it."""
    out: dict[str, dict[str, torch.Tensor]] = {}
    for flat, tensor in read_tensors(folder, "optimizer", "cpu").items():
        name, key = flat.rsplit("/", 1)
        out.setdefault(name, {})[key] = tensor if key == "step" else tensor.to(device)
    return out
