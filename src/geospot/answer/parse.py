"""What is said: the prompt, the target text, and the parser that reads an answer back from whatever a model wrote.

How a text is read (`parse_answer`):

- Thinking (`<think>...</think>`, or unclosed) is left out. A `</think>` that nothing opened ends a thinking that
  began in the prompt, so all before it is left out too.
- Fields (a key such as `City`, `lat`, `Coordinates` and its value) are collected into blocks in the order of the text.
  A field that repeats after a block has both coordinates begins a new block, so answers are never mixed; a blank line,
  a code fence or a JSON object's end closes a block that has both, "final answer" closes any. A field repeated in one
  block is a hedge: its last readable value counts.
- The answer is the last block with two valid coordinates. Labels that follow it in a block without coordinates are
  taken only if it has none of its own. A pair that restates its coordinates (within 0.01 degrees) refines it.
- Pairs are (lat, lon) unless the key ("lon/lat") or hemisphere letters say otherwise; with neither a key nor
  hemispheres, only a line that consists of two decimals is a pair. Two numbers in prose are not.
- Minus with S or W is read once ("-33.9 S" is 33.9 south); a sign or an axis that contradicts the hemisphere
  ("-33.9 N", "Latitude: 5 E") is refused. Longitudes up to 360 are wrapped into [-180, 180); what is beyond is refused.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from geospot.answer.coordinates import (
    CONTRADICTION,
    LATITUDE_RANGE,
    LONGITUDE_RANGE,
    NOT_A_NUMBER,
    wrap_longitude,
)
from geospot.answer.fields import clean_label, find_fields, strip_markup, strip_thinking, unroll_tables
from geospot.earth.place import Place

FIELDS = ("City", "Region", "Country", "Latitude", "Longitude")

# Why a text has no answer: `Answer.error` is one of these.
EMPTY = "empty"
TOO_LONG = "text too long"
ONLY_THINKING = "only thinking"
NO_COORDINATES = "no coordinates"
NO_LATITUDE = "no latitude"
NO_LONGITUDE = "no longitude"
ERRORS = (EMPTY, TOO_LONG, ONLY_THINKING, NO_COORDINATES, NO_LATITUDE, NO_LONGITUDE)
ERRORS += (NOT_A_NUMBER, LATITUDE_RANGE, LONGITUDE_RANGE, CONTRADICTION)

MAX_CHARS = 200_000  # of a text; an answer takes about 100, so this is a loop or an attack

_HINTS = {"Latitude": "decimal degrees, north positive", "Longitude": "decimal degrees, east positive"}
_LABELS = ("city", "region", "country")
_TARGET_CHARS = 300  # a longer text is not in the plain form of the target
_RESTATED_DEGREES = 0.01


def prompt_text(region: bool = False) -> str:
    """The user's question: asks for exactly the lines that `format_answer` writes."""
    lines = [f"{name}: <{_HINTS.get(name, 'name')}>" for name in FIELDS if region or name != "Region"]
    return "\n".join(["Where was this taken? Answer with exactly these lines and nothing else:", *lines])


def format_answer(place: Place, *, decimals: int = 2, region: bool = False) -> str:
    """The target text of a place, one field a line. A label that is not known has no line.

    `decimals` is 2 to 4 (about 1 km to 10 m): digits beyond that cannot be seen in a picture and would only add loss.
    Raises ValueError for other `decimals` and for coordinates that are missing or out of range.
    """
    if not isinstance(decimals, int) or not 2 <= decimals <= 4:
        raise ValueError(f"decimals must be 2, 3 or 4, not {decimals!r}")
    for name, value, limit in (("lat", place.lat, 90.0), ("lon", place.lon, 180.0)):
        if value is None or not abs(value) <= limit:  # NaN fails the comparison too
            raise ValueError(
                f"{name} must be in -{limit:g}..{limit:g} degrees to be written as an answer, not {value!r}"
            )
    labels = {"City": place.city, "Region": place.region if region else None, "Country": place.country}
    cleaned = {name: clean_label(label or "", name.lower()) for name, label in labels.items()}
    lines = [f"{name}: {label}" for name, label in cleaned.items() if label]
    # + 0.0 turns -0.0 into 0.0; 179.996 rounds to 180.00, which is written as the meridian it is, -180.00
    lat, lon = round(float(place.lat), decimals) + 0.0, wrap_longitude(round(float(place.lon), decimals)) + 0.0
    return "\n".join([*lines, f"Latitude: {lat:.{decimals}f}", f"Longitude: {lon:.{decimals}f}"])


@dataclass(frozen=True)
class Answer:
    """What a text answers. `error` is None where both coordinates were read, else one of ERRORS and both are None.

    The labels stand on their own: they may be present where the coordinates failed, and the reverse.
    """

    lat: float | None  # degrees, -90..90
    lon: float | None  # degrees, -180 <= lon < 180
    city: str | None = None
    region: str | None = None
    country: str | None = None
    error: str | None = None

    @property
    def ok(self) -> bool:
        return self.error is None


