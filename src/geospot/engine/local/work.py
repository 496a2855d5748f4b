"""The two kinds of work that forward passes are done for, cut into shares where several processes do them; and the
host that does them for the clients."""

from collections.abc import Mapping, MutableSet, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import torch
from tinker import types

from geospot.engine.local import passes
from geospot.engine.local.fitting import attempt
from geospot.engine.local.inputs import Row
from geospot.engine.local.network import Network
from geospot.engine.local.options import LocalOptions, NetworkSpec
from geospot.engine.local.sample_request import SampleRequest
from geospot.engine.local.sampler import positions, sample
from geospot.engine.local.scheduler import Scheduler
from geospot.engine.local.turns import Turns
from geospot.engine.losses import token_losses

R = TypeVar("R")
Item = TypeVar("Item")


class Work(Protocol[R]):
    """Something to do with a network's active weights, whole or in shares."""

    def run(self, network: Network) -> R: ...
    def shares(self, n: int) -> tuple[list[Self], list[list[int]]]: ...
    @staticmethod
    def joined(results: Sequence[R], where: Sequence[Sequence[int]], gradients: dict[str, torch.Tensor]) -> R: ...


class Host(Protocol):
    """What the clients need of the service that made them: a model for each spec, and the thread that runs it."""

    options: LocalOptions
    scheduler: Scheduler
    turns: Turns | None  # the same, where it takes turns
    sampled: MutableSet[Any]  # `SampleBatch`es that share the room of the caches

    def next_key(self) -> int: ...
    def network(self, spec: NetworkSpec) -> Network: ...
    def run(self, spec: NetworkSpec, weights: Mapping[str, torch.Tensor], key: int, work: Work[R]) -> R: ...


@dataclass(frozen=True)
class Scored:
    """What `Scoring` finds: log-probabilities of each row (as its targets are shaped, 0 where none was asked for), the
    summed loss, and the gradient by name."""

    logprobs: list[np.ndarray]
    loss: float
    gradients: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Scoring:
    """Log-probabilities of rows and, with a loss, its sum and gradient. `inputs` are each row's, (N,) by name."""

    rows: Sequence[Row]
    inputs: Sequence[Mapping[str, np.ndarray]] = ()
    loss_fn: str | None = None
    config: Mapping[str, float] | None = None
    backward: bool = False

    def run(self, network: Network) -> Scored:
        """With the active weights of `network`."""
        rows, inputs = self.rows, self.inputs
        outputs = [np.zeros(row.targets.shape, dtype=np.float32) for row in rows]
        total, gradients = 0.0, dict[str, torch.Tensor]()

        def run(batch: list[int]) -> None:
            nonlocal total
            logprobs, also = passes.logprobs(network, [rows[i] for i in batch])
            if self.loss_fn is not None:
                names = inputs[batch[0]]
                given = {name: np.concatenate([inputs[i][name][rows[i].scored] for i in batch]) for name in names}
                given["row"] = np.repeat(np.arange(len(batch)), [rows[i].scored.sum() for i in batch])
                given = {name: torch.from_numpy(array).to(logprobs) for name, array in given.items()}
                loss = token_losses(self.loss_fn, self.config or {}, logprobs, given).sum()
                if self.backward and loss.requires_grad and len(logprobs):
                    network.gradients(loss, gradients)
                total += loss.item()
            for values, masks in ((logprobs, [rows[i].scored for i in batch]), (also, [rows[i].also for i in batch])):
                ends = np.cumsum([0 if mask is None else mask.sum() for mask in masks])[:-1]
                for i, mask, part in zip(batch, masks, np.split(values.detach().cpu().numpy(), ends), strict=True):
                    if mask is not None:
                        outputs[i][mask] = part

        with torch.set_grad_enabled(self.backward):
            network.in_batches(rows, run)
        return Scored(outputs, total, gradients)

    def shares(self, n: int) -> tuple[list[Self], list[list[int]]]:
        """One for each of n processes, and which rows each has: rows of one prefix stay together."""
        groups: dict[tuple, list[int]] = {}
        for i, row in enumerate(self.rows):
            groups.setdefault(row.prefix_key, []).append(i)
        costs = [
            self.rows[g[0]].split + sum(len(self.rows[i].tokens) - self.rows[i].split for i in g)
            for g in groups.values()
        ]
        where = [sorted(i for g in part for i in g) for part in balanced(list(groups.values()), costs, n)]
        return [
            replace(self, rows=[self.rows[i] for i in part], inputs=[self.inputs[i] for i in part if self.inputs])
            for part in where
        ], where

    @staticmethod
    def joined(results: Sequence[Scored], where: Sequence[Sequence[int]], gradients: dict[str, torch.Tensor]) -> Scored:
        """The shares' results in the order of the whole, with the gradient that was summed over them."""
        logprobs = in_order([r.logprobs for r in results], where)
        return Scored(logprobs, sum(r.loss for r in results), gradients)


