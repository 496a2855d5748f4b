"""What a run needs of memory, from the model's shapes and the options, before anything is done."""

from dataclasses import dataclass, replace

import torch

from geospot.engine.local.options import LocalOptions

GIB = 1 << 30
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Shape:
    """The sizes of a model that its memory follows from; counts of numbers, not bytes."""

    parameters: int  # all of the base model's
    decoder: int  # those of the decoder's matrices, which sampling merges into a copy
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
    sampling_weights: int
    trained: int
    optimizer: int
    gradients: int
    kv_cache: int
    activations: int
    pictures: int

    @property
    def training(self) -> int:
        """The most at once while training: caches are empty then."""
        return self._always + self.gradients + self.activations

    @property
    def sampling(self) -> int:
        """The most at once while sampling."""
        return self._always + self.kv_cache

    @property
    def _always(self) -> int:
        return self.weights + self.sampling_weights + self.trained + self.optimizer + self.pictures

    @property
    def peak(self) -> int:
        """The larger of the two."""
        return max(self.training, self.sampling)

    def table(self) -> str:
        """For people."""
        names = (
            "weights",
            "sampling_weights",
            "trained",
            "optimizer",
            "gradients",
            "kv_cache",
            "activations",
            "pictures",
        )
        parts = ", ".join(f"{name.replace('_', ' ')} {getattr(self, name) / GIB:.2f}" for name in names)
        most = f"{self.training / GIB:.2f} at most in training, {self.sampling / GIB:.2f} in sampling"
        return f"memory, GiB: {most} ({parts})"


def shape_of(network) -> Shape:
    """The shape of a loaded `Network`."""
    model, text = network.model, network.model.config.get_text_config()
    trained = sum(p.numel() for p in network.trainable.values())
    adapters = 0 if network.spec.lora_rank == 0 else trained
    decoder = sum(p.numel() for n, p in model.named_parameters() if "language_model.layers" in n and "lora_" not in n)
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


def needs(shape: Shape, options: LocalOptions, *, dtype: str) -> Needs:
    """The model of memory.

    Kept for a token's gradient in each layer: the inputs of its four matrix products, their outputs that the
    element-wise steps want again, and queries, keys, values and the attention's output; with gradient checkpointing the
    layer's input alone, and one layer's rest at a time. Adam keeps two numbers for each trained one, in float32.
    """
    size, s = _BYTES[dtype], shape
    attention = (s.heads + 2 * s.kv_heads) * s.head_dim
    layer = size * (4 * s.hidden + 2 * attention + s.heads * s.head_dim + 4 * s.inner)
    kept = size * s.hidden * s.layers + layer if options.gradient_checkpointing else layer * s.layers
    own = 4 * s.trained
    merged = s.decoder if options.merge_lora or s.trains_base else 0
    return Needs(
        weights=size * s.parameters,
        sampling_weights=size * merged,
        # Trained weights have a float32 snapshot beside them; the base's own are among the weights.
        trained=own if s.trains_base else 2 * own,
        optimizer=2 * own,
        gradients=own,
        kv_cache=2 * size * s.layers * s.kv_heads * s.head_dim * options.max_sample_tokens,
        activations=kept * options.max_batch_tokens + 3 * 4 * (1 << 24),  # and the logits of a chunk
        pictures=options.picture_cache_bytes,
    )


def advice(shape: Shape, options: LocalOptions, *, dtype: str, available: int) -> list[str]:
    """Settings (`key=value`) that make it fit, the least costly first; empty where it fits, None of them where none do.

    Raises nothing: a run that will not fit is warned of, for the model of memory is not the machine.
    """
    changes: list[str] = []
    now = options
    steps = (
        ("picture_cache_mb=256", lambda o: replace(o, picture_cache_bytes=min(o.picture_cache_bytes, 256 << 20))),
        ("max_sample_tokens", lambda o: replace(o, max_sample_tokens=max(4096, o.max_sample_tokens // 8))),
        ("max_batch_tokens", lambda o: replace(o, max_batch_tokens=max(2048, o.max_batch_tokens // 8))),
        ("gradient_checkpointing=true", lambda o: replace(o, gradient_checkpointing=True)),
        ("merge_lora=false", lambda o: replace(o, merge_lora=False)),
    )
    for text, change in steps:
        before = needs(shape, now, dtype=dtype).peak
        if before <= available:
            return changes
        then = change(now)
        if needs(shape, then, dtype=dtype).peak < before:
            changes.append(text if "=" in text else f"{text}={getattr(then, text)}")
            now = then
    if needs(shape, now, dtype=dtype).peak > available:
        changes.append("dtype=bfloat16, or a smaller model" if dtype == "float32" else "a smaller model")
    return changes


def available_bytes(device: str) -> int | None:
    """Memory of the device: all of a GPU's, what is free of a computer's; None where it cannot be told."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_properties(device).total_memory
    try:
        with open("/proc/meminfo") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None


def report(network, *, dtype: str) -> str:
    """What the run needs beside what the device has, with the mend where it will not fit."""
    shape, available = shape_of(network), available_bytes(network.device)
    need = needs(shape, network.options, dtype=dtype)
    text = need.table()
    if available is None:
        return text
    loaded = 0 if network.device.startswith("cuda") else need.weights  # of a computer's memory already taken
    changes = advice(shape, network.options, dtype=dtype, available=available + loaded)
    if not changes:
        return f"{text}; {(available + loaded) / GIB:.1f} available"
    return f"{text}\nWARNING: {available / GIB:.1f} GiB are available, and the run will want more; set " + ", ".join(
        changes
    )
