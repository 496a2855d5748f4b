"""Letters of hemispheres that mean other sides in other languages: V is west in Oslo and east in Prague.

The words of a text say whose letters they are. Where they do not, `geospot.answer.coordinates` refuses a coordinate
with such a letter behind it: half of the Earth is no guess.
"""

import re

from geospot.answer.regex import lazy

_SIDES = "NSEW"
# Words of a language as `coordinates.plain` leaves them, and its letters for north, south, east and west.
_LANGUAGES = (
    ("enlem|boylam|koordinatlar|sehir|ulke", ("K", "G", "D", "B")),  # Turkish
    ("szelesseg\\w*|hosszusag\\w*", ("N", "D", "K", "Ny")),  # Hungarian; `plain` makes É an N
    ("leveys\\w*|pituus\\w*|kaupunki", ("P", "E", "I", "L")),  # Finnish
    # Czech, Slovak, Slovene; Croatian, Bosnian and Serbian have I or E for east
    ("sirka|sirky|delka|delky|dlzka|sirina|dolzina|duzina|zemepisn\\w*|zemljepisn\\w*|geografsk\\w*",
     ("S", "J", "VI", "Z")),
    ("bredde\\w*|bredd\\w*|lengde\\w*|længde\\w*|langd\\w*|latitud|longitud|latitudinea?|longitudinea?|breddgrad",
     ("N", "S", "ØÖ", "V")),  # Nordic, Romanian
    ("coordenadas|cidade|pais|leste", ("N", "S", "L", "O")),  # Portuguese
    ("breedte\\w*|lengte\\w*|plaats", ("N", "Z", "O", "W")),  # Dutch
    ("vi do|kinh do|toa do", ("B", "N", "D", "T")),  # Vietnamese
    ("lintang|bujur|koordinat", ("U", "S", "T", "B")),  # Indonesian, Malay
    ("platums|garums", ("Z", "D", "A", "R")),  # Latvian
    ("platuma|ilguma", ("N", "P", "R", "V")),  # Lithuanian; `plain` makes Š an N
    ("gjeresia|gjatesia", ("V", "J", "L", "P")),  # Albanian
)  # fmt: skip
_READ = [
    (lazy(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE), {
        letter: side for letters, side in zip(sides, _SIDES, strict=True)
        for letter in ([letters] if letters == "Ny" else letters)
    })
    for words, sides in _LANGUAGES
]  # fmt: skip
_BEHIND = lazy(r"(?:(?<=[0-9°'\"])([ \t]{0,2}[(\[]?)|(?<=[(\[])())(Ny|[A-ZØÖ])(?!\w)")
# The same in every language that writes them.
ONE_MEANING: dict[str, str] = dict(zip("ØÖСЮЈВИЗشجقغ北南东東西북남동서", "EENSSEEWNSEWNSEEWNSEW", strict=True))
_ALWAYS = lazy(
    rf"(?<=[°'\"])([ \t]{{0,2}}[(\[]?)([{''.join(ONE_MEANING)}])(?!\w)"
    r"|(?<=[°度])([ \t]{0,2})([北南东東西북남동서])|(?<=[0-9])([ \t]{0,2}\()([北南东東西북남동서])(?=\))"
)


def letter_sides(flat: str) -> str:
    """A plain text with its language's letters behind numbers as N, S, E and W; same length as the input.

    Letters that English has, too, are taken for the language's own only where another one stands beside them that
    English lacks, and none that the language lacks: "50° S, 14° V" is Prague, "34° S, 18° E" the Cape.
    """
    if not flat.isascii():
        flat = _ALWAYS.sub(_one_meaning, flat)
    found = {match[3] for match in _BEHIND.finditer(flat)}
    if not found - set(_SIDES):
        return flat
    for words, sides in _READ:
        if not found.isdisjoint(sides.keys() - set(_SIDES)) and words.search(flat):
            whole = found <= sides.keys()
            return _BEHIND.sub(lambda m, sides=sides, whole=whole: _translate(m, sides, whole), flat)
    return flat


def _one_meaning(match: re.Match) -> str:
    gap, letter = next((match[i] or "", match[i + 1]) for i in (1, 3, 5) if match[i + 1])
    return gap + ONE_MEANING[letter]


def _translate(match: re.Match, sides: dict[str, str], whole: bool) -> str:
    letter = match[3]
    if letter not in sides or (letter in _SIDES and not whole):
        return match[0]
    return (match[1] or "") + sides[letter].rjust(len(letter))
