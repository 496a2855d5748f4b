"""What the answers of a step are worth: their rewards, their rows in the run folder, and what is logged of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from geospot.answer import Answer, in_form
from geospot.asking.requests import Rollouts
from geospot.earth.distance import MAX_DISTANCE_KM
from geospot.earth.score import geoguessr_score
from geospot.reward import LEVELS, PARTS, RewardParts, Weights, weighted_parts
from geospot.training.update import answer_logprobs

NEARER, DEAD = 0.3, 0.01


def score(rollouts: Rollouts, weights: Weights, *, region: bool = False) -> RewardParts:
    """Rewards (B * G,) of the answers at one moment of a run; `region`: whether the prompt asked for a region."""
    truths = [rollouts.truth(i) for i in range(len(rollouts.answers))]
    form = [in_form(text, region=region) for text in rollouts.texts]
    return weighted_parts(rollouts.answers, truths, weights, form)


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
            row["parts"] = {name: float(getattr(parts, name)[i]) for name in PARTS}
        if advantages is not None:
            row["advantage"] = float(advantages[i])
        rows.append(row)
    return rows


def reward_metrics(
    parts: RewardParts, advantages_BG: np.ndarray, rollouts: Rollouts, weights: Weights
) -> dict[str, float]:
    """What the step's answers earned, by part, beside measures that do not move with tau. See docs/metrics.md."""
    rewards_BG = parts.total.reshape(advantages_BG.shape)
    km = np.where(np.isnan(parts.distance_km), MAX_DISTANCE_KM, parts.distance_km)
    logprobs = np.concatenate([answer_logprobs(sequence) for sequence in rollouts.sequences])
    return (
        {f"reward_{name}": _mean(getattr(parts, name)) for name in PARTS}
        | blind_spots(parts, advantages_BG.shape, rollouts, weights)
        | reward_shares(parts, weights)
        | {
            "reward": float(parts.total.mean()),
            "reward_std_in_group": float(rewards_BG.std(axis=1).mean()),
            "groups_without_signal": float((~advantages_BG.any(axis=1)).mean()),
            **({"tau_km": weights.tau_km} if weights.has_tau else {}),
            "coord_weight": weights.coordinate,
            "hierarchy_weight": weights.hierarchy,
            "train/median_km": float(np.median(km)),
            "train/geoguessr_score": float(geoguessr_score(parts.distance_km).mean()),
            "train/best_of_group_km": float(np.median(km.reshape(advantages_BG.shape).min(axis=1))),
            "entropy": float(-logprobs.mean()) if len(logprobs) else float("nan"),
            "answers_asked": float(len(rollouts.sequences)),
            "answer_tokens": float(np.mean([len(s.tokens) for s in rollouts.sequences])),
            "answers_cut_off": float(np.mean([s.stop_reason == "length" for s in rollouts.sequences])),
        }
    )


def reward_shares(parts: RewardParts, weights: Weights) -> dict[str, float]:
    """`<part>_share`: what of the step's reward each part earned, as `combine` pays it; 0 where nothing was earned.

    Together they are 1.
    """
    labels = np.stack([parts.country, parts.region, parts.city], axis=-1)
    present = ~np.isnan(labels)
    each = len(LEVELS) * weights.hierarchy / np.maximum(present.sum(axis=-1, keepdims=True), 1)
    paid = dict(zip(LEVELS, (np.where(present, labels, 0.0) * each).T, strict=True))
    paid["coordinate"] = parts.coordinate * np.where(
        present.any(axis=-1), weights.coordinate, weights.coordinate + len(LEVELS) * weights.hierarchy
    )
    paid["format"] = parts.format * weights.format
    paid = {part: (1 - weights.form_penalty) * found for part, found in paid.items()}
    paid["form"] = weights.form_penalty * parts.form * parts.format
    return {f"{part}_share": float(found.sum() / max(parts.total.sum(), 1e-9)) for part, found in paid.items()}


def blind_spots(parts: RewardParts, shape: tuple[int, int], rollouts: Rollouts, weights: Weights) -> dict[str, float]:
    """What a reward cannot see of a step's answers (B, G), see docs/metrics.md.

    dead_zone: the share of answered coordinates for which moving 30 % nearer would pay less than 0.01, unweighted.
    same_place_in_group: 0 where all coordinates of a group differ, 1 where all are the same; NaN without a group that
    has two. distinct_answers: different coordinates. decimal_endings: how many different fractions of a degree (two
    digits) the coordinates end in.
    """
    km = parts.distance_km[~np.isnan(parts.distance_km)]
    gain = weights.coordinate_worth((1 - NEARER) * km) - weights.coordinate_worth(km)
    groups = [_points(rollouts.answers[i : i + shape[1]]) for i in range(0, len(rollouts.answers), shape[1])]
    points = [point for group in groups for point in group]
    same = [1 - (len(set(group)) - 1) / (len(group) - 1) for group in groups if len(group) > 1]
    return {
        "dead_zone": _mean(gain < DEAD),
        "same_place_in_group": _mean(np.array(same)),
        "distinct_answers": float(len(set(points))),
        "decimal_endings": float(decimal_endings(points)),
    }


def _points(answers: Sequence[Answer]) -> list[tuple[float, float]]:
    """The coordinates of those answers that have any."""
    return [(answer.lat, answer.lon) for answer in answers if answer.lat is not None and answer.lon is not None]


def decimal_endings(points: Sequence[tuple[float, float]]) -> int:
    """How many different fractions of a degree, to two digits, coordinates end in; 200 at most for lat and lon."""
    return len({(axis, round(abs(point[axis]) * 100) % 100) for point in points for axis in (0, 1)})


def _mean(values: np.ndarray) -> float:
    values = np.asarray(values, np.float64)
    return float(np.nanmean(values)) if values.size and not np.isnan(values).all() else float("nan")
