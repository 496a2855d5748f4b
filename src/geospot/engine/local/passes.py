"""The scoring pass of training: log-probabilities of what is scored, each shared prefix run once, with gradient."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import DynamicCache

from geospot.engine.local import head
from geospot.engine.local.decoder import Decoder
from geospot.engine.local.inputs import Row, ScoringBatch, Tokens, pad
from geospot.engine.local.network import Network
from geospot.engine.local.packing import Packing


def logprobs(network: Network, rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities (K,) of the targets that count in `rows`, row after row, and (M,) of those only reported.

    A prefix that several rows share is run once, with gradient; no other position reaches the vocabulary.
    """
    batch = ScoringBatch.of(rows)
    decoder = network.decoder
    scored, also = transformers(network, batch) if decoder is None else fused(network, decoder, batch)

    def of(hidden: torch.Tensor, targets: np.ndarray) -> torch.Tensor:
        return head.logprobs_of(
            network.model.lm_head, hidden, torch.from_numpy(targets).to(network.device), network.banned
        )

    counted = of(scored, batch.scored.targets)
    if not len(also):
        return counted, counted.new_empty(0)
    with torch.no_grad():
        return counted, of(also, batch.also.targets)[torch.from_numpy(batch.also_at).to(network.device)]


@torch.no_grad()
def likeliest(network: Network, rows: Sequence[Row], k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k likeliest tokens at the scored positions of `rows` and their log-probabilities, (K, k), row after row."""
    batch = ScoringBatch.of(rows)
    decoder = network.decoder
    hidden, _ = transformers(network, batch) if decoder is None else fused(network, decoder, batch)
    return head.likeliest(network.model.lm_head, hidden, k, network.banned)


def fused(network: Network, decoder: Decoder, batch: ScoringBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states (K, H) of what counts and of what is reported, through `Decoder`: tokens packed, no padding
    outside attention."""
    device = network.device
    prefixes = network.embed([row.tokens for row in batch.heads], [row.split for row in batch.heads])
    suffixes = batch.suffixes
    lengths = np.array([len(s) for s in suffixes])
    packing = Packing.of(prefixes.lengths, lengths, batch.group, device)
    x, positions = prefixes.x, prefixes.positions
    if lengths.any():
        ids = torch.from_numpy(np.concatenate(suffixes)).to(device)
        x = torch.cat([x, network.model.get_input_embeddings()(ids).to(x.dtype)])
        step = np.arange(len(ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        of_row = torch.from_numpy(np.repeat(batch.group, lengths)).to(device)
        behind = prefixes.next_position[of_row] + torch.from_numpy(step).to(device)
        positions = torch.cat([positions, behind.expand(*positions.shape[:-1], -1)], -1)
    hidden = decoder.run(
        network.training_weights,
        x,
        decoder.rope(x, positions),
        packing,
        deepstack=prefixes.deepstack,
        checkpointing=network.options.gradient_checkpointing and torch.is_grad_enabled(),
    )
    prefix_starts = np.cumsum(prefixes.lengths) - prefixes.lengths
    suffix_starts = packing.n_prefix + np.cumsum(lengths) - lengths
    # One index for all rows: the gradient of a slice a row would be a tensor of zeros a row.
    index = [torch.from_numpy(p.index(prefix_starts, suffix_starts)).to(device) for p in (batch.scored, batch.also)]
    scored = decoder.final_norm(hidden.index_select(0, index[0]))
    with torch.no_grad():
        return scored, decoder.final_norm(hidden.index_select(0, index[1]))


def transformers(network: Network, batch: ScoringBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """The same through transformers' own forward and key-value cache, for decoders that `Decoder` does not know."""
    heads, device = batch.heads, network.device
    hidden, mask, cache, next_position = prefill(network, [r.tokens for r in heads], [r.split for r in heads])
    length, flat = hidden.shape[1], hidden.flatten(0, 1)
    ids, suffix_mask = pad(batch.suffixes, 0, left=False)
    if ids.shape[1]:
        select = torch.from_numpy(batch.group).to(device)
        cache.batch_select_indices(select)
        positions = next_position[select, None] + torch.arange(ids.shape[1], device=device)
        both = torch.cat([mask[select], suffix_mask.to(device)], 1)
        flat = torch.cat([flat, extend(network, ids.to(device), both, positions, cache).flatten(0, 1)])
    splits = np.array([row.split for row in heads])
    of_prefix = (np.arange(len(heads)) + 1) * length - splits  # prefixes are padded on the left
    of_row = len(heads) * length + np.arange(len(batch.rows)) * ids.shape[1]
    index = [torch.from_numpy(p.index(of_prefix, of_row)).to(device) for p in (batch.scored, batch.also)]
    return flat[index[0]], flat.detach()[index[1]]


def prefill(
    network: Network, prefixes: list[Tokens], ends: list[int]
) -> tuple[torch.Tensor, torch.Tensor, DynamicCache, torch.Tensor]:
    """Run each prefix `tokens.ids[:end]` once through transformers' forward.

    Returns the hidden states (U, P, H) of the left-padded batch, its attention mask (U, P), its key-value cache and
    the next text position of each prefix (U,).
    """
    pairs, device = list(zip(prefixes, ends, strict=True)), network.device
    ids, mask = pad([t.ids[:end] for t, end in pairs], network.processing.tokenizer.pad_token_id or 0, left=True)
    kinds, _ = pad([t.is_image[:end].astype(np.int64) for t, end in pairs], 0, left=True)
    pictures = [data for t in prefixes for data in t.pictures]
    inner, mask = network.model.model, mask.to(device)
    inputs = network.pictures.encode(pictures) if pictures else {}
    if hasattr(inner, "rope_deltas"):
        inner.rope_deltas = None  # of an earlier batch
    if not (pictures and hasattr(inner, "rope_deltas")):
        inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    for name in ("mm_token_type_ids", "token_type_ids"):
        if name in network.pictures.forward_takes:
            inputs[name] = kinds.to(device)
    cache = DynamicCache(config=network.model.config)
    hidden = inner(
        input_ids=ids.to(device), attention_mask=mask, past_key_values=cache, use_cache=True, **inputs
    ).last_hidden_state
    next_position = mask.sum(1)
    if pictures and getattr(inner, "rope_deltas", None) is not None:
        next_position = next_position + inner.rope_deltas.view(-1).to(device)
    return hidden, mask, cache, next_position


def extend(
    network: Network, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: DynamicCache
) -> torch.Tensor:
    """Hidden states (B, S, H) of tokens (B, S) behind a cache; mask (B, past + S), text positions (B, S)."""
    inner = network.model.model
    if getattr(inner, "rope_deltas", None) is not None:
        positions = positions[None].expand(3, -1, -1)  # time, height, width agree on text
    return inner(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
    ).last_hidden_state
