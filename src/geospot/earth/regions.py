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
    """Names of regions: `candidates(name, country)` gives every admin-1 code a name may mean in a country.

    Most names are looked up in a few countries: those of a country are put in order when it is first asked about.
    """

    def __init__(self) -> None:
        text = gzip.decompress((files("geospot.earth") / "data" / "regions.tsv.gz").read_bytes()).decode()
        self.title: dict[str, str] = {}
        self._names: dict[str, list[tuple[str, list[str]]]] = {}  # country -> (code, its names)
        for line in text.split("\n"):
            code, title, *names = line.split("\t")
            self.title[code] = title
            self._names.setdefault(code[:2], []).append((code, names))
        self._full: dict[str, dict[str, tuple[str, ...]]] = {}
        self._plain: dict[str, dict[str, tuple[str, ...]]] = {}
        self.candidates = lru_cache(maxsize=1 << 16)(self._candidates)

    def _full_of(self, country: str) -> dict[str, tuple[str, ...]]:
        """Name -> codes."""
        if country not in self._full:
            index = self._full[country] = {}
            for code, names in self._names.get(country, ()):
                for name in names:
                    _add(index, name, code)
        return self._full[country]

    def _plain_of(self, country: str) -> dict[str, tuple[str, ...]]:
        """Name without the words for its kind -> codes."""
        if country not in self._plain:
            index = self._plain[country] = {}
            for name, codes in self._full_of(country).items():
                for code in codes:
                    _add(index, plain(name), code)
        return self._plain[country]

    def known(self, name: str | None) -> bool:
        """Whether any country has a region of this name."""
        folded = fold(name or "")
        spellings = {folded, plain(folded)}
        return not (spellings.isdisjoint(self._anywhere) and spellings.isdisjoint(self._plain_anywhere))

    @cached_property
    def _anywhere(self) -> frozenset[str]:
        """All names as they are."""
        return frozenset(name for of in self._names.values() for _, names in of for name in names)

    @cached_property
    def _plain_anywhere(self) -> frozenset[str]:
        """All names without the words for their kind: of one text, a name a line, three times as fast as one by one."""
        before, after = (re.compile(kind.pattern, re.MULTILINE) for kind in (_BEFORE, _AFTER))
        return frozenset(after.sub("", before.sub("", "\n".join(self._anywhere))).split("\n"))

    def _candidates(self, name: str | None, country: str) -> tuple[str, ...]:
        """Admin-1 codes that `name` may mean within a country (alpha-2); () for none. The exact name goes first."""
        folded = fold(name or "")
        if not folded:
            return ()
        return self._full_of(country).get(folded) or self._plain_of(country).get(plain(folded)) or ()


def _add(index: dict[str, tuple[str, ...]], key: str, code: str) -> None:
    codes = index.get(key, ())
    if code not in codes:
        index[key] = (*codes, code)


@lru_cache(maxsize=1)
def regions() -> Regions:
    """The one table of this process."""
    return Regions()
