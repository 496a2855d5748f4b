"""Finds the fields of an answer ("City: Paris", "lat=1.5", "48.9 N, 2.3 E") in free text, in the order of the text."""

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from geospot.answer.candidates import most_likely_first
from geospot.answer.coordinates import BARE_PAIR, LATITUDE_RANGE, LINE_PAIR, plain, read_coordinate, read_pair
from geospot.answer.languages import KEYS, hemisphere, to_english
from geospot.answer.links import ISO_6709, LINK, PLUS_CODE, WKT, read_link, read_standard
from geospot.answer.objects import Objects
from geospot.answer.regex import lazy

MAX_LABEL_CHARS = 200
_VALUE_CHARS = 400  # how far behind its key a value is looked for

# --- tables -------------------------------------------------------------------------------------------------------


def _cells(line: str) -> list[str]:
    return [cell.strip(" \t*_`") for cell in line.strip().strip("|").split("|")]


def _is_table_header(line: str) -> bool:
    """Whether the cells name both coordinates and hold no number, as "| Latitude | 1.5 | Longitude | 2.5 |" does."""
    flat = to_english(plain(line))
    kinds = {_kind(key) for key in map(_KEY.fullmatch, _cells(flat)) if key}
    named = bool(kinds & {"pair", "swapped"}) or kinds >= {"lat", "lon"}
    return named and not re.search(r"\|[ \t*`]{0,6}[+-]?[0-9]", flat)


def unroll_tables(text: str) -> str:
    """Rows of a table whose header names both coordinates become "Key: value" lines; other text stays as it is.

    Of rows that say how likely they are the most likely one is the last.
    """
    lines, header = [], []
    rows: list[list[tuple[str, str]]] = []

    def end_table() -> None:
        for row in reversed(most_likely_first(rows, lambda row: row) or rows[::-1]):
            lines.extend(["", *(f"{key}: {cell}" for key, cell in row), ""])
        rows.clear()

    for line in text.split("\n"):
        if "|" not in line:
            end_table()
            header = []
            lines.append(line)
        elif not header:
            header = _cells(line) if _is_table_header(line) else []
            lines.append("" if header else line)
        elif not set(line) <= set("|-: \t"):  # the rule under a header
            rows.append(list(zip(header, _cells(line), strict=False)))
    end_table()
    return "\n".join(lines)


# --- keys ---------------------------------------------------------------------------------------------------------

