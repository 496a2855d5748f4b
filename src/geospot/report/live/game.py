"""A game in progress: whose rounds they are, what may be known of them, and what a guess is worth."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from geospot.data.samples import Sample
from geospot.earth.distance import haversine_km
from geospot.errors import DataError
from geospot.report.live.deck import MODES, Deck, Mode, check_level, country_at, country_of, country_title, place_text
from geospot.report.live.opponent import points

AHEAD = 5  # places that the model is asked about before they are played
GRACE_S = 3.0  # for the way of a guess that is made in the last moment


@dataclass
class Round:
    """One place. Its pictures have names that are drawn anew, and say nothing of it."""

    sample: Sample
    started: float
    tokens: list[str]
    result: dict[str, Any] | None = None


@dataclass
class Game:
    """The rounds so far. `seconds`: to guess in, 0 for as long as one likes."""

    deck: Deck
    code: str
    mode: Mode = "five"
    level: str = "any"
    seconds: int = 0
    clock: Callable[[], float] = time.monotonic
    token: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    rounds: list[Round] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise DataError(f"mode {self.mode!r}: must be five or streak")
        if not 0 <= self.seconds <= 3600:
            raise DataError(f"seconds {self.seconds}: must be from 0 (no limit) to 3600")
        check_level(self.level)
        dealt = self.deck.deal(self.code, self.deck.rounds(self.mode), self.level)
        self._dealt = [self.deck.samples[i] for i in dealt]
        self._shared = self.deck.seal(self.code, self.mode, self.level)
        self.next()

    @property
    def length(self) -> int:
        """Rounds at most."""
        return len(self._dealt)

    @property
    def ended(self) -> bool:
        """Whether no round is left: all are played, or a streak is broken."""
        last = self.rounds[-1].result
        return last is not None and (len(self.rounds) == self.length or last.get("streak_over", False))

    def ahead(self, n: int = AHEAD) -> list[Sample]:
        """The places of the round being played and of the next ones."""
        return self._dealt[len(self.rounds) - 1 : len(self.rounds) - 1 + n]

    def next(self) -> None:
        """Begin a round; nothing where one is being played or none is left."""
        if self.rounds and (self.rounds[-1].result is None or self.ended):
            return
        sample = self._dealt[len(self.rounds)]
        tokens = [secrets.token_urlsafe(12) for _ in sample.pictures]
        self.rounds.append(Round(sample, self.clock(), tokens))

    def picture(self, token: str) -> bytes | None:
        """The picture of that name, of a round that has begun."""
        for one in self.rounds:
            if token in one.tokens:
                return one.sample.pictures[one.tokens.index(token)]
        return None

    def guess(self, number: int, lat: float | None, lon: float | None) -> dict[str, Any]:
        """What a guess for the round is worth, and where it was; None: no guess. A second guess changes nothing."""
        one = self._round(number)
        if one.result is None:
            late = self.seconds and self.clock() - one.started > self.seconds + GRACE_S
            one.result = self._result(one.sample, None if late else lat, None if late else lon)
        return one.result

    def _round(self, number: int) -> Round:
        if not 1 <= number <= len(self.rounds):
            raise DataError(f"round {number}: this game is in round {len(self.rounds)}")
        return self.rounds[number - 1]

    def _result(self, sample: Sample, lat: float | None, lon: float | None) -> dict[str, Any]:
        place = sample.place
        km = None if lat is None or lon is None else float(haversine_km(place.lat, place.lon, lat, lon))
        theirs = country_of(sample)
        found: dict[str, Any] = {
            "country": country_title(theirs),
            "truth": {"lat": place.lat, "lon": place.lon, "place": place_text(sample)},
            "guess": None if km is None else {"lat": lat, "lon": lon},
            "km": km,
            "points": points(km, self.deck.decay_km),
        }
        if self.mode == "streak":
            mine = None if lat is None or lon is None else country_at(lat, lon)
            # What a label counts to a state may have a code of its own by its borders: Puerto Rico.
            lies_in = country_at(place.lat, place.lon)
            right = km is not None and (mine == theirs or (mine is not None and mine == lies_in))
            found |= {
                "guessed_country": None if km is None else country_title(mine),
                "right": right,
                "streak_over": not right,
            }
        return found

    def sample_of(self, number: int) -> Sample:
        """The place of a round that has been guessed; DataError before: what the model says would give it away."""
        one = self._round(number)
        if one.result is None:
            raise DataError(f"round {number}: guess first")
        return one.sample

    def state(self) -> dict[str, Any]:
        """What the player may know: the results of past rounds, and of the present one its pictures."""
        last = self.rounds[-1]
        left = None
        if self.seconds and last.result is None:
            left = max(0.0, self.seconds - (self.clock() - last.started))
        return {
            "game": self.token, "code": self._shared, "mode": self.mode, "level": self.level, "seconds": self.seconds,
            "set": self.deck.name, "length": self.length, "round": len(self.rounds), "pictures": last.tokens,
            "seconds_left": left, "results": [one.result for one in self.rounds if one.result is not None],
            "ended": self.ended,
        }  # fmt: skip
