"""What is changed in a loaded model: the vision tower's attention runs for all pictures of a batch at once, where
transformers goes through them one by one; and every layer is a place where work may be given up."""

from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from geospot.engine.local.activity import checkpoint
from geospot.engine.local.ops import Rope, rotate


def use_batched_attention(model: nn.Module) -> None:
    """Let Qwen-VL's vision attention run over all stretches (pictures or windows) of one length together, in place.

    Weights, names and results (to rounding) stay as they are. Towers of other families are batched already.
    """
    for module in model.modules():
        if (
            type(module).__name__.endswith("VisionAttention")
            and {"qkv", "proj"} <= dict(module.named_children()).keys()
        ):
            module.forward = MethodType(_forward, module)


def use_checkpoints(model: nn.Module) -> None:
    """Let the model's own layers (the vision tower's, and a decoder's that transformers runs) be places where work may
    be given up; in place."""
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) > 1:
            kind = "the vision tower" if "visual" in name or "vision" in name else "a forward pass"
            for number, layer in enumerate(module, start=1):
                layer.register_forward_pre_hook(partial(_reached, f"{kind}, layer", number, len(module)))


def _reached(what: str, at: int, of: int, *_: Any) -> None:
    checkpoint(what, at, of)


def _forward(
    self: Any, hidden_states: torch.Tensor, cu_seqlens: torch.Tensor, position_embeddings: Rope, **_: Any
) -> torch.Tensor:
    """(n_patches, dim) -> (n_patches, dim); a patch sees the stretch of `cu_seqlens` that it is in."""
    n = len(hidden_states)
    q, k, v = self.qkv(hidden_states).view(n, 3, self.num_heads, -1).unbind(1)
    cos, sin = (part.float()[:, None] for part in position_embeddings)
    q, k = (rotate(part.float(), cos, sin).to(v.dtype) for part in (q, k))
    out = torch.empty_like(v) if not torch.is_grad_enabled() else None
    parts = []
    for places, length in _stretches(cu_seqlens):
        batch = (t if places is None else t.index_select(0, places) for t in (q, k, v))
        one, two, three = (t.unflatten(0, (-1, length)).transpose(1, 2) for t in batch)
        seen = F.scaled_dot_product_attention(one, two, three, scale=self.scaling).transpose(1, 2).flatten(0, 1)
        if places is None:
            out = seen
        elif out is not None:
            out[places] = seen
        parts.append((places, seen))
    if out is None:  # with gradients: one gather puts all back
        order = torch.cat([places for places, _ in parts if places is not None]).argsort()
        out = torch.cat([seen for _, seen in parts]).index_select(0, order)
    return self.proj(out.reshape(n, -1))


def _stretches(cu_seqlens: Any) -> list[tuple[torch.Tensor | None, int]]:
    """(places of the patches, length) of all stretches of each length; None for places where there is one length."""
    known = getattr(cu_seqlens, "_geospot_stretches", None)
    if known is None:
        starts, lengths = cu_seqlens[:-1], cu_seqlens.diff()
        distinct = lengths.unique().tolist()
        known = []
        for length in distinct:
            if length:
                within = torch.arange(length, device=cu_seqlens.device)
                places = (starts[lengths == length][:, None] + within).flatten().long()
                known.append((None if len(distinct) == 1 else places, length))
        cu_seqlens._geospot_stretches = known  # the same tensor goes to every layer
    return known
