"""Reads coordinates as people and models write them: "48.9 N", 48°51'24"N, "48,8566", "(48.85, 2.35)".

Only the grammar of one coordinate or one pair; `geospot.answer.parse` decides which of them is the answer. No pattern
here can backtrack over an unbounded run (possessive quantifiers, bounded gaps), so reading takes linear time.
"""

import math
import re
import unicodedata

from geospot.answer.regex import lazy

NOT_A_NUMBER = "not a number"
CONTRADICTION = "sign and hemisphere contradict"
LATITUDE_RANGE = "latitude out of range"
LONGITUDE_RANGE = "longitude out of range"


# Zeros of the digits of other scripts, nine more behind each: Arabic, Persian, N'Ko, the Indian scripts, Thai, Lao,
# Tibetan, Burmese, Khmer, Mongolian, and the mathematical ones in bold and sans-serif.
_ZEROS = (0x660, 0x6F0, 0x7C0, *range(0x966, 0xDE7, 0x80), 0xDE6, 0xE50, 0xED0, 0xF20, 0x1040, 0x17E0, 0x1810)
_ZEROS += tuple(range(0x1D7CE, 0x1D800, 10))
# Letters whose accents carry no meaning in a key; ö and ø stay, since they alone may stand for east.
_ACCENTED = (range(0xC0, 0x250), range(0x386, 0x3CF), range(0x1E00, 0x1F00))


def _one_for_one() -> dict[int, str]:
    """Characters that mean the same as an ASCII one. Each maps to exactly one, so positions stay valid."""
    table = {code: unicodedata.normalize("NFD", chr(code))[0] for codes in _ACCENTED for code in codes}
    table = {code: base for code, base in table.items() if base != chr(code) and chr(code) not in "Öö"}
    table |= {ord("đ"): "d", ord("Đ"): "D", ord("ı"): "i"}
    table |= {0xFF01 + i: chr(0x21 + i) for i in range(94)}  # full-width forms of ! to ~
    for zero in _ZEROS:
        table |= {zero + i: str(i) for i in range(10) if unicodedata.digit(chr(zero + i), -1) == i}
    table |= dict.fromkeys(range(0xE0A0, 0xE0C0), " ")  # `geospot.answer.languages` writes these itself
    groups = {
        "-": "−–—‒‐‑﹣",
        "'": "’‘′ʹʼ",
        '"': "”“″〃",
        "°": "º˚",
        ".": "٫",
        ",": "、،",
        ";": "؛",
        ":": "：∶",
        "\n": "\r\x0b\x0c\x85\u2028\u2029",
    }
    groups[" "] = (
        "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u3000\u200b\u200e\ufeff"
    )
    return table | {ord(c): plain for plain, chars in groups.items() for c in chars}


_PLAIN = _one_for_one()
# North in Hungarian and Lithuanian, whose letters would become E and S.
_NORTH = lazy(r"(?:(?<=[0-9°º˚'′″\"])|(?<=[0-9°º˚'′″\"] ))[ÉŠ](?!\w)")


def plain(text: str) -> str:
    """The text with full-width digits, Unicode dashes, primes and spaces as ASCII; same length as the input."""
    return _NORTH.sub("N", text).translate(_PLAIN)


_NUMBER = r"(?>(?:[0-9]++(?:[{point}][0-9]++)?+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?+)"
# `geospot.answer.languages` pads what it rewrites with spaces, so a sign may stand far behind its number.
_PAD = r"[ \t]{0,16}"
_NEUTRAL = "\ue0b0\ue0b1"  # "latitude" and "longitude" behind a number: the axis without a side
# A lower-case e before a number is the "and" of Portuguese and Italian.
_HEMISPHERE = rf"(?:[NSEWnsw{_NEUTRAL}]|e(?![ \t]?[+-]?[0-9])|(?i:north|south|east|west))(?![A-Za-z])"
_CAPITAL = rf"(?:[NSEW{_NEUTRAL}]|(?i:north|south|east|west))(?![A-Za-z])"
_DEGREE = rf"{_PAD}(?:°|(?i:degrees?|degs?)\.?|d(?=[ \t]?[0-9]))"
# Single letters are case-sensitive: "24s" are seconds, "24S" is south.
_MINUTE = rf"{_PAD}(?:\\?'(?!')|(?i:minutes?|mins?)|m(?![a-z]))"
_SECOND = rf"""{_PAD}(?:\\?"|''|(?i:seconds?|secs?)|s(?![a-z]))"""


