"""The optimizer's settings of a step."""

import math
from typing import TYPE_CHECKING, Any

from geospot.config import LoopConfig
from geospot.models.loading import is_tiny

if TYPE_CHECKING:
    from tinker import types


FULL_SHARE = 0.1  # of an adapter's rate where the weights themselves are trained (docs/weights.md)


def peak_learning_rate(config: LoopConfig, state: dict[str, Any], *, begun: bool, tiny: float, adapter: float) -> float:
    """The configured rate, or the default for the model, which a run keeps in its saved `state`.

    begun: whether the run has done steps. One of before there was such a state goes on as it began: with the adapter's
    rate also where the weights themselves are trained.
    """
    if config.learning_rate is not None:
        return config.learning_rate
    if "learning_rate" not in state:
        full = config.rank == 0 and not begun
        state["learning_rate"] = tiny if is_tiny(config.model_name) else adapter * (FULL_SHARE if full else 1.0)
    return state["learning_rate"]


def learning_rate_at(config: LoopConfig, peak: float, step: int) -> float:
    """The rate of a step: a linear rise over `warmup_steps`, then the schedule, which reaches 0 at its end."""
    length = config.schedule_length
    warmup = min(config.warmup_steps, length // 2)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    left = max(0.0, 1 - (step - warmup) / (length - warmup))
    shape = {"constant": 1.0, "linear": left, "cosine": 0.5 * (1 - math.cos(math.pi * left))}
    return peak * shape[config.lr_schedule]


def adam(config: LoopConfig, rate: float) -> "types.AdamParams":
    """Adam for language models (beta2 0.95), with the run's decay and clipping."""
    from tinker import types

    return types.AdamParams(
        learning_rate=rate,
        beta1=0.9,
        beta2=0.95,
        eps=1e-8,
        weight_decay=config.weight_decay,
        grad_clip_norm=config.grad_clip_norm,
    )
