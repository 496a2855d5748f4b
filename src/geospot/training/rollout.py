"""What the answers of a step are worth, and their rows in the run folder."""

from geospot.asking.requests import Rollouts
from geospot.reward import RewardConfig, RewardParts, reward_parts


def score(rollouts: Rollouts, progress: float, config: RewardConfig) -> RewardParts:
    """Rewards (B * G,) of the answers after a share `progress` of the run."""
    truths = [rollouts.truth(i) for i in range(len(rollouts.answers))]
    return reward_parts(rollouts.answers, truths, progress, config)


def log_rows(rollouts: Rollouts, split: str, parts: RewardParts | None = None, advantages=None) -> list[dict]:
    """One row an answer for the run folder's `rollouts` table."""
    rows = []
    for i, (text, answer, sequence) in enumerate(
        zip(rollouts.texts, rollouts.answers, rollouts.sequences, strict=True)
    ):
        sample, place = rollouts.samples[i // rollouts.group_size], rollouts.truth(i)
        row = {
            "split": split,
            "sample_key": sample.key,
            "group_index": i // rollouts.group_size,
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
