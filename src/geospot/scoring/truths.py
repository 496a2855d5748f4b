"""What is true of an evaluation set: a key, coordinates and, where the set has them, labels of each picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from geospot.earth.folding import fold, is_blank
from geospot.earth.gazetteer import Gazetteer, Located
from geospot.earth.place import Place

LABELS = ("country", "region", "area", "city")
# Pictures nearer than this show one place: 0.00001 degrees, a metre.
_PLACE_DECIMALS = 5


@dataclass(frozen=True, eq=False)
class Truths:
    """N pictures. Coordinates (N,) in degrees. `labels` has N entries for each level that the set has, None where it
    says nothing: such a picture does not count for that level. A level that the set lacks altogether is what lies at
    the true coordinates. `place_ids` (N,) says which pictures show one place; None: those with the same coordinates.
    """

    keys: list[str]
    lat: np.ndarray
    lon: np.ndarray
    labels: Mapping[str, list[str | None]] = field(default_factory=dict)
    place_ids: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def of(cls, keys: Sequence[str], places: Sequence[Place]) -> "Truths":
        """From places; a label that none of them has is a level that the set lacks."""
        labels = {name: [getattr(place, name) for place in places] for name in ("country", "region", "city")}
        labels = {name: [None if is_blank(v) else v for v in values] for name, values in labels.items()}
        known = {name: values for name, values in labels.items() if any(v is not None for v in values)}
        lat, lon = np.array([p.lat for p in places], np.float64), np.array([p.lon for p in places], np.float64)
        return cls(list(keys), lat, lon, known)

    def take(self, rows: Sequence[int]) -> "Truths":
        """Those of some pictures, by index."""
        index = np.asarray(rows, dtype=np.int64)
        labels = {name: [values[i] for i in index.tolist()] for name, values in self.labels.items()}
        ids = None if self.place_ids is None else self.place_ids[index]
        return Truths([self.keys[i] for i in index.tolist()], self.lat[index], self.lon[index], labels, ids)

    @cached_property
    def place(self) -> np.ndarray:
        """(N,) the number of each picture's place."""
        if self.place_ids is not None:
            return np.unique(self.place_ids, return_inverse=True)[1].ravel()
        rounded = np.stack([self.lat, self.lon], axis=1).round(_PLACE_DECIMALS) + 0.0
        return np.unique(rounded.view(np.complex128).ravel(), return_inverse=True)[1].ravel()

    @cached_property
    def located(self) -> Located:
        """What lies at the true coordinates."""
        return Gazetteer.load().locate(self.lat, self.lon)

    @cached_property
    def country(self) -> list[str | None]:
        """The alpha-2 code of each picture's country, by its label or else by its coordinates."""
        here = self.located.country.tolist()
        if "country" not in self.labels:
            return here
        allowed = self.codes
        return [h if h in codes else min(codes, default=None) for h, codes in zip(here, allowed, strict=True)]

    @cached_property
    def codes(self) -> list[frozenset[str]]:
        """The country codes that are right for each picture; none where its country is not known."""
        here = self.located.country.tolist()
        if "country" not in self.labels:
            return [frozenset((code,)) if code else frozenset() for code in here]
        known: dict[tuple, frozenset[str]] = {}
        pairs = list(zip(self.labels["country"], here, strict=True))
        for pair in set(pairs):
            known[pair] = _country_codes(*pair)
        return [known[pair] for pair in pairs]

    @cached_property
    def regions(self) -> list[frozenset[str]]:
        """The admin-1 codes that are right; the place's own where its label is not known (a county, a code)."""
        here = self.located.region_code.tolist()
        if "region" not in self.labels:
            return [frozenset((code,)) if code else frozenset() for code in here]
        rows = list(zip(self.labels["region"], self.country, here, strict=True))
        known = {row: _region_codes(*row) for row in set(rows)}
        return [known[row] for row in rows]

    @cached_property
    def areas(self) -> list[str]:
        """The folded name of each picture's area, "" for none."""
        names = self.labels.get("area")
        return _folded(Gazetteer.load().cities.area[self.located.city_row].tolist() if names is None else names)

    @cached_property
    def cities(self) -> list[str]:
        """The folded label of each picture's city, "" for none."""
        return _folded(self.labels["city"])

    @cached_property
    def unknown_labels(self) -> dict[str, int]:
        """Labels that the gazetteer does not know, and so cannot count: how many of each level."""
        unread = [label for label, codes in zip(self.labels.get("country", ()), self.codes, strict=False)
                  if label is not None and not codes]  # fmt: skip
        return {"country": len(unread)} if unread else {}

    @cached_property
    def places(self) -> list[Place]:
        """Places for scoring what answers say; a level that the set lacks is filled from the coordinates."""
        at = self.located
        found = {"city": at.city, "region": at.region, "country": at.country}
        columns = (self.labels[name] if name in self.labels else column.tolist() for name, column in found.items())
        rows = zip(self.lat.tolist(), self.lon.tolist(), *columns, strict=True)
        return [Place(*row) for row in rows]


def _country_codes(label: str | None, here: str | None) -> frozenset[str]:
    """The codes that a label means; a state's name is right for its territory, in which the picture lies."""
    if label is None:
        return frozenset()
    countries = Gazetteer.load().countries
    codes = countries.candidates(label)
    if here and here in codes:
        return frozenset((here,))
    if here and countries.sovereign(here) in codes:
        return frozenset((here, countries.sovereign(here)))
    return frozenset(codes[:1])


def _region_codes(label: str | None, country: str | None, here: str | None) -> frozenset[str]:
    if label is None:
        return frozenset()
    named = frozenset(Gazetteer.load().regions.candidates(label, country)) if country else frozenset()
    own = frozenset({here} if here else ())
    return named & own or named or own


def _folded(names: Sequence[str | None]) -> list[str]:
    known = {name: fold(name) if name else "" for name in set(names)}
    return [known[name] for name in names]
