"""Sequences that grow by a token at a time behind shared prefixes: the key-value caches of a sampling batch.

`FusedDecoding` runs the layers of `Decoder`: a group's prefix is held and read once, whoever shares it, and the shapes
of a step change only when rows join or leave, so that it can be compiled. `CachedDecoding` is transformers' own
forward for decoders that are not known.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from geospot.engine.local import passes, products
from geospot.engine.local.caches import Caches, Group, Layout
from geospot.engine.local.decoder import Angles, Decoder, LayerWeights
from geospot.engine.local.inputs import Tokens
from geospot.engine.local.network import Network
from geospot.engine.local.packing import Packing

_PREFILL_TOKENS = 16_384  # of one pass over new prompts
_LENGTH_STEP = 16  # what a step sees of the answers so far is rounded up to this many tokens


class CachedDecoding:
    """Through transformers' forward and `DynamicCache`. New rows join once all others have left."""

    shares_prefixes = False

    def __init__(self, network: Network, key: int, max_positions: int):
        self.network = network
        self.n_rows = 0
        self.groups: list[Group] = []
        self.rope_deltas: torch.Tensor | None = None  # which transformers keeps in the model

    def can_join(self) -> bool:
        """Whether rows may be added now."""
        return self.n_rows == 0

    def join(self, prompts: Sequence[Tokens], members: Sequence[int], rooms: Sequence[int]) -> torch.Tensor:
        """Add members[u] rows behind prompt u for up to rooms[u] tokens.

        Returns the hidden states (rows, H) of their last tokens.
        """
        hidden, mask, cache, position = passes.prefill(self.network, list(prompts), [len(p) for p in prompts])
        select = torch.repeat_interleave(torch.arange(len(prompts)), torch.tensor(members)).to(self.network.device)
        cache.batch_select_indices(select)
        self.mask, self.position, self.cache = mask[select], position[select], cache
        self.n_rows = len(select)
        self.rope_deltas = getattr(self.network.model.model, "rope_deltas", None)
        return hidden[:, -1][select]

    def resume(self) -> None:
        """After other work with the same modules."""
        if hasattr(inner := self.network.model.model, "rope_deltas"):
            inner.rope_deltas = self.rope_deltas

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
    in size (`Layout`); a slot that nobody needs repeats another row. Each layer has `Caches` of C blocks.
    """

    shares_prefixes = True

    def __init__(self, network: Network, key: int, max_positions: int):
        assert network.decoder is not None
        self.network, self.decoder, self.max_positions = network, network.decoder, max_positions
        self.key = key
        self.groups: list[Group] = []
        self.caches: list[Caches] = []
        self.angles = network.banned.new_zeros(2, 0, 0)  # cos and sin (2, positions, D)
        self._forward = _compiled(_step) if network.options.compile else _step
        self.resume()

    def resume(self) -> None:
        """After other work with the same modules, for which the merged weights may have been given up."""
        self.weights = self.network.sampling_weights(self.key)
        if self.network.options.compile:
            _stay_in_place(tensor for w in self.weights for tensor in w.tensors())

    def can_join(self) -> bool:
        """Whether rows may be added now."""
        return True

    def join(self, prompts: Sequence[Tokens], members: Sequence[int], rooms: Sequence[int]) -> torch.Tensor:
        """Add members[u] rows behind prompt u for up to rooms[u] tokens.

        Returns the hidden states (rows, H) of their last tokens.
        """
        kept, hidden, position = zip(*(self._prefill(chunk) for chunk in _chunks(prompts)), strict=True)
        kept, device = list(zip(*kept, strict=True)), self.network.device  # layer by layer, then chunk by chunk
        joining = [Group(len(p), n, room) for p, n, room in zip(prompts, members, rooms, strict=True)]
        row_group = np.repeat(np.arange(len(prompts)), members)
        select = torch.from_numpy(row_group).to(device)
        position, age = torch.cat(position)[select], np.zeros(len(row_group), dtype=np.int64)
        longest = _whole(max(len(p) for p in prompts), device)
        layers = (Caches.of(kept.pop(0), longest) for _ in self.decoder.layers)
        if self.groups:
            old, new = self._apart(), layers
            layers = (mine.joined(theirs) for mine, theirs in zip(old, new, strict=True))
            row_group = np.r_[self.row_group, row_group + len(self.groups)]
            position, age = torch.cat([self.position[self.slot], position]), np.r_[self.age, age]
        self._lay_out(layers, [*self.groups, *joining], position, row_group, age)
        # No position is beyond this: a picture takes fewer than it has tokens.
        if (last := max(g.prompt for g in self.groups) + self.room) > self.angles.shape[1]:
            rope = self.decoder.rope(hidden[0], torch.arange(last, device=device))
            self.angles = torch.stack([part[:, 0] for part in rope])
        return torch.cat(hidden)[select]

    def _prefill(
        self, prompts: Sequence[Tokens]
    ) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], torch.Tensor, torch.Tensor]:
        """Keys and values of each layer, (U, P, kv_heads, D) twice, hidden states (U, H), next positions (U,)."""
        network, decoder = self.network, self.decoder
        embedded = network.embed(prompts, [len(p) for p in prompts])
        packing = Packing.of(embedded.lengths, [], [], network.device)
        kept: list[tuple[torch.Tensor, torch.Tensor]] = []

        def keep(_: int, k: torch.Tensor, v: torch.Tensor) -> None:
            kept.append((k[packing.prefix_index], v[packing.prefix_index]))

        x, rope = embedded.x, decoder.rope(embedded.x, embedded.positions)
        x = decoder.run(self.weights, x, rope, packing, deepstack=embedded.deepstack, keep=keep)
        last = torch.from_numpy(np.cumsum(embedded.lengths) - 1).to(network.device)
        return kept, decoder.final_norm(x[last]), embedded.next_position

    def _apart(self) -> Iterator[Caches]:
        """Each layer's prefixes, once, and rows one by one; what they stood in is given up layer by layer."""
        _, first = np.unique(self.block_prefix, return_index=True)
        first, slot, shape = torch.from_numpy(first).to(self.network.device), self.slot, self.shape
        caches, self.caches = self.caches, []
        return (caches.pop(0).apart(self.decoder.kv_heads, shape, first, slot) for _ in range(len(caches)))

    def keep(self, rows: np.ndarray) -> None:
        """Let all rows go but these, and prefixes that nobody follows any more."""
        if not len(rows):
            self.caches, self.groups = [], []
            return
        index = torch.from_numpy(rows).to(self.network.device)
        used, row_group = np.unique(self.row_group[rows], return_inverse=True)
        groups = [replace(self.groups[u], members=n) for u, n in zip(used, np.bincount(row_group), strict=True)]
        prefixes = torch.from_numpy(used).to(index.device)
        layers = (layer.select(prefixes, index) for layer in self._apart())
        self._lay_out(layers, groups, self.position[self.slot][index], row_group, self.age[rows])

    def _lay_out(
        self,
        layers: Iterator[Caches],
        groups: list[Group],
        position: torch.Tensor,
        row_group: np.ndarray,
        age: np.ndarray,
    ) -> None:
        """Put rows (their caches in order, of one group together) into blocks; once a change of the batch.

        row_group, age: (B,) of each row its group and how many tokens it has; position (B,).
        """
        device, n = self.network.device, len(row_group)
        self.groups, self.row_group, self.age = groups, row_group, age
        self.room = _whole(max(g.room for g in groups), device)
        counts = np.array([g.members for g in groups])
        size = Layout(groups, int(counts.max())).best_size(self.max_positions)
        rank = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)
        blocks = -(-counts // size)
        self.block_prefix = np.repeat(np.arange(len(counts)), blocks)
        slot = ((np.cumsum(blocks) - blocks)[row_group] + rank // size) * size + rank % size
        row_at = np.zeros(blocks.sum() * size, dtype=np.int64)
        row_at[slot] = np.arange(n)
        self.shape = int(blocks.sum()), size
        self.in_order = n == len(row_at)  # every slot is a row, and in the rows' order
        self.slot, self.row_at, copies = (torch.from_numpy(a).to(device) for a in (slot, row_at, self.block_prefix))
        self.caches = [layer.in_blocks(self.shape, copies, row_at, self.room) for layer in layers]
        if self.network.options.compile:
            _stay_in_place(tensor for cache in self.caches for tensor in cache.tensors())
        self.position = position[self.row_at]
        kv_heads, p = self.decoder.kv_heads, self.caches[0].prefix_v.shape[1]
        # What each slot's own cache holds by now, among all (C, kv_heads, M), and where these stand.
        t = torch.from_numpy(age).to(device)[self.row_at].view(self.shape)
        self.t = t[:, None].expand(-1, kv_heads, -1).flatten()
        self.every = torch.arange(len(self.t), device=device)
        self.unseen, lengths = None, np.array([g.prompt for g in groups])[self.block_prefix]
        if (lengths < p).any():
            unseen = np.where(np.arange(p) < lengths[:, None], 0, -np.inf).astype(np.float32)
            self.unseen = torch.from_numpy(unseen.repeat(kv_heads, axis=0)).to(device)[:, None]  # (C kv_heads, 1, P)

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """Append a token (B,) to each row; hidden states (B, H) behind it."""
        seen = min(-(-(int(self.age.max()) + 1) // _LENGTH_STEP) * _LENGTH_STEP, self.room)
        ids = ids if self.in_order else ids[self.row_at]
        cos, sin = self.angles.index_select(1, self.position.clamp(max=self.angles.shape[1] - 1))
        angles = Angles(cos, sin, self.shape)
        t = self.t.clamp(max=self.room - 1)
        now = ids, angles, self.every, t, self.unseen, self.caches, seen
        hidden = self._forward(self.decoder, self.weights, *now)
        self.age = self.age + 1
        self.t, self.position = self.t + 1, self.position + 1
        return hidden if self.in_order else hidden[self.slot]


def _step(
    decoder: Decoder,
    weights: Sequence[LayerWeights],
    ids: torch.Tensor,
    angles: Angles,
    every: torch.Tensor,
    t: torch.Tensor,
    unseen: torch.Tensor | None,
    caches: list[Caches],
    seen: int,
) -> torch.Tensor:
    """A step of all slots: hidden states (C M, H). ids: (C M,); every, t: (C kv_heads M,)."""
    x = decoder.text_model.embed_tokens(ids)
    late = torch.arange(seen, device=x.device) > t[:, None, None]
    late = torch.zeros(late.shape, device=x.device).masked_fill_(late, -torch.inf)  # (C kv_heads M, 1, seen)
    for i, (w, cache) in enumerate(zip(weights, caches, strict=True)):
        q, k, v = decoder.project_blocks(i, w, x, angles)
        cache.own_k[every, :, t] = k.flatten(0, 2)
        cache.own_v[every, t] = v.flatten(0, 2)
        x = decoder.finish(w, x, _attention(q, cache, seen, unseen, late, decoder.scaling))
    return decoder.final_norm(x)


def _attention(
    q: torch.Tensor, cache: Caches, seen: int, unseen: torch.Tensor | None, late: torch.Tensor, scale: float
) -> torch.Tensor:
    """(C M, heads D) from queries (C, kv_heads, M, heads each, D): one softmax over the prefix, which a block's rows
    read together, and what each has of its own."""
    alone, together = q.flatten(0, 2), q.flatten(2, 3).flatten(0, 1)
    before = _scores(together, cache.prefix_k, unseen, scale)
    after = _scores(alone, cache.own_k[:, :, :seen], late, scale)
    probs = torch.cat([before.view(*alone.shape[:2], -1), after], -1).softmax(-1)
    own_v, prefix_v, p = cache.own_v[:, :seen], cache.prefix_v, cache.prefix_v.shape[1]
    if products.is_slow(q):
        own_v, prefix_v = own_v.float(), prefix_v.float()
    probs = probs.to(own_v.dtype)
    out = torch.bmm(probs[..., p:], own_v).view(together.shape)
    out.baddbmm_(probs[..., :p].view(*together.shape[:2], p), prefix_v)
    return out.to(q.dtype).view(q.shape).transpose(1, 2).flatten(2).flatten(0, 1)


def _scores(q: torch.Tensor, k: torch.Tensor, bias: torch.Tensor | None, scale: float) -> torch.Tensor:
    """scale q @ k + bias of batches (N, m, D) and (N, D, n), in float32 whatever they are kept in."""
    if q.dtype == torch.float32:
        if bias is None:
            return torch.baddbmm(q.new_empty(()), q, k, beta=0, alpha=scale)
        return torch.baddbmm(bias, q, k, alpha=scale)
    scores = (torch.bmm(q, k, out_dtype=torch.float32) if q.is_cuda else q.float() @ k.float()) * scale
    return scores if bias is None else scores + bias


def _whole(length: int, device: str) -> int:
    """As it is on a CPU; on a GPU in eights, where its matrix units want the rows of keys to begin."""
    return length if device == "cpu" else -(-length // 8) * 8


def _compiled(run: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    # Few programs for all shapes: rows leave and join, prefixes differ. On a GPU each shape gets a CUDA graph.
    return torch.compile(run, dynamic=True, mode="reduce-overhead" if torch.cuda.is_available() else None)


def _stay_in_place(tensors: Iterable[torch.Tensor]) -> None:
    """Tell the compiler that these stay where they are: a CUDA graph copies what is not so marked, each time."""
    for tensor in tensors:
        torch._dynamo.mark_static_address(tensor)


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
