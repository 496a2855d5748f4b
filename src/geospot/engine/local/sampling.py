"""The sampling client of the local engine: answers of one snapshot of the weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tinker import types
from tinker.types.topk_logprobs import MASK_LOGPROB

from geospot.engine.futures import LocalFuture
from geospot.engine.local import state
from geospot.engine.local.batch import Payload, SampleBatch, Snapshot
from geospot.engine.local.inputs import Row, Tokens
from geospot.engine.local.network import Network
from geospot.engine.local.sample_request import Listener, SampleRequest, check_params
from geospot.engine.local.work import Host, Likeliest, R, Sampling, Scoring, Work


class LocalSamplingClient:
    """Stands for `tinker.SamplingClient`: answers of one snapshot of the weights."""

    def __init__(self, service: Host, snapshot: Snapshot):
        self._service, self._snapshot = service, snapshot

    def get_tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._service.scheduler.submit(
            lambda: self._service.network(self._snapshot.spec).processing.tokenizer
        ).result()

    def save(self, folder: str | Path) -> LocalFuture[Path]:
        """Write the weights, for `create_sampling_client(model_path=folder)`."""
        spec, weights = self._snapshot.spec, self._snapshot.weights
        return self._service.scheduler.submit(lambda: state.save_checkpoint(folder, spec, weights, None, 0))

    def sample(
        self,
        prompt: types.ModelInput,
        num_samples: int,
        sampling_params: types.SamplingParams,
        listener: Listener | None = None,
    ) -> LocalFuture[types.SampleResponse]:
        """`num_samples` answers to a prompt as a `SampleResponse`.

        Log-probabilities are those of the model itself, before temperature, top_k and top_p. Requests made before the
        first wait run as one batch. `listener` hears of tokens as they are drawn, from the engine's thread.
        """
        check_params(sampling_params, num_samples)
        payload = (prompt, num_samples, sampling_params, listener)
        key: tuple = ("sample", self._snapshot.key)
        open_batch = None
        if self._service.turns is not None:
            open_batch = lambda: SampleBatch(self._service, self._snapshot)  # noqa: E731
            if self._service.options.batch_invariant:
                key = (*key, object())  # each alone
        return self._service.scheduler.submit_sample(key, self._run, payload, open_batch)

    def _run(self, payloads: list[Payload]) -> list[types.SampleResponse | ValueError]:
        network = self._service.network(self._snapshot.spec)
        prompts = [_tokens_or_error(network, prompt) for prompt, *_ in payloads]
        answers: list = list(prompts)
        good = {i: tokens for i, tokens in enumerate(prompts) if isinstance(tokens, Tokens)}
        requests = [SampleRequest(tokens, *payloads[i][1:]) for i, tokens in good.items()]
        # Alone a request has matrices of the same shapes each time: how a row is summed depends on the rows beside it.
        alone = self._service.options.batch_invariant
        drawn = [a for batch in ([[q] for q in requests] if alone else [requests]) for a in self._sample(batch)]
        for i, sequences in zip(good, drawn, strict=True):
            answers[i] = types.SampleResponse(sequences=sequences)
        return answers

    def _sample(self, requests: list[SampleRequest]) -> list[list[types.SampledSequence]]:
        work = Sampling(requests, self._snapshot.key)
        return self._service.run(self._snapshot.spec, self._snapshot.weights, self._snapshot.key, work)

    def compute_logprobs(self, prompt: types.ModelInput, last_n: int | None = None) -> LocalFuture[list[float | None]]:
        """For each token of the prompt its log-probability given those before it; None for the first and for images.

        last_n: only for the last so many, from 1 to one less than the prompt's length; None: for all.
        """
        key = ("logprobs", self._snapshot.key)
        return self._service.scheduler.submit_sample(key, self._logprobs, (prompt, last_n))

    def _logprobs(self, prompts: list[tuple[types.ModelInput, int | None]]) -> list[list[float | None] | ValueError]:
        network = self._service.network(self._snapshot.spec)
        tokens = [_tokens_or_error(network, prompt) for prompt, _ in prompts]
        for i, (found, (_, last_n)) in enumerate(zip(tokens, prompts, strict=True)):
            if isinstance(found, Tokens) and last_n is not None and not 1 <= last_n < len(found):
                tokens[i] = ValueError(f"prompt_logprobs_last_n={last_n}: from 1 to {len(found) - 1} for this prompt")
        answers: list = [[None] * len(t) if isinstance(t, Tokens) else t for t in tokens]
        good = {i: t for i, t in enumerate(tokens) if isinstance(t, Tokens)}
        rows = [_next_tokens(t, network.processing.banned_token_ids, prompts[i][1]) for i, t in good.items()]
        batches = [[row] for row in rows] if self._service.options.batch_invariant else [rows]
        scored = [values for batch in batches for values in self._score(Scoring(batch)).logprobs]
        for i, row, values in zip(good, rows, scored, strict=True):
            for where in np.flatnonzero(row.scored):
                answers[i][where + 1] = float(values[where])
        return answers

    def target_logprobs(self, prompt: types.ModelInput, targets: np.ndarray) -> LocalFuture[np.ndarray]:
        """Log-probabilities of given tokens after a prompt's positions: row i those of candidates for token i + 1.

        targets: (len(prompt) - 1, K) int64, -1 where nothing is asked; answers float32 of that shape, 0 there.
        """

        def score() -> np.ndarray:
            network = self._service.network(self._snapshot.spec)
            tokens = network.tokens(prompt)
            if targets.shape[:1] != (len(tokens) - 1,) or targets.ndim != 2:
                raise ValueError(f"target_prompt_logprobs has shape {targets.shape}: ({len(tokens) - 1}, K) is needed")
            asked = targets != -1
            wrong = targets[asked & ((targets < 0) | (targets >= network.vocabulary))]
            if len(wrong):
                raise ValueError(f"target_prompt_logprobs holds {wrong[0]}, outside the vocabulary")
            banned = np.isin(targets, network.processing.banned_token_ids)
            none = np.zeros((1, targets.shape[1]), dtype=np.int64)
            scored = np.concatenate([asked & ~banned, none.astype(bool)])
            row = Row(tokens, np.concatenate([targets.astype(np.int64), none]), scored)
            found = self._score(Scoring([row])).logprobs[0][:-1]
            return np.where(asked & banned, -np.inf, found).astype(np.float32)

        return self._service.scheduler.submit(score)

    def topk_logprobs(
        self, prompt: types.ModelInput, k: int, answers: Sequence[Sequence[int]] = (), last_n: int | None = None
    ) -> LocalFuture[list[tuple[np.ndarray, np.ndarray]]]:
        """The k likeliest tokens and their log-probabilities, (N, k): of the prompt, then of each answer to it.

        The rows of the prompt are its tokens', those of an answer the answer's; a row that is not asked for, or has
        nothing before it, is 0 and -99999.
        """

        def find() -> list[tuple[np.ndarray, np.ndarray]]:
            network = self._service.network(self._snapshot.spec)
            if not 1 <= k <= network.vocabulary - len(network.processing.banned_token_ids):
                raise ValueError(f"k={k}: from 1 to the vocabulary")
            whole = [types.ModelInput(chunks=[*prompt.chunks, *_text(answer[:-1])]) for answer in answers]
            tokens = [network.tokens(prompt), *(network.tokens(one) for one in whole)]
            n = len(tokens[0])
            spans = [(max(0, n - 1 - last_n) if last_n else 0, n - 1), *((n - 1, len(t)) for t in tokens[1:])]
            lengths = [n, *map(len, answers)]
            out = [(np.zeros((m, k), np.int32), np.full((m, k), MASK_LOGPROB, np.float32)) for m in lengths]
            asked = [i for i, (a, b) in enumerate(spans) if b > a and lengths[i]]
            rows = [_span(tokens[i], *spans[i]) for i in asked]
            for i, (ids, logprobs) in zip(asked, self._score(Likeliest(rows, k)), strict=True):
                out[i][0][-len(ids) :], out[i][1][-len(ids) :] = ids, logprobs
            return out

        return self._service.scheduler.submit(find)

    def _score(self, work: Work[R]) -> R:
        return self._service.run(self._snapshot.spec, self._snapshot.weights, self._snapshot.key, work)


def _text(tokens: Sequence[int]) -> list[types.EncodedTextChunk]:
    return [types.EncodedTextChunk(tokens=[int(t) for t in tokens])] if len(tokens) else []


def _span(tokens: Tokens, start: int, end: int) -> Row:
    scored = np.zeros(len(tokens), dtype=bool)
    scored[start:end] = True
    return Row(tokens, np.zeros(len(tokens), dtype=np.int64), scored)


def _tokens_or_error(network: Network, prompt: types.ModelInput) -> Tokens | ValueError:
    """A prompt written out, or why it cannot be: one bad prompt must not fail the requests that share its batch."""
    try:
        return network.tokens(prompt)
    except ValueError as error:
        return error


def _next_tokens(tokens: Tokens, banned: tuple[int, ...], last_n: int | None) -> Row:
    """Every text token of a prompt, or of its last, as the target of the position before it."""
    targets = np.append(tokens.ids[1:], 0)
    scored = np.append(~np.isin(tokens.ids[1:], banned), False)
    if last_n is not None:
        scored[: len(tokens) - 1 - last_n] = False
    return Row(tokens, targets, scored)
