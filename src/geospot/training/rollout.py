"""What the answers of a step are worth: their rewards, their rows in the run folder, and what is logged of them."""

from typing import Any

import numpy as np

from geospot.asking.requests import Rollouts
from geospot.earth.distance import MAX_DISTANCE_KM
from geospot.earth.score import geoguessr_score
from geospot.reward import RewardConfig, RewardParts, reward_parts
from geospot.training.update import answer_logprobs


def score(rollouts: Rollouts, progress: float, config: RewardConfig) -> RewardParts:
    """Rewards (B * G,) of the answers after a share `progress` of the run."""
    truths = [rollouts.truth(i) for i in range(len(rollouts.answers))]
    return reward_parts(rollouts.answers, truths, progress, config)


def log_rows(
    rollouts: Rollouts,
    split: str,
    parts: RewardParts | None = None,
    advantages: np.ndarray | None = None,
    *,
    first_group: int = 0,
) -> list[dict]:
    """A row for each answer in the run folder's `rollouts`; `advantages` (B * G,); groups count from `first_group`."""
    rows = []
    for i, (text, answer, sequence) in enumerate(
        zip(rollouts.texts, rollouts.answers, rollouts.sequences, strict=True)
    ):
        sample, place = rollouts.samples[i // rollouts.group_size], rollouts.truth(i)
        row: dict[str, Any] = {
            "split": split,
            "sample_key": sample.key,
            "group_index": first_group + i // rollouts.group_size,
            "member_index": i % rollouts.group_size,
            "text": text,
            "true_lat": place.lat,
            "true_lon": place.lon,
            "true_city": place.city,
            "true_region": place.region,
            "true_country": place.country,
            "lat": answer.lat,
            "lon": answer.lon,
            "error": answer.error,
            "n_tokens": len(sequence.tokens),
        }
        if parts is not None:
            row["distance_km"], row["reward"] = float(parts.distance_km[i]), float(parts.total[i])
            names = ("coordinate", "country", "region", "city", "format")
            row["parts"] = {name: float(getattr(parts, name)[i]) for name in names}
        if advantages is not None:
            row["advantage"] = float(advantages[i])
        rows.append(row)
    return rows


def reward_metrics(
    parts: RewardParts, advantages_BG: np.ndarray, rollouts: Rollouts, reward_config: RewardConfig, progress: float
) -> dict[str, float]:
    """What the step's answers earned, by part, beside measures that do not move with tau. See docs/metrics.md."""
    rewards_BG, weights = parts.total.reshape(advantages_BG.shape), reward_config.at(progress)
    km = np.where(np.isnan(parts.distance_km), MAX_DISTANCE_KM, parts.distance_km)
    logprobs = np.concatenate([answer_logprobs(sequence) for sequence in rollouts.sequences])
    out = {f"reward_{name}": getattr(parts, name) for name in ("coordinate", "country", "region", "city", "format")}
    out = {name: float(np.nanmean(v)) if not np.isnan(v).all() else float("nan") for name, v in out.items()}
    return out | {
        "reward": float(parts.total.mean()),
        "reward_std_in_group": float(rewards_BG.std(axis=1).mean()),
        "groups_without_signal": float((~advantages_BG.any(axis=1)).mean()),
        "tau_km": weights.tau_km,
        "coord_weight": weights.coordinate,
        "hierarchy_weight": weights.hierarchy,
        "train/median_km": float(np.median(km)),
        "train/geoguessr_score": float(geoguessr_score(parts.distance_km).mean()),
        "train/best_of_group_km": float(np.median(km.reshape(advantages_BG.shape).min(axis=1))),
        "entropy": float(-logprobs.mean()) if len(logprobs) else float("nan"),
        "answer_tokens": float(np.mean([len(s.tokens) for s in rollouts.sequences])),
        "answers_cut_off": float(np.mean([s.stop_reason == "length" for s in rollouts.sequences])),
    }
