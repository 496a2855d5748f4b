"""What a command needs of memory, from the model's shapes, the options and its work, before anything is done."""

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

from geospot.engine.local.caches import Group, Layout
from geospot.engine.local.head import CHUNK, KEPT
from geospot.engine.local.machine import available_bytes, total_bytes
from geospot.engine.local.network import Network
from geospot.engine.local.options import MOST_BATCH_TOKENS, MOST_SAMPLE_TOKENS, LocalOptions
from geospot.engine.local.pictures import MOST_TOKENS
from geospot.engine.local.products import BLOCK
from geospot.engine.workload import Batch, Workload
from geospot.models.loading import count_parameters, is_tiny

GIB = 1 << 30
PREFILL_TOKENS = 16_384
USABLE = 0.85  # of a device's memory, for what is sized by it
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
    seen: int = 0  # of the vision tower: hidden, and of its MLP
    seen_inner: int = 0
    patches: int = 4  # of the vision tower, of one picture token
    kept: int = 0  # of one picture token, what the cache of pictures holds
    copies: bool = True  # sampling has a merged copy of the decoder
    as_filed: bool = False  # bfloat16 weights on a CPU are used where they are


@dataclass(frozen=True)
class Needs:
    """Bytes, by what they are for."""

    process: int  # Python, torch and what they load
    weights: int
    trained: int
    optimizer: int
    pictures: int
    training_weights: int
    gradients: int
    activations: int
    sampling_weights: int
    kv_cache: int
    prompts: int  # a pass over new ones
    logits: int
    vision: int  # pictures on their way through the tower
    saving: int  # a checkpoint, put together before it is written
    loading: int  # the files that weights of another precision are read from

    @property
    def training(self) -> int:
        """The most at once while training: caches are empty then, and what sampling merged is gone."""
        passes = self.training_weights + self.activations * 115 // 100  # blocks of many sizes leave gaps (measured)
        return self._always + self.trained + max(passes + self.gradients // 2, self.gradients, self.saving)

    @property
    def sampling(self) -> int:
        """The most at once while sampling."""
        work = max(self.kv_cache + max(self.prompts, self.logits), self.vision)
        return self._always + self.trained + self.sampling_weights + work

    @property
    def _always(self) -> int:
        return self.process + self.weights + self.optimizer + self.pictures

    @property
    def peak(self) -> int:
        """The largest of all."""
        return max(self.training, self.sampling, self.process + self.weights + self.loading)


@cache
def dtype_for(base_model: str, device: str) -> str:
    """dtype=auto: bfloat16 on a GPU; on a CPU float32, which is faster, unless the weights and a merged copy of them
    would take more than half of the computer's memory."""
    if device.startswith("cuda"):
        return "bfloat16"
    total = total_bytes(device)
    if is_tiny(base_model) or total is None:
        return "float32"
    return "float32" if 2 * 4 * count_parameters(base_model) <= total // 2 else "bfloat16"


def shape_of(network: Network) -> Shape:
    """The shape of a loaded `Network`."""
    model, text = network.model, network.model.config.get_text_config()
    vision = getattr(model.config, "vision_config", None)
    trained = sum(p.numel() for p in network.trainable.values())
    adapters = 0 if network.spec.lora_rank == 0 else trained
    named = model.named_parameters() if network.decoder is not None else ()  # transformers' own layers merge nothing
    decoder = sum(p.numel() for n, p in named if "language_model.layers" in n and "lora_" not in n)
    seen = getattr(vision, "hidden_size", text.hidden_size)
    patches = getattr(vision, "spatial_merge_size", 1) ** 2
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
        seen=seen,
        seen_inner=getattr(vision, "intermediate_size", None) or 4 * seen,
        patches=patches,
        kept=kept_of(network.spec.parts, text.hidden_size, patches * seen),
        copies=network.decoder is not None and not network.decoder.as_filed,
        as_filed=network.decoder is not None and not network.decoder.merges,
    )


def kept_of(parts: Collection[str], feature: int, tower: int) -> int:
    """Numbers kept of a picture token: its features (`feature`), what the tower makes of its patches (`tower`) where
    the projector learns, nothing where the tower does. parts: those of the model that learn."""
    return 0 if "vision" in parts else tower if "projector" in parts else feature


