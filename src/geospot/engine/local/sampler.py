"""Sampling: requests that are waiting run together; finished sequences leave the batch and waiting ones join it."""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tinker import types

from geospot.engine.local.activity import checkpoint
from geospot.engine.local.caches import Group, Layout
from geospot.engine.local.decoding import CachedDecoding, FusedDecoding
from geospot.engine.local.inputs import Tokens
from geospot.engine.local.network import Network
from geospot.engine.local.sample_request import SampleRequest
from geospot.engine.local.sequences import Rows

STRINGS_EVERY = 8  # tokens between searches for stop strings, which need the text


@dataclass
class _Joining:
    """Rows that join behind one prompt: (request, first member, how many) of each request that has it."""

    tokens: Tokens
    parts: list[tuple[int, int, int]] = field(default_factory=list)
    room: int = 0


class _Queue:
    """Requests that wait, shortest prompt first, so that little is padded; one may be let in member by member."""

    def __init__(self, requests: Mapping[int, SampleRequest], *, shares_prefixes: bool):
        self.requests, self.shares_prefixes = requests, shares_prefixes
        self.largest = 1
        self.waiting: deque[tuple[int, int]] = deque()  # (request, members already let in)

    def add(self, i: int) -> None:
        """Let request i wait, behind one that is in by half."""
        if self.shares_prefixes:
            self.largest = max(self.largest, self.requests[i].num_samples)
        key = (len(self.requests[i].tokens), i)
        self.waiting.insert(bisect_left(self.waiting, key, key=self._order), (i, 0))

    def drop(self, i: int) -> None:
        """Forget request i."""
        self.waiting = deque(w for w in self.waiting if w[0] != i)

    def _order(self, waiting: tuple[int, int]) -> tuple[int, int]:
        i, first = waiting
        return (-1 if first else len(self.requests[i].tokens), i)

    def take(self, running: Sequence[Group], max_tokens: int) -> list[_Joining]:
        """What fits beside the groups that are running; at least a row where none are."""
        layout, joining = Layout(running, self.largest), {}

        def fit(q: SampleRequest, n: int) -> bool:
            # A prompt that several requests have is counted for each of them: too much rather than too little.
            return layout.positions(_group(q, n)).min() <= max_tokens

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


