"""From the rewards of a group of answers to how much better or worse than its group each one did."""

import numpy as np
from numpy.typing import ArrayLike


def group_advantages(rewards_BG: ArrayLike, *, divide_by_std: bool = False, leave_one_out: bool = False) -> np.ndarray:
    """Rewards (B, G) of G answers to each of B pictures -> advantages (B, G).

    The group's mean is the baseline (GRPO: Shao et al., arXiv 2402.03300; without the division by the standard
    deviation: "Dr. GRPO", Liu et al., arXiv 2503.20783). `leave_one_out` takes the mean of the others instead
    (RLOO: Ahmadian et al., arXiv 2402.14740), which is the same up to the factor G / (G - 1). A group of equal
    rewards gets zeros.
    """
    rewards = np.asarray(rewards_BG, dtype=np.float64)
    size = rewards.shape[1]
    advantages = rewards - rewards.mean(axis=1, keepdims=True)
    constant = np.ptp(rewards, axis=1) < 1e-12  # rounding must not look like a difference
    advantages[constant] = 0.0
    if leave_one_out:
        if size < 2:
            raise ValueError(f"leave_one_out needs group_size >= 2, not {size}")
        advantages *= size / (size - 1)
    if divide_by_std:
        advantages /= np.where(constant, 1.0, rewards.std(axis=1))[:, None] + 1e-6
    return advantages


def groups_to_learn_from(advantages_BG: np.ndarray, most: int, *, held: bool = False) -> np.ndarray:
    """Which groups of (B, G) advantages an update takes where more were asked than it needs, or none has a signal.

    Indices, ascending: the first `most` of those with a signal; choosing the widest spread would train on the noisiest.
    (Dynamic sampling, DAPO: Yu et al., arXiv 2503.14476, which asks again until the batch is full; here all requests
    fly at once.) Without any signal there are none, since Adam would step as far for an entropy bonus alone as for a
    reward; held: a KL term holds the policy to its start there, on the first `most` groups.
    """
    with_signal = np.flatnonzero(np.any(advantages_BG, axis=1))
    return np.arange(len(advantages_BG))[:most] if held and not len(with_signal) else with_signal[:most]