def of_limits(options: LocalOptions) -> Workload:
    """The most that the limits allow, for whoever does not know what will be asked."""
    prompt, answer = 384, 64
    rows = [max(1, n // (prompt + answer)) for n in limits(options)]
    training, sampling = (Batch(n, prompt, answer) for n in rows)
    return Workload((sampling,), training, pictures=1 << 20, picture_tokens=prompt, keeps_sampler=True, saves=True)


def limits(options: LocalOptions) -> tuple[int, int]:
    """Tokens of a training pass and of a sampling batch; what is automatic (0) as large as it may be."""
    return options.max_batch_tokens or MOST_BATCH_TOKENS, options.max_sample_tokens or MOST_SAMPLE_TOKENS


def needs(
    shape: Shape, options: LocalOptions, work: Workload, *, dtype: str, beside: int = 0, process: int = 0
) -> Needs:
    """The model of memory. `beside`: bytes of other base weights that are loaded; `process`: of the rest.

    Adam keeps two numbers for each trained one, in float32.
    """
    size, s = _BYTES[dtype], shape
    own = 4 * s.trained
    batch_tokens, sample_tokens = limits(options)
    # In float32 an adapter is merged for training passes, too (`linear.WithLora`).
    merged = size * s.decoder if dtype == "float32" and s.trained and not s.trains_base else 0
    batches = [_sampling(s, size, batch, sample_tokens) for batch in work.sampling]
    kv, prompts, logits = (max(part, default=0) for part in zip(*batches, strict=True)) if batches else (0, 0, 0)
    trained = own * (1 + bool(work.sampling and (work.keeps_sampler or not work.training))) if s.trained else 0
    features = work.pictures * work.picture_tokens * s.kept * size
    return Needs(
        process=process,
        weights=size * s.parameters + beside,
        trained=trained,  # the client's and a snapshot's; what they started from is among the weights
        optimizer=2 * own if work.training else 0,
        pictures=min(options.picture_cache_bytes, features),
        training_weights=merged if work.training else 0,
        gradients=2 * own if work.training else 0,  # the sum so far, and the next batch's or what Adam's step computes
        activations=_activations(s, size, options, work.training, batch_tokens) if work.training else 0,
        sampling_weights=size * s.decoder if options.merge_lora and s.copies else merged,
        kv_cache=kv,
        prompts=prompts,
        logits=logits,
        vision=_vision(s, size, work),
        saving=4 * own if work.saves else 0,  # the moments' bytes, and these once more as one file
        loading=2 * s.parameters if dtype == "float32" else 0,
    )


def _activations(s: Shape, size: int, options: LocalOptions, batch: Batch, limit: int) -> int:
    """Kept for a token's gradient in each layer: what its four matrix products take, what the element-wise steps want
    again, and queries, keys, values and the attention's output; with gradient checkpointing the layer's input alone,
    and one layer's rest at a time. Beside it what one layer works on, and the vocabulary's scores.
    """
    tokens = min(batch.tokens, max(limit, batch.prompt_tokens + batch.answer_tokens))
    scored = min(batch.rows, -(-tokens * batch.rows // batch.tokens)) * batch.answer_tokens
    attention, width = (s.heads + 2 * s.kv_heads) * s.head_dim, s.heads * s.head_dim
    layer = size * (2 * s.hidden + width + 3 * s.inner)
    layer += 4 * (attention + width) if s.as_filed else size * (attention + width)
    layer += 4 * 2 * s.hidden if size < 4 else 0  # norms in float32
    kept = size * s.hidden * s.layers + layer if options.gradient_checkpointing else layer * s.layers
    # Where all weights are trained, those of q, k, v and of gate, up stand side by side; norms keep what they scale.
    fused = size * s.hidden * (attention + 2 * s.inner) * (1 if options.gradient_checkpointing else s.layers)
    if s.trains_base:
        kept += 0 if options.gradient_checkpointing else size * 2 * s.hidden * s.layers
    # Behind each answer's own keys and values stand those of its prompt once more.
    rows, width_kv = scored // max(1, batch.answer_tokens), 2 * s.kv_heads * s.head_dim
    before = rows * batch.prompt_tokens * width_kv * (4 if s.as_filed else size)
    before *= 1 if options.gradient_checkpointing else s.layers
    working = (4 + size) * 2 * s.inner + 4 * 3 * s.hidden
    at_once = min(scored, max(1, CHUNK // s.vocabulary))
    head = at_once * s.vocabulary * (8 + size) + scored * s.hidden * 2 * size
    if s.trains_base:
        head += min(KEPT, scored * s.vocabulary) * 4
    return tokens * (kept + working) + before + head + (fused if s.trains_base else 0) + 4 * 2 * BLOCK


def _sampling(s: Shape, size: int, batch: Batch, limit: int) -> tuple[int, int, int]:
    """Bytes of the caches, of the pass over the prompts, and of the vocabulary's scores."""
    group = Group(batch.prompt_tokens, batch.members, batch.answer_tokens)
    alone = int(Layout([group], batch.members).positions().min())
    running = min(batch.prompts, max(1, limit // max(1, alone)))  # prompts
    positions = min(running * alone, max(limit, batch.prompt_tokens + batch.answer_tokens))
    rows = min(batch.members * running, max(1, limit // max(1, batch.answer_tokens)))
    cache = 2 * size * s.layers * s.kv_heads * s.head_dim * positions
    tokens = max(batch.prompt_tokens, min(running * batch.prompt_tokens, PREFILL_TOKENS))
    passing = tokens * (size * (3 * s.hidden + 4 * s.inner) + 4 * (s.inner + 2 * s.hidden))
    scores = rows * s.vocabulary * ((16 if batch.greedy else 8) + (0 if s.as_filed or size == 4 else size))
    return cache * 5 // 4, passing, scores


def _vision(s: Shape, size: int, work: Workload) -> int:
    """Pictures that go through the tower at once: their pixels, and what a layer works on."""
    tokens = min(max(MOST_TOKENS, work.picture_tokens), work.at_once * work.picture_tokens)
    pixels = 2 * 3 * 14 * 14 * (8 + size)
    return tokens * s.patches * (pixels + size * (7 * s.seen + 3 * s.seen_inner) + 4 * (4 * s.seen + s.seen_inner))


def fitted(shape: Shape, options: LocalOptions, work: Workload, memory: int | None, **of: Any) -> LocalOptions:
    """The options with automatic limits settled: as large as the device's memory allows, and no smaller than 1,024.

    By the whole memory, not by what is free now: the same command gives the same run.
    """
    batch, sample = limits(options)
    now = replace(options, max_batch_tokens=batch, max_sample_tokens=sample)
    if memory is None:
        return now
    for name, phase in (("max_batch_tokens", "training"), ("max_sample_tokens", "sampling")):
        while not getattr(options, name) and getattr(now, name) > 1024:
            if getattr(needs(shape, now, work, **of), phase) <= USABLE * memory:
                break
            now = replace(now, **{name: getattr(now, name) // 2})
    return now


# Options that save memory, the least costly first, and the least that is asked for.
_LEAST = {
    "picture_cache_bytes": 256 << 20,
    "max_sample_tokens": 4096,
    "max_batch_tokens": 2048,
    "gradient_checkpointing": True,
    "merge_lora": False,
}


def advice(shape: Shape, options: LocalOptions, work: Workload, *, dtype: str, available: int, **of: int) -> list[str]:
    """Settings (`key=value`) that make it fit, the least costly first; empty where it fits. Where none do, a last entry
    says what else would. With all at their least, what costs most is given back first, as much of it as fits.
    """

    def values(name: str) -> list[int]:
        value, least = getattr(options, name), _LEAST[name]
        halves = [value >> k for k in range(1, 32) if value >> k > least] if name.endswith("_tokens") else []
        return [value, *halves, least if isinstance(least, bool) else min(value, least)]

    def peak(settings: dict[str, Any]) -> int:
        return needs(shape, replace(options, **settings), work, dtype=dtype, **of).peak

    now = {name: values(name)[-1] for name in _LEAST}
    limit = max(available, peak(now))
    for name in reversed(_LEAST):
        now[name] = next(value for value in values(name) if peak(now | {name: value}) <= limit)
    changes = [f"{name}={str(value).lower()}" for name, value in now.items() if value != getattr(options, name)]
    changes = [c if "bytes" not in c else f"picture_cache_mb={now['picture_cache_bytes'] >> 20}" for c in changes]
    instead = "lora_rank=32, or " if shape.trains_base else "dtype=bfloat16, or " if dtype == "float32" else ""
    return changes if limit <= available else [*changes, f"{instead}a smaller model"]


def settle(network: Network, work: Workload | None, *, dtype: str, beside: int = 0) -> str:
    """Settle the network's automatic limits for the work (None: unknown), and say what it needs beside what the device
    has, with the settings to change where it will not fit. Raises nothing: the model of memory is not the machine.
    """
    shape, work = shape_of(network), work or of_limits(network.options)
    of = {"dtype": dtype, "beside": beside, "process": network.process_bytes}
    options = fitted(shape, network.options, work, total_bytes(network.device), **of)
    network.budget.max_tokens, network.max_sample_tokens = limits(options)
    need = needs(shape, options, work, **of)
    phases = [("training", need.training)] * bool(work.training) + [("sampling", need.sampling)] * bool(work.sampling)
    parts = ", ".join(f"{name.replace('_', ' ')} {n / GIB:.2f}" for name, n in _largest(need))
    most = f"{need.peak / GIB:.2f} at most" + "".join(f", {n / GIB:.2f} in {name}" for name, n in phases)
    text = f"memory, GiB: {most} ({parts})"
    if (available := available_bytes(network.device)) is None:
        return text
    if changes := advice(shape, options, work, available=available, **of):
        there = f"{available / GIB:.1f} GiB are available, and the run will want more"
        return f"{text}\nWARNING: {there}; set {', '.join(changes)}"
    return f"{text}; {available / GIB:.1f} available"


def _largest(need: Needs) -> list[tuple[str, int]]:
    """The parts that count, in order."""
    parts = [(f.name, getattr(need, f.name)) for f in fields(need)]
    return [(name, n) for name, n in parts if n >= 0.005 * GIB]
