"""A prompt's embeddings and positions, as transformers' own code makes them for the text decoder."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.modeling_outputs import BaseModelOutputWithPast

from geospot.engine.local.inputs import Tokens, pad
from geospot.engine.local.pictures import Pictures

# What a text decoder may be given without a change to what its layers compute.
_HARMLESS = {"use_cache", "past_key_values", "cache_position", "return_dict", "input_ids", "mm_token_type_ids"}


@dataclass(frozen=True)
class Embedded:
    """U prefixes as packed tokens.

    x: (N, H); positions: (N,), or (3, N) in time, height and width; next_position: (U,), where text goes on;
    lengths: tokens of each prefix; deepstack: indices (M,) of picture tokens and what each of the first layers adds
    to them, a list of (M, H), or None.
    """

    x: torch.Tensor
    positions: torch.Tensor
    next_position: torch.Tensor
    lengths: list[int]
    deepstack: tuple[torch.Tensor, Sequence[torch.Tensor]] | None


@contextmanager
def _captured(text_model: Any) -> Generator[dict[str, Any]]:
    """Within it the text decoder is not run: what it would have been given is in the dictionary."""
    seen: dict[str, Any] = {}

    def forward(**kwargs: Any) -> BaseModelOutputWithPast:
        seen.update(kwargs)
        return BaseModelOutputWithPast(last_hidden_state=kwargs["inputs_embeds"])

    text_model.forward = forward
    try:
        yield seen
    finally:
        del text_model.forward


def embed(model: Any, pictures: Pictures, prefixes: Sequence[Tokens], ends: Sequence[int], pad_id: int) -> Embedded:
    """`Embedded` of each prefix `tokens.ids[:end]` with its pictures."""
    device = next(model.parameters()).device
    pairs = list(zip(prefixes, ends, strict=True))
    ids, mask = pad([t.ids[:end] for t, end in pairs], pad_id, left=False)
    kinds, _ = pad([t.is_image[:end].astype(np.int64) for t, end in pairs], 0, left=False)
    data = [data for t in prefixes for data in t.pictures]
    inner, mask = model.model, mask.to(device)
    inputs = pictures.encode(data) | {"mm_token_type_ids": kinds.to(device)} if data else {}
    if hasattr(inner, "rope_deltas"):
        inner.rope_deltas = None  # of an earlier batch
    with _captured(inner.language_model) as seen:
        inner(input_ids=ids.to(device), attention_mask=mask, use_cache=False, **inputs)
    return _packed(seen, mask.bool(), list(ends))


def _packed(seen: dict[str, Any], mask: torch.Tensor, lengths: list[int]) -> Embedded:
    x, positions = seen.pop("inputs_embeds"), seen.pop("position_ids", None)
    seen.pop("attention_mask", None)
    visual, deepstack = seen.pop("visual_pos_masks", None), seen.pop("deepstack_visual_embeds", None)
    if unknown := [key for key, value in seen.items() if value is not None and key not in _HARMLESS]:
        raise NotImplementedError(
            f"this model gives {unknown[0]} to its text decoder, which the engine does not know; set "
            "LocalOptions(fused_decoder=False)"
        )
    if positions is None:
        positions = (mask.cumsum(1) - 1).clamp(min=0)
    if positions.ndim == 3 and len(positions) == 4:
        positions = positions[1:]  # the first are the plain ones, for masks
    next_position = (positions * mask).amax(-1) + 1
    if deepstack is not None:
        places = (mask.flatten().cumsum(0) - 1)[visual.flatten()]
        deepstack = places, deepstack
    return Embedded(
        x=x[mask],
        positions=positions[..., mask],
        next_position=next_position if next_position.ndim == 1 else next_position.amax(0),
        lengths=lengths,
        deepstack=deepstack,
    )
