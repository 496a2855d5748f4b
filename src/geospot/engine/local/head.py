"""Log-probabilities of given tokens from hidden states, without keeping a row of the vocabulary for each."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from geospot.engine.local import products
from geospot.engine.local.activity import checkpoint as may_stop

# Logits held at once, in numbers: 64 MB of float32.
CHUNK = 1 << 24
# With a head in training, logits are computed again for the gradient rather than kept above this many numbers.
KEPT = 1 << 26


def logits(head: nn.Module, hidden: torch.Tensor, banned: torch.Tensor) -> torch.Tensor:
    """(K, H) -> (K, V) float32; `banned` tokens cannot be sampled."""
    return _wide(head, hidden).index_fill_(1, banned, -torch.inf)


def _wide(head: Any, hidden: torch.Tensor) -> torch.Tensor:
    if isinstance(head, nn.Linear) and products.is_slow(head.weight):
        return products.product(hidden, [head.weight], head.bias, torch.float32)
    return head(hidden).float()


def logprobs_of(head: Any, hidden: torch.Tensor, targets: torch.Tensor, banned: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (K,) of `targets` (K,) after hidden states (K, H), in chunks of rows."""
    vocabulary = head.weight.shape[0] if hasattr(head, "weight") else head.base_layer.weight.shape[0]
    rows = max(1, CHUNK // vocabulary)
    if isinstance(head, nn.Linear) and head.bias is None and not head.weight.requires_grad:
        return _FrozenHead.apply(hidden, head.weight, targets, banned, rows)

    def chunk(h: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return -F.cross_entropy(logits(head, h, banned), t, reduction="none")

    again = torch.is_grad_enabled() and len(hidden) * vocabulary > KEPT
    pairs = list(zip(hidden.split(rows), targets.split(rows), strict=True))
    return torch.cat([checkpoint(chunk, h, t, use_reentrant=False) if again else chunk(h, t) for h, t in pairs])


@torch.no_grad()
def likeliest(head: Any, hidden: torch.Tensor, k: int, banned: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The k likeliest tokens after hidden states (K, H), the likeliest first, and their log-probabilities, (K, k)."""
    vocabulary = head.weight.shape[0] if hasattr(head, "weight") else head.base_layer.weight.shape[0]
    parts = [logits(head, h, banned).log_softmax(-1).topk(k, -1) for h in hidden.split(max(1, CHUNK // vocabulary))]
    return torch.cat([part.indices for part in parts]), torch.cat([part.values for part in parts])


class _FrozenHead(torch.autograd.Function):
    """A row's log-probability depends on its own hidden state alone, so that its gradient (K, H),
    W[target] - sum_v p_v W[v], is made with the value, while the logits are there, and only scaled in the backward.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, banned: torch.Tensor, rows: int
    ) -> torch.Tensor:
        out = torch.empty(len(hidden), device=hidden.device)
        slope = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for start in range(0, len(hidden), rows):
            may_stop("the vocabulary's scores, row", start, len(hidden))
            part = slice(start, start + rows)
            slow = products.is_slow(weight)
            scores = (
                products.product(hidden[part], [weight], None, torch.float32)
                if slow
                else (F.linear(hidden[part], weight).float())
            )
            scores.index_fill_(1, banned, -torch.inf)
            target = targets[part, None]
            highest = scores.amax(-1, keepdim=True)
            chosen = scores.gather(1, target) - highest
            likely = scores.sub_(highest).exp_()  # probabilities but for the total, which few numbers are divided by
            total = likely.sum(-1, keepdim=True)
            out[part] = (chosen - total.log())[:, 0]
            if slope is not None:
                mean = products.product_back(likely, [weight]) if slow else likely.to(weight.dtype) @ weight
                slope[part] = weight[targets[part]] - mean / total
        ctx.save_for_backward(slope)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        (grad,), (slope,) = grads, ctx.saved_tensors
        return grad[:, None].to(slope.dtype) * slope, None, None, None, None
