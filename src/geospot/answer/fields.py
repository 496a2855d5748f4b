"""Finds the fields of an answer ("City: Paris", "lat=1.5", "48.9 N, 2.3 E") in free text, in the order of the text."""

import json
import re
import unicodedata
from collections.abc import Iterator

from geospot.answer.coordinates import BARE_PAIR, LINE_PAIR, plain, read_coordinate, read_pair

MAX_LABEL_CHARS = 200
_VALUE_CHARS = 400  # how far behind its key a value is looked for

# --- the text -----------------------------------------------------------------------------------------------------

_THINK = re.compile(r"<(/?)think(?:ing)?>", re.IGNORECASE)
_MARKUP = re.compile(
    r"(?P<degree>\^\{?\\circ\}?|&deg;)|(?P<line><\|[^|<>\n]{0,40}\|>|<br ?/?>|\\n(?![a-z]))"
    r"|(?P<answer><answer>)|</?[A-Za-z][A-Za-z0-9 ,]{0,40}/?>|\$|\\(?:text|textbf|mathrm|boxed)\{"
)
_SPOKEN = {"degree": "°", "line": "\n", "answer": "\nFinal answer:\n", None: " "}


def strip_thinking(text: str) -> str:
    """The text outside `<think>...</think>`. A closing tag that nothing opened ends a thinking begun in the prompt."""
    kept, start, thinking = [], 0, False
    for tag in _THINK.finditer(text):
        opens = not tag[1]
        if not thinking and opens:
            kept.append(text[start : tag.start()])
        elif not thinking:
            kept.clear()
        thinking, start = opens, tag.end()
    return "\n".join(kept if thinking else [*kept, text[start:]])


def strip_markup(text: str) -> str:
    """The text without HTML tags, chat tokens and LaTeX; `<answer>` becomes the words it means."""
    return _MARKUP.sub(lambda match: _SPOKEN[match.lastgroup], text)


def _cells(line: str) -> list[str]:
    return [cell.strip(" \t*_`") for cell in line.strip().strip("|").split("|")]


def _is_table_header(line: str) -> bool:
    """Whether the cells name both coordinates and hold no number, as "| Latitude | 1.5 | Longitude | 2.5 |" does."""
    kinds = {key.lastgroup for key in map(_KEY.fullmatch, _cells(plain(line))) if key}
    named = bool(kinds & {"pair", "swapped"}) or kinds >= {"lat", "lon"}
    return named and not re.search(r"\|[ \t*`]{0,6}[+-]?[0-9]", plain(line))


def unroll_tables(text: str) -> str:
    """Rows of a table whose header names both coordinates become "Key: value" lines; other text stays as it is."""
    lines, header = [], []
    for line in text.split("\n"):
        if "|" not in line:
            header = []
            lines.append(line)
        elif not header:
            header = _cells(line) if _is_table_header(line) else []
            lines.append("" if header else line)
        elif not set(line) <= set("|-: \t"):  # the rule under a header
            lines += ["", *(f"{key}: {cell}" for key, cell in zip(header, _cells(line), strict=False)), ""]
    return "\n".join(lines)


# --- keys ---------------------------------------------------------------------------------------------------------

_LAT, _LON = "lat(?:itude)?", "(?:lon(?:g(?:itude)?)?|lng)"
_JOIN = r"(?:[ ]?[/,&-][ ]?|[ ]and[ ]|[ _])?"
# The one named group that matches is the kind of the field.
_NAMES = (
    rf"(?P<pair>{_LAT}{_JOIN}{_LON}|coordinates?|coords?|gps|location|position|answer|guess)|(?P<swapped>{_LON}{_JOIN}{_LAT})"
    rf"|(?P<lat>{_LAT})|(?P<lon>{_LON})|(?P<city>city|town|village|municipality|locality)"
    r"|(?P<region>region|state|province|prefecture|admin_?1)|(?P<country>country|nation)"
)
_KEY_TEXT = (
    rf"""["'*_`\\]{{0,4}}(?<![^\W_])(?:{_NAMES})(?:[ _](?:name|deg|degrees))?(?:[ ]?/[ ]?[a-z]{{1,15}}){{0,2}}"""
    r"""(?![^\W_])\.?(?:[ \t]{0,2}\([^()\n]{0,40}\))?["'*_`\\ \t]{0,24}[:=]?"""
)
_KEY = re.compile(_KEY_TEXT, re.IGNORECASE)
_SCAN = re.compile(
    rf"(?i:{_KEY_TEXT})|(?P<bare>{BARE_PAIR})|^[ \t*`(\[]{{0,6}}(?P<line>{LINE_PAIR})"
    r"|(?P<final>\b(?i:final|corrected|revised|updated)[ ](?=(?i:answer|guess)\b))"
    r"|(?P<pause>\n(?:[ \t]*+\n)++|```|^[ \t]*+---)|(?P<open>\{)|(?P<close>\})",
    re.MULTILINE,
)
_STRUCTURE = ("pause", "open", "close")
_SAID_OF_NUMBERS = re.compile("lat|latitude|lon|longitude|lng|coordinates?|coords?", re.IGNORECASE)
_DEGREES_OR_DECIMALS = re.compile("°|[0-9][.,][0-9]|[0-9] ?d", re.IGNORECASE)
_LINE_START = re.compile(r"""[\s"'*_`#>•+.)\-\\0-9]*""")
_LINE_END = re.compile(r"[ \t]*+(?:\n|\||\Z|-[ \t])")
_BESIDE_KEY = re.compile(r"\([^()]*\b([NSEW])(?:orth|outh|ast|est)?\)")


