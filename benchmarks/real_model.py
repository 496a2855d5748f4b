"""A model folder as the hub has Qwen/Qwen2.5-VL-3B-Instruct: its sizes, two shards, its tokenizer; random weights.

The tokenizer is built from PyPI's `dashscope` (`tests/qwen_tokenizer.py`). A smaller size has the same form.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import qwen_small
import qwen_tokenizer
from safetensors.torch import save_file

# hidden, MLP, layers, heads, kv heads, head width; vision: depth, hidden, MLP, heads
SIZES = {
    "3b": (2048, 11_008, 36, 16, 2, 128, 32, 1280, 3420, 16),
    "1b": (1536, 8960, 16, 12, 2, 128, 16, 1280, 3420, 16),
    "small": (1024, 4096, 12, 8, 2, 128, 8, 640, 1712, 8),
    "least": (512, 2048, 8, 4, 2, 128, 4, 320, 856, 4),
}
SHARD_BYTES = 3_980_000_000
_POOL = 1 << 24  # random numbers that all tensors are cut from


def config_of(size: str) -> dict:
    """The hub's config.json, with the sizes of this one."""
    hidden, inner, layers, heads, kv_heads, width, depth, seen, seen_inner, seen_heads = SIZES[size]
    section = width // 2
    vision = qwen_small.CONFIG["vision_config"] | {
        "depth": depth, "hidden_size": seen, "intermediate_size": seen_inner, "num_heads": seen_heads,
        "out_hidden_size": hidden, "fullatt_block_indexes": [i for i in range(depth) if i % 8 == 7] or [depth - 1],
    }  # fmt: skip
    return qwen_small.CONFIG | {
        "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "vision_config": vision, "max_window_layers": layers,
        "rope_scaling": {"type": "mrope", "mrope_section": [section // 4, section * 3 // 8, section * 3 // 8]},
    }  # fmt: skip


def save(folder: Path, size: str) -> int:
    """Write the folder; returns how many parameters the model has."""
    from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_of(size)))
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(AutoConfig.from_pretrained(folder))
    shapes = {_hub_name(name): p.shape for name, p in model.named_parameters()}
    total = sum(shape.numel() for shape in shapes.values())
    (folder / "preprocessor_config.json").write_text(json.dumps(qwen_small.PREPROCESSOR))
    qwen_tokenizer.build().save_pretrained(folder)
    halves = list(_shards(shapes, max(1, min(SHARD_BYTES // 2, total * 53 // 100))))
    names = [f"model-{i + 1:05d}-of-{len(halves):05d}.safetensors" for i in range(len(halves))]
    generator = torch.Generator().manual_seed(0)
    pool = torch.randn(_POOL, generator=generator).mul_(0.02).bfloat16()
    for file, part in zip(names, halves, strict=True):
        tensors = {name: _values(name, shapes[name], pool, generator) for name in part}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        del tensors
    index = {name: file for file, part in zip(names, halves, strict=True) for name in part}
    text = json.dumps({"metadata": {"total_size": 2 * total}, "weight_map": index})
    (folder / "model.safetensors.index.json").write_text(text)
    return total


def _hub_name(name: str) -> str:
    return name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")


def _shards(shapes: dict[str, torch.Size], most: int) -> Iterator[list[str]]:
    """Names in parts of at most so many numbers."""
    part, held = [], 0
    for name, shape in shapes.items():
        if part and held + shape.numel() > most:
            yield part
            part, held = [], 0
        part.append(name)
        held += shape.numel()
    yield part


def _values(name: str, shape: torch.Size, pool: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if "norm" in name or "ln_q" in name:
        return torch.ones(shape, dtype=torch.bfloat16)
    if name.endswith(".bias"):
        return torch.zeros(shape, dtype=torch.bfloat16)
    start = int(torch.randint(_POOL, (1,), generator=generator))
    numbers = torch.cat([pool[start:], pool[:start]]).repeat(-(-shape.numel() // _POOL))
    return numbers[: shape.numel()].view(shape).clone()
