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
        """Add members[u] rows behind prompt u for up to rooms[u] tokens; hidden states (rows, H) of their last token."""
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
    """Through `Decoder`: caches of fixed shape, one for the U prefixes and one for the B rows behind them.

    prefix (2, layers, U, kv_heads, P, D) and own (2, layers, B, kv_heads, T, D) hold keys and values.
    """

    def __init__(self, network: "Network", key: int):
        self.network, self.decoder = network, network.decoder
        self.weights = network.sampling_weights(key)
        self.prefix = self.own = None
        self._forward = _compiled(self._run) if network.options.compile else self._run

    @property
    def n_rows(self) -> int:
        """B."""
        return 0 if self.own is None else self.own.shape[2]

    def can_join(self) -> bool:
        """Whether rows may be added now."""
        return True

    @staticmethod
    def held(prompt: int, members: int, room: int) -> int:
        """Cache positions of a group."""
        return prompt + members * room

    def join(self, prompts: Sequence[Tokens], members: Sequence[int], rooms: Sequence[int]) -> torch.Tensor:
        """Add members[u] rows behind prompt u for up to rooms[u] tokens; hidden states (rows, H) of their last token."""
        parts = [self._prefill(chunk) for chunk in _chunks(prompts)]
        kv, hidden, position = zip(*parts, strict=True)
        lengths, device = np.array([len(p) for p in prompts]), self.network.device
        prefix = torch.cat([_pad_to(part, 4, int(lengths.max())) for part in kv], 2)
        members = np.asarray(members)
        group, room = np.repeat(np.arange(len(prompts)), members), int(max(rooms))
        shape = (*prefix.shape[:2], len(group), prefix.shape[3], room, prefix.shape[5])
        own, select = prefix.new_zeros(shape), torch.from_numpy(group).to(device)
        position = torch.cat(position)[select]
        if self.own is None:
            self.prefix, self.lengths, self.group = prefix, lengths, group
            self.own, self.position, self.age = own, position, np.zeros(len(group), dtype=np.int64)
        else:
            self.group = np.concatenate([self.group, group + len(self.lengths)])
            self.lengths = np.concatenate([self.lengths, lengths])
            self.prefix = _join(self.prefix, prefix)
            self.own = _join(self.own, own)
            self.position = torch.cat([self.position, position])
            self.age = np.concatenate([self.age, np.zeros(len(group), dtype=np.int64)])
        self._lay_out()
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
        kv = torch.stack(kept, 1).transpose(3, 4).contiguous()
        return kv, decoder.final_norm(x[last]), embedded.next_position

    def keep(self, rows: np.ndarray) -> None:
        """Let all rows go but these, and prefixes that nobody follows any more."""
        if not len(rows):
            self.prefix = self.own = None
            return
        index, device = torch.from_numpy(rows), self.network.device
        self.own = self.own.index_select(2, index.to(device))
        self.position = self.position[index.to(device)]
        self.age = self.age[rows]
        used, self.group = np.unique(self.group[rows], return_inverse=True)
        if len(used) < len(self.lengths):
            self.prefix = self.prefix.index_select(2, torch.from_numpy(used).to(device))
            self.lengths = self.lengths[used]
        self._lay_out()

    def _lay_out(self) -> None:
        """Where each row stands among its group, for attention that reads a prefix once a group. Once a change."""
        device, n, u = self.network.device, len(self.group), len(self.lengths)
        counts = np.bincount(self.group, minlength=u)
        size = int(counts.max())
        rank = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)  # rows of a group stand together
        slot = self.group * size + rank
        self.is_regular = n == u * size
        row_at = np.zeros(u * size, dtype=np.int64)
        row_at[slot] = np.arange(n)
        self.group_size = size
        self.slot, self.row_at = (torch.from_numpy(a).to(device) for a in (slot, row_at))
        p = self.prefix.shape[4]
        self.unseen = None
        if (self.lengths < p).any():
            hidden = np.arange(p) >= self.lengths[self.group][:, None]
            self.unseen = torch.from_numpy(hidden).to(device)[:, None, None]  # (B, 1, 1, P)
        self.t = torch.from_numpy(self.age).to(device)
        self.first = torch.arange(n * self.decoder.kv_heads, device=device) * self.own.shape[4]

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """Append a token (B,) to each row; hidden states (B, H) behind it."""
        seen = min(-(-(int(self.age.max()) + 1) // _LENGTH_STEP) * _LENGTH_STEP, self.own.shape[4])
        hidden = self._forward(
            ids, self.position, self.t, self.first, self.slot, self.row_at, self.unseen, self.prefix, self.own, seen,
            self.group_size, self.is_regular,
        )  # fmt: skip
        self.age = self.age + 1  # not in place: `t` may share its memory
        self.t, self.position = self.t + 1, self.position + 1
        return hidden

    def _run(self, ids, position, t, first, slot, row_at, unseen, prefix, own, seen, group_size, is_regular):
        decoder, n = self.decoder, len(ids)
        x = decoder.text_model.embed_tokens(ids)
        rope = decoder.rope(x, position)
        # This step's place in the rows' caches, flat; rows that are done but still here stay in their own.
        at = first + t.clamp(max=own.shape[4] - 1).repeat_interleave(decoder.kv_heads)
        late = (torch.arange(seen, device=ids.device) > t[:, None])[:, None, None]  # (B, 1, 1, seen)
        for i, w in enumerate(self.weights):
            q, k, v = decoder.project(i, w, x, rope)
            for cache, new in ((own[0, i], k), (own[1, i], v)):
                cache.view(-1, cache.shape[-1]).index_copy_(0, at, new.reshape(-1, cache.shape[-1]))
            q = (q * decoder.scaling).view(n, decoder.kv_heads, -1, decoder.head_dim)
            own_k, own_v = (cache[i, :, :, :seen].flatten(0, 1) for cache in own)
            here = _scores(q.flatten(0, 1), own_k).view(n, decoder.kv_heads, -1, seen).masked_fill(late, -torch.inf)
            grouped = q if is_regular else q.index_select(0, row_at)
            shape = (-1, group_size, *q.shape[1:])
            grouped = grouped.view(shape).transpose(1, 2)  # (U, kv_heads, members, heads each, D)
            before = _scores(grouped.flatten(2, 3).flatten(0, 1), prefix[0, i].flatten(0, 1))
            before = before.view(*grouped.shape[:-1], -1).transpose(1, 2).flatten(0, 1)
            if not is_regular:
                before = before.index_select(0, slot)
            if unseen is not None:
                before = before.masked_fill(unseen, -torch.inf)
            p = prefix.shape[4]
            probs = torch.cat([before, here], -1).softmax(-1).to(x.dtype)
            out = (probs[..., p:].reshape(n * decoder.kv_heads, -1, seen) @ own_v).view(q.shape)
            before = probs[..., :p] if is_regular else probs[..., :p].index_select(0, row_at)
            before = before.view(-1, group_size, *before.shape[1:]).transpose(1, 2).flatten(2, 3).flatten(0, 1)
            shared = (before @ prefix[1, i].flatten(0, 1)).view(grouped.shape).transpose(1, 2).flatten(0, 1)
            out = out + (shared if is_regular else shared.index_select(0, slot))
            x = decoder.finish(w, x, out)
        return decoder.final_norm(x)


def _scores(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """q @ k.T of batches (N, m, D) and (N, n, D), in float32 whatever they are kept in."""
    if q.dtype == torch.float32:
        return q @ k.transpose(1, 2)
    if q.is_cuda:
        return torch.bmm(q, k.transpose(1, 2), out_dtype=torch.float32)
    return q.float() @ k.transpose(1, 2).float()


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
