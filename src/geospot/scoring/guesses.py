"""What a model answered: a key, coordinates or the reason why there are none, and whatever else it said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from geospot.answer import Answer

NOT_GIVEN = "no answer in the file"
SAID = ("country", "region", "city")


@dataclass(frozen=True, eq=False)
class Guesses:
    """N answers of one model. Coordinates (N,) in degrees, NaN where the answer failed; `failures` says why, None for
    one that did not. `labels` has N entries for each level that answers name ("country", "region", "city"). `texts`
    are the raw answers, `read` what was read of them, where that is what the guesses were made from. `radius_km` (N,)
    is the stated radius that holds the truth with `probability`, NaN for none, calibrated on the pictures that
    `calibrated_on` names. `columns` says which columns of a file the guesses came from.
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
    read: list[Answer] | None = None
    calibrated_on: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def of_answers(
        cls,
        name: str,
        keys: Sequence[str],
        answers: Sequence[Answer],
        texts: Sequence[str] | None = None,
        radius_km: np.ndarray | None = None,
        probability: float | None = None,
        calibrated_on: str | None = None,
    ) -> "Guesses":
        """From answers as `parse_answer` reads them, which are kept: nothing reads a text a second time."""
        lat = np.array([np.nan if a.lat is None else a.lat for a in answers], np.float64)
        lon = np.array([np.nan if a.lon is None else a.lon for a in answers], np.float64)
        said = {level: [getattr(answer, level) for answer in answers] for level in SAID}
        named = {level: values for level, values in said.items() if any(v is not None for v in values)}
        texts = None if texts is None else list(texts)
        failures = tuple(answer.error for answer in answers)
        return cls(
            name, list(keys), lat, lon, failures, named, texts, radius_km, probability, list(answers), calibrated_on
        )

    @classmethod
    def joined(cls, parts: Sequence["Guesses"]) -> "Guesses":
        """One after the other those that `of_answers` made of parts of a set, by the same model."""
        first, radii = parts[0], [part.radius_km for part in parts if part.radius_km is not None]
        return cls.of_answers(
            first.name,
            [key for part in parts for key in part.keys],
            [answer for part in parts for answer in part.answers],
            None if first.texts is None else [text for part in parts for text in part.texts or ()],
            np.concatenate(radii) if radii else None,
            first.probability,
            first.calibrated_on,
        )

    def take(self, rows: Sequence[int] | np.ndarray, keys: Sequence[str] | None = None) -> "Guesses":
        """Those at `rows`, under new `keys` if given; row -1 is a picture without an answer, failed as NOT_GIVEN."""
        rows = np.asarray(rows, dtype=np.int64)
        chosen, have = rows.tolist(), rows >= 0

        def picked(values: Sequence, missing: object) -> list:
            return [missing if i < 0 else values[i] for i in chosen]

        return replace(
            self,
            keys=picked(self.keys, "") if keys is None else list(keys),
            lat=np.where(have, self.lat[rows], np.nan),
            lon=np.where(have, self.lon[rows], np.nan),
            failures=tuple(picked(self.failures, NOT_GIVEN)),
            labels={level: picked(values, None) for level, values in self.labels.items()},
            texts=None if self.texts is None else picked(self.texts, ""),
            radius_km=None if self.radius_km is None else np.where(have, self.radius_km[rows], np.nan),
            read=None if self.read is None else picked(self.read, Answer(None, None, error=NOT_GIVEN)),
        )

    @cached_property
    def answers(self) -> list[Answer]:
        """Each as an `Answer`: those that were read, or else made from the columns of a table."""
        if self.read is not None:
            return self.read
        none = [None] * len(self)
        lat, lon = ([None if v != v else v for v in axis.tolist()] for axis in (self.lat, self.lon))
        city, region, country = (self.labels.get(level, none) for level in ("city", "region", "country"))
        return list(map(Answer, lat, lon, city, region, country, self.failures))
