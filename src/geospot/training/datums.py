"""Training data in the Tinker API's form: tokens shifted by one, weights or advantages on the answer alone."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tinker import types


def _answer_datum(
    prompt: "types.ModelInput", answer: Sequence[int], **arrays: Sequence[float] | np.ndarray
) -> "types.Datum":
    """The prompt with the answer behind it; `arrays` are (len(answer),), zero elsewhere.

    Position i predicts token i + 1: the last prompt position predicts the answer's first token.
    """
    from tinker import types

    chunks = list(prompt.chunks)
    if len(answer) > 1:
        chunks.append(types.EncodedTextChunk(tokens=list(answer[:-1])))
    length, first = prompt.length + len(answer) - 1, prompt.length - 1

    def spread(values: Sequence[float] | np.ndarray, dtype: type) -> "types.TensorData":
        out = np.zeros(length, dtype=dtype)
        out[first:] = values
        return types.TensorData(data=out, dtype="int64" if dtype is np.int64 else "float32", shape=[length])

    inputs = {"target_tokens": spread(answer, np.int64)}
    inputs |= {name: spread(values, np.float32) for name, values in arrays.items()}
    return types.Datum(model_input=types.ModelInput(chunks=chunks), loss_fn_inputs=inputs)


def supervised_datum(prompt: "types.ModelInput", answer: Sequence[int], weight: float = 1.0) -> "types.Datum":
    """For `cross_entropy`: every token of the answer with this weight."""
    return _answer_datum(prompt, answer, weights=np.full(len(answer), weight))


def policy_datum(
    prompt: "types.ModelInput",
    answer: Sequence[int],
    logprobs: Sequence[float] | np.ndarray,
    advantages: np.ndarray | float,
) -> "types.Datum":
    """For the policy losses: the sampler's logprobs (T,) and the advantages, a number or (T,)."""
    advantages = np.broadcast_to(np.asarray(advantages, dtype=np.float64), (len(answer),))
    return _answer_datum(prompt, answer, logprobs=logprobs, advantages=advantages)


def policy_diagnostics(
    data: "Sequence[types.Datum]", outputs: Sequence[Mapping[str, Any]], clip_low: float, clip_high: float
) -> dict[str, float]:
    """How far the weights in training have moved from those that sampled, over the tokens with an advantage.

    `kl` estimates KL(sampler || trainer) as the mean of exp(r) - 1 - r with r the log ratio
    (Schulman, "Approximating KL Divergence", 2020); `clip_fraction` counts tokens whose ratio is out of bounds on the
    side where the PPO loss stops learning from them.
    """
    ratios, advantages = [], []
    for datum, output in zip(data, outputs, strict=True):
        inputs = datum.loss_fn_inputs
        advantage = inputs["advantages"].to_numpy()
        used = advantage != 0
        ratios.append((output["logprobs"].to_numpy() - inputs["logprobs"].to_numpy())[used])
        advantages.append(advantage[used])
    log_ratio, advantage = np.concatenate(ratios).astype(np.float64), np.concatenate(advantages)
    if not len(log_ratio):
        return {}
    ratio = np.exp(log_ratio)
    clipped = ((ratio > clip_high) & (advantage > 0)) | ((ratio < clip_low) & (advantage < 0))
    return {
        "log_ratio_max": float(np.abs(log_ratio).max()),
        "kl": float((ratio - 1 - log_ratio).mean()),
        "clip_fraction": float(clipped.mean()),
    }