# An answer in the target's own form, and names in it that need no second look. Most answers of a trained model are so.
_NAME = r"([^\W\d_](?:[^\W\d_]|[ '-](?=[^\W\d_]))*)"
_TARGET = re.compile(
    rf"\s*(?:City: {_NAME}\n)?(?:Region: {_NAME}\n)?(?:Country: {_NAME}\n)?"
    r"Latitude: (-?[0-9]{1,2}\.[0-9]{1,6})\nLongitude: (-?[0-9]{1,3}\.[0-9]{1,6})\s*"
)
_clean = lru_cache(maxsize=1 << 14)(clean_label)  # the same few names come back in every group


def parse_answer(text: str) -> Answer:
    """The last complete answer of a text (rules: this module's docstring). Never raises; linear time."""
    usual = len(text) <= _TARGET_CHARS and "nswer" not in text  # "final answer" has a meaning of its own
    match = _TARGET.fullmatch(text) if usual else None
    if match is None:
        return read_answer(text)
    *labels, lat, lon = match.groups()
    if abs(float(lat)) > 90 or abs(float(lon)) > 180:
        return read_answer(text)
    names = (label and _clean(label, kind) for label, kind in zip(labels, _LABELS, strict=True))
    return Answer(float(lat), wrap_longitude(float(lon)), *names)


def read_answer(text: str) -> Answer:
    """`parse_answer` without its short cut for the usual form: the same result at some twenty times the cost."""
    if not text.strip():
        return Answer(None, None, error=EMPTY)
    if len(text) > MAX_CHARS:
        return Answer(None, None, error=TOO_LONG)
    visible = strip_thinking(text)
    if not visible.strip():
        return Answer(None, None, error=ONLY_THINKING)
    return _choose(_blocks(find_fields(unroll_tables(strip_markup(visible)))))


@dataclass
class _Block:
    """The fields of one answer as far as they were read."""

    values: dict[str, float | str | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)  # why "lat" or "lon" could not be read
    last: str = ""  # the field that was set last

    @property
    def complete(self) -> bool:
        return "lat" in self.values and "lon" in self.values

    @property
    def located(self) -> bool:
        return not {"lat", "lon"}.isdisjoint(self.values.keys() | self.reasons.keys())

    @property
    def labels(self) -> dict[str, str | None]:
        return {name: self.values[name] for name in _LABELS if name in self.values}


def _blocks(fields: Iterable[tuple[str, object]]) -> list[_Block]:
    """The answers of a text, complete or not; where one ends and the next begins: this module's docstring."""
    blocks, depth, inside = [_Block()], 0, False
    for kind, value in fields:
        block = blocks[-1]
        if kind == "open":
            depth += 1
            if depth == 1:
                _close(blocks, block.complete)
                inside = not (blocks[-1].values or blocks[-1].reasons)
        elif kind == "close":
            depth = max(depth - 1, 0)
            _close(blocks, depth == 0 and (inside or block.complete))
        elif kind in ("pause", "final"):
            _close(blocks, kind == "final" or (block.complete and depth == 0))
        elif kind == "pair" and (stated := _restated(blocks, value)):
            stated.values["lat"], stated.values["lon"] = value
        else:
            for name, part in zip(("lat", "lon"), value, strict=True) if kind == "pair" else [(kind, value)]:
                _put(blocks, name, part)
    return blocks


def _close(blocks: list[_Block], end: bool) -> None:
    if end and (blocks[-1].values or blocks[-1].reasons):
        blocks.append(_Block())


def _restated(blocks: list[_Block], pair: tuple[float | str, float | str]) -> _Block | None:
    """The block whose coordinates a pair says once more, if the pair directly follows it."""
    empty = not (blocks[-1].values or blocks[-1].reasons)
    block = blocks[-2] if empty and len(blocks) > 1 else blocks[-1]
    if not block.complete or any(isinstance(part, str) for part in pair):
        return None
    known = (block.values["lat"], block.values["lon"])
    same = all(abs(old - new) <= _RESTATED_DEGREES for old, new in zip(known, pair, strict=True))
    return block if same else None


def _put(blocks: list[_Block], name: str, value: float | str | None) -> None:
    """Sets a field of the last block, or of a new one where it repeats in a block that has both coordinates.

    A field written twice in a row is a hedge within one answer, so it stays in the block and its last value counts.
    """
    if name != blocks[-1].last and name in blocks[-1].values:
        _close(blocks, blocks[-1].complete)
    block = blocks[-1]
    if name in _LABELS or not isinstance(value, str):
        block.values[name] = value
    else:
        block.reasons[name] = value
    block.last = name


def _choose(blocks: list[_Block]) -> Answer:
    """The last complete block as an answer; where there is none, the labels last given and the reason."""
    for index in reversed(range(len(blocks))):
        block = blocks[index]
        if block.complete:
            behind = blocks[index + 1] if index + 1 < len(blocks) else None
            labels = block.labels or (behind.labels if behind and not behind.located else {})
            return Answer(block.values["lat"], block.values["lon"], **labels)
    labels = next((block.labels for block in reversed(blocks) if block.labels), {})
    located = next((block for block in reversed(blocks) if block.located), None)
    return Answer(None, None, **labels, error=_reason(located) if located else NO_COORDINATES)


def _reason(block: _Block) -> str:
    for name in ("lat", "lon"):
        if name in block.reasons and name not in block.values:
            return block.reasons[name]
    return NO_LONGITUDE if "lat" in block.values else NO_LATITUDE
