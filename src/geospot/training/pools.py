"""Pools by difficulty: a picture is drawn the less often, the more often all its answers have earned the same.

A group of equal rewards has no advantage, and its answers were asked for in vain. Each picture's own past results say
how likely that is, as a running mean over its groups, `signal`, which begins at 1:

    normal  signal above a half        drawn whenever the data offers it, as is a picture without results
    easy    else, and its mean reward  drawn with the probability `signal`, FLOOR at least: a policy that has
    hard    is a half or more; less    changed may answer it differently, and the reward tightens

Nothing is drawn that the data does not offer: a picture that is passed over comes again in the next epoch. A stream of
which each picture comes once is read as it is. (Facts of others: prime-rl keeps easy, normal and hard pools by mean
reward; dynamic sampling, DAPO: Yu et al., arXiv 2503.14476, leaves out groups of equal rewards, here `oversample`.)
"""

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from geospot.data.samples import Sample

RATE = 0.5  # of the newest group in the running means: two groups without signal halve the draws twice
FLOOR = 0.25  # least probability of a draw
EASY = 0.5  # mean reward
MOST = 100_000  # pictures whose results are kept, the newest: some 4 MB per checkpoint
KEPT_STEPS = 4  # of results, beside what they have become: as far as any batch lies behind them

Result = tuple[float, float]  # signal, reward


@dataclass(frozen=True)
class Standing:
    """What batches are drawn by, at one point of a run."""

    pictures: Mapping[str, Result] = field(default_factory=dict)  # running means, the newest last
    until: int = -1  # the last step whose results are in them
    offered: int = 0  # pictures that the data has offered: the place in the random numbers
    known: int = 0  # of these, pictures with results
    passed: int = 0  # of these, pictures that were passed over

    def metrics(self) -> dict[str, float]:
        """See docs/metrics.md."""
        easy, normal, hard = (
            sum(pool(*result) == name for result in self.pictures.values()) for name in ("easy", "normal", "hard")
        )
        n = max(1, len(self.pictures))
        shares = {"pool_easy": easy / n, "pool_normal": normal / n, "pool_hard": hard / n}
        return shares | {"pool_known": float(self.known), "pool_passed": float(self.passed)}

    def report(self) -> str:
        """What came of it, in words."""
        if not self.known:
            return (
                f"difficulty_pools: each of {self.offered:,} pictures came once, so that none could be passed over for "
                "what it had earned before"
            )
        return (
            f"difficulty_pools: of {self.offered:,} pictures {self.known:,} had been asked about before, and of these "
            f"{self.passed:,} were passed over"
        )


def pool(signal: float, reward: float) -> str:
    """The pool of a picture by its running means."""
    return "normal" if signal > 0.5 else "easy" if reward >= EASY else "hard"


def picture_id(sample: Sample) -> str:
    """By key and place: shards of one set may number their pictures alike."""
    text = f"{sample.key}\n{sample.place.lat!r}\n{sample.place.lon!r}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


class Pools:
    """The results of a run's pictures, and what is drawn by them.

    The batch of a step is read while an earlier one is answered: it is drawn by the results of steps up to `lag` before
    it, whatever is known by then, so that a run that goes on in the middle draws what the unbroken one does.
    """

    def __init__(self, seed: int, lag: int, state: Mapping[str, Any] | None = None) -> None:
        """`state`: what `Pools.state` returned at a checkpoint."""
        self._seed, self._lag = seed, lag
        saved = dict(state or {})
        results, pictures = saved.pop("results", {}), saved.pop("pictures", {})
        self.standing = Standing({key: (signal, reward) for key, (signal, reward) in pictures.items()}, **saved)
        self._results: dict[int, list[tuple[str, float, float]]] = {
            int(step): [(key, signal, reward) for key, signal, reward in found] for step, found in results.items()
        }

    def choose(self, take: Callable[[int], list[Sample]], n: int) -> list[Sample]:
        """`n` of the pictures that `take(m)` offers, fewer only where it ends."""
        chosen: list[Sample] = []
        while len(chosen) < n and (offered := take(n - len(chosen))):
            chosen += [sample for sample in offered if self._is_drawn(sample)]
        return chosen

    def _is_drawn(self, sample: Sample) -> bool:
        at = self.standing
        result = at.pictures.get(picture_id(sample))
        drawn = result is None or random.Random(f"{self._seed}/pools/{at.offered}").random() < max(FLOOR, result[0])
        self.standing = replace(
            at, offered=at.offered + 1, known=at.known + (result is not None), passed=at.passed + (not drawn)
        )
        return drawn

    def learn(self, step: int, samples: Sequence[Sample], signal: np.ndarray, reward: np.ndarray) -> None:
        """Take in a step's groups (B,): whether their rewards differ, and their means."""
        keys = [picture_id(sample) for sample in samples]
        self._results[step] = [
            (key, float(s), round(float(r), 4)) for key, s, r in zip(keys, signal, reward, strict=True)
        ]
        self._results = {s: results for s, results in self._results.items() if s > step - KEPT_STEPS}

    def settle(self, step: int) -> Standing:
        """Take into the running means what the batch of a step may go by; call it before that batch is read."""
        until = step - self._lag
        news = [
            result for s in sorted(self._results) if self.standing.until < s <= until for result in self._results[s]
        ]
        pictures = dict(self.standing.pictures)
        for key, signal, reward in news:
            before = pictures.pop(key, (1.0, reward))
            new = (RATE * signal + (1 - RATE) * before[0], RATE * reward + (1 - RATE) * before[1])
            pictures[key] = (round(new[0], 4), round(new[1], 4))
        for key in list(pictures)[: max(0, len(pictures) - MOST)]:
            del pictures[key]
        self.standing = replace(self.standing, pictures=pictures, until=max(self.standing.until, until))
        return self.standing

    def state(self, standing: Standing) -> dict[str, Any]:
        """JSON: where a batch stood before it was drawn, and the results that came later."""
        later = {str(step): results for step, results in self._results.items() if step > standing.until}
        return vars(standing) | {"results": later}
