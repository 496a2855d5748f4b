"""Sequences that grow by a token at a time behind shared prefixes: the key-value caches of a sampling batch.

`FusedDecoding` runs the layers of `Decoder`: a group's prefix is held and read once, whoever shares it, and the shapes
of a step change only when rows join or leave, so that it can be compiled. `CachedDecoding` is transformers' own
forward for decoders that are not known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from geospot.engine.local import passes
from geospot.engine.local.decoder import Angles
from geospot.engine.local.inputs import Tokens
from geospot.engine.local.packing import Packing

if TYPE_CHECKING:
    from geospot.engine.local.network import Network

_PREFILL_TOKENS = 16_384  # of one pass over new prompts
_LENGTH_STEP = 16  # what a step sees of the answers so far is rounded up to this many tokens


class CachedDecoding:
    """Through transformers' forward and `DynamicCache`. New rows join once all others have left."""

    def __init__(self, network: "Network", key: int):
        self.network = network
        self.n_rows = 0

    def can_join(self) -> bool:
        """Whether rows may be added now."""
        return self.n_rows == 0

    @staticmethod
    def held(prompt: int, members: int, room: int) -> int:
        """Cache positions of a group."""
        return members * (prompt + room)

    def join(self, prompts: Sequence[Tokens], members: Sequence[int], rooms: Sequence[int]) -> torch.Tensor:
        """Add members[u] rows behind prompt u for up to rooms[u] tokens.

        Returns the hidden states (rows, H) of their last tokens.
        """
        hidden, mask, cache, position = passes.prefill(self.network, list(prompts), [len(p) for p in prompts])
        select = torch.repeat_interleave(torch.arange(len(prompts)), torch.tensor(members)).to(self.network.device)
        cache.batch_select_indices(select)
        self.mask, self.position, self.cache = mask[select], position[select], cache
        self.n_rows = len(select)
        return hidden[:, -1][select]

    def keep(self, rows: np.ndarray) -> None:
        """Let all rows go but these."""
        self.n_rows = len(rows)
        if self.n_rows:
            index = torch.from_numpy(rows).to(self.network.device)
            self.cache.batch_select_indices(index)
            self.mask, self.position = self.mask[index], self.position[index]

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """Append a token (B,) to each row; hidden states (B, H) behind it."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(ids), 1)], 1)
        hidden = passes.extend(self.network, ids[:, None], self.mask, self.position[:, None], self.cache)[:, 0]
        self.position = self.position + 1
        return hidden


class FusedDecoding:
    """Through `Decoder`: caches of fixed shape, one for shared prefixes and one for the rows behind them.

    Rows stand in blocks of M slots that share one prefix: all members of a group, or some of them where groups differ
    in size (`_block_size`); a slot that nobody needs repeats another row. Each layer has `Caches` of C blocks.
    """

    def __init__(self, network: "Network", key: int):
        self.network, self.decoder = network, network.decoder
        self.weights = network.sampling_weights(key)
        self.caches: list[Caches] = []
        self.room = 0  # tokens that a row has place for
        self.angles = network.banned.new_zeros(2, 0, 0)  # cos and sin (2, positions, D)
        self._forward = _compiled(self._run) if network.options.compile else self._run

    def can_join(self) -> bool:
        """Whether rows may be added now."""
        return True

    @staticmethod
    def held(prompt: int, members: int, room: int) -> int:
        """Cache positions of a group."""
        return prompt + members * room

    def join(self, prompts: Sequence[Tokens], members: Sequence[int], rooms: Sequence[int]) -> torch.Tensor:
        """Add members[u] rows behind prompt u for up to rooms[u] tokens.

        Returns the hidden states (rows, H) of their last tokens.
        """
        kept, hidden, position = zip(*(self._prefill(chunk) for chunk in _chunks(prompts)), strict=True)
        lengths, device = np.array([len(p) for p in prompts]), self.network.device
        layers = [Caches.of(chunks, int(lengths.max())) for chunks in zip(*kept, strict=True)]
        group = np.repeat(np.arange(len(prompts)), members)
        select = torch.from_numpy(group).to(device)
        position, age = torch.cat(position)[select], np.zeros(len(group), dtype=np.int64)
        room, longest = max(self.room, *rooms), int(lengths.max())
        if self.caches:
            group, lengths = np.r_[self.group, group + len(self.lengths)], np.r_[self.lengths, lengths]
            layers = [mine.joined(new) for mine, new in zip(self._apart(), layers, strict=True)]
            position, age = torch.cat([self.position[self.slot], position]), np.r_[self.age, age]
        if longest + room > self.angles.shape[1]:
            # No position is beyond this: a picture takes fewer than it has tokens.
            rope = self.decoder.rope(hidden[0], torch.arange(longest + room, device=device))
            self.angles = torch.stack([part[:, 0] for part in rope])
        self._lay_out(layers, position, group, lengths, age, room)
        return torch.cat(hidden)[select]

    def _prefill(self, prompts: Sequence[Tokens]):
        """Keys and values of each layer, (U, P, kv_heads, D) twice, hidden states (U, H), next positions (U,)."""
        network, decoder = self.network, self.decoder
        embedded = network.embed(prompts, [len(p) for p in prompts])
        packing = Packing.of(embedded.lengths, [], [], network.device)
        kept: list[tuple[torch.Tensor, torch.Tensor]] = []

        def keep(_, k, v):
            kept.append((k[packing.prefix_index], v[packing.prefix_index]))

        x, rope = embedded.x, decoder.rope(embedded.x, embedded.positions)
        x = decoder.run(self.weights, x, rope, packing, deepstack=embedded.deepstack, keep=keep)
        last = torch.from_numpy(np.cumsum(embedded.lengths) - 1).to(network.device)
        return kept, decoder.final_norm(x[last]), embedded.next_position

    def _apart(self) -> "list[Caches]":
        """The caches with each prefix once and the rows one by one, out of their blocks."""
        _, first = np.unique(self.block_prefix, return_index=True)
        first, kv_heads = torch.from_numpy(first).to(self.network.device), self.decoder.kv_heads
        return [layer.apart(kv_heads, self.shape, first, self.slot) for layer in self.caches]

    def keep(self, rows: np.ndarray) -> None:
        """Let all rows go but these, and prefixes that nobody follows any more."""
        if not len(rows):
            self.caches, self.room = [], 0
            return
        index = torch.from_numpy(rows).to(self.network.device)
        used, group = np.unique(self.group[rows], return_inverse=True)
        layers = [layer.select(torch.from_numpy(used).to(index.device), index) for layer in self._apart()]
        position = self.position[self.slot][index]
        self._lay_out(layers, position, group, self.lengths[used], self.age[rows], self.room)

    def _lay_out(self, layers: "list[Caches]", position, group: np.ndarray, lengths: np.ndarray, age: np.ndarray, room):
        """Put rows (their caches in order, of one group together) into blocks; once a change of the batch."""
        device, n = self.network.device, len(group)
        self.group, self.lengths, self.age, self.room = group, lengths, age, room
        counts = np.bincount(group, minlength=len(lengths))
        size = _block_size(counts)
        rank = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)
        blocks = -(-counts // size)
        self.block_prefix = np.repeat(np.arange(len(counts)), blocks)
        slot = ((np.cumsum(blocks) - blocks)[group] + rank // size) * size + rank % size
        row_at = np.zeros(blocks.sum() * size, dtype=np.int64)
        row_at[slot] = np.arange(n)
        self.shape = int(blocks.sum()), size
        self.in_order = n == len(row_at)  # every slot is a row, and in the rows' order
        self.slot, self.row_at, copies = (torch.from_numpy(a).to(device) for a in (slot, row_at, self.block_prefix))
        self.caches = []
        while layers:  # a layer's old caches go as soon as its new ones are there
            self.caches.append(layers.pop(0).in_blocks(self.shape, copies, row_at, room))
        self.position = position[self.row_at]
        kv_heads, p = self.decoder.kv_heads, self.caches[0].prefix_v.shape[1]
        # What each slot's own cache holds by now, among all (C, kv_heads, M), and where these stand.
        t = torch.from_numpy(age).to(device)[self.row_at].view(self.shape)
        self.t = t[:, None].expand(-1, kv_heads, -1).flatten()
        self.every = torch.arange(len(self.t), device=device)
        self.unseen = None
        if (lengths < p).any():
            unseen = np.where(np.arange(p) < lengths[self.block_prefix][:, None], 0, -np.inf).astype(np.float32)
            self.unseen = torch.from_numpy(unseen.repeat(kv_heads, axis=0)).to(device)[:, None]  # (C kv_heads, 1, P)

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """Append a token (B,) to each row; hidden states (B, H) behind it."""
        seen = min(-(-(int(self.age.max()) + 1) // _LENGTH_STEP) * _LENGTH_STEP, self.room)
        ids = ids if self.in_order else ids[self.row_at]
        cos, sin = self.angles.index_select(1, self.position.clamp(max=self.angles.shape[1] - 1))
        angles = Angles(cos, sin, self.shape)
        t = self.t.clamp(max=self.room - 1)
        hidden = self._forward(ids, angles, self.every, t, self.unseen, self.caches, seen)
        self.age = self.age + 1
        self.t, self.position = self.t + 1, self.position + 1
        return hidden if self.in_order else hidden[self.slot]

    def _run(self, ids, angles: Angles, every, t, unseen, caches: "list[Caches]", seen: int):
        """A step of all slots: hidden states (C M, H). ids: (C M,); every, t: (C kv_heads M,)."""
        decoder = self.decoder
        x = decoder.text_model.embed_tokens(ids)
        late = torch.arange(seen, device=x.device) > t[:, None, None]
        late = torch.zeros(late.shape, device=x.device).masked_fill_(late, -torch.inf)  # (C kv_heads M, 1, seen)
        for i, (w, cache) in enumerate(zip(self.weights, caches, strict=True)):
            q, k, v = decoder.project_blocks(i, w, x, angles)
            cache.own_k[every, :, t] = k.flatten(0, 2)
            cache.own_v[every, t] = v.flatten(0, 2)
            x = decoder.finish(w, x, _attention(q, cache, seen, unseen, late, decoder.scaling))
        return decoder.final_norm(x)


def _attention(q, cache: "Caches", seen: int, unseen, late, scale: float) -> torch.Tensor:
    """(C M, heads D) from queries (C, kv_heads, M, heads each, D): one softmax over the prefix, which a block's rows
    read together, and what each has of its own."""
    alone, together = q.flatten(0, 2), q.flatten(2, 3).flatten(0, 1)
    before = _scores(together, cache.prefix_k, unseen, scale)
    after = _scores(alone, cache.own_k[:, :, :seen], late, scale)
    probs = torch.cat([before.view(*alone.shape[:2], -1), after], -1).softmax(-1).to(q.dtype)
    p = cache.prefix_v.shape[1]
    out = torch.bmm(probs[..., p:], cache.own_v[:, :seen]).view(together.shape)
    out.baddbmm_(probs[..., :p].view(*together.shape[:2], p), cache.prefix_v)
    return out.view(q.shape).transpose(1, 2).flatten(2).flatten(0, 1)


def _scores(q: torch.Tensor, k: torch.Tensor, bias: torch.Tensor | None, scale: float) -> torch.Tensor:
    """scale q @ k + bias of batches (N, m, D) and (N, D, n), in float32 whatever they are kept in."""
    if q.dtype == torch.float32:
        if bias is None:
            return torch.baddbmm(q.new_empty(()), q, k, beta=0, alpha=scale)
        return torch.baddbmm(bias, q, k, alpha=scale)
    scores = (torch.bmm(q, k, out_dtype=torch.float32) if q.is_cuda else q.float() @ k.float()) * scale
    return scores if bias is None else scores + bias


@dataclass(frozen=True)
class Caches:
    """A layer's keys and values: of prefixes, shared by rows, and of the rows' own tokens.

    In C blocks of M slots: prefix_k (C kv_heads, D, P), prefix_v (C kv_heads, P, D), own_k (C kv_heads M, D, T), own_v
    (C kv_heads M, T, D). Apart, U prefixes and B rows: (U, kv_heads, ...) and (B, kv_heads, ...), no rows as None.
    Keys have their tokens last: a few queries are multiplied with them fastest so.
    """

    prefix_k: torch.Tensor
    prefix_v: torch.Tensor
    own_k: torch.Tensor | None = None
    own_v: torch.Tensor | None = None

    @classmethod
    def of(cls, chunks: Sequence[tuple[torch.Tensor, torch.Tensor]], longest: int) -> "Caches":
        """Of prefixes whose keys and values come in chunks (U, P, kv_heads, D), without rows."""
        k, v = (torch.cat([_pad_to(part, 1, longest) for part in parts]) for parts in zip(*chunks, strict=True))
        return cls(k.permute(0, 2, 3, 1), v.transpose(1, 2))

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
        if self.own_k is not None:
            slots = np.flatnonzero(row_at < len(self.own_k))
            rows, block, member = (
                torch.from_numpy(a).to(copies.device) for a in (row_at[slots], *divmod(slots, shape[1]))
            )
            length = self.own_v.shape[2]
            own[0][block, :, member, :, :length] = self.own_k[rows]
            own[1][block, :, member, :length] = self.own_v[rows]
        return Caches(*prefix, *(t.flatten(0, 2) for t in own))

    def apart(self, kv_heads: int, shape: tuple[int, int], first: torch.Tensor, slot: torch.Tensor) -> "Caches":
        """From blocks: the prefixes of the blocks `first` (U,) and the rows in the slots `slot` (B,)."""
        prefix = (t.unflatten(0, (-1, kv_heads)).index_select(0, first) for t in (self.prefix_k, self.prefix_v))
        block, member = slot // shape[1], slot % shape[1]
        own = (t.unflatten(0, (shape[0], kv_heads, shape[1]))[block, :, member] for t in (self.own_k, self.own_v))
        return Caches(*prefix, *own)


def _block_size(counts: np.ndarray) -> int:
    """Slots of a block: large enough that a prefix is read for many rows, small enough that few slots stand idle."""

    def cost(size: int) -> float:
        return float((-(-counts // size)).sum() * (size + 1))  # reading a prefix counts as a row

    return min(range(1, int(counts.max()) + 1), key=cost)


def _compiled(run):
    # A step's shapes are few and come again: each gets code (on a GPU a graph) of its own.
    return torch.compile(run, dynamic=False, mode="reduce-overhead" if torch.cuda.is_available() else None)


def _chunks(prompts: Sequence[Tokens]) -> list[list[Tokens]]:
    """Prompts in batches of at most `_PREFILL_TOKENS`."""
    out: list[list[Tokens]] = []
    held = 0
    for prompt in prompts:
        if not out or held + len(prompt) > _PREFILL_TOKENS:
            out.append([])
            held = 0
        out[-1].append(prompt)
        held += len(prompt)
    return out


def _pad_to(x: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    missing = size - x.shape[axis]
    return F.pad(x, [0, 0] * (x.ndim - 1 - axis) + [0, missing]) if missing else x


def _join(a: torch.Tensor, b: torch.Tensor, axis: int) -> torch.Tensor:
    """One after the other, what is shorter along `axis` padded."""
    longest = max(a.shape[axis], b.shape[axis])
    return torch.cat([_pad_to(a, axis, longest), _pad_to(b, axis, longest)])
