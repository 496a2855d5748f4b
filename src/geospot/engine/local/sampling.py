"""The sampling client of the local engine: answers of one snapshot of the weights."""

from pathlib import Path
from typing import Any

import numpy as np
from tinker import types

from geospot.engine.futures import LocalFuture
from geospot.engine.local import state
from geospot.engine.local.batch import SampleBatch, Snapshot
from geospot.engine.local.inputs import Row, Tokens
from geospot.engine.local.network import Network
from geospot.engine.local.requests import SampleRequest, check_params
from geospot.engine.local.work import Host, Sampling, Scoring


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
        self, prompt: types.ModelInput, num_samples: int, sampling_params: types.SamplingParams
    ) -> LocalFuture[types.SampleResponse]:
        """`num_samples` answers to a prompt as a `SampleResponse`.

        Log-probabilities are those of the model itself, before temperature, top_k and top_p. Requests made before the
        first wait run as one batch.
        """
        check_params(sampling_params, num_samples)
        payload = (prompt, num_samples, sampling_params)
        key: tuple = ("sample", self._snapshot.key)
        open_batch = None
        if self._service.turns is not None:
            open_batch = lambda: SampleBatch(self._service, self._snapshot)  # noqa: E731
            if self._service.options.batch_invariant:
                key = (*key, object())  # each alone
        return self._service.scheduler.submit_sample(key, self._run, payload, open_batch)

    def _run(
        self, payloads: list[tuple[types.ModelInput, int, types.SamplingParams]]
    ) -> list[types.SampleResponse | ValueError]:
        network = self._service.network(self._snapshot.spec)
        prompts = [_tokens_or_error(network, prompt) for prompt, _, _ in payloads]
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
        scored = self._service.run(self._snapshot.spec, self._snapshot.weights, self._snapshot.key, Scoring(rows))
        for i, row, values in zip(good, rows, scored.logprobs, strict=True):
            for where in np.flatnonzero(row.scored):
                answers[i][where + 1] = float(values[where])
        return answers


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
