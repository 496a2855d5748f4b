"""The GRPO update: advantages of tokens, minibatches, optimizer steps, and what they say about themselves."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from geospot.asking.requests import Rollouts
from geospot.config import TrainConfig
from geospot.engine.protocols import SamplingClient, ServiceClient, TrainingClient
from geospot.errors import EngineError
from geospot.training.datums import policy_datum, policy_diagnostics
from geospot.training.optim import adam

if TYPE_CHECKING:
    from tinker import types


def per_token(
    rollouts: Rollouts, advantages: Sequence[float], reference: SamplingClient | None, config: TrainConfig
) -> tuple[list[np.ndarray], dict[str, float]]:
    """Advantages of every answer's tokens: the answer's own, less what its drift from the reference costs.

    With `entropy_coef` a token's surprise, -log p, is paid for as well: the score-function gradient of the policy's
    entropy (Williams and Peng, 1991). Both are centred over the step's tokens, so that they move probability without
    changing the reward's scale. EngineError where a log-probability is missing.
    """
    lengths = [len(sequence.tokens) for sequence in rollouts.sequences]
    per_answer = [np.full(n, a) for n, a in zip(lengths, advantages, strict=True)]
    if config.entropy_coef and any(lengths):
        surprise = [-answer_logprobs(sequence) for sequence in rollouts.sequences]
        mean = float(np.concatenate(surprise).mean())
        per_answer = [a + config.entropy_coef * (s - mean) for a, s in zip(per_answer, surprise, strict=True)]
    if reference is None:
        return per_answer, {}
    from tinker import types

    futures = {}
    for i, sequence in enumerate(rollouts.sequences):
        if not sequence.tokens:
            continue  # a service may leave out the token that ends an answer: some are empty then
        prompt = rollouts.prompts[i // rollouts.group_size]
        chunk = types.EncodedTextChunk(tokens=list(sequence.tokens))
        futures[i] = reference.compute_logprobs(types.ModelInput(chunks=[*prompt.chunks, chunk]))
    if not futures:
        return per_answer, {}
    drift = {}
    for i, future in futures.items():
        theirs = _whole(future.result()[-lengths[i] :], lengths[i], "the reference of kl_coef")
        drift[i] = answer_logprobs(rollouts.sequences[i]) - theirs
    mean = float(np.concatenate(list(drift.values())).mean())
    for i, found in drift.items():
        per_answer[i] = per_answer[i] - config.kl_coef * (found - mean)
    return per_answer, {"kl_reference": mean}


def answer_logprobs(sequence: "types.SampledSequence") -> np.ndarray:
    """The sampler's log-probabilities (T,) of an answer; EngineError where one is missing."""
    return _whole(sequence.logprobs, len(sequence.tokens), "the sampler")


def _whole(logprobs: Sequence[float | None] | None, n: int, who: str) -> np.ndarray:
    found = np.array([] if logprobs is None else logprobs, dtype=np.float64)  # None becomes NaN
    if (good := int(np.isfinite(found).sum())) != n or len(found) != n:
        raise EngineError(
            f"{who} gave no finite log-probability for {n - good} of {n} tokens of an answer, and the update needs "
            "them all: take a server that gives them, or a lower learning_rate where the weights have diverged"
        )
    return found


def update(
    training: TrainingClient,
    rollouts: Rollouts,
    token_advantages: Sequence[np.ndarray],
    step: int,
    rate: float,
    config: TrainConfig,
    *,
    on_policy: bool = True,
    groups: np.ndarray | None = None,
) -> dict[str, float]:
    """`num_epochs` passes of `num_substeps` optimizer steps over the step's answers; returns what to log.

    on_policy: the answers are of the weights as they are, so that sampler and trainer must agree. `groups`: the
    indices of those to learn from; None: all.
    """
    size = rollouts.group_size
    chosen = np.arange(len(rollouts.samples)) if groups is None else groups
    kept = [g for g in chosen.tolist() if any(np.any(token_advantages[g * size + m]) for m in range(size))]
    asked, loss_fn = [], cast("types.LossFnType", config.loss_fn)
    for epoch in range(config.num_epochs):
        order = np.random.default_rng([config.seed, step, epoch]).permutation(chosen)
        for part in np.array_split(order, config.num_substeps):
            members = [int(g) * size + m for g in part for m in range(size)]
            data = minibatch(rollouts, token_advantages, members)
            if not data:
                continue  # every group agreed with itself: there is nothing to learn from
            forward = training.forward_backward(data, loss_fn, config.loss_fn_config)
            asked.append((data, forward, training.optim_step(adam(config, rate))))
    # Everything is on its way before the first answer is read: a service works in ticks, and waits for nobody.
    rows: list[dict[str, float]] = []
    first_kl = math.nan
    for data, forward, taken in asked:
        output = forward.result()
        row = policy_diagnostics(data, output.loss_fn_outputs, *config.clips)
        row |= {"loss": output.metrics.get("loss:sum", np.nan)} | (taken.result().metrics or {})
        rows.append(row)
        if len(rows) == 1:
            first_kl = row["kl"]
            if on_policy:
                check_mismatch(first_kl, config)
    out = {"n_updates": len(rows), "learning_rate": rate, "groups_kept": len(kept)}
    out["updates_skipped"] = config.num_epochs * config.num_substeps - len(rows)
    if not rows:
        return out
    means = {key: float(np.mean([row[key] for row in rows if key in row])) for key in rows[0]}
    return means | {"mismatch_kl": first_kl} | out


def minibatch(
    rollouts: Rollouts, token_advantages: Sequence[np.ndarray], members: Sequence[int]
) -> "list[types.Datum]":
    """Datums of some answers, scaled so that the loss is the mean over all their tokens.

    Answers without any advantage are left out: they have no gradient, but their tokens count in the mean.
    """
    n_tokens = sum(len(rollouts.sequences[i].tokens) for i in members)
    data = []
    for i in members:
        if np.any(token_advantages[i]):
            sequence, prompt = rollouts.sequences[i], rollouts.prompts[i // rollouts.group_size]
            advantages = token_advantages[i] / n_tokens
            data.append(policy_datum(prompt, list(sequence.tokens), answer_logprobs(sequence), advantages))
    return data


def check_mismatch(kl: float, config: TrainConfig) -> None:
    """Before the weights have moved, sampler and trainer must agree."""
    if not kl <= config.max_mismatch_kl:  # NaN is no agreement
        raise EngineError(
            f"sampler and trainer disagree: KL {kl:.3g} is above max_mismatch_kl={config.max_mismatch_kl}. The "
            "ratios would be wrong; use dtype=float32, or check that pictures reach both alike"
        )


def reference_sampler(
    service: ServiceClient, training: TrainingClient, run: Path, state: dict[str, Any]
) -> SamplingClient:
    """The weights at the start of the run, for the KL term; kept with the run, so that a resumed one has the same.

    `state` is what checkpoints keep of the loop: where the weights are goes into it.
    """
    folder = run / "checkpoints" / "reference"
    if "reference" not in state:
        shutil.rmtree(folder, ignore_errors=True)  # left by a start that was killed before its first checkpoint
        state["reference"] = training.save_weights_for_sampler("reference").result().path
    path = str(folder) if folder.is_dir() else state["reference"]  # the run may have been moved
    return service.create_sampling_client(model_path=path).result()