_LAT, _LON = rf"(?:lat(?:itude)?|{KEYS['lat']})", rf"(?:lon(?:g(?:itude)?)?|lng|{KEYS['lon']})"
_JOIN = r"(?:[ ]{0,20}[/,&・-][ ]{0,20}|[ ]{1,20}(?:and|y|et|und|e|en|ve|i|и|و)[ ]{1,20}|[ _]{1,20})?"
_SIDE = r"[ _-]?(?:dir(?:ection)?|ref(?:erence)?|hemi(?:sphere)?)"
# The one named group that matches is the kind of the field.
_NAMES = (
    rf"(?P<lat_side>{_LAT}{_SIDE})|(?P<lon_side>{_LON}{_SIDE})"
    rf"|(?P<pair>{_LAT}{_JOIN}{_LON}|coordinates?|coords?|gps|location|position|answer|guess|{KEYS['pair']})"
    rf"|(?P<swapped>{_LON}{_JOIN}{_LAT}|{KEYS['swapped']})"
    rf"|(?P<lat>{_LAT})|(?P<lon>{_LON})|(?P<city>city|town|village|municipality|locality|{KEYS['city']})"
    rf"|(?P<region>region|state|province|prefecture|admin_?1|{KEYS['region']})|(?P<country>country|nation|{KEYS['country']})"
)
_SUFFIX = (
    r"(?:[ _-](?:in[ ](?:decimal[ ])?degrees|north|south|east|west|norte|sur|sul|este|oeste|leste|nord|sud|ouest"
    r"|est|ovest|name|deg|degrees|decimal|dd|guess|estimate|estimation|prediction|predicted|value|coordinate|answer"
    r"|wgs84|code|of[ ](?:the[ ])?(?:place|photo|picture|image|location|camera|scene|site|shot))){0,2}"
)
_OWN = f"[{''.join(KEYS.values())}]"
_BEGINS, _ENDS = rf"(?:(?<![^\W_])|(?={_OWN}))", rf"(?:(?![^\W_])|(?<={_OWN}))"
_KEY_TEXT = (
    rf"""["'*_`\\]{{0,4}}{_BEGINS}(?:{_NAMES}){_SUFFIX}(?:[ ]?/[ ]?[a-z]{{1,15}}){{0,2}}"""
    rf"""{_ENDS}\.?(?:[ \t]{{0,20}}(?:\([^()\n]{{0,40}}\)|\[[a-z ,/]{{3,40}}\]))?[)\]]?["'*_`\\ \t]{{0,24}}"""
    r"(?:[-=]>|[:=])?"
)
_KEY = lazy(_KEY_TEXT, re.IGNORECASE)
# Each part says first with which characters it can begin, so that most of a text is passed over quickly.
_SCAN = lazy(
    r"(?P<open>\{)|(?P<close>\})"
    rf"|(?i:(?=[hwmogby2-9cp+-]))(?:(?P<link>{LINK}|{PLUS_CODE})|(?P<standard>{WKT}|{ISO_6709}))"
    rf"""|(?i:(?=["'*_`\\lcgpatvmrsn{"".join(KEYS.values())}])(?:{_KEY_TEXT}))"""
    rf"|(?=[0-9+\-NSEWnsew\ue0b0\ue0b1])(?P<bare>{BARE_PAIR})|^[ \t*`(\[]{{0,6}}(?P<line>{LINE_PAIR})"
    r"|(?P<final>\b(?i:(?=[fcru])(?:final|corrected|revised|updated)[ ](?=(?:answer|guess)\b)))"
    r"|(?P<pause>\n(?:[ \t]*+\n)++|```|^[ \t]*+---)",
    re.MULTILINE,
)
_STRUCTURE = ("pause", "open", "close")
_LABELS = ("city", "region", "country")
_BARE = ("bare", "line", "link", "standard")
# Keys of which a number may follow without a colon; "long" and "location" are ordinary words.
_SAID_OF_NUMBERS = lazy(
    rf"lat|latitude|lon|longitude|lng|coordinates?|coords?|{_LAT}{_JOIN}{_LON}|{_LON}{_JOIN}{_LAT}|{_OWN}",
    re.IGNORECASE,
)
_TWO_DECIMALS = lazy(r"[ ]?(?:is[ ]|at[ ])?[ ]?[(\[]?[+-]?[0-9]{1,3}\.[0-9]{2,},[ ]?[+-]?[0-9]{1,3}\.[0-9]{2,}")
_DEGREES_OR_DECIMALS = lazy("°|[0-9][.,][0-9]|[0-9] ?d", re.IGNORECASE)
_LINE_START = lazy(r"""[\s"'*_`#>•+.)\-\\0-9]*""")
_LINE_END = lazy(r"[ \t]*+(?:\n|\||\Z|-[ \t])")
_NOTE = lazy(r"[(\[]([^()\[\]]*)[)\]]")
_LON_LAT = lazy(rf"{_LON}.{{0,20}}{_LAT}", re.IGNORECASE)
_LAT_LON = lazy(rf"{_LAT}.{{0,20}}{_LON}", re.IGNORECASE)
_BEFORE_KEY = lazy(r"(?<![^\W_])([^\W\d_]{1,14})[ ]$")


def _kind(match: re.Match) -> str:
    return match.lastgroup or ""


@lru_cache(maxsize=1024)
def key_kind(key: str) -> str | None:
    """The kind of field that a key of a JSON object names ("predicted_latitude", "País"), or None."""
    flat = to_english(plain(key) + ":")
    matches = list(_KEY.finditer(flat))
    return matches[-1].lastgroup if matches and not flat[matches[-1].end() :].strip() else None


def _note(match: re.Match) -> str:
    """What stands in brackets behind a key's name: "Latitude (decimal degrees)"."""
    found = _NOTE.search(match[0])
    return found[1] if found else ""


def _value_start(text: str, match: re.Match) -> int:
    """Where the value behind a key begins; the dash of "Latitude - 48.9" separates and is no sign."""
    note, kind = _NOTE.search(match[0]), _kind(match)
    holds_value = note and kind not in _LABELS and re.search(r"[0-9]", note[1])  # "Coordinates (48.9, 2.3)"
    if holds_value and isinstance(_read_numbers(kind, note[1]), float | tuple):
        return match.start() + note.start()
    if match[0][-1] in ":=>":
        return match.end()
    return match.end() + (2 if text.startswith(("- ", ", (", ", ["), match.end()) else 0)


def _is_field(text: str, match: re.Match) -> bool:
    """Whether a key is used as one: before a colon, alone at the start of its line or cell, or before a coordinate."""
    kind, end = _kind(match), match.end()
    if kind == "bare":  # "I took 5 N to 10 E" is no place
        return bool(_DEGREES_OR_DECIMALS.search(match[0]))
    if kind in ("line", "final", "link", "standard") or match[0][-1] in ":=>":
        return True
    if _at_line_start(text, match) and _LINE_END.match(text, end):
        return True
    start = _value_start(text, match)
    said = _SAID_OF_NUMBERS.fullmatch(match[kind]) or (kind == "pair" and _TWO_DECIMALS.match(text, start))
    return bool(said) and isinstance(
        _read_numbers(kind, text[start : start + _VALUE_CHARS], anywhere=False), float | tuple
    )


