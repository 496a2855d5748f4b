"""Where the keys and values of a sampling batch stand: prefixes that rows share, and what each row has of its own."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Group:
    """Rows behind one prompt: its tokens, how many rows, and for how many tokens each has room."""

    prompt: int
    members: int
    room: int


class Layout:
    """Groups laid out in equal blocks, a prefix and some slots each: what each size of a block would take."""

    def __init__(self, groups: Iterable[Group], largest: int):
        """largest: slots of the largest block to think of."""
        self.sizes = np.arange(1, largest + 1)
        self.blocks, self.prompt, self.room = np.zeros_like(self.sizes), 0, 0
        for group in groups:
            self.add(group)

    def add(self, group: Group) -> None:
        """One group more."""
        self.blocks += -(-group.members // self.sizes)
        self.prompt, self.room = max(self.prompt, group.prompt), max(self.room, group.room)

    def positions(self, more: Group | None = None) -> np.ndarray:
        """Cache positions (sizes,) of the groups so far, with one more where given."""
        blocks, prompt, room = self.blocks, self.prompt, self.room
        if more is not None:
            blocks, prompt = blocks + -(-more.members // self.sizes), max(prompt, more.prompt)
            room = max(room, more.room)
        return blocks * (prompt + self.sizes * room)

    def best_size(self, max_positions: int) -> int:
        """Slots of a block: large enough that a prefix is read for many rows, small enough that few slots stand idle,
        and such that the prefixes' copies fit."""
        positions, cost = self.positions(), self.blocks * (self.sizes + 1)  # reading a prefix counts as a row
        fits = positions <= max(max_positions, positions.min())
        return int(self.sizes[fits][cost[fits].argmin()])


@dataclass(frozen=True)
class Caches:
    """A layer's keys and values: of prefixes, shared by rows, and of the rows' own tokens.

    In C blocks of M slots: prefix_k (C kv_heads, D, P), prefix_v (C kv_heads, P, D), own_k (C kv_heads M, D, T), own_v
    (C kv_heads M, T, D). Apart, U prefixes and B rows: (U, kv_heads, ...) and (B, kv_heads, ...).
    Keys have their tokens last: a few queries are multiplied with them fastest so.
    """

    prefix_k: torch.Tensor
    prefix_v: torch.Tensor
    own_k: torch.Tensor
    own_v: torch.Tensor

    @classmethod
    def of(cls, chunks: Sequence[tuple[torch.Tensor, torch.Tensor]], longest: int) -> "Caches":
        """Of prefixes whose keys and values come in chunks (U, P, kv_heads, D), without rows."""
        k, v = (torch.cat([_pad_to(part, 1, longest) for part in parts]) for parts in zip(*chunks, strict=True))
        kv_heads, d = k.shape[2:]
        return cls(
            k.permute(0, 2, 3, 1), v.transpose(1, 2), k.new_empty(0, kv_heads, d, 0), v.new_empty(0, kv_heads, 0, d)
        )

    def joined(self, other: "Caches") -> "Caches":
        """Apart: with other prefixes, which have no rows yet, behind these."""
        k, v = _join(self.prefix_k, other.prefix_k, 3), _join(self.prefix_v, other.prefix_v, 2)
        return Caches(k, v, self.own_k, self.own_v)

    def select(self, prefixes: torch.Tensor, rows: torch.Tensor) -> "Caches":
        """Apart: some prefixes and rows."""
        first, second = (self.prefix_k, self.prefix_v), (self.own_k, self.own_v)
        return Caches(*(t.index_select(0, prefixes) for t in first), *(t.index_select(0, rows) for t in second))

    def in_blocks(self, shape: tuple[int, int], copies: torch.Tensor, row_at: np.ndarray, room: int) -> "Caches":
        """From apart: block c gets prefix copies[c], slot s row row_at[s]; rows beyond those here are empty."""
        prefix = (t.index_select(0, copies).flatten(0, 1) for t in (self.prefix_k, self.prefix_v))
        _, kv_heads, _, d = self.prefix_v.shape
        own = [self.prefix_v.new_zeros(shape[0], kv_heads, shape[1], *last) for last in ((d, room), (room, d))]
        if len(self.own_k):
            slots = np.flatnonzero(row_at < len(self.own_k))
            rows, block, member = (
                torch.from_numpy(a).to(copies.device) for a in (row_at[slots], *divmod(slots, shape[1]))
            )
            length = min(self.own_v.shape[2], room)
            own[0][block, :, member, :, :length] = self.own_k[rows, ..., :length]
            own[1][block, :, member, :length] = self.own_v[rows, :, :length]
        return Caches(*prefix, *(t.flatten(0, 2) for t in own))

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All four."""
        return self.prefix_k, self.prefix_v, self.own_k, self.own_v

    def apart(self, kv_heads: int, shape: tuple[int, int], first: torch.Tensor, slot: torch.Tensor) -> "Caches":
        """From blocks: the prefixes of the blocks `first` (U,) and the rows in the slots `slot` (B,)."""
        prefix = (t.unflatten(0, (-1, kv_heads)).index_select(0, first) for t in (self.prefix_k, self.prefix_v))
        block, member = slot // shape[1], slot % shape[1]
        own = (t.unflatten(0, (shape[0], kv_heads, shape[1]))[block, :, member] for t in (self.own_k, self.own_v))
        return Caches(*prefix, *own)


def _pad_to(x: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    missing = size - x.shape[axis]
    return F.pad(x, [0, 0] * (x.ndim - 1 - axis) + [0, missing]) if missing else x


def _join(a: torch.Tensor, b: torch.Tensor, axis: int) -> torch.Tensor:
    """One after the other, what is shorter along `axis` padded."""
    longest = max(a.shape[axis], b.shape[axis])
    return torch.cat([_pad_to(a, axis, longest), _pad_to(b, axis, longest)])
