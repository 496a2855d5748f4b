"""Many answers to one picture -> ranked candidates: clusters on the sphere with their share of the answers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from geospot.answer import Answer, Reply, read_reply
from geospot.earth.agreement import answer_point
from geospot.earth.distance import EARTH_RADIUS_KM, chord, unit_vectors
from geospot.earth.spot import Spot, said_text

if TYPE_CHECKING:
    from geospot.asking.prior import Prior

# Answers nearer than this to a candidate's centre belong to it: a region, on the usual scale of 1/25/200/750/2,500 km.
CLUSTER_KM = 200.0
_STEPS = 50


@dataclass(frozen=True)
class Candidate:
    """A place that some of the answers mean. `mass` is their share of all answers, the failed ones included.

    `city`, `region` and `country` are the answers' own words, None where they name none. `spot` is what lies at the
    coordinates, and `disagreement` how the words contradict it; both are looked up for a `Guess` only.
    """

    lat: float
    lon: float
    mass: float
    city: str | None = None
    region: str | None = None
    country: str | None = None
    spot: Spot | None = None
    disagreement: str = ""

    @property
    def title(self) -> str:
        """What lies at the coordinates in words, or the names where there are no coordinates."""
        return str(self.spot) if self.spot is not None else said_text(self)


@dataclass(frozen=True)
class Draws:
    """What a group of answers to one picture says: candidates, the heaviest first, and how far apart the answers lie.

    `spread_km` is the geometric mean of the answers' distances (1 km added) from the first candidate; NaN without any.
    `texts` are the answers as they were written, where they are known.
    """

    candidates: tuple[Candidate, ...]
    spread_km: float
    failures: tuple[str, ...]
    texts: tuple[str, ...] = ()
    outside: int = 0  # answers that a prior set aside


def read_draws(replies: Sequence[str | Reply], prior: "Prior | None" = None) -> Draws:
    """What the answers to one picture say together; each is parsed here, and nowhere else."""
    found = [Reply.of(reply) for reply in replies]
    draws = gather([read_reply(reply) for reply in found], prior=prior)
    return replace(draws, texts=tuple(reply.text for reply in found))


def gather(answers: Sequence[Answer], within_km: float = CLUSTER_KM, prior: "Prior | None" = None) -> Draws:
    """Cluster the answers to one picture. Each cluster is the most answers within `within_km` of one of them that are
    left, its centre their geometric median on the sphere; a tie goes to the earlier answer.

    Answers that contradict the `prior` are set aside: the others share the mass of all that could be read. The spread
    is that of all, as without it, around the first candidate that is left: a radius does not shrink for it.
    """
    good = [answer for answer in answers if answer.ok]
    failures = tuple(answer.error for answer in answers if answer.error is not None)
    if not good:
        return Draws((), float("nan"), failures)
    points = unit_vectors(*np.array([answer_point(a) for a in good]).T)
    near = np.linalg.norm(points[:, None] - points[None], axis=2) <= float(chord(within_km)) + 1e-12
    left, candidates = np.ones(len(good), bool), []
    if prior is not None:
        left = prior.holds(*np.array([answer_point(a) for a in good]).T)
    outside = int((~left).sum())
    if outside == len(good):
        return Draws((), float("nan"), (*(f"outside {prior}" for _ in good), *failures), outside=outside)
    total = len(answers) * (len(good) - outside) / len(good)
    while left.any():
        sizes = np.where(left, (near & left).sum(axis=1), -1)
        members = np.flatnonzero(near[int(np.argmax(sizes))] & left)
        left[members] = False
        candidates.append(_candidate(points[members], [good[i] for i in members], total))
    first = unit_vectors(candidates[0].lat, candidates[0].lon)
    return Draws(tuple(candidates), _spread_km(points, first), failures, outside=outside)


def _candidate(points: np.ndarray, members: list[Answer], total: float) -> Candidate:
    x, y, z = geometric_median(points)
    lat, lon = float(np.degrees(np.arcsin(np.clip(z, -1, 1)))), float(np.degrees(np.arctan2(y, x)))
    if all(m.lat == members[0].lat and m.lon == members[0].lon for m in members):
        lat, lon = answer_point(members[0])  # digit for digit
    country = _most_common([m.country for m in members])
    same = [m for m in members if m.country == country] or members
    city = _most_common([m.city for m in same])
    region = _most_common([m.region for m in same if m.city == city])  # of one answer: no city in another's region
    return Candidate(lat, lon, len(members) / total, city, region, country)


def _most_common(names: Sequence[str | None]) -> str | None:
    counted = Counter(name for name in names if name)
    return counted.most_common(1)[0][0] if counted else None


def geometric_median(points: np.ndarray) -> np.ndarray:
    """The unit vector with the least sum of chords to unit vectors (N, 3) (Weiszfeld 1937, projected onto the sphere);
    a point that a majority shares is returned as it is."""
    here = points.mean(axis=0)
    here = here / np.linalg.norm(here) if np.linalg.norm(here) > 1e-9 else points[0]
    for _ in range(_STEPS):
        away = np.linalg.norm(points - here, axis=1)
        weights = 1 / np.maximum(away, 1e-9)
        there = (points * weights[:, None]).sum(axis=0)
        there /= np.linalg.norm(there)
        if np.linalg.norm(there - here) < 1e-9:
            break
        here = there
    costs = [np.linalg.norm(points - point, axis=1).sum() for point in (*points, here)]
    return (*points, here)[int(np.argmin(np.round(costs, 9)))]


def _spread_km(points: np.ndarray, centre: np.ndarray) -> float:
    angles = 2 * np.arcsin(np.minimum(np.linalg.norm(points - centre, axis=1) / 2, 1.0))
    return float(np.exp(np.mean(np.log(angles * EARTH_RADIUS_KM + 1.0))))
