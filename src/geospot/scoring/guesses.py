"""What a model answered: a key, coordinates or the reason for which there are none, and whatever else it said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from geospot.answer import Answer


@dataclass(frozen=True, eq=False)
class Guesses:
    """N answers of one model. Coordinates (N,) in degrees, NaN where the answer failed; `failures` says why, None for
    one that did not. `labels` has N entries for each level that answers name ("country", "region", "city"). `texts`
    are the raw answers. `radius_km` (N,) is the stated radius that holds the truth with `probability`, NaN for none.
    """

    name: str
    keys: list[str]
    lat: np.ndarray
    lon: np.ndarray
    failures: tuple[str | None, ...]
    labels: Mapping[str, list[str | None]] = field(default_factory=dict)
    texts: list[str] | None = None
    radius_km: np.ndarray | None = None
    probability: float | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def of_answers(
        cls, name: str, keys: Sequence[str], answers: Sequence[Answer], texts: Sequence[str] | None = None
    ) -> "Guesses":
        """From answers as `parse_answer` reads them."""
        lat, lon = (
            np.array([np.nan if getattr(a, axis) is None else getattr(a, axis) for a in answers], np.float64)
            for axis in ("lat", "lon")
        )
        labels = {level: [getattr(answer, level) for answer in answers] for level in ("country", "region", "city")}
        named = {level: values for level, values in labels.items() if any(v is not None for v in values)}
        failures = tuple(answer.error for answer in answers)
        return cls(name, list(keys), lat, lon, failures, named, None if texts is None else list(texts))

    def take(self, rows: Sequence[int]) -> "Guesses":
        """Those of some pictures, by index."""
        rows = np.asarray(rows, dtype=np.int64)
        chosen = rows.tolist()
        return Guesses(
            self.name,
            [self.keys[i] for i in chosen],
            self.lat[rows],
            self.lon[rows],
            tuple(self.failures[i] for i in chosen),
            {level: [values[i] for i in chosen] for level, values in self.labels.items()},
            None if self.texts is None else [self.texts[i] for i in chosen],
            None if self.radius_km is None else self.radius_km[rows],
            self.probability,
        )

    def answers(self) -> list[Answer]:
        """As answers, for scoring what they say."""
        n = len(self)
        city, region, country = (self.labels.get(level, [None] * n) for level in ("city", "region", "country"))
        lat = [None if v != v else v for v in self.lat.tolist()]
        lon = [None if v != v else v for v in self.lon.tolist()]
        return list(map(Answer, lat, lon, city, region, country, self.failures))