class Running:
    """Requests that are sampled together with one set of weights, a token of each at a time; others may join."""

    def __init__(self, network: Network, key: int):
        """With the active weights of `network`, which `key` stands for."""
        self.network, self.key = network, key
        self.decoding = (FusedDecoding if network.decoder is not None else CachedDecoding)(
            network, key, network.max_sample_tokens
        )
        self.requests: dict[int, SampleRequest] = {}
        self.queue = _Queue(self.requests, shares_prefixes=self.decoding.shares_prefixes)
        self.draws: dict[int, np.ndarray] = {}
        self.answers: dict[int, list[Any]] = {}  # sequences, None while they are not done
        self.rows: Rows | None = None
        self.tokens = torch.empty(0, dtype=torch.int64)
        self.n_steps = self.n_collected = 0  # collected: rows that are done and still there
        self._dropped: set[int] = set()

    @property
    def is_idle(self) -> bool:
        """Nothing is left to do."""
        return self.rows is None and not self.queue.waiting

    @property
    def positions(self) -> int:
        """What the caches hold."""
        return int(Layout(self.decoding.groups, self.queue.largest).positions().min()) if self.decoding.groups else 0

    def add(self, i: int, request: SampleRequest) -> None:
        """Let a request join under the number i, which no other has."""
        self.requests[i] = request
        # Drawn for each request alone: what it samples does not depend on who shares its batch.
        rng = np.random.default_rng(request.params.seed)
        self.draws[i] = rng.random((request.num_samples, request.max_tokens))
        self.answers[i] = [None] * request.num_samples
        self.queue.add(i)

    def drop(self, i: int) -> None:
        """Let a request go, its rows with the next step."""
        self.queue.drop(i)
        self._dropped.add(i)

    def resume(self) -> None:
        """After other work on the same network: its weights are active again."""
        self.decoding.resume()

    @torch.inference_mode()
    def step(self, max_tokens: int) -> list[int]:
        """Sample a token for every row; the numbers of the requests that are done with it.

        At most `max_tokens` positions are held in the caches at a time; at least one sequence always runs.
        """
        if self._dropped:
            self._drop_rows()
            if self.is_idle:
                return []
        network, rows = self.network, self.rows
        checkpoint(f"sampling, step {self.n_steps + 1}, answers at once: {0 if rows is None else len(rows)}")
        logits = [] if rows is None else [network.logits(self.decoding.step(self.tokens))]
        if self.queue.waiting and self.decoding.can_join():
            joining = self.queue.take(self.decoding.groups, max_tokens)
            if joining:
                members = [sum(n for _, _, n in j.parts) for j in joining]
                rooms = [j.room for j in joining]
                logits.append(network.logits(self.decoding.join([j.tokens for j in joining], members, rooms)))
                new = [(i, first + m) for j in joining for i, first, n in j.parts for m in range(n)]
                more = Rows(new, self.requests, self.draws, network.processing, network.device)
                rows = self.rows = _extended(rows, more)
        assert rows is not None  # where none were left, some have joined
        self.tokens = rows.add(torch.cat(logits) if len(logits) > 1 else logits[0])
        self.n_steps += 1
        if network.device != "cpu" and self.n_steps % 4:
            return []  # asking the GPU makes it wait
        rows.tell()
        done = rows.table["done"][:, 0].cpu().numpy()
        if rows.with_strings and (self.n_steps % STRINGS_EVERY == 0 or done.any()):
            rows.search_strings(network.processing.tokenizer)
            done = rows.table["done"][:, 0].cpu().numpy()
        leave = bool(done.all() or done.mean() >= 0.25)
        if not leave and int(done.sum()) == self.n_collected:
            return []
        return self._collect(rows, done, leave=leave)

    def _collect(self, rows: Rows, done: np.ndarray, *, leave: bool) -> list[int]:
        """Answers of the rows that are done, which may leave; the requests that have become whole."""
        new = np.array([r for r in np.flatnonzero(done) if self._lacks(*rows.members[r])], dtype=np.int64)
        for row, sequence in zip(new, rows.sequences(new), strict=True):
            i, member = rows.members[row]
            self.answers[i][member] = sequence
        changed = sorted({rows.members[row][0] for row in new})
        self.n_collected = 0 if leave else int(done.sum())
        if leave:
            self._keep(rows, np.flatnonzero(~done))
        return [i for i in changed if all(answer is not None for answer in self.answers[i])]

    def _lacks(self, i: int, member: int) -> bool:
        return i in self.answers and self.answers[i][member] is None

    def _keep(self, rows: Rows, stay: np.ndarray) -> None:
        self.decoding.keep(stay)
        if len(stay):
            rows.keep(stay)
            self.tokens = self.tokens[torch.from_numpy(stay).to(self.tokens.device)]
        else:
            self.rows = None
        here = {i for i, _ in self.queue.waiting} | {i for i, _ in (self.rows.members if self.rows else ())}
        for i in self.requests.keys() - here:
            del self.requests[i], self.draws[i]

    def _drop_rows(self) -> None:
        gone, self._dropped = self._dropped, set()
        if self.rows is not None:
            is_gone = np.array([i in gone for i, _ in self.rows.members])
            if is_gone.any():
                self._keep(self.rows, np.flatnonzero(~is_gone))
                self.n_collected = 0


def sample(
    network: Network, requests: Sequence[SampleRequest], *, max_tokens: int, key: int = 0
) -> list[list[types.SampledSequence]]:
    """The sequences of each request, in order, with the active weights of `network`, which `key` stands for.

    At most `max_tokens` positions are held in the caches at a time; at least one sequence always runs.
    """
    running = Running(network, key)
    for i, request in enumerate(requests):
        running.add(i, request)
    while not running.is_idle:
        running.step(max_tokens)
    return [running.answers[i] for i in range(len(requests))]


def _extended(rows: Rows | None, joining: Rows) -> Rows:
    if rows is None:
        return joining
    rows.extend(joining)
    return rows
