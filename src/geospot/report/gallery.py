"""Which pictures of an evaluation a page shows: the best, the worst and a typical one."""

import hashlib
import heapq
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from geospot.earth.distance import haversine_km
from geospot.earth.spot import truth_text
from geospot.report.document import Example, StageAnswer, pick_examples, preview
from geospot.scoring.guesses import Guesses
from geospot.scoring.judge import Evaluation

if TYPE_CHECKING:
    from geospot.data.samples import Sample

COUNT = 4  # best and as many worst pictures
KEPT = 32  # pictures drawn by their keys, of which the one nearest to the median is typical


class Gallery:
    """The pictures of a set that a page shows. `offer` keeps them while the set goes by, `read` finds them later."""

    def __init__(self) -> None:
        self._best: list[tuple[float, int, Sample]] = []  # heaps of (how good or bad, row or -row, sample)
        self._worst: list[tuple[float, int, Sample]] = []
        self._drawn: list[tuple[float, int, Sample]] = []
        self._seen = 0

    def offer(self, samples: Sequence["Sample"], guesses: Guesses) -> None:
        """The next samples of the set with the guess for each."""
        lat, lon = (np.array([getattr(sample.place, axis) for sample in samples]) for axis in ("lat", "lon"))
        far = np.nan_to_num(haversine_km(lat, lon, guesses.lat, guesses.lon), nan=np.inf)
        for sample, km in zip(samples, far.tolist(), strict=True):
            # Of equals the first is best and the last is worst, as `pick_examples` has it; samples are never compared.
            offers = (
                (self._best, COUNT, -km, -self._seen),
                (self._worst, COUNT, km, self._seen),
                (self._drawn, KEPT, -_lot(sample.key), -self._seen),
            )
            for heap, size, value, tie in offers:
                heapq.heappush(heap, (value, tie, sample))
                if len(heap) > size:
                    heapq.heappop(heap)
            self._seen += 1

    @classmethod
    def read(cls, evaluation: Evaluation, samples: Iterable["Sample"]) -> "Gallery":
        """The pictures of an evaluation from its samples in any order; stops at the last that is needed."""
        gallery, keys = cls(), evaluation.truths.keys
        rows = [*(row for row, _ in pick_examples(evaluation.predictions.distance_km, COUNT)), typical_row(evaluation)]
        wanted = {keys[row]: row for row in rows}
        for sample in samples:
            if (row := wanted.pop(sample.key, None)) is not None:
                gallery._best.append((0.0, row, sample))
            if not wanted:
                break
        return gallery

    def examples(self, evaluation: Evaluation) -> list[Example]:
        """Cards for the report, those whose picture is there."""
        samples = self._samples()
        picked = pick_examples(evaluation.predictions.distance_km, COUNT)
        return [_example(tag, samples[row], evaluation, row) for row, tag in picked if row in samples]

    def typical(self, evaluation: Evaluation) -> Example | None:
        """A picture whose distance is near the median of all; None where it is not there or cannot be shown."""
        row = typical_row(evaluation)
        sample = self._samples().get(row)
        example = sample and _example("a typical picture", sample, evaluation, row)
        return example if example and example.pictures else None

    def _samples(self) -> dict[int, "Sample"]:
        return {abs(row): sample for _, row, sample in (*self._best, *self._worst, *self._drawn)}


def _lot(key: str) -> int:
    """A number that depends on the key alone: the same pictures are drawn in any order."""
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=6).digest())


def typical_row(evaluation: Evaluation) -> int:
    """Of `KEPT` pictures drawn by their keys the one whose distance is nearest to the median of all pictures."""
    keys = evaluation.truths.keys
    km = np.nan_to_num(evaluation.predictions.distance_km, nan=np.inf)
    drawn = heapq.nsmallest(KEPT, range(len(keys)), key=lambda row: (_lot(keys[row]), row))
    ranks = np.searchsorted(np.sort(km), km)  # by rank: failed answers have no distance, but a place in the order
    return min(drawn, key=lambda row: (abs(int(ranks[row]) - len(keys) // 2), row))


def _example(tag: str, sample: "Sample", evaluation: Evaluation, row: int) -> Example:
    place, guesses, km = sample.place, evaluation.guesses, float(evaluation.predictions.distance_km[row])
    truth = truth_text(place)
    said = guesses.texts[row] if guesses.texts is not None else guesses.failures[row]
    lat, lon = float(guesses.lat[row]), float(guesses.lon[row])
    answer = StageAnswer(evaluation.name, said or f"{lat:.4f}, {lon:.4f}", km, lat, lon)
    pictures = [shrunk for picture in sample.pictures if (shrunk := preview(picture))]
    return Example(tag, pictures, truth, place.lat, place.lon, [answer])
