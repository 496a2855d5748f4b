"""What a run needs of memory, from the model's shapes and the options, before anything is done."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from geospot.engine.local.head import CHUNK, KEPT
from geospot.engine.local.network import Network
from geospot.engine.local.options import LocalOptions

GIB = 1 << 30
# Positions that an answer takes at least, of its own and of the prompt that it shares: logits are counted by these.
_ROW = 64
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Shape:
    """The sizes of a model that its memory follows from; counts of numbers, not bytes."""

    parameters: int  # all of the base model's
    decoder: int  # those of the decoder's matrices, which are merged into a copy
    trained: int  # the adapter's, or all
    trains_base: bool  # without LoRA
    hidden: int
    inner: int  # of the MLP
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int


@dataclass(frozen=True)
class Needs:
    """Bytes, by what they are for."""

    weights: int
    trained: int
    optimizer: int
    pictures: int
    training_weights: int
    gradients: int
    activations: int
    sampling_weights: int
    kv_cache: int
    logits: int

    @property
    def training(self) -> int:
        """The most at once while training: caches are empty then, and what sampling merged is gone."""
        return self._always + self.training_weights + self.gradients + self.activations

    @property
    def sampling(self) -> int:
        """The most at once while sampling."""
        return self._always + self.sampling_weights + self.kv_cache + self.logits

    @property
    def _always(self) -> int:
        return self.weights + self.trained + self.optimizer + self.pictures

    @property
    def peak(self) -> int:
        """The larger of the two."""
        return max(self.training, self.sampling)


def shape_of(network: Network) -> Shape:
    """The shape of a loaded `Network`."""
    model, text = network.model, network.model.config.get_text_config()
    trained = sum(p.numel() for p in network.trainable.values())
    adapters = 0 if network.spec.lora_rank == 0 else trained
    named = model.named_parameters() if network.decoder is not None else ()  # transformers' own layers merge nothing
    decoder = sum(p.numel() for n, p in named if "language_model.layers" in n and "lora_" not in n)
    return Shape(
        parameters=sum(p.numel() for p in model.parameters()) - adapters,
        decoder=decoder,
        trained=trained,
        trains_base=network.spec.lora_rank == 0 and trained > 0,
        hidden=text.hidden_size,
        inner=getattr(text, "intermediate_size", 4 * text.hidden_size),
        layers=text.num_hidden_layers,
        heads=text.num_attention_heads,
        kv_heads=getattr(text, "num_key_value_heads", None) or text.num_attention_heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        vocabulary=network.vocabulary,
    )


def needs(shape: Shape, options: LocalOptions, *, dtype: str, beside: int = 0) -> Needs:
    """The model of memory. `beside`: bytes of other base weights that are loaded.

    Kept for a token's gradient in each layer: the inputs of its four matrix products, their outputs that the
    element-wise steps want again, and queries, keys, values and the attention's output; with gradient checkpointing the
    layer's input alone, and one layer's rest at a time. Where all weights are trained, so are those of q, k, v and of
    gate, up side by side. Adam keeps two numbers for each trained one, in float32.
    """
    size, s = _BYTES[dtype], shape
    attention = (s.heads + 2 * s.kv_heads) * s.head_dim
    layer = size * (4 * s.hidden + 2 * attention + s.heads * s.head_dim + 4 * s.inner)
    kept = size * s.hidden * s.layers + layer if options.gradient_checkpointing else layer * s.layers
    fused = size * s.hidden * (attention + 2 * s.inner) * (1 if options.gradient_checkpointing else s.layers)
    own = 4 * s.trained
    # In float32 an adapter is merged for training passes, too (`linear.WithLora`).
    merged = size * s.decoder if dtype == "float32" and not s.trains_base else 0
    # What the vocabulary projection works on: chunks, and where it is trained logits that are kept for its gradient.
    head = 3 * 4 * CHUNK + (4 * KEPT if s.trains_base else 0)
    positions = 2 * size * s.layers * s.kv_heads * s.head_dim * options.max_sample_tokens
    return Needs(
        weights=size * s.parameters + beside,
        trained=2 * own,  # the client's and a snapshot's; what they started from is among the weights
        optimizer=2 * own,
        pictures=0 if s.trains_base else options.picture_cache_bytes,  # a tower in training makes them anew
        training_weights=merged,
        gradients=2 * own,  # the sum so far with those of the next micro-batch, or with what Adam's step computes
        activations=kept * options.max_batch_tokens + head + (fused if s.trains_base else 0),
        sampling_weights=size * s.decoder if options.merge_lora else merged,
        kv_cache=positions * 5 // 4,  # with the copies while the batch changes
        logits=options.max_sample_tokens // _ROW * s.vocabulary * (size + 4),
    )


# Options that save memory, the least costly first, and the least that is asked for.
_LEAST = {
    "picture_cache_bytes": 256 << 20,
    "max_sample_tokens": 4096,
    "max_batch_tokens": 2048,
    "gradient_checkpointing": True,
    "merge_lora": False,
}


def advice(shape: Shape, options: LocalOptions, *, dtype: str, available: int, beside: int = 0) -> list[str]:
    """Settings (`key=value`) that make it fit, the least costly first; empty where it fits. Where none do, a last entry
    says what else would. With all at their least, what costs most is given back first, as much of it as fits.
    """

    def values(name: str) -> list[int]:
        value, least = getattr(options, name), _LEAST[name]
        halves = [value >> k for k in range(1, 32) if value >> k > least] if name.endswith("_tokens") else []
        return [value, *halves, least if least is True else min(value, least)]

    def peak(settings: dict[str, Any]) -> int:
        return needs(shape, replace(options, **settings), dtype=dtype, beside=beside).peak

    now = {name: values(name)[-1] for name in _LEAST}
    limit = max(available, peak(now))
    for name in reversed(_LEAST):
        now[name] = next(value for value in values(name) if peak(now | {name: value}) <= limit)
    changes = [f"{name}={str(value).lower()}" for name, value in now.items() if value != getattr(options, name)]
    changes = [c if "bytes" not in c else f"picture_cache_mb={now['picture_cache_bytes'] >> 20}" for c in changes]
    instead = "lora_rank=32, or " if shape.trains_base else "dtype=bfloat16, or " if dtype == "float32" else ""
    return changes if limit <= available else [*changes, f"{instead}a smaller model"]


def available_bytes(device: str) -> int | None:
    """Memory of the device: all of a GPU's, what is free of a computer's; None where it cannot be told."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_properties(device).total_memory
    try:
        with open("/proc/meminfo") as lines:
            free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
    limited = free_in_cgroup()
    return free if limited is None else min(free, limited)


