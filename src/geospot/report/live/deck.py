"""The places that a game is played on: those of a held-out set, dealt by a code that two people can share."""

import itertools
import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from geospot.data.samples import Sample
from geospot.earth.gazetteer import Gazetteer
from geospot.earth.score import score_decay_km
from geospot.earth.spot import name_points
from geospot.errors import DataError, did_you_mean

LETTERS = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"  # without those that are taken for each other
CODE_LENGTH, SEAL_LENGTH = 5, 2
ROUNDS = 5
Mode = Literal["five", "streak"]
MODES: tuple[Mode, ...] = ("five", "streak")
LEVELS = ("any", "easy", "medium", "hard")  # by thirds of the model's own error
LEAST = 3  # of places whose error is known, for levels to mean anything


@dataclass(frozen=True)
class Deck:
    """Places of a set in a fixed order. `errors_km`: what the model was off by, where that is known, by key."""

    name: str
    samples: Sequence[Sample]
    decay_km: float  # of the points
    errors_km: Mapping[str, float]

    @classmethod
    def of(cls, name: str, samples: Sequence[Sample], scale: str, errors_km: Mapping[str, float]) -> "Deck":
        """DataError where there is no place to play on."""
        ordered = sorted(samples, key=lambda sample: sample.key)
        if not ordered:
            raise DataError(f"{name}: no place to play on")
        lats, lons = zip(*((sample.place.lat, sample.place.lon) for sample in ordered), strict=True)
        return cls(name, ordered, score_decay_km(scale, lats, lons), errors_km)

    @property
    def levels(self) -> tuple[str, ...]:
        """The difficulties that there are."""
        known = sum(sample.key in self.errors_km for sample in self.samples)
        return LEVELS if known >= len(LEVELS) * LEAST else LEVELS[:1]

    def rounds(self, mode: str) -> int:
        """Of a game, at most."""
        return ROUNDS if mode == "five" else len(self.samples)

    def seal(self, code: str, mode: str, level: str) -> str:
        """The code as a friend is given it: with letters that tell this game, and its places, from all others."""
        places = [self.samples[i].place for i in self.deal(code, self.rounds(mode), level)[:ROUNDS]]
        drawn = random.Random(" ".join([mode, level, *(f"{place.lat:.3f} {place.lon:.3f}" for place in places)]))
        return f"{code}-{''.join(drawn.choice(LETTERS) for _ in range(SEAL_LENGTH))}"

    def unseal(self, text: str) -> tuple[str, Mode | None, str | None]:
        """(code, mode, level) of a code as a person writes it; None for what a code without its last letters leaves
        open. DataError where its game has places that this deck does not deal."""
        code = read_code(text)
        bare = code[:CODE_LENGTH]
        if code == bare:
            return bare, None, None
        for mode, level in itertools.product(MODES, self.levels):
            if self.seal(bare, mode, level).replace("-", "") == code:
                return bare, mode, level
        raise DataError(
            f"the code {bare}-{code[CODE_LENGTH:]} is of a game on other places: whoever gave it to you plays "
            "on another set of pictures, or by what is difficult for another model; or a letter of it is wrong"
        )

    def deal(self, code: str, n: int, level: str = "any") -> list[int]:
        """The numbers of `n` places: the same for the same code, set and level; fewer where there are fewer."""
        numbers = self._of_level(level)
        return random.Random(f"{code} {level}").sample(numbers, min(n, len(numbers)))

    def _of_level(self, level: str) -> list[int]:
        if level not in self.levels:
            raise DataError(f"difficulty {level!r}: this game has {', '.join(self.levels)}")
        if level == "any":
            return list(range(len(self.samples)))
        known = [i for i, sample in enumerate(self.samples) if sample.key in self.errors_km]
        errors = np.array([self.errors_km[self.samples[i].key] for i in known])
        third = np.argsort(np.argsort(errors, kind="stable"), kind="stable") * 3 // len(known)
        return [i for i, part in zip(known, third.tolist(), strict=True) if part == LEVELS.index(level) - 1]


def new_code() -> str:
    """A code that nobody has had, as far as chance goes."""
    return "".join(secrets.choice(LETTERS) for _ in range(CODE_LENGTH))


def code_of_seed(seed: int) -> str:
    """The code of a number, for `seed=`."""
    drawn = random.Random(f"seed {seed}")
    return "".join(drawn.choice(LETTERS) for _ in range(CODE_LENGTH))


def read_code(text: str) -> str:
    """A code as a person writes it, its last letters included where they are there; DataError where it is none."""
    code = "".join(text.split()).upper().replace("-", "")
    if len(code) not in (CODE_LENGTH, CODE_LENGTH + SEAL_LENGTH) or any(letter not in LETTERS for letter in code):
        raise DataError(f"{text[:20]!r} is no code: it has {CODE_LENGTH} letters and digits, such as {code_of_seed(0)}")
    return code


def place_text(sample: Sample) -> str:
    """What lies at a true place."""
    return str(name_points([sample.place])[0].spot)


def country_at(lat: float, lon: float) -> str | None:
    """The alpha-2 code of the country at a point; None at sea."""
    return Gazetteer.load().locate(lat, lon).country[0]


def country_of(sample: Sample) -> str | None:
    """The code of a place's own country: its label, else where it lies."""
    place = sample.place
    return Gazetteer.load().country_code(place.country) or country_at(place.lat, place.lon)


def country_title(code: str | None) -> str:
    """A country's name; that of no country is the sea's."""
    return "the open sea" if code is None else Gazetteer.load().country_name(code)


def check_level(level: str) -> str:
    """`level` as it is; DataError for none of LEVELS."""
    if level not in LEVELS:
        raise DataError(f"difficulty {level!r}: must be one of {', '.join(LEVELS)}{did_you_mean(level, LEVELS)}")
    return level
