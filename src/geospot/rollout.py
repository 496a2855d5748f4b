"""Rollouts: ask for all answers of a step at once, collect them, read them, score them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tinker import types

from geospot.answer import Answer, parse_answer
from geospot.data.samples import Sample
from geospot.models.prompt import Renderer
from geospot.reward import RewardConfig, RewardParts, reward_parts


@dataclass(frozen=True)
class Rollouts:
    """The answers of a step: B pictures, G answers each. Lists are picture by picture, member by member (B * G)."""

    samples: list[Sample]
    prompts: list[types.ModelInput]
    group_size: int
    sequences: list[types.SampledSequence]
    texts: list[str]
    answers: list[Answer]

    def truth(self, i: int) -> Any:
        """The place that answer i should have named."""
        return self.samples[i // self.group_size].place


def request_seed(seed: int, *position: int) -> int:
    """A 31-bit seed for one sample request, from the run's seed and the request's place in the run."""
    return int(np.random.SeedSequence([seed, *position]).generate_state(1)[0] >> 1)


def ask_all(
    sampler,
    renderer: Renderer,
    samples: Sequence[Sample],
    question: str,
    *,
    num_samples: int,
    seeds: Sequence[int],
    max_tokens: int,
    temperature: float = 1.0,
) -> Rollouts:
    """Every request is in flight before the first result is read. One request a picture: it is sent once."""
    prompts = [renderer.prompt(sample.pictures, question) for sample in samples]
    futures = [
        sampler.sample(
            prompt=prompt,
            num_samples=num_samples,
            sampling_params=types.SamplingParams(
                max_tokens=max_tokens, seed=seed, stop=renderer.stop_token_ids, temperature=temperature
            ),
        )
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    sequences = [sequence for future in futures for sequence in future.result().sequences]
    texts = [renderer.decode(sequence.tokens) for sequence in sequences]
    return Rollouts(list(samples), prompts, num_samples, sequences, texts, [parse_answer(text) for text in texts])


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
