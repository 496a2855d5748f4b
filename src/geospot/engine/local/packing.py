"""Prefixes and the suffixes that follow them as one packed row of tokens, and the attention over it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from geospot.engine.local import products


@dataclass(frozen=True)
class Packing:
    """U prefixes and B suffixes, packed without padding: all prefix tokens, then all suffix tokens.

    prefix_index (U, P) and suffix_index (B, S) say where in the packed row each token stands (padding points at some
    token); `group` (B,) is each suffix's prefix. `*_place` are the flat places of the packed tokens in the padded
    arrays, None where nothing is padded. `mask` (B or 1, 1, S, P + S) is what a suffix may see. `is_regular`: groups
    are equally large and stand in order.
    """

    n_prefix: int
    group: torch.Tensor
    prefix_index: torch.Tensor
    suffix_index: torch.Tensor
    prefix_place: torch.Tensor | None
    suffix_place: torch.Tensor | None
    mask: torch.Tensor | None
    is_regular: bool

    @classmethod
    def of(
        cls,
        prefix_lengths: Sequence[int],
        suffix_lengths: Sequence[int] | np.ndarray,
        group: Sequence[int] | np.ndarray,
        device: str | torch.device,
    ) -> "Packing":
        """From the lengths of the prefixes and suffixes; suffix b follows prefix group[b]."""
        prefix_index, prefix_place = _indices(np.asarray(prefix_lengths, dtype=np.int64), 0)
        n_prefix = int(np.sum(prefix_lengths))
        suffix_index, suffix_place = _indices(np.asarray(suffix_lengths, dtype=np.int64), n_prefix)
        owner = np.asarray(group, dtype=np.int64)
        mask = None
        if suffix_index.size:
            p, s = prefix_index.shape[1], suffix_index.shape[1]
            mask = np.ones((1, 1, s, p + s), dtype=bool)
            mask[..., p:] = np.tri(s, dtype=bool)
            if prefix_place is not None:
                mask = np.repeat(mask, len(owner), axis=0)
                lengths = np.asarray(prefix_lengths)[owner]
                mask[..., :p] &= np.arange(p) < lengths[:, None, None, None]

        u, b = len(prefix_lengths), len(owner)
        is_regular = b % u == 0 and bool((owner == np.arange(b) // max(1, b // u)).all())
        groups, prefix, suffix = (torch.from_numpy(a).to(device) for a in (owner, prefix_index, suffix_index))
        places = (prefix_place, suffix_place, mask)
        first, second, seen = (None if a is None else torch.from_numpy(a).to(device) for a in places)
        return cls(n_prefix, groups, prefix, suffix, first, second, seen, is_regular)

    def attention(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float) -> torch.Tensor:
        """Causal attention of packed queries (N, heads, D) to packed keys and values (N, kv_heads, D).

        A token sees its own sequence up to itself: a suffix its prefix and its own tokens.
        """
        if products.is_slow(q):  # its gradient takes five times as long there
            return self.attention(q.float(), k.float(), v.float(), scaling).to(q.dtype)
        split = (self.n_prefix, len(q) - self.n_prefix)
        first, second = zip(*(t.split(split) for t in (q, k, v)), strict=True)
        q1, k1, v1 = (_padded(t, self.prefix_index, self.prefix_place) for t in first)
        out = F.scaled_dot_product_attention(q1, k1, v1, is_causal=True, scale=scaling, enable_gqa=True)
        out1 = _packed(out, self.prefix_place)
        if self.mask is None:
            return out1
        index = self.suffix_index - self.n_prefix
        q2, k2, v2 = (_padded(t, index, self.suffix_place) for t in second)
        both = (torch.cat([self._of_rows(a), b], 2) for a, b in ((k1, k2), (v1, v2)))
        out = F.scaled_dot_product_attention(q2, *both, attn_mask=self.mask, scale=scaling, enable_gqa=True)
        return torch.cat([out1, _packed(out, self.suffix_place)])

    def _of_rows(self, x: torch.Tensor) -> torch.Tensor:
        """(U, heads, P, D) -> (B, heads, P, D), each suffix's own prefix."""
        u, b = len(x), len(self.group)
        if self.is_regular:  # as a view: its gradient is a plain sum
            return x[:, None].expand(u, b // u, *x.shape[1:]).reshape(b, *x.shape[1:])
        return x.index_select(0, self.group)


def _indices(lengths: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Where each token of right-padded rows stands in the packed row, and the flat places of those not padding."""
    longest = int(lengths.max(initial=0))
    column = np.arange(longest)
    offsets = start + np.cumsum(lengths) - lengths
    real = column < lengths[:, None]
    index = np.where(real, offsets[:, None] + column, start)
    return index, None if real.all() else np.flatnonzero(real)


def _padded(x: torch.Tensor, index: torch.Tensor, place: torch.Tensor | None) -> torch.Tensor:
    """Packed (N, heads, D) -> (rows, heads, length, D)."""
    x = x.view(*index.shape, *x.shape[1:]) if place is None else x[index]
    return x.transpose(1, 2)


def _packed(x: torch.Tensor, place: torch.Tensor | None) -> torch.Tensor:
    """(rows, heads, length, D) -> packed (N, heads, D)."""
    x = x.transpose(1, 2).flatten(0, 1)
    return x if place is None else x[place]