# Minutes and seconds may lack their marks before a hemisphere (51° 13.2 N), behind one also before an end.
_MARKED = rf"(?=[ \t]{{0,16}}\(?{_CAPITAL})"
_ENDED = r"(?=[ \t]{0,3}(?:[,;)\n/|&]|\Z|[NSEW]))"


def _coordinate(tag: str, point: str) -> str:
    """Pattern of one coordinate; its groups are named with `tag`, `point` are the decimal separators.

    It is atomic, so that the minutes of a single coordinate are never taken for the second half of a pair.
    """
    number = _NUMBER.format(point=point)
    return rf"""(?>(?:(?P<{tag}pre>{_HEMISPHERE}|[nsew](?=[ \t]?[0-9]))[ \t]{{0,16}}:?[ \t]{{0,2}})?
        (?P<{tag}sign>[+-])?[ \t]?(?P<{tag}deg>{number})
        (?:{_DEGREE}(?:[ \t]{{0,2}}(?P<{tag}min>{number})(?:{_MINUTE}|{_MARKED}|(?({tag}pre){_ENDED}|(?!)))
            (?:[ \t]{{0,2}}(?P<{tag}sec>{number})(?:{_SECOND}|{_MARKED}|{_ENDED}))?)?)?
        (?({tag}pre)|(?:[ \t]{{0,20}}(?:[(\[]|,[ ]?(?=[NSEW][ \t]*(?:\n|\Z)))?
            (?P<{tag}post>{_HEMISPHERE}|O(?![\w'])))?))"""


# A comma with no space behind it is a decimal comma in the first pattern and the separator in the second.
_ABOUT = r"(?:[~≈][ ]?)?"
_BETWEEN_COMMAS = r"""(?:\s{0,4}(?:[;/|&]|(?:(?i:and|und|et|ed|en|och|og|ve|и)|[yeiو和と])(?![^\W0-9_]))\s{0,4}
    |\s{0,4},\s{1,20}|\s{1,4},|(?<=[A-Za-z°'"]),|[ \t]{1,18})"""
_ONE = lazy(_coordinate("a", ".,"), re.VERBOSE)
_PAIRS = (
    lazy(_coordinate("a", ".,") + _BETWEEN_COMMAS + _ABOUT + _coordinate("b", ".,"), re.VERBOSE),
    lazy(_coordinate("a", ".") + r"\s{0,4},\s{0,20}" + _ABOUT + _coordinate("b", "."), re.VERBOSE),
)
# A letter of a hemisphere in nobody knows which language.
_UNKNOWN_SIDE = r"(?<=[°'\"])[ \t]{0,2}[(\[]?[A-ZØÖÆÀ-ß\u0391-\u03a9\u0410-\u042f](?!\w)(?=[ \t]*(?:[,;.)\]\n|]|\Z))"
_LONE_SIDE = lazy(_UNKNOWN_SIDE)
# What must not follow: the rest of a number ("1.2.3"), another value (a range is a hedge), a second hemisphere.
_REST = lazy(
    rf"[.,:]?[0-9]|[A-Za-z]|[ \t]?(?:-|/|to\b|or\b)?[ \t]?[0-9]|[ \t]{{1,2}}{_CAPITAL}|-(?=\s|\Z)|{_UNKNOWN_SIDE}"
)
# "1,035 m": the comma of thousands, and what is measured in metres or people. Neither makes a pair.
_THOUSANDS = lazy(
    r"[+-]?[0-9]{1,3}(?:(?:,[0-9]{3})++(?:\.[0-9]++)?|(?:[' ][0-9]{3})++)(?![0-9])(?!\.?[0-9]*[,;] ?[+-]?[0-9])"
)
_UNIT = lazy(
    r"[ \t]{0,3}-?(?:(?i:k?m²?|cm|mm|ft|feet|foot|mi|miles?|yards?|(?:kilo)?met(?:er|re|ro)s?|metri|ha|acres?"
    r"|min(?:ute)?s?|h(?:ou)?rs?|days?|weeks?|months?|of|(?:and|to|or)(?=\ [0-9])"
    r"|people|inhabitants|residents|habitant(?:e?s)?|einwohner|percent|per\ cent|years?|euros?|dollars?|°[CF])"
    r"(?![^\W_])|%|€|\$|£|м(?![^\W_])|км(?![^\W_])|米|公里|人)"
)
_GAP = lazy(
    r"""[\s"'*_`\\~≈≃≅→⇒=:$|(\[{为為是约約在はが약은는]{0,40}"""
    r"""(?:(?i:is|are|be|to be|(?:would|could|may|might) be|likely|probably|near"""
    r"""|at|of|about|around|approximately|approx\.?|roughly|circa|ca\.|est|es|ist|sind|son|sont|sono"""
    r"""|betragt|etwa|rund|environ|aproximadamente|approximativement|cerca de|de|di|da|около|примерно|составляет"""
    r"""|equals?|yaklasik|هو|هي|حوالي)[\s:*_`~≈(]{1,6}){0,3}[≈~(]?"""
)