def free_in_cgroup(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What is left of the memory that a container may use, of either version of cgroups; None where all of it may."""
    for folder, limit, used, files in (
        (root, "memory.max", "memory.current", "inactive_file"),
        (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            left = int((folder / limit).read_text()) - int((folder / used).read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # no such file, or no limit: "max"
            continue
        return left + int(stat.get(files, 0))  # files that were read stay while nobody wants their place
    return None


def report(network: Network, *, dtype: str, beside: int = 0) -> str:
    """What the run needs beside what the device has, with the settings to change where it will not fit.

    `beside`: bytes of other base weights that are loaded. Raises nothing: the model of memory is not the machine.
    """
    shape, options = shape_of(network), network.options
    need = needs(shape, options, dtype=dtype, beside=beside)
    parts = ", ".join(f"{f.name.replace('_', ' ')} {getattr(need, f.name) / GIB:.2f}" for f in fields(need))
    most = f"{need.training / GIB:.2f} at most in training, {need.sampling / GIB:.2f} in sampling"
    text = f"memory, GiB: {most} ({parts})"
    if (available := available_bytes(network.device)) is None:
        return text
    available += 0 if network.device.startswith("cuda") else need.weights  # of a computer's memory already taken
    if changes := advice(shape, options, dtype=dtype, available=available, beside=beside):
        there = f"{available / GIB:.1f} GiB are available, and the run will want more"
        return f"{text}\nWARNING: {there}; set {', '.join(changes)}"
    return f"{text}; {available / GIB:.1f} available"
