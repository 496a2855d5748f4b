"""Sampling: requests that are waiting run together; finished sequences leave the batch and waiting ones join it."""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tinker import types

from geospot.engine.local.activity import checkpoint
from geospot.engine.local.caches import Group, Layout
from geospot.engine.local.decoding import CachedDecoding, FusedDecoding
from geospot.engine.local.drawing import choose
from geospot.engine.local.inputs import Tokens
from geospot.engine.local.network import Network

DEFAULT_MAX_TOKENS = 512
_STRINGS_EVERY = 8  # tokens between searches for stop strings, which need the text


@dataclass(frozen=True)
class SampleRequest:
    """One call of `sample`: the prompt, how many answers, and how they are drawn."""

    tokens: Tokens
    num_samples: int
    params: types.SamplingParams

    @property
    def max_tokens(self) -> int:
        """The limit of an answer's length."""
        return self.params.max_tokens or DEFAULT_MAX_TOKENS

    @property
    def prompt_key(self) -> tuple:
        """Equal for requests with the same prompt."""
        return self.tokens.ids.tobytes(), self.tokens.pictures


# Room is made for all of a request's tokens beforehand: one that asks for more must not take everybody's memory.
_MOST_TOKENS, _MOST_IN_ALL, _MOST_INT = 2**15, 2**24, 2**31 - 1


def check_params(params: types.SamplingParams, num_samples: int) -> None:
    """ValueError that names the value and the range, for values that cannot be sampled with.

    What passes here must not fail in a batch, which others share.
    """
    max_tokens = DEFAULT_MAX_TOKENS if params.max_tokens is None else params.max_tokens
    if num_samples < 1:
        raise ValueError(f"num_samples={num_samples}: must be at least 1")
    if not 1 <= max_tokens <= _MOST_TOKENS:
        raise ValueError(f"max_tokens={max_tokens}: must be at least 1 and at most {_MOST_TOKENS}")
    if num_samples * max_tokens > _MOST_IN_ALL:
        raise ValueError(
            f"num_samples={num_samples}, max_tokens={max_tokens}: at most {_MOST_IN_ALL} tokens a request; ask in parts"
        )
    if params.seed is not None and params.seed < 0:
        raise ValueError(f"seed={params.seed}: must be 0 or above")
    if not 0 <= params.temperature < float("inf"):
        raise ValueError(f"temperature={params.temperature}: must be 0 (greedy) or above")
    if not 0 < params.top_p <= 1:
        raise ValueError(f"top_p={params.top_p}: must be above 0 and at most 1")
    if params.top_k != -1 and not 1 <= params.top_k <= _MOST_INT:
        raise ValueError(f"top_k={params.top_k}: must be -1 (off), or at least 1 and at most {_MOST_INT}")
    for stop in () if params.stop is None else params.stop:
        if not isinstance(stop, str) and not 0 <= stop <= _MOST_INT:
            raise ValueError(f"stop={stop}: token ids are from 0 to {_MOST_INT}")


