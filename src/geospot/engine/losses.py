"""The losses of the Tinker API, on the log-probabilities of the scored tokens. Every loss is a sum over tokens.

The formulas are those of the Tinker documentation (page "Losses"): lp is the log-probability of the target under the
weights in training, q the one recorded when it was sampled, A its advantage, ratio = exp(lp - q). Nothing here
imports torch: a command's --help reads the names.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from tinker import types

# Required inputs beside target_tokens, and the configuration each loss knows with its defaults.
LOSS_INPUTS = {
    "cross_entropy": ("weights",),
    "importance_sampling": ("logprobs", "advantages"),
    "ppo": ("logprobs", "advantages"),
    "cispo": ("logprobs", "advantages"),
}
LOSS_CONFIG: dict[str, dict[str, float]] = {
    "cross_entropy": {},
    "importance_sampling": {},
    "ppo": {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2},
    "cispo": {"clip_low_threshold": 0.0, "clip_high_threshold": 4.0},
}


def check_loss(loss_fn: str, config: Mapping[str, float] | None) -> dict[str, float]:
    """The configuration of a loss with its defaults filled in; ValueError for an unknown loss or key."""
    if loss_fn not in LOSS_INPUTS:
        raise ValueError(f"loss_fn={loss_fn!r}: one of {', '.join(LOSS_INPUTS)}")
    unknown = set(config or {}) - set(LOSS_CONFIG[loss_fn])
    if unknown:
        known = ", ".join(LOSS_CONFIG[loss_fn]) or "none"
        raise ValueError(f"loss_fn_config key {sorted(unknown)[0]!r} is not one of {loss_fn}'s ({known})")
    return {**LOSS_CONFIG[loss_fn], **(config or {})}


def check_datum(datum: "types.Datum", loss_fn: str, length: int) -> dict[str, np.ndarray]:
    """The inputs of a datum as float or int arrays of shape (length,); ValueError where one is missing or misshapen."""
    wanted = ("target_tokens", *LOSS_INPUTS[loss_fn])
    given = datum.loss_fn_inputs
    if set(given) != set(wanted):
        raise ValueError(f"{loss_fn} takes the inputs {', '.join(wanted)}; this datum has {', '.join(sorted(given))}")
    arrays = {key: given[key].to_numpy() for key in wanted}
    for key, array in arrays.items():
        if array.shape != (length,):
            raise ValueError(f"{key} has shape {array.shape}; the model input has {length} tokens")
        if not np.isfinite(array).all():
            raise ValueError(f"{key} holds a value that is not finite")
    if (arrays["target_tokens"] % 1).any():
        raise ValueError("target_tokens holds a value that is not a whole number")
    return arrays


def token_losses(
    loss_fn: str, config: Mapping[str, float], logprobs: "torch.Tensor", inputs: "Mapping[str, torch.Tensor]"
) -> "torch.Tensor":
    """The loss of each scored token; all tensors have shape (K,)."""
    if loss_fn == "cross_entropy":
        return -inputs["weights"] * logprobs
    ratio, advantages = (logprobs - inputs["logprobs"]).exp(), inputs["advantages"]
    if loss_fn == "importance_sampling":
        return -ratio * advantages
    clipped = ratio.clamp(config["clip_low_threshold"], config["clip_high_threshold"])
    if loss_fn == "ppo":
        return -(ratio * advantages).minimum(clipped * advantages)
    return -clipped.detach() * logprobs * advantages  # cispo
