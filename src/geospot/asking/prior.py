"""What is known of a place beforehand: a country, or a point with a radius. Answers elsewhere are set aside."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from geospot.asking.requests import Question
from geospot.config import PriorConfig
from geospot.earth.distance import haversine_km
from geospot.earth.gazetteer import Gazetteer
from geospot.errors import DataError


@dataclass(frozen=True)
class Prior:
    """The picture was taken in one of these countries (alpha-2 codes), and within `within_km` of `near` (lat, lon)."""

    countries: tuple[str, ...] = ()
    near: tuple[float, float] | None = None
    within_km: float = 0.0

    @classmethod
    def of(cls, config: PriorConfig) -> "Prior | None":
        """From `country`, `near` and `within`; None where nothing is known. DataError for an unknown country."""
        gazetteer = Gazetteer.load() if config.country else None
        codes = []
        for name in config.country:
            code = gazetteer.country_code(name) if gazetteer else None
            if code is None:
                raise DataError(f"country={name}: no country; give a code such as FR, or a name")
            codes.append(code)
        near = (config.near[0], config.near[1]) if config.near else None
        return cls(tuple(codes), near, config.within or 0.0) if codes or near else None

    def __str__(self) -> str:
        parts = [f"country={','.join(self.countries)}"] if self.countries else []
        if self.near is not None:
            parts.append(f"near={self.near[0]:g},{self.near[1]:g} within={self.within_km:g}")
        return " ".join(parts)

    def holds(self, lat: ArrayLike, lon: ArrayLike) -> np.ndarray:
        """Whether points (N,), degrees, agree with it; what lies at sea belongs to the coast nearby."""
        lat, lon = np.atleast_1d(np.asarray(lat, np.float64)), np.atleast_1d(np.asarray(lon, np.float64))
        good = np.isfinite(lat) & np.isfinite(lon)
        if self.near is not None:
            good &= haversine_km(lat, lon, *self.near) <= self.within_km
        if self.countries:
            good &= np.isin(Gazetteer.load().locate(lat, lon).country.astype(str), self.countries)
        return good

    @property
    def words(self) -> str:
        """As part of a sentence: "in France and within 50 km of latitude 48.85, longitude 2.35"."""
        parts = []
        if self.countries:
            names = [Gazetteer.load().country_name(code) for code in self.countries]
            parts.append(f"in {_or(names)}")
        if self.near is not None:
            parts.append(f"within {self.within_km:g} km of latitude {self.near[0]:g}, longitude {self.near[1]:g}")
        return " and ".join(parts)

    def told(self, question: Question) -> Question:
        """The question with what is known in it."""
        return replace(question, text=f"{question.text}\nIt is known that it was taken {self.words}.")


def _or(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
