"""Drawing tokens from logits."""

import torch

_BLOCK = 256


def draw(weights: torch.Tensor, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices (B,) drawn in proportion to weights (B, V) >= 0 by uniform numbers u (B,) in [0, 1), and the weights'
    sums (B,).

    The inverse of the cumulative distribution: one random number a row instead of one a token. The sums over blocks
    are searched first, then one block, so that the cumulative sum is taken over a small part of the vocabulary.
    """
    v = weights.shape[1]
    if v <= 4 * _BLOCK:
        cumulative = weights.cumsum(1, dtype=torch.float64)
        return _search(cumulative, u)[0], cumulative[:, -1]
    whole = v // _BLOCK * _BLOCK
    sums = [weights[:, :whole].unflatten(1, (-1, _BLOCK)).sum(-1)]
    if whole < v:
        sums.append(weights[:, whole:].sum(-1, keepdim=True))
    sums = torch.cat(sums, 1).cumsum(1, dtype=torch.float64)
    block, rest = _search(sums, u)
    index = block[:, None] * _BLOCK + torch.arange(_BLOCK, device=weights.device)
    inside = weights.gather(1, index.clamp(max=v - 1)) * (index < v)
    cumulative = inside.cumsum(1, dtype=torch.float64)
    within = torch.searchsorted(cumulative, _below(rest[:, None], cumulative), right=True)[:, 0]
    return block * _BLOCK + within, sums[:, -1]


def _search(cumulative: torch.Tensor, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where u times the total falls, and how far into that place."""
    target = _below(u[:, None].to(cumulative) * cumulative[:, -1:], cumulative)
    index = torch.searchsorted(cumulative, target, right=True)
    before = torch.where(index > 0, cumulative.gather(1, (index - 1).clamp(min=0)), 0)
    return index[:, 0], (target - before)[:, 0]


def _below(target: torch.Tensor, cumulative: torch.Tensor) -> torch.Tensor:
    # At the very end rounding would lead past the last weight that is not 0.
    return torch.minimum(target, torch.nextafter(cumulative[:, -1:], cumulative.new_zeros(())))


def truncated(probs: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Probabilities (B, V) outside the k likeliest, or outside the likeliest of total mass p, set to 0."""
    ordered, index = probs.sort(-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    rank = torch.arange(probs.shape[-1], device=probs.device)
    # Off is off: rounding must not cut the tail of a row that only shares its batch with truncated ones.
    keep = ((before < top_p) | (top_p >= 1)) & ((top_k < 0) | (rank < top_k))
    return torch.zeros_like(probs).scatter(-1, index, ordered * keep)


def choose(
    logits: torch.Tensor,
    u: torch.Tensor,
    temperature: torch.Tensor | None,
    truncation: tuple[torch.Tensor, torch.Tensor] | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Next tokens (B,) and their log-probabilities (B,) under the untempered, untruncated distribution.

    logits: (B, V) float32, overwritten; u: (B,) uniform; temperature: (B, 1), 0 takes the likeliest, None is 1
    everywhere; truncation: top_k and top_p (B, 1), None is off everywhere.
    """
    if temperature is None and truncation is None:
        # One pass fewer: what is drawn from is what the log-probability is measured against.
        weights = logits.sub_(logits.amax(1, keepdim=True)).exp_()
        chosen, total = draw(weights, u)
        return chosen, (weights.gather(1, chosen[:, None])[:, 0] / total.float()).log()
    logprobs = logits.log_softmax(-1)
    highest, likeliest = logits.max(1, keepdim=True)
    scale = 1.0 if temperature is None else temperature.clamp(min=1e-6)
    weights = ((logits - highest) / scale).exp()
    if truncation is not None:
        weights = truncated(weights / weights.sum(1, keepdim=True), *truncation)
    chosen, _ = draw(weights, u)
    if temperature is not None:
        chosen = torch.where(temperature[:, 0] == 0, likeliest[:, 0], chosen)
    return chosen, logprobs.gather(1, chosen[:, None])[:, 0]