class _Rows:
    """The sequences in the batch, one row each: what was sampled for them and what ends them, in tensors."""

    def __init__(
        self,
        members: Sequence[tuple[int, int]],
        requests: Sequence[SampleRequest],
        draws: Sequence[np.ndarray],
        tokenizer: Any,
        device: str,
    ):
        """members: (request, member) of each row; draws: the uniform numbers of each request, (members, max_tokens)."""
        self.members, self.requests = list(members), requests
        own = [requests[q] for q, _ in members]
        # One column more than is asked for: what is still drawn for a finished row falls behind its end.
        longest, n = max(q.max_tokens for q in own) + 1, len(own)
        uniforms = np.zeros((n, longest))
        for row, (q, member) in enumerate(members):
            uniforms[row, : requests[q].max_tokens] = draws[q][member]
        stops = [_stops(q.params.stop, tokenizer) for q in own]
        ids = np.full((n, max(1, *(len(s) for s, _ in stops)) if n else 1), -1)
        for row, (stop_ids, _) in enumerate(stops):
            ids[row, : len(stop_ids)] = stop_ids
        self.strings = [strings for _, strings in stops]
        self.searched = np.zeros(n, dtype=np.int64)

        def column(values: Sequence[float], dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.tensor(values, dtype=dtype, device=device)[:, None]

        self.table = {
            "tokens": torch.zeros(n, longest, dtype=torch.int64, device=device),
            "logprobs": torch.zeros(n, longest, device=device),
            "uniforms": torch.from_numpy(uniforms).to(device, torch.float64 if device == "cpu" else None),
            "stop_ids": torch.from_numpy(ids).to(device),
            "temperature": column([q.params.temperature for q in own]),
            "top_k": column([q.params.top_k for q in own]),
            "top_p": column([q.params.top_p for q in own]),
            "limit": column([q.max_tokens for q in own], torch.int64),
            "length": torch.zeros(n, 1, dtype=torch.int64, device=device),
            "done": torch.zeros(n, 1, dtype=torch.bool, device=device),
            "stopped": torch.zeros(n, 1, dtype=torch.bool, device=device),
        }
        self._look()

    def __len__(self) -> int:
        return len(self.members)

    def _look(self) -> None:
        """What holds for all rows, once a change of the batch."""
        own = [self.requests[q].params for q, _ in self.members]
        self.untempered = all(p.temperature == 1 for p in own)
        self.untruncated = all(p.top_p >= 1 and p.top_k == -1 for p in own)
        self.with_strings = [row for row, strings in enumerate(self.strings) if strings]

    def extend(self, other: "_Rows") -> None:
        """Add rows that join."""
        self.members += other.members
        self.strings = [*self.strings, *other.strings]
        self.searched = np.concatenate([self.searched, other.searched])
        for name, mine in self.table.items():
            theirs = other.table[name]
            width = max(mine.shape[1], theirs.shape[1])
            fill = -1 if name == "stop_ids" else 0
            wide = (torch.nn.functional.pad(t, (0, width - t.shape[1]), value=fill) for t in (mine, theirs))
            self.table[name] = torch.cat(list(wide))
        self._look()

    def keep(self, rows: np.ndarray) -> None:
        """Let all rows go but these."""
        self.members = [self.members[row] for row in rows]
        self.strings = [self.strings[row] for row in rows]
        self.searched = self.searched[rows]
        index = torch.from_numpy(rows).to(self.table["done"].device)
        self.table = {name: t[index] for name, t in self.table.items()}
        self._look()

    def add(self, logits: torch.Tensor) -> torch.Tensor:
        """Draw a token for every row that goes on; returns the tokens (B,), of finished rows without meaning."""
        t = self.table
        at = t["length"]
        temperature = None if self.untempered else t["temperature"]
        truncation = None if self.untruncated else (t["top_k"], t["top_p"])
        tokens, logprobs = choose(logits, t["uniforms"].gather(1, at)[:, 0], temperature, truncation)
        going = ~t["done"]
        t["tokens"].scatter_(1, at, tokens[:, None])
        t["logprobs"].scatter_(1, at, logprobs[:, None])
        t["length"] += going
        hit = (tokens[:, None] == t["stop_ids"]).any(1, keepdim=True) & going
        t["stopped"] |= hit
        t["done"] |= hit | (t["length"] >= t["limit"])
        return tokens

    def search_strings(self, tokenizer: Any) -> None:
        """End rows whose text holds one of their stop strings at the token that completed it."""
        for row in self.with_strings:
            length = int(self.table["length"][row])
            tokens = self.table["tokens"][row, :length].tolist()
            if any(stop in tokenizer.decode(tokens) for stop in self.strings[row]):
                ends = range(int(self.searched[row]) + 1, length + 1)
                text_until = ((n, tokenizer.decode(tokens[:n])) for n in ends)
                first = next(n for n, text in text_until if any(stop in text for stop in self.strings[row]))
                self.table["length"][row] = first
                self.table["stopped"][row] = self.table["done"][row] = True
                length = first
            self.searched[row] = length

    def sequences(self, rows: np.ndarray) -> list[types.SampledSequence]:
        """Finished rows as the API gives them."""
        index = torch.from_numpy(rows).to(self.table["done"].device)
        names = ("tokens", "logprobs", "length", "stopped")
        tokens, logprobs, lengths, stopped = (self.table[name][index].cpu().numpy() for name in names)
        return [
            types.SampledSequence(
                stop_reason="stop" if stopped[i, 0] else "length",
                sequence_id=f"{self.members[row][0]}-{self.members[row][1]}",
                tokens_np=tokens[i, : lengths[i, 0]].astype(np.int32),
                logprobs_np=logprobs[i, : lengths[i, 0]].copy(),
            )
            for i, row in enumerate(rows)
        ]


def _stops(stop: str | Sequence[str] | Sequence[int] | None, tokenizer: Any) -> tuple[list[int], tuple[str, ...]]:
    """Token ids and strings that end an answer; the end of the turn where nothing is given."""
    if stop is None:
        return [tokenizer.eos_token_id], ()
    if isinstance(stop, str):
        return [], (stop,)
    return [s for s in stop if not isinstance(s, str)], tuple(s for s in stop if isinstance(s, str))


@dataclass
class _Joining:
    """Rows that join behind one prompt: (request, first member, how many) of each request that has it."""

    tokens: Tokens
    parts: list[tuple[int, int, int]] = field(default_factory=list)
    room: int = 0


class _Queue:
    """Requests that wait, shortest prompt first, so that little is padded; one may be let in member by member."""

    def __init__(self, requests: Sequence[SampleRequest], max_tokens: int, *, shares_prefixes: bool):
        self.requests, self.max_tokens = requests, max_tokens
        self.largest = _largest(requests, shares_prefixes)
        order = sorted(range(len(requests)), key=lambda i: (len(requests[i].tokens), i))
        self.waiting = deque((i, 0) for i in order)  # (request, members already let in)

    def take(self, running: Sequence[Group]) -> list[_Joining]:
        """What fits beside the groups that are running; at least a row where none are."""
        layout, joining = Layout(running, self.largest), {}

        def fit(q: SampleRequest, n: int) -> bool:
            # A prompt that several requests have is counted for each of them: too much rather than too little.
            return layout.positions(_group(q, n)).min() <= self.max_tokens

        while self.waiting:
            i, first = self.waiting[0]
            q = self.requests[i]
            n = q.num_samples - first
            if not fit(q, n):
                if running or joining:
                    break
                n = max(1, bisect_right(range(1, n), False, key=lambda m: not fit(q, m)))  # alone and too large
            self.waiting.popleft()
            if first + n < q.num_samples:
                self.waiting.appendleft((i, first + n))
            layout.add(_group(q, n))
            one = joining.setdefault(q.prompt_key, _Joining(q.tokens))
            one.parts.append((i, first, n))
            one.room = max(one.room, q.max_tokens)
        return list(joining.values())


def positions(requests: Sequence[SampleRequest], *, shares_prefixes: bool) -> int:
    """Cache positions that requests take which run together."""
    layout = Layout((_group(q, q.num_samples) for q in requests), _largest(requests, shares_prefixes))
    return int(layout.positions().min())


def _group(q: SampleRequest, members: int) -> Group:
    return Group(len(q.tokens), members, q.max_tokens)


def _largest(requests: Sequence[SampleRequest], shares_prefixes: bool) -> int:
    """Slots of the largest block: one where each row has its prefix for itself."""
    return max((q.num_samples for q in requests), default=1) if shares_prefixes else 1


@torch.inference_mode()
def sample(
    network: Network, requests: Sequence[SampleRequest], *, max_tokens: int, key: int = 0
) -> list[list[types.SampledSequence]]:
    """The sequences of each request, in order, with the active weights of `network`, which `key` stands for.

    At most `max_tokens` positions are held in the caches at a time; at least one sequence always runs.
    """
    decoding = (FusedDecoding if network.decoder is not None else CachedDecoding)(network, key, max_tokens)
    queue = _Queue(requests, max_tokens, shares_prefixes=decoding.shares_prefixes)
    # Drawn for each request alone: what it samples does not depend on who shares its batch.
    draws = [np.random.default_rng(q.params.seed).random((q.num_samples, q.max_tokens)) for q in requests]
    answers: list[list] = [[None] * q.num_samples for q in requests]
    tokenizer, on_cpu = network.processing.tokenizer, network.device == "cpu"
    rows: _Rows | None = None
    tokens = torch.empty(0, dtype=torch.int64)
    step = 0
    while True:
        checkpoint(f"sampling, step {step + 1}, answers at once: {0 if rows is None else len(rows)}")
        logits = [] if rows is None else [network.logits(decoding.step(tokens))]
        if queue.waiting and decoding.can_join() and (joining := queue.take(decoding.groups)):
            members = [sum(n for _, _, n in j.parts) for j in joining]
            logits.append(
                network.logits(decoding.join([j.tokens for j in joining], members, [j.room for j in joining]))
            )
            new = [(i, first + m) for j in joining for i, first, n in j.parts for m in range(n)]
            rows = _extended(rows, _Rows(new, requests, draws, tokenizer, network.device))
        assert rows is not None  # where none were left, some have joined
        tokens = rows.add(torch.cat(logits) if len(logits) > 1 else logits[0])
        step += 1
        if not on_cpu and step % 4:
            continue  # asking the GPU makes it wait
        done = rows.table["done"][:, 0].cpu().numpy()
        if rows.with_strings and (step % _STRINGS_EVERY == 0 or done.any()):
            rows.search_strings(tokenizer)
            done = rows.table["done"][:, 0].cpu().numpy()
        if done.all() or done.mean() >= 0.25:
            left = np.flatnonzero(done)
            for row, sequence in zip(left, rows.sequences(left), strict=True):
                i, member = rows.members[row]
                answers[i][member] = sequence
            stay = np.flatnonzero(~done)
            decoding.keep(stay)
            if len(stay):
                rows.keep(stay)
                tokens = tokens[torch.from_numpy(stay).to(tokens.device)]
            else:
                rows = None
                if not queue.waiting:
                    return answers


def _extended(rows: _Rows | None, joining: _Rows) -> _Rows:
    if rows is None:
        return joining
    rows.extend(joining)
    return rows