def _value_start(text: str, match: re.Match) -> int:
    """Where the value behind a key begins; the dash of "Latitude - 48.9" separates and is no sign."""
    dash = match[0][-1] not in ":=" and text.startswith("- ", match.end())
    return match.end() + 2 * dash


def _is_field(text: str, match: re.Match) -> bool:
    """Whether a key is used as one: before a colon, alone at the start of its line or cell, or before a coordinate."""
    kind, end = match.lastgroup, match.end()
    if kind == "bare":  # "I took 5 N to 10 E" is no place
        return bool(_DEGREES_OR_DECIMALS.search(match[0]))
    if kind in ("line", "final") or match[0][-1] in ":=":
        return True
    before = re.split(r"[\n|]", text[max(0, match.start() - 16) : match.start()])[-1]
    if _LINE_START.fullmatch(before) and _LINE_END.match(text, end):
        return True
    start = _value_start(text, match)
    said = _SAID_OF_NUMBERS.fullmatch(match[kind])
    return bool(said) and isinstance(_read_numbers(kind, text[start : start + _VALUE_CHARS]), float | tuple)


def _read_numbers(kind: str, value: str, note: str = ""):
    """What stands behind a coordinate key: see `read_coordinate` and `read_pair`."""
    if kind in ("lat", "lon"):
        return read_coordinate(value, kind, note)
    pair = read_pair(value, kind == "swapped")
    bracket = value.partition("\n")[0].find("(")  # "Location: Paris (48.85, 2.35)"
    return pair or (read_pair(value[bracket:], kind == "swapped") if bracket >= 0 else None)


# --- labels -------------------------------------------------------------------------------------------------------

_UNKNOWN = {"unknown", "n/a", "none", "null", "nil", "not known", "not available", "not sure", "unsure", "unspecified"}
# Tags and braces would read as structure; control characters and lone surrogates would break logs and files.
_NEVER_IN_A_NAME = re.compile("[<>{}|\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_WRAPPING = ' *_`|,;:~<>/\\[]{}"“”„«»?'
_QUOTED = re.compile(r'"((?:[^"\\\n]|\\.)*+)"')
_ABBREVIATION = re.compile(r"\.\w{1,3}\.$")


def clean_label(text: str, kind: str) -> str | None:
    """A label on one line, at most MAX_LABEL_CHARS, without quotes, markdown and trailing punctuation.

    None where nothing is left or it says "unknown". "NA" is Namibia as a country and "not available" elsewhere.
    """
    label, before = " ".join(_NEVER_IN_A_NAME.sub(" ", text).split())[:MAX_LABEL_CHARS], None
    while label != before:
        label, before = _peel(label), label
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
    line = line.strip(" \t*_`\\").partition("|")[0]
    quoted = _QUOTED.match(line)
    if quoted:
        try:
            line = json.loads(quoted[0])
        except ValueError:
            line = quoted[1]
    return (clean_label(line, kind),) if line.strip(_WRAPPING) else None


# --- fields -------------------------------------------------------------------------------------------------------


def find_fields(text: str) -> Iterator[tuple[str, object]]:
    """The fields of a text and the marks between them, in order, as (kind, value).

    "lat" and "lon" carry degrees or a reason (str), "pair" both of them as (lat, lon), "city", "region" and "country"
    a label or None for one that is said to be unknown; "final", "pause", "open" and "close" carry None.
    """
    flat = plain(text)  # positions are those of `text`, from which labels are taken as they are written
    found = [match for match in _SCAN.finditer(flat) if match.lastgroup in _STRUCTURE or _is_field(flat, match)]
    keys = [match.start() for match in found if match.lastgroup not in _STRUCTURE]
    ends = iter([*keys[1:], len(text)])
    for match in found:
        kind = match.lastgroup
        end = len(text) if kind in _STRUCTURE else next(ends)
        if kind in _STRUCTURE or kind == "final":
            yield kind, None
        elif kind in ("city", "region", "country"):
            start = _value_start(flat, match)
            label = _read_label(text[start : min(end, start + _VALUE_CHARS)], kind)
            yield from [(kind, label[0])] if label else []
        else:
            yield from _number_fields(flat, match, end)


def _number_fields(flat: str, match: re.Match, end: int) -> Iterator[tuple[str, object]]:
    kind = match.lastgroup
    start = match.start(kind) if kind in ("bare", "line") else _value_start(flat, match)
    note = _BESIDE_KEY.search(match[0])
    value = _read_numbers(kind, flat[start : min(end, start + _VALUE_CHARS)], note[1].upper() if note else "")
    if value is not None:
        yield kind if kind in ("lat", "lon") else "pair", value