@dataclass(frozen=True)
class Likeliest:
    """The k likeliest tokens at the scored positions of rows."""

    rows: Sequence[Row]
    k: int

    def run(self, network: Network) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of each row the tokens, int32, and their log-probabilities, (scored, k)."""
        found: list[tuple[np.ndarray, np.ndarray]] = [(np.zeros((0, self.k)),) * 2 for _ in self.rows]

        def run(batch: list[int]) -> None:
            rows = [self.rows[i] for i in batch]
            tokens, logprobs = (t.cpu().numpy() for t in passes.likeliest(network, rows, self.k))
            ends = np.cumsum([row.scored.sum() for row in rows])[:-1]
            parts = zip(np.split(tokens.astype(np.int32), ends), np.split(logprobs, ends), strict=True)
            for i, part in zip(batch, parts, strict=True):
                found[i] = part

        network.in_batches(self.rows, run)
        return found

    def shares(self, n: int) -> tuple[list[Self], list[list[int]]]:
        """One for each of n processes, and which rows each has."""
        where = balanced(list(range(len(self.rows))), [len(row.tokens) for row in self.rows], n)
        return [replace(self, rows=[self.rows[i] for i in part]) for part in where], where

    @staticmethod
    def joined(
        results: Sequence[list[tuple[np.ndarray, np.ndarray]]],
        where: Sequence[Sequence[int]],
        gradients: dict[str, torch.Tensor],
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """The shares' answers in the order of the rows."""
        return in_order(results, where)


@dataclass(frozen=True)
class Sampling:
    """Answers to requests; `key` stands for the weights."""

    requests: Sequence[SampleRequest]
    key: int

    def run(self, network: Network) -> list[list[types.SampledSequence]]:
        """With the active weights of `network`, all anew with smaller caches where memory runs out.

        Each request's random numbers come from its own seed, so that the answers stay as they are. MemoryError where
        not even the longest answer alone fits.
        """
        while self.requests:
            limit = network.max_sample_tokens
            answers, failure = attempt(sample, network, self.requests, max_tokens=limit, key=self.key)
            if failure is None:
                return answers
            network.max_sample_tokens = self.fewer(network, limit, failure)
        return []

    def fewer(self, network: Network, limit: int, failure: BaseException) -> int:
        """Half of the cache positions that did not fit, and no less than one answer takes."""
        alone = max(len(q.tokens) + q.max_tokens for q in self.requests)
        tokens = min(limit, positions(self.requests, shares_prefixes=network.decoder is not None))
        if tokens <= alone:
            raise MemoryError(
                f"one answer and its prompt, {alone} tokens, do not fit into memory (max_sample_tokens={limit}): set "
                "merge_lora=false, or a smaller max_tokens, group_size, max_pixels or picture_cache_mb"
            ) from failure
        fewer = max(alone, tokens // 2)
        print(f"sampling with {tokens} tokens in the caches ran out of memory: max_sample_tokens={fewer}")
        return fewer

    def shares(self, n: int) -> tuple[list[Self], list[list[int]]]:
        """One for each of n processes, and which requests each has."""
        costs = [len(q.tokens) + q.num_samples * q.max_tokens for q in self.requests]
        where = [sorted(part) for part in balanced(list(range(len(costs))), costs, n)]
        return [replace(self, requests=[self.requests[i] for i in part]) for part in where], where

    @staticmethod
    def joined(
        results: Sequence[list[list[types.SampledSequence]]],
        where: Sequence[Sequence[int]],
        gradients: dict[str, torch.Tensor],
    ) -> list[list[types.SampledSequence]]:
        """The shares' answers in the order of the requests."""
        return in_order(results, where)


def balanced(items: Sequence[Item], costs: Sequence[float], n: int) -> list[list[Item]]:
    """Items in n parts of about equal cost: the most costly first, each to the part that has least."""
    parts: list[list[Item]] = [[] for _ in range(n)]
    loads = [0.0] * n
    for i in sorted(range(len(items)), key=lambda i: (-costs[i], i)):
        least = loads.index(min(loads))
        parts[least].append(items[i])
        loads[least] += costs[i]
    return parts


def in_order(results: Sequence[Sequence[Item]], where: Sequence[Sequence[int]]) -> list[Item]:
    """Results of parts put back at their places."""
    placed = {place: r for part, to in zip(results, where, strict=True) for r, place in zip(part, to, strict=True)}
    return [placed[place] for place in range(len(placed))]
