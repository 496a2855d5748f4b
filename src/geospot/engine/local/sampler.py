"""Sampling: all requests that are waiting form one batch; a group's picture and prompt are run once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tinker import types

from geospot.engine.local.inputs import Tokens
from geospot.engine.local.network import Network

DEFAULT_MAX_TOKENS = 512


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


def check_params(params: types.SamplingParams, num_samples: int) -> None:
    """ValueError that names the value and the range, for values that cannot be sampled with."""
    if num_samples < 1:
        raise ValueError(f"num_samples={num_samples}: must be at least 1")
    if params.max_tokens is not None and params.max_tokens < 1:
        raise ValueError(f"max_tokens={params.max_tokens}: must be at least 1")
    if not 0 <= params.temperature < float("inf"):
        raise ValueError(f"temperature={params.temperature}: must be 0 (greedy) or above")
    if not 0 < params.top_p <= 1:
        raise ValueError(f"top_p={params.top_p}: must be above 0 and at most 1")
    if params.top_k != -1 and params.top_k < 1:
        raise ValueError(f"top_k={params.top_k}: must be -1 (off) or at least 1")


class _Rows:
    """The sequences of a batch, one row each, and what has been sampled for them."""

    def __init__(self, requests: Sequence[SampleRequest], tokenizer, device: str):
        self.request = [q for q in requests for _ in range(q.num_samples)]
        n, longest = len(self.request), max(q.max_tokens for q in requests)
        self.tokens = np.zeros((n, longest), dtype=np.int64)
        self.logprobs = np.zeros((n, longest), dtype=np.float32)
        self.length = np.zeros(n, dtype=int)
        self.stopped = np.zeros(n, dtype=bool)
        self.tokenizer = tokenizer
        self.uniforms = np.concatenate([self._draw(q, longest) for q in requests])
        self.stop_ids, self.stop_strings = zip(*(self._stops(q) for q in self.request), strict=True)
        self.all_stop_ids = sorted(set().union(*self.stop_ids))
        self.limit = np.array([q.max_tokens for q in self.request])

        def column(name):
            values = [getattr(q.params, name) for q in self.request]
            return torch.tensor(values, dtype=torch.float32, device=device)[:, None]

        self.temperature, self.top_p, self.top_k = column("temperature"), column("top_p"), column("top_k")
        self.plain = all(q.params.top_p >= 1 and q.params.top_k == -1 for q in requests)

    @staticmethod
    def _draw(request: SampleRequest, longest: int) -> np.ndarray:
        # Drawn for the request alone: what it samples does not depend on who shares its batch.
        rng = np.random.default_rng(request.params.seed)
        draws = rng.random((request.num_samples, request.max_tokens))
        return np.pad(draws, ((0, 0), (0, longest - request.max_tokens)))

    def _stops(self, request: SampleRequest) -> tuple[frozenset[int], tuple[str, ...]]:
        stop = request.params.stop
        if stop is None:
            return frozenset({self.tokenizer.eos_token_id}), ()
        if isinstance(stop, str):
            return frozenset(), (stop,)
        return (
            frozenset(s for s in stop if not isinstance(s, str)),
            tuple(s for s in stop if isinstance(s, str)),
        )

    def add(self, rows: np.ndarray, tokens: np.ndarray, logprobs: np.ndarray) -> np.ndarray:
        """Append one token to each of `rows`; returns a mask of those that go on."""
        t = self.length[rows]
        self.tokens[rows, t], self.logprobs[rows, t] = tokens, logprobs
        self.length[rows] += 1
        going = self.length[rows] < self.limit[rows]
        for i in np.flatnonzero(np.isin(tokens, self.all_stop_ids)):
            self.stopped[rows[i]] |= int(tokens[i]) in self.stop_ids[rows[i]]
        for row in rows:
            if self.stop_strings[row]:
                text = self.tokenizer.decode(self.tokens[row, : self.length[row]])
                self.stopped[row] |= any(stop in text for stop in self.stop_strings[row])
        return going & ~self.stopped[rows]

    def sequence(self, row: int) -> types.SampledSequence:
        """The finished row as the API gives it."""
        n = self.length[row]
        return types.SampledSequence(
            stop_reason="stop" if self.stopped[row] else "length",
            sequence_id=f"{row}",
            tokens_np=self.tokens[row, :n].astype(np.int32),
            logprobs_np=self.logprobs[row, :n].copy(),
        )


def _filtered(probs: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Probabilities (B, V) outside the k likeliest, or outside the likeliest of total mass p, set to 0."""
    ordered, index = probs.sort(-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    rank = torch.arange(probs.shape[-1], device=probs.device)
    # Off is off: rounding must not cut the tail of a row that only shares its batch with truncated ones.
    keep = ((before < top_p) | (top_p >= 1)) & ((top_k < 0) | (rank < top_k))
    return torch.zeros_like(probs).scatter(-1, index, ordered * keep)


def _choose(logits: torch.Tensor, rows: _Rows, active: torch.Tensor, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Next tokens (B,) and their log-probabilities (B,) under the untempered, untruncated distribution."""
    logprobs = logits.log_softmax(-1)
    temperature = rows.temperature[active]
    if bool((temperature == 1).all()) and rows.plain:
        probs = logprobs.exp()
    else:
        probs = (logits / temperature.clamp(min=1e-6)).softmax(-1)
        if not rows.plain:
            probs = _filtered(probs, rows.top_k[active], rows.top_p[active])
    # The inverse of the cumulative distribution: one random number a row instead of one a token of the vocabulary.
    cumulative = probs.double().cumsum(-1)
    u = torch.from_numpy(rows.uniforms[active.cpu().numpy(), step])[:, None].to(cumulative)
    chosen = torch.searchsorted(cumulative, u * cumulative[:, -1:], right=True).clamp_(max=logits.shape[-1] - 1)
    chosen = torch.where(temperature == 0, logits.argmax(-1, keepdim=True), chosen)
    return chosen[:, 0].cpu().numpy(), logprobs.gather(-1, chosen)[:, 0].cpu().numpy()


@torch.inference_mode()
def sample(network: Network, requests: Sequence[SampleRequest]) -> list[list[types.SampledSequence]]:
    """The sequences of each request, in order. The active weights of `network` are used."""
    rows = _Rows(requests, network.processing.tokenizer, network.device)
    first: dict[tuple, int] = {}
    prompt_of = [first.setdefault((q.tokens.ids.tobytes(), q.tokens.pictures), len(first)) for q in rows.request]
    prompts = [rows.request[prompt_of.index(u)].tokens for u in range(len(first))]
    hidden, mask, cache, next_position = network.prefill(prompts, [len(p) for p in prompts])
    select = torch.tensor(prompt_of, device=network.device)
    logits = network.logits(hidden[:, -1])[select]
    cache.batch_select_indices(select)
    mask, next_position = mask[select], next_position[select]
    active = torch.arange(len(rows.request), device=network.device)
    for step in range(rows.tokens.shape[1]):
        tokens, logprobs = _choose(logits, rows, active, step)
        going = torch.from_numpy(rows.add(active.cpu().numpy(), tokens, logprobs)).to(network.device)
        if not going.any():
            break
        ids = torch.from_numpy(tokens).to(network.device)
        if not going.all():  # finished sequences leave the batch
            keep = going.nonzero()[:, 0]
            cache.batch_select_indices(keep)
            ids, active, mask, next_position = ids[keep], active[keep], mask[keep], next_position[keep]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        positions = (next_position + step)[:, None]
        logits = network.logits(network.extend(ids[:, None], mask, positions, cache)[:, 0])
    out, row = [], 0
    for request in requests:
        out.append([rows.sequence(row + i) for i in range(request.num_samples)])
        row += request.num_samples
    return out


def batches(requests: Sequence[SampleRequest], max_tokens: int) -> list[list[int]]:
    """Indices of requests in batches whose caches hold at most `max_tokens` positions; one request always fits.

    Sorted by the prompts' lengths, so that little is padded.
    """
    order = sorted(range(len(requests)), key=lambda i: (len(requests[i].tokens), i))
    out: list[list[int]] = []
    held = 0
    for i in order:
        need = requests[i].num_samples * (len(requests[i].tokens) + requests[i].max_tokens)
        if not out or held + need > max_tokens:
            out.append([])
            held = 0
        out[-1].append(i)
        held += need
    return out