# Parts that spaces, hyphens or colons part: 51 13 12 N, N51 13.200, 51:13:12.
_SIXTY, _FRACTION = "[0-5]?[0-9]", r"\.[0-9]{1,9}"
_FRESH, _THEN_SIDE = r"(?<![\w.,:+-])([0-9]{1,3})()", r"(?=[ ]?[NSEW](?![A-Za-z]))"
_SIDE_FIRST, _THEN_END = r"(?<![A-Za-z0-9])([NSEW])([ ]?[0-9]{1,3})", r"(?![\w.])(?![ ]?[NSEW](?![ ]?[0-9]))"
_PARTS = tuple(
    lazy(pattern)
    for pattern in (
        rf"{_FRESH}[ -]({_SIXTY})[ -]({_SIXTY}(?:{_FRACTION})?){_THEN_SIDE}",
        rf"{_FRESH}[ -]({_SIXTY}{_FRACTION})(){_THEN_SIDE}",
        rf"{_SIDE_FIRST}[ ]({_SIXTY})[ ]({_SIXTY}(?:{_FRACTION})?){_THEN_END}",
        rf"{_SIDE_FIRST}[ ]({_SIXTY}{_FRACTION})(){_THEN_END}",
        rf"(?<![\w.:])([0-9]{{1,3}})():([0-5][0-9]):([0-5][0-9](?:{_FRACTION})?)(?:(?![\w:])|(?=[NSEW](?![A-Za-z])))",
    )
)


_PARTED = re.compile("[0-9][ :-][0-9]")  # without which none of them matches


def mark_parts(flat: str) -> str:
    """A plain text with degrees and minutes that only a space, hyphen or colon ends marked; of the same length."""
    if not _PARTED.search(flat):
        return flat
    for pattern in _PARTS:
        flat = pattern.sub(lambda m: f"{m[1]}{m[2]}°{m[3]}" + (f"'{m[4]}" if m[4] else ""), flat)
    return flat


def _start(text: str) -> int:
    return gap.end() if (gap := _GAP.match(text)) else 0


def _bare_half() -> str:
    digits = r"[0-9]++(?:[.,][0-9]++)?+"
    minutes = rf"[ \t]{{0,2}}{digits}(?:{_MINUTE}(?:[ \t]{{0,2}}{digits}(?:{_SECOND})?)?)?+"
    middle = rf"[+-]?{digits}(?:{_DEGREE}(?:{minutes})?)?"
    return rf"(?:{_CAPITAL}[ \t]{{0,2}}{middle}|{middle}[ \t]{{0,20}}{_CAPITAL})"


# A pair that needs no word in front of it: both hemispheres written, or a line that holds nothing but two decimals.
_AND = r"(?:[,;/|&]|(?:and|und|et|ed|en|och|og|ve|y|e|i|и|و)\b)?"
BARE_PAIR = rf"(?<![\w.,+-]){_bare_half()}\s{{0,3}}{_AND}\s{{0,3}}{_bare_half()}"
LINE_PAIR = r"[+-]?[0-9]{1,3}\.[0-9]++°?[ \t]{0,3}[,;][ \t]{0,3}[+-]?[0-9]{1,3}\.[0-9]++°?(?=[)\]}*`. \t]{0,6}$)"


def wrap_longitude(lon: float) -> float:
    """The same meridian in [-180, 180). A longitude already there is returned untouched, digit for digit."""
    if -180.0 <= lon < 180.0:
        return lon
    wrapped = (lon + 180.0) % 360.0 - 180.0
    return wrapped if wrapped < 180.0 else -180.0  # the modulo of a tiny negative number rounds up to 360


