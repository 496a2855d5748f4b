"""The losses of the Tinker API, on the log-probabilities of the scored tokens. Every loss is a sum over tokens.

The formulas are those of the Tinker documentation (page "Losses"): lp is the log-probability of the target under the
weights in training, q the one recorded when it was sampled, A its advantage, ratio = exp(lp - q). Nothing here
imports torch: a command's --help reads the names.
"""

import math
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
    "dro": ("logprobs", "advantages"),
    "gspo": ("logprobs", "advantages", "sequence_ratio_mask"),
}
# Inputs that may be left out, with the value that they then have everywhere.
_DEFAULTS = {"weights": 1.0}
# Losses that the API names and that are refused here, with the reason.
_UNKNOWN = {
    "stable_reinforce": "its objective is not published, nor what a sampler records for it, nor its default kl_coeff, "
    "and another loss in its place would be a silent change; take importance_sampling, ppo, cispo or gspo",
    "custom": "custom losses run in the client: forward_backward_custom",
}
LOSS_CONFIG: dict[str, dict[str, float]] = {
    "cross_entropy": {},
    "importance_sampling": {},
    "ppo": {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2},
    "cispo": {"clip_low_threshold": 0.0, "clip_high_threshold": 4.0},
    "dro": {},
    # As in the paper (Zheng et al., "Group Sequence Policy Optimization", 2025, section 5.1).
    "gspo": {"clip_low_threshold": 1 - 3e-4, "clip_high_threshold": 1 + 4e-4},
}
_NEEDED = {"dro": ("beta",)}  # configuration without a default
# What `loss=` of a run offers: those whose inputs its steps have and whose settings all have a default.
OF_ANSWERS = tuple(
    name for name, inputs in LOSS_INPUTS.items() if set(inputs) == {"logprobs", "advantages"} and name not in _NEEDED
)


def check_loss(loss_fn: str, config: Mapping[str, float] | None) -> dict[str, float]:
    """The configuration of a loss with its defaults filled in; ValueError for an unknown loss or key."""
    if loss_fn not in LOSS_INPUTS:
        reason = f": {_UNKNOWN[loss_fn]}" if loss_fn in _UNKNOWN else f": one of {', '.join(LOSS_INPUTS)}"
        raise ValueError(f"loss_fn={loss_fn!r}{reason}")
    given, needed = config or {}, _NEEDED.get(loss_fn, ())
    unknown = set(given) - set(LOSS_CONFIG[loss_fn]) - set(needed)
    if unknown:
        known = ", ".join([*LOSS_CONFIG[loss_fn], *needed]) or "none"
        raise ValueError(f"loss_fn_config key {sorted(unknown)[0]!r} is not one of {loss_fn}'s ({known})")
    if missing := [key for key in needed if key not in given]:
        raise ValueError(f"{loss_fn} needs the loss_fn_config key {missing[0]!r}")
    for key, value in given.items():
        if not math.isfinite(value):
            raise ValueError(f"loss_fn_config {key}={value}: must be finite")
    whole = {**LOSS_CONFIG[loss_fn], **given}
    low, high = whole.get("clip_low_threshold", 0.0), whole.get("clip_high_threshold", math.inf)
    if low > high:
        raise ValueError(f"clip_low_threshold={low} is above clip_high_threshold={high}: both bound the ratio itself")
    return whole


def check_datum(datum: "types.Datum", loss_fn: str, length: int) -> dict[str, np.ndarray]:
    """The inputs of a datum as float or int arrays; ValueError where one is missing or misshapen.

    All have the shape (length,); those of cross_entropy may be (length, K): K targets for each position.
    """
    wanted = ("target_tokens", *LOSS_INPUTS[loss_fn])
    given = datum.loss_fn_inputs
    missing = [key for key in wanted if key not in given and key not in _DEFAULTS]
    if missing or not set(given) <= set(wanted):
        raise ValueError(f"{loss_fn} takes the inputs {', '.join(wanted)}; this datum has {', '.join(sorted(given))}")
    arrays = {key: given[key].to_numpy() for key in wanted if key in given}
    targets = arrays["target_tokens"]
    if targets.shape[:1] != (length,) or targets.ndim > (2 if loss_fn == "cross_entropy" else 1):
        raise ValueError(f"target_tokens has shape {targets.shape}; the model input has {length} tokens")
    for key, array in arrays.items():
        if array.shape != targets.shape:
            raise ValueError(f"{key} has shape {array.shape}; target_tokens has {targets.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{key} holds a value that is not finite")
    if (targets % 1).any():
        raise ValueError("target_tokens holds a value that is not a whole number")
    if loss_fn == "gspo" and not (arrays["sequence_ratio_mask"] != 0).any():
        raise ValueError("sequence_ratio_mask marks no token: the ratio of the sequence is a mean over those")
    return {key: arrays.get(key, np.full(targets.shape, _DEFAULTS.get(key), np.float32)) for key in wanted}


def counted(loss_fn: str, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Where a target takes part in the loss, bool of the inputs' shape."""
    if loss_fn == "cross_entropy":
        return inputs["weights"] != 0
    if loss_fn == "dro":  # its penalty holds wherever the formula sums
        return np.ones(inputs["advantages"].shape, dtype=bool)
    if loss_fn == "gspo":
        return (inputs["advantages"] != 0) | (inputs["sequence_ratio_mask"] != 0)
    return inputs["advantages"] != 0


def token_losses(
    loss_fn: str, config: Mapping[str, float], logprobs: "torch.Tensor", inputs: "Mapping[str, torch.Tensor]"
) -> "torch.Tensor":
    """The loss of each scored token; all tensors have shape (K,). gspo reads `row`, too: a token's sequence."""
    if loss_fn == "cross_entropy":
        return -inputs["weights"] * logprobs
    log_ratio, advantages = logprobs - inputs["logprobs"], inputs["advantages"]
    if loss_fn == "dro":
        return 0.5 * config["beta"] * log_ratio**2 - logprobs * advantages
    if loss_fn == "gspo":
        log_ratio = _of_sequences(log_ratio.detach(), inputs) + logprobs - logprobs.detach()
    ratio = log_ratio.exp()
    if loss_fn == "importance_sampling":
        return -ratio * advantages
    clipped = ratio.clamp(config["clip_low_threshold"], config["clip_high_threshold"])
    if loss_fn in ("ppo", "gspo"):
        return -(ratio * advantages).minimum(clipped * advantages)
    return -clipped.detach() * logprobs * advantages  # cispo


def _of_sequences(log_ratio: "torch.Tensor", inputs: "Mapping[str, torch.Tensor]") -> "torch.Tensor":
    """Each token's sequence's mean log ratio, over the tokens that `sequence_ratio_mask` marks."""
    row, mask = inputs["row"].long(), (inputs["sequence_ratio_mask"] != 0).to(log_ratio)
    sums = log_ratio.new_zeros(2, int(row.max()) + 1 if len(row) else 0)
    sums[0].index_add_(0, row, log_ratio * mask)
    sums[1].index_add_(0, row, mask)
    return (sums[0] / sums[1])[row]
