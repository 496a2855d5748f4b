"""Which part of a vision-language model a tensor or module belongs to: by its name, which transformers keeps alike."""

import re
from collections.abc import Iterable
from typing import Any

from torch import nn

from geospot.engine.local.options import REST

ATTENTION_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP_MODULES = ("gate_proj", "up_proj", "down_proj")
# Between vision tower and text decoder: LLaVA's and Gemma's multi_modal_projector, Qwen-VL's merger, SmolVLM's
# connector, and what others call theirs.
_PROJECTOR = re.compile(r"projector|projection|merger|connector|aligner|resampler|abstractor|embed_vision|perceiver")
_TEXT = re.compile(r"(^|\.)(language_model|text_model|embed_tokens)(\.|$)")
_ATTENTION = re.compile(r"\.(self_attn|linear_attn|attention)\.")
_MLP = re.compile(r"\.(mlp|feed_forward|block_sparse_moe)\.")


def part_of(name: str) -> str:
    """attention, mlp, projector, vision, head or rest, for the dotted name of a parameter or module."""
    if name.startswith("lm_head"):
        return "head"
    if _TEXT.search(name.partition("visual")[0].partition("vision")[0]):
        return "attention" if _ATTENTION.search(name) else "mlp" if _MLP.search(name) else REST
    return "projector" if any(map(_PROJECTOR.search, name.split("."))) else "vision"


def adaptable(model: nn.Module) -> dict[str, str]:
    """Name -> part of the linear layers that an adapter can be put on; of the decoder those of Llama's names."""
    found: dict[str, str] = {}
    inside: tuple[str, ...] = ()  # what runs its own linear layer without calling it
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            inside = (*inside, f"{name}.")
        if isinstance(module, nn.Linear) and not name.startswith(inside or ("\0",)):
            part, leaf = part_of(name), name.rpartition(".")[2]
            known = {"attention": ATTENTION_MODULES, "mlp": MLP_MODULES, REST: ()}.get(part)
            if known is None or leaf in known:
                found[name] = part
    return found


def projectors(model: nn.Module) -> list[Any]:
    """The outermost modules that belong to the projector, in the model's order; lists are opened."""
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if part_of(name) == "projector" and not isinstance(module, nn.ModuleList) and not _within(name, found):
            found[name] = module
    return list(found.values())


def tower_layers(model: nn.Module) -> list[Any]:
    """The layers of the vision tower, the outermost lists' members."""
    found: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        if part_of(name) == "vision" and isinstance(module, nn.ModuleList) and not _within(name, found):
            found[name] = module
    return [layer for layers in found.values() for layer in layers]


def _within(name: str, modules: Iterable[str]) -> bool:
    return any(name.startswith(f"{outer}.") for outer in modules)
