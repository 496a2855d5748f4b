"""One photo's guess: ranked candidates, a radius, and the countries and regions that the answers speak for."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from geospot.answer import Answer, parse_answer
from geospot.asking.calibration import Calibration
from geospot.asking.cluster import Candidate, gather
from geospot.earth.gazetteer import Gazetteer


@dataclass(frozen=True)
class Guess:
    """Where a photo was taken, as far as the model knows.

    `candidates` are ranked, the heaviest first; none where no answer could be read. `radius_km` around the first holds
    the truth with `probability` for pictures like those it was calibrated on; None where the model is not calibrated
    for this many answers, and `spread_km`, how far the answers lie apart, is all there is. `texts` are the answers.
    A coarse guess has countries and regions, and no coordinates anywhere.
    """

    name: str
    candidates: tuple[Candidate, ...] = ()
    radius_km: float | None = None
    probability: float | None = None
    spread_km: float | None = None
    texts: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    coarse: bool = False
    warning: str = field(default="", compare=False)

    @property
    def ok(self) -> bool:
        """Whether there is any candidate."""
        return bool(self.candidates)

    def _first(self, name: str):
        return getattr(self.candidates[0], name) if self.candidates else None

    @property
    def lat(self) -> float | None:
        """Degrees; None without an answer, and for a coarse guess."""
        return None if self.coarse else self._first("lat")

    @property
    def lon(self) -> float | None:
        """Degrees; None without an answer, and for a coarse guess."""
        return None if self.coarse else self._first("lon")

    @property
    def city(self) -> str | None:
        """As the answers name it."""
        return self._first("city")

    @property
    def region(self) -> str | None:
        """As the answers name it, else by its coordinates."""
        return self._first("region")

    @property
    def country(self) -> str | None:
        """As the answers name it, else by its coordinates."""
        return self._first("country")


def make_guess(
    name: str,
    texts: Sequence[str],
    *,
    calibration: Calibration | None = None,
    probability: float = 0.9,
    coarse: bool = False,
    warning: str = "",
) -> Guess:
    """From the answers to one photo. Country and region that the answers do not name are read off the coordinates."""
    answers = [parse_answer(text) for text in texts]
    if coarse:
        candidates, failures = _countries(answers), tuple(a.error for a in answers if not a.ok and not a.country)
        return Guess(name, candidates, failures=failures, coarse=True, warning=warning)
    draws = gather(answers)
    candidates = tuple(_named(draws.candidates))
    if not candidates:
        return Guess(name, texts=tuple(texts), failures=draws.failures, warning=warning)
    radius = None if calibration is None else float(calibration.radius_km(draws.spread_km, probability))
    return Guess(
        name, candidates, radius, None if radius is None else probability, draws.spread_km, tuple(texts),
        draws.failures, warning=warning,
    )  # fmt: skip


def _named(candidates: Sequence[Candidate]) -> list[Candidate]:
    """With the country and region of their coordinates where the answers name none."""
    if not candidates:
        return []
    at = Gazetteer.load().locate([c.lat for c in candidates], [c.lon for c in candidates])
    return [
        Candidate(c.lat, c.lon, c.mass, c.city, c.region or at.region[i], c.country or _country_name(at.country[i]))
        for i, c in enumerate(candidates)
    ]


def _country_name(code: str | None) -> str | None:
    return None if code is None else Gazetteer.load().country_name(code)


def _countries(answers: Sequence[Answer]) -> tuple[Candidate, ...]:
    """Country and region with their share of the answers, by what they name, else by where they lie; no coordinates."""
    gazetteer = Gazetteer.load()
    votes: dict[tuple[str, str | None], int] = defaultdict(int)
    for answer in answers:
        at = gazetteer.locate(answer.lat, answer.lon) if answer.ok else None
        code = gazetteer.country_code(answer.country) or (at.country[0] if at else None)
        if code is None:
            continue
        here = at.region[0] if at and at.country[0] == code else None
        votes[gazetteer.country_name(code), answer.region or here] += 1
    nowhere = float("nan")
    ranked = sorted(votes.items(), key=lambda item: -item[1])
    return tuple(
        Candidate(nowhere, nowhere, n / len(answers), None, region, country) for (country, region), n in ranked
    )