def in_range(value: float, axis: str) -> float | str:
    """The value as a latitude ("lat") or longitude ("lon") in range, or the reason (str) why it is none."""
    if not math.isfinite(value):
        return NOT_A_NUMBER
    if axis == "lat":
        return value + 0.0 if abs(value) <= 90.0 else LATITUDE_RANGE  # + 0.0 turns -0.0 into 0.0
    return wrap_longitude(value) + 0.0 if abs(value) <= 360.0 else LONGITUDE_RANGE


def _hemisphere(match: re.Match, tag: str) -> str:
    return (match[tag + "pre"] or match[tag + "post"] or "")[:1].upper()


def with_side(value: float, side: str, axis: str) -> float | str:
    """A signed value and the hemisphere that stands beside it, as degrees or a reason; a minus may say S or W again."""
    if side not in _SIDES[axis] or (value < 0 and side in "NE"):
        return CONTRADICTION
    return in_range(-abs(value) if side in "SW" else value, axis)


_SIDES = {"lat": "NS\ue0b0", "lon": "EW\ue0b1"}


def _value(match: re.Match, tag: str, axis: str, note: str = "") -> float | str:
    """Signed degrees of a matched coordinate, or the reason why it has none.

    Minus with S or W says the same thing twice and is read once; a sign that contradicts the hemisphere
    ("-33.9 N", "+33.9 S") or a hemisphere of the other axis ("Latitude: 5 E") is refused rather than guessed.
    """
    degrees, minutes, seconds = (match[tag + part] for part in ("deg", "min", "sec"))
    # Only the last part given may have a fraction, and sixty minutes are a degree.
    whole = [part for part in (degrees, minutes, seconds) if part][:-1]
    parts = [float((part or "0").replace(",", ".")) for part in (degrees, minutes, seconds)]
    if not all(part.isdigit() for part in whole) or parts[1] >= 60 or parts[2] > 60:  # 60.0 is 59.97 rounded
        return NOT_A_NUMBER
    size, sign, hemisphere = parts[0] + parts[1] / 60 + parts[2] / 3600, match[tag + "sign"], _hemisphere(match, tag)
    if not hemisphere:
        return in_range(-size if sign == "-" or (not sign and note in ("S", "W")) else size, axis)
    if hemisphere not in _SIDES[axis]:
        return CONTRADICTION
    if hemisphere in _NEUTRAL:
        return in_range(-size if sign == "-" else size, axis)
    negative = hemisphere in "SW"
    if sign and (sign == "-") != negative:
        return CONTRADICTION
    return in_range(-size if negative else size, axis)


def read_coordinate(text: str, axis: str, note: str = "") -> float | str | None:
    """The coordinate at the start of `text` (plain): degrees, or a reason (str), or None where there is nothing.

    `axis` is "lat" or "lon"; `note` is a hemisphere that stood beside the field's name, as in "Longitude (W)".
    """
    start = _start(text)
    match = _ONE.match(text, start)
    if match is None:
        return NOT_A_NUMBER if text[start:].strip(" \t\n*_`\"'.,;|-)]}") else None
    return NOT_A_NUMBER if _REST.match(text, match.end()) else _value(match, "a", axis, note)


def read_pair(text: str, lon_first: bool = False) -> tuple[float | str, float | str] | None:
    """The pair at the start of `text` (plain) as (lat, lon), each degrees or a reason; None where there is no pair.

    Hemisphere letters decide the order where they are written; otherwise it is (lat, lon) unless `lon_first`. A number
    with thousands ("1,035") or a length ("2, 5 km") is no pair.
    """
    start = _start(text)
    match = next((m for m in (pattern.match(text, start) for pattern in _PAIRS) if m), None)
    if match is None:
        return None
    if _UNIT.match(text, match.end()) or (text[start - 1 : start] != "[" and _THOUSANDS.match(text, start)):
        return None
    if _LONE_SIDE.match(text, match.end()):
        return NOT_A_NUMBER, NOT_A_NUMBER
    # "48,85,2,35" has no separator to tell from its decimal commas, and "1.2.3" is no number.
    if re.compile(r"\.?[0-9]" if "." in match[0] else r"[.,]?[0-9]").match(text, match.end()):
        return NOT_A_NUMBER, NOT_A_NUMBER
    first, second = _hemisphere(match, "a"), _hemisphere(match, "b")
    if first or second:
        lon_first = first in ("E", "W", _NEUTRAL[1]) or second in ("N", "S", _NEUTRAL[0])
    lat, lon = ("b", "a") if lon_first else ("a", "b")
    return _value(match, lat, "lat"), _value(match, lon, "lon")