def _at_line_start(text: str, match: re.Match) -> bool:
    before = re.split(r"[\n|]", text[max(0, match.start() - 16) : match.start()])[-1]
    return bool(_LINE_START.fullmatch(before))


def _read_numbers(
    kind: str, value: str, note: str = "", anywhere: bool = True
) -> float | str | tuple[float | str, float | str] | None:
    """What stands behind a coordinate key: see `read_coordinate` and `read_pair`."""
    if kind in ("lat", "lon"):
        return read_coordinate(value, kind, note)
    swapped = bool(_LON_LAT.search(note)) or (kind == "swapped" and not _LAT_LON.search(note))
    pair = read_pair(value, swapped)
    bracket = value.partition("\n")[0].find("(") if anywhere else -1  # "Location: Paris (48.85, 2.35)"
    return pair or (read_pair(value[bracket:], swapped) if bracket >= 0 else None)


# --- labels -------------------------------------------------------------------------------------------------------

_UNKNOWN = {"unknown", "n/a", "none", "null", "nil", "not known", "not available", "not sure", "unsure", "unspecified"}
# Tags and braces would read as structure; control characters and lone surrogates would break logs and files.
_NEVER_IN_A_NAME = lazy("[<>{}|\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_WRAPPING = ' *_`|,;:~<>/\\[]{}"“”„«»?'
_QUOTED = lazy(r'"((?:[^"\\\n]|\\.)*+)"')
# Where an unquoted label of a broken object ends: `Nigeria, "heading": 90`, `Nigeria, heading: 90`.
_NEXT_KEY = lazy(r"""[ ]?[,;][ ]?(?:["'][^"'\n]{1,40}["'][ ]?[:=]|[A-Za-z_]{2,24}[:=])""")
_FLAG = lazy("[\U0001f1e6-\U0001f1ff]{2}|\U0001f3f4[\U000e0061-\U000e007a]{2,6}\U000e007f")
_ABBREVIATION = lazy(r"\.\w{1,3}\.$")


def clean_label(text: str, kind: str) -> str | None:
    """A label on one line, at most MAX_LABEL_CHARS, without quotes, markdown and trailing punctuation.

    None where nothing is left or it says "unknown". "NA" is Namibia as a country and "not available" elsewhere.
    """
    label, before = " ".join(_NEVER_IN_A_NAME.sub(" ", text).split())[:MAX_LABEL_CHARS], None
    while label != before:
        label, before = _peel(label), label
    flag = _FLAG.search(text) if not label and kind == "country" else None
    label = flag[0] if flag else label  # a flag alone is a name
    folded = label.casefold()
    missing = not label or folded in _UNKNOWN or (folded == "na" and (kind, label) != ("country", "NA"))
    return None if missing else label


def _peel(label: str) -> str:
    """One layer of what may surround a name."""
    label = label.strip(_WRAPPING).lstrip("-–—•·#=>+").rstrip("-–—(=")
    if label and _is_symbol(label[-1]):  # a flag behind a country
        label = label[:-1]
    if label and _is_symbol(label[0]):
        label = label[1:]
    if label[:1] + label[-1:] in ("''", "()", "‘’"):  # but "'s-Hertogenbosch" and "Halle (Saale)" stay
        label = label[1:-1]
    if label.endswith(")") and label.count(")") > label.count("("):
        label = label[:-1]
    return label if _ABBREVIATION.search(label) else label.rstrip(".")  # "Washington, D.C." keeps its stop


def _is_symbol(char: str) -> bool:
    return unicodedata.category(char) in ("So", "Cf") or char == "\ufe0f"


def _read_label(raw: str, kind: str) -> tuple[str | None] | None:
    """The label behind a key, as a 1-tuple (its content is None for "unknown"), or None where nothing is said."""
    line = next((line for line in raw.lstrip("| \t").splitlines() if line.strip(" \t*_`|")), "")
    if line.lstrip().startswith("```"):  # what follows the key is a block of its own
        return None
    line = line.strip(" \t*_`\\").partition("|")[0]
    quoted = _QUOTED.match(line)
    if quoted:
        try:
            line = json.loads(quoted[0])
        except ValueError:
            line = quoted[1]
    else:
        line = _NEXT_KEY.split(line, maxsplit=1)[0].replace("\\'", "'")
    return (clean_label(line, kind),) if line.strip(_WRAPPING) else None


# --- fields -------------------------------------------------------------------------------------------------------


class Found(NamedTuple):
    """One field or mark of a text, see `find_fields`."""

    kind: str
    value: Any = None
    firm: bool = False  # a key with a colon at the start of its line, not a word in a sentence


def find_fields(text: str) -> Iterator[Found]:
    """The fields of a text and the marks between them, in order.

    "lat" and "lon" carry degrees or a reason (str), "pair" and "link" both of them as (lat, lon), "lat_side" and
    "lon_side" a hemisphere, "city", "region" and "country" a label or None for one that is said to be unknown, "object"
    the fields of a whole JSON object as (kind, value); "final", "pause", "open" and "close" carry None.
    """
    flat = to_english(plain(text))  # positions are those of `text`, from which labels are taken as they are written
    found = list(_matches(text, flat))
    keys = [start for kind, start, _ in found if kind not in _STRUCTURE]
    ends = iter([*keys[1:], len(text)])
    for kind, _, match in found:
        end = len(text) if kind in _STRUCTURE else next(ends)
        if kind == "object":
            yield Found("object", match, firm=True)
        elif kind in _STRUCTURE or kind == "final":
            yield Found(kind)
        elif kind in _LABELS:
            start = _value_start(flat, match)
            label = _read_label(text[start : min(end, start + _VALUE_CHARS)], kind)
            yield from [Found(kind, label[0])] if label else []
        else:
            yield from _number_fields(flat, match, end)


def _matches(text: str, flat: str) -> Iterator[tuple[str, int, Any]]:
    """(kind, start, match) of what `_SCAN` finds; an object's match is its fields, and nothing within it is scanned."""
    objects, position = Objects(text, key_kind), 0
    while match := _SCAN.search(flat, position):
        kind, position = _kind(match), max(match.end(), match.start() + 1)
        if kind == "open" and (whole := objects.at(match.start())):
            position = whole[0]
            for answer in whole[1]:
                cleaned = [(key, clean_label(str(v or ""), key) if key in _LABELS else v) for key, v in answer]
                yield "object", match.start(), cleaned
        elif kind in _STRUCTURE or _is_field(flat, match):
            yield kind, match.start(), match
        if kind == "pair" and (note := _NOTE.search(match[0])) and re.search(r"[a-zA-Z].{0,9}[0-9]", note[1]):
            position = match.start() + note.start() + 1  # "Coordinates (lat 48.9, lon 2.3)"


def _number_fields(flat: str, match: re.Match, end: int) -> Iterator[Found]:
    kind = _kind(match)
    if kind == "link":
        pair = read_link(match[0])
        yield from [Found("link", pair)] if pair else []
        return
    if kind == "standard":
        yield Found("pair", read_standard(match[0]))
        return
    start = match.start(kind) if kind in _BARE else _value_start(flat, match)
    value = flat[start : min(end, start + _VALUE_CHARS)]
    if kind in ("lat_side", "lon_side"):
        word = re.match(r"[\s\"'*_`]{0,9}([^\W\d_]{1,12})", value)
        side = hemisphere(word[1]) if word else None
        yield from [Found(kind, side)] if side else []
        return
    if kind == "pair" and _is_geojson(flat, match):
        kind = "swapped"
    note = _side_beside(flat, match) if kind in ("lat", "lon") else _note(match)
    read = _read_numbers(kind, value, note)
    # "经纬度" is said of either order.
    if KEYS["swapped"] in match[0] and isinstance(read, tuple) and read[0] == LATITUDE_RANGE:
        read = _read_numbers("pair", value)
    value = read
    if value is not None:
        firm = kind not in _BARE and match[0][-1] in ":=>" and _at_line_start(flat, match)
        yield Found(kind if kind in ("lat", "lon") else "pair", value, firm)


def _side_beside(flat: str, match: re.Match) -> str:
    """The hemisphere that a key's note or the word before it names: "Longitude (W)", "west longitude"; "" for none."""
    for word in reversed(re.findall(r"[^\W\d_]+", _note(match) or match[0][len(match[match.lastgroup]) :])):
        if side := hemisphere(word):
            return side
    before = _BEFORE_KEY.search(flat[max(0, match.start() - 16) : match.start()])
    side = hemisphere(before[1]) if before and len(before[1]) > 1 else None
    return side if side and side in {"lat": "NS", "lon": "EW"}[_kind(match)] else ""


_POINT = lazy(r"""["']type["'][ ]?:[ ]?["']Point["']""")


def _is_geojson(flat: str, match: re.Match) -> bool:
    """Whether a broken object's "coordinates" stand beside "type": "Point", so that the longitude is first."""
    if not re.search("coordinates", match[0]):
        return False
    before = flat[max(0, match.start() - 60) : match.start()].rpartition("{")[2]
    behind = flat[match.end() : match.end() + 120].partition("}")[0]
    return bool(_POINT.search(before) or _POINT.search(behind))
