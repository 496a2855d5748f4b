"""Folding of names: two spellings of one name fold to the same string, two names never share one by accident.

Only whole folded names are ever compared. There is no substring and no edit distance here, on purpose.
"""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

# The longest name the gazetteer holds is under 120 characters; anything longer is a list or an attack.
MAX_NAME_CHARS = 120

# Letters that Unicode does not decompose but that people replace by these.
_LETTERS = {
    "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h", "ŧ": "t", "ə": "e",
}  # fmt: skip
# Apostrophes, primes and modifier letters vanish ("Xi'an", "Hawaiʻi"); other punctuation parts words.
_APOSTROPHES = re.compile("['’‘ʻʼʿʾ`´ʹ′‛ـ]")
_DOTTED_INITIAL = re.compile(r"\b(\w)\.\s?(?=\w\b|$|\s)")
_EMPTY_WORDS = frozenset({"nan", "none", "null", "n a", "unknown", "not available", "undefined", "nil", "unk"})


class _PerLetter(dict[int, str]):
    """A table for `str.translate` that asks about each letter once: a gazetteer's names are few letters repeated."""

    def __init__(self, becomes: Callable[[str], str]) -> None:
        super().__init__()
        self._becomes = becomes

    def __missing__(self, letter: int) -> str:
        self[letter] = self._becomes(chr(letter))
        return self[letter]


def _bare(char: str) -> str:
    """Without accents and vowel points; nukta, dakuten and virama (combining classes 7 to 9) are no accents."""
    return "" if unicodedata.combining(char) >= 10 or unicodedata.combining(char) == 1 else char


def _separate(char: str) -> str:
    """A letter, digit or vowel sign stays; format characters vanish; everything else parts words."""
    kind = unicodedata.category(char)
    if kind[0] in "LMN":
        return _LETTERS.get(char, char)
    return "" if kind == "Cf" else " "


_WITHOUT_ACCENTS, _SEPARATED = _PerLetter(_bare), _PerLetter(_separate)


@lru_cache(maxsize=1 << 17)
def fold(name: str) -> str:
    """`name` without case, accents, punctuation and doubled spaces; "" for what cannot be one name.

    "Côte d’Ivoire" -> "cote divoire", "U.S.A." -> "usa", "Saint-Denis" -> "saint denis". Scripts are kept apart:
    a Cyrillic letter never equals the Latin one that looks like it.
    """
    if len(name) > MAX_NAME_CHARS:
        return ""
    if name.isascii() and name.isalpha():
        return name.lower()
    text = name.lower() if name.isascii() else unicodedata.normalize("NFKC", name).casefold()
    text = _APOSTROPHES.sub("", text).replace("&", " and ")
    text = _DOTTED_INITIAL.sub(r"\1", text)
    if not text.isascii():
        text = unicodedata.normalize("NFC", unicodedata.normalize("NFKD", text).translate(_WITHOUT_ACCENTS))
    return " ".join(text.translate(_SEPARATED).split())


def is_among(folded: str, names: str) -> bool:
    """Whether a folded name is that of one of several names, a line each: only those that may begin like it are folded.

    A name that begins with a letter of ASCII folds to one that does; one that begins with a letter of another script
    folds to one of ASCII only where that letter alone does.
    """
    return bool(folded) and any(
        _may_begin(name[0], folded[0]) and fold(name) == folded for name in _beginning(folded[0]).findall(names)
    )


@lru_cache(maxsize=1 << 12)
def _beginning(letter: str) -> re.Pattern[str]:
    """The lines that may fold to what begins with a letter: with it, or with what is no letter or digit of ASCII."""
    own = re.escape(letter + letter.upper()) if letter.isascii() else ""
    return re.compile(rf"^(?:[{own}]|[^0-9A-Za-z\n])[^\n]*" if own else r"^[^0-9A-Za-z\n][^\n]*", re.MULTILINE)


@lru_cache(maxsize=1 << 14)
def _may_begin(first: str, letter: str) -> bool:
    """Whether a name whose first letter is `first` may fold to one whose first letter is `letter`."""
    begins = "" if first.isascii() and not first.isalnum() else fold(first)[:1]
    # Letters of other scripts may join with what follows, and never to a letter of ASCII.
    return not begins or begins == letter or not (begins.isascii() or letter.isascii())


def is_blank(name: object) -> bool:
    """Whether a label says nothing: None, a NaN, blanks, "nan", "unknown", "null", ...

    "NA" is not blank: it is Namibia's code. "N/A" is.
    """
    if name is None or (isinstance(name, float) and name != name):
        return True
    text = str(name).strip()
    return text != "NA" and (not text or (fold(text) in _EMPTY_WORDS | {""} and len(text) <= MAX_NAME_CHARS))
