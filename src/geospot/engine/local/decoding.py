"""Sequences that grow by a token at a time behind shared prefixes: the key-value caches of a sampling batch.

`FusedDecoding` runs the layers of `Decoder`: a group's prefix is held and read once, whoever shares it, and the shapes
of a step change only when rows join or leave, so that it can be compiled. `CachedDecoding` is transformers' own
forward for decoders that are not known.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from geospot.engine.local import passes
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
    in size (`_block_size`). prefix (2, layers, C, kv_heads, P, D) and own (2, layers, C, kv_heads, M, T, D) hold keys
    and values of C blocks; a slot that nobody needs repeats another row.
    """

    def __init__(self, network: "Network", key: int):
        self.network, self.decoder = network, network.decoder
        self.weights = network.sampling_weights(key)
        self.prefix = self.own = None
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
        kv, hidden, position = zip(*(self._prefill(chunk) for chunk in _chunks(prompts)), strict=True)
        lengths, device = np.array([len(p) for p in prompts]), self.network.device
        prefix = torch.cat([_pad_to(part, 4, int(lengths.max())) for part in kv], 2)
        group = np.repeat(np.arange(len(prompts)), members)
        select = torch.from_numpy(group).to(device)
        position, age = torch.cat(position)[select], np.zeros(len(group), dtype=np.int64)
        shape = (*prefix.shape[:2], len(group), prefix.shape[3], int(max(rooms)), prefix.shape[5])
        own = prefix.new_zeros(shape)
        if self.own is not None:
            rows, prefixes = self._rows(), self._prefixes()
            group, lengths = np.r_[self.group, group + len(self.lengths)], np.r_[self.lengths, lengths]
            prefix, own = _join(prefixes, prefix), _join(rows, own)
            position, age = torch.cat([self.position[self.slot], position]), np.r_[self.age, age]
        self._lay_out(prefix, own, position, group, lengths, age)
        return torch.cat(hidden)[select]

    def _prefill(self, prompts: Sequence[Tokens]):
        """Keys and values (2, layers, U, kv_heads, P, D), hidden states (U, H), next positions (U,) of new prompts."""
        network, decoder = self.network, self.decoder
        embedded = network.embed(prompts, [len(p) for p in prompts])
        packing = Packing.of(embedded.lengths, [], [], network.device)
        kept: list[torch.Tensor] = []

        def keep(_, k, v):
            kept.append(torch.stack([k, v])[:, packing.prefix_index])  # (2, U, P, kv_heads, D)

        x, rope = embedded.x, decoder.rope(embedded.x, embedded.positions)
        x = decoder.run(self.weights, x, rope, packing, deepstack=embedded.deepstack, keep=keep)
        last = torch.from_numpy(np.cumsum(embedded.lengths) - 1).to(network.device)
        return torch.stack(kept, 1).transpose(3, 4), decoder.final_norm(x[last]), embedded.next_position

    def _rows(self) -> torch.Tensor:
        """The rows' own caches out of their slots, (2, layers, B, kv_heads, T, D)."""
        return self.own.transpose(3, 4).flatten(2, 3).index_select(2, self.slot)

    def _prefixes(self) -> torch.Tensor:
        """The prefixes out of their blocks, each once, (2, layers, U, kv_heads, P, D)."""
        _, first = np.unique(self.block_prefix, return_index=True)
        return self.prefix.index_select(2, torch.from_numpy(first).to(self.prefix.device))

    def keep(self, rows: np.ndarray) -> None:
        """Let all rows go but these, and prefixes that nobody follows any more."""
        if not len(rows):
            self.prefix = self.own = None
            return
        index = torch.from_numpy(rows).to(self.network.device)
        own, position = self._rows().index_select(2, index), self.position[self.slot][index]
        used, group = np.unique(self.group[rows], return_inverse=True)
        prefix = self._prefixes()
        if len(used) < len(self.lengths):
            prefix = prefix.index_select(2, torch.from_numpy(used).to(prefix.device))
        self._lay_out(prefix, own, position, group, self.lengths[used], self.age[rows])

    def _lay_out(self, prefix, own, position, group: np.ndarray, lengths: np.ndarray, age: np.ndarray) -> None:
        """Put rows (their caches in order, of one group together) into blocks; once a change of the batch."""
        device, n = self.network.device, len(group)
        self.group, self.lengths, self.age = group, lengths, age
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
        self.slot, self.row_at = (torch.from_numpy(a).to(device) for a in (slot, row_at))
        own = own if self.in_order else own.index_select(2, self.row_at)
        self.own = own.unflatten(2, self.shape).transpose(3, 4).contiguous()
        copies = torch.from_numpy(self.block_prefix).to(device)
        self.prefix = (prefix if len(copies) == prefix.shape[2] else prefix.index_select(2, copies)).contiguous()
        self.position, self.t = position[self.row_at], torch.tensor(age, device=device)[self.row_at]
        p, kv_heads = prefix.shape[4], self.decoder.kv_heads
        self.unseen = None
        if (lengths < p).any():
            unseen = np.where(np.arange(p) < lengths[self.block_prefix][:, None], 0, -np.inf).astype(np.float32)
            self.unseen = torch.from_numpy(unseen.repeat(kv_heads, axis=0)).to(device)[:, None]  # (C kv_heads, 1, P)
        # Where each slot's own cache begins, among all (C, kv_heads, M, T).
        block, member = torch.arange(len(row_at), device=device).view(self.shape), torch.arange(kv_heads, device=device)
        at = (block // size)[:, None] * kv_heads * size + member[:, None] * size + (block % size)[:, None]
        self.first = at * self.own.shape[5]

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """Append a token (B,) to each row; hidden states (B, H) behind it."""
        room = self.own.shape[5]
        seen = min(-(-(int(self.age.max()) + 1) // _LENGTH_STEP) * _LENGTH_STEP, room)
        ids = ids if self.in_order else ids[self.row_at]
        tensors = (ids, self.position, self.t.clamp(max=room - 1), self.first, self.unseen, self.prefix, self.own)
        hidden = self._forward(*tensors, seen)
        self.age = self.age + 1
        self.t, self.position = self.t + 1, self.position + 1
        return hidden if self.in_order else hidden[self.slot]

    def _run(self, ids, position, t, first, unseen, prefix, own, seen: int):
        """A step of all slots: hidden states (C M, H). `first` is (C, kv_heads, M), the rest in slot order."""
        decoder = self.decoder
        shape = first.shape[0], first.shape[2]
        x = decoder.text_model.embed_tokens(ids)
        rope = tuple(part.view(*shape, 1, -1) for part in decoder.rope(x, position))
        t = t.view(shape)
        at = (first + t[:, None]).flatten()  # this step's place in the rows' caches
        late = torch.arange(seen, device=x.device) > t.repeat_interleave(decoder.kv_heads, 0).view(-1, 1, 1)
        late = torch.zeros(late.shape, device=x.device).masked_fill_(late, -torch.inf)  # (C kv_heads M, 1, seen)
        for i, w in enumerate(self.weights):
            q, k, v = decoder.project_blocks(i, w, x, rope)
            for cache, new in ((own[0, i], k), (own[1, i], v)):
                cache.view(-1, cache.shape[-1]).index_copy_(0, at, new.reshape(-1, cache.shape[-1]))
            out = self._attention(q, prefix[:, i].flatten(1, 2), own[:, i].flatten(1, 3)[:, :, :seen], unseen, late)
            x = decoder.finish(w, x, out)
        return decoder.final_norm(x)

    def _attention(self, q, prefix, own, unseen, late) -> torch.Tensor:
        """(C M, heads D) from queries (C, kv_heads, M, heads each, D): one softmax over the prefix, which a block's
        rows read together, and what each has of its own."""
        scale = self.decoder.scaling
        alone, together = q.flatten(0, 2), q.flatten(2, 3).flatten(0, 1)
        before = _scores(together, prefix[0], unseen, scale).view(*q.shape[:-1], -1)
        probs = torch.cat([before, _scores(alone, own[0], late, scale).view(*q.shape[:-1], -1)], -1).softmax(-1)
        probs, p = probs.to(q.dtype), prefix.shape[2]
        out = probs[..., p:].flatten(0, 2) @ own[1]
        out = torch.baddbmm(out.view(together.shape), probs[..., :p].flatten(2, 3).flatten(0, 1), prefix[1])
        return out.view(q.shape).transpose(1, 2).flatten(2).flatten(0, 1)


def _scores(q: torch.Tensor, k: torch.Tensor, bias: torch.Tensor | None, scale: float) -> torch.Tensor:
    """scale q @ k.T + bias of batches (N, m, D) and (N, n, D), in float32 whatever they are kept in."""
    if q.dtype == torch.float32:
        if bias is None:
            return torch.baddbmm(q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=scale)
        return torch.baddbmm(bias, q, k.transpose(1, 2), alpha=scale)
    if q.is_cuda:
        scores = torch.bmm(q, k.transpose(1, 2), out_dtype=torch.float32) * scale
    else:
        scores = q.float() @ k.transpose(1, 2).float() * scale
    return scores if bias is None else scores + bias


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


def _join(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Concatenate caches (2, layers, rows, kv_heads, length, D) along the rows, the shorter padded."""
    longest = max(a.shape[4], b.shape[4])
    return torch.cat([_pad_to(a, 4, longest), _pad_to(b, 4, longest)], 2)
