"""First-level regions (GeoNames admin-1: states, provinces, oblasts) and their names in a dozen languages."""

import gzip
import re
from functools import cached_property, lru_cache
from importlib.resources import files

from geospot.earth.folding import fold

_KINDS = (
    "state|province|region|county|department|district|governorate|oblast|krai|prefecture|municipality|parish|canton|"
    "division|voivodeship|republic|territory|okrug|emirate|community|principality|kingdom|free state|special region|"
    "administrative region|capital region|capital territory|capital district|federal territory|union territory|"
    "autonomous region|autonomous province|autonomous community|autonomous republic|autonomous oblast|autonomous okrug|"
    "regional unit|metropolitan city|special city|raion|atoll|commune|lan|fylke|provincia|estado|departamento|region de"
)
_BEFORE = re.compile(
    rf"^(?:the )?(?:(?:{_KINDS}|land|departement|comunidad autonoma|comunidad|regione|etat|bundesland|city|metropolis)"
    r"(?: of| de| del| di| do| da| du)? )(?:the |la |el |los |las )?"
)
_AFTER = re.compile(rf" (?:{_KINDS})$")


def plain(folded: str) -> str:
    """A folded region name without the words for its kind: "state of texas" and "texas state" are "texas"."""
    return _AFTER.sub("", _BEFORE.sub("", folded, count=1), count=1) or folded


class Regions:
    """Names of regions: `candidates(name, country)` gives every admin-1 code a name may mean in a country."""

    def __init__(self) -> None:
        text = gzip.decompress((files("geospot.earth") / "data" / "regions.tsv.gz").read_bytes()).decode()
        self.title: dict[str, str] = {}
        self._full: dict[tuple[str, str], tuple[str, ...]] = {}
        for line in text.split("\n"):
            code, title, *names = line.split("\t")
            self.title[code] = title
            for name in names:
                _add(self._full, (code[:2], name), code)
        self.candidates = lru_cache(maxsize=1 << 16)(self._candidates)

    @cached_property
    def _plain(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """(country, name without the words for its kind) -> codes."""
        index: dict[tuple[str, str], tuple[str, ...]] = {}
        for (country, name), codes in self._full.items():
            for code in codes:
                _add(index, (country, plain(name)), code)
        return index

    def known(self, name: str | None) -> bool:
        """Whether any country has a region of this name."""
        folded = fold(name or "")
        return folded in self._anywhere or plain(folded) in self._anywhere

    @cached_property
    def _anywhere(self) -> frozenset[str]:
        return frozenset(name for _, name in (*self._full, *self._plain))

    def _candidates(self, name: str | None, country: str) -> tuple[str, ...]:
        """Admin-1 codes that `name` may mean within a country (alpha-2); () for none. The exact name goes first."""
        folded = fold(name or "")
        if not folded:
            return ()
        return self._full.get((country, folded)) or self._plain.get((country, plain(folded))) or ()


def _add(index: dict, key: tuple[str, str], code: str) -> None:
    codes = index.get(key, ())
    if code not in codes:
        index[key] = (*codes, code)


@lru_cache(maxsize=1)
def regions() -> Regions:
    """The one table of this process."""
    return Regions()
