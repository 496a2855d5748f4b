"""What a text says without its thinking, tags, chat tokens and LaTeX."""

import re

from geospot.answer.regex import lazy

_THINK = lazy(r"<(/?)think(?:ing)?>", re.IGNORECASE)
_TAG_KEYS = (
    "lat|latitude|lon|lng|long|longitude|coordinates?|coords?|city|town|region|state|province|country|location|position"
)
_MARKUP = lazy(
    r"(?P<lonlat><Point>\s{0,9}<coordinates>)|(?P<latlon><(?:gml:pos|georss:point)>)|(?P<key><(?:\w{1,9}:)?(?P<name>"
    + _TAG_KEYS
    + r")(?:[ ]type=\"\w{0,9}\")?>)"
    r"|(?P<end></(?:\w{1,9}:)?(?:" + _TAG_KEYS + r")>)"
    r"|(?P<second>\^\{?(?:\\prime[ ]?\\prime|'')\}?)|(?P<minute>\^\{?\\prime\}?)"
    r"|(?P<degree>\^\{?(?:\\circ|\\degree)\}?|\\(?:circ|degree|textdegree)(?![a-zA-Z])|\^o(?!\w)|&deg;|&\#176;)"
    r"|(?P<line><\|[^|<>\n]{0,40}\|>|<br ?/?>|(?-i:\\n(?![a-z])))"
    r"|(?P<answer><answer>)|</?[A-Za-z][A-Za-z0-9 ,]{0,40}/?>|\$|\\[()\[\]](?=[ $\d+(\\,.;:)-]|\n|\Z)"
    r"|\\[,;! ](?=[^\"'])|\\(?:quad|left|right|big|approx|sim)(?![a-z])"
    r"|\\(?:text|textbf|textit|mathrm|mathbf|mathit|operatorname|boxed|ang)\{(?P<inner>[^{}\n]{0,80})\}"
    r"|\\(?:text|textbf|mathrm|mathbf|boxed)\{",
    re.IGNORECASE,
)
_SPOKEN: dict[str | None, str] = {"degree": "°", "minute": "'", "second": '"', "line": "\n", "end": "\n"}
_SPOKEN |= {"answer": "\nFinal answer:\n", "lonlat": "\nlon/lat: ", "latlon": "\nlat/lon: ", None: " "}


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


def _speak(match: re.Match) -> str:
    if match["key"]:
        return f"\n{match['name']}: "
    if match["inner"] is not None:
        return f" {_MARKUP.sub(_speak, match['inner'].replace('~', ' '))} "  # ~ is a space
    return _SPOKEN[match.lastgroup]


def strip_markup(text: str) -> str:
    """The text without HTML tags, chat tokens and LaTeX; `<answer>` and `<lat>` become the words they mean."""
    return _MARKUP.sub(_speak, text)
