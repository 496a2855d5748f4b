"""The parser that reads an answer back from whatever a model wrote.

How a text is read (`parse_answer`):

- Thinking (`<think>...</think>`, or unclosed) is left out. A `</think>` that nothing opened ends a thinking that
  began in the prompt, so all before it is left out too.
- Fields (a key such as `City`, `lat`, `Coordinates` and its value) are collected into blocks in the order of the text.
  A field that repeats after a block has both coordinates begins a new block, so answers are never mixed; a blank line,
  a code fence or a JSON object's end closes a block that has both, "final answer" closes any. A field repeated in one
  block is a hedge: its last readable value counts.
- The answer is the last block with two valid coordinates; of the objects of a list, or the rows of a table, that each
  state a probability or a rank, the most likely one. Labels that follow it in a block without coordinates are
  taken only if it has none of its own.
- A JSON object that can be parsed is one answer: nothing of the text around it is added to its fields, and sentences
  behind it do not replace it unless "final answer" says so.
- Coordinates that an answer says once more keep its labels, the finer of the two writings its coordinates. A map link,
  geo: address or Plus Code counts where the text has no other coordinates.
- Pairs are (lat, lon) unless the key ("lon/lat") or hemisphere letters say otherwise; with neither a key nor
  hemispheres, only a line that consists of two decimals is a pair. Two numbers in prose are not.
- GeoJSON and WKT points are (lon, lat), as their standards say. A number with thousands ("1,035 m") is no pair.
- Keys, hemispheres, units and digits of some thirty languages are read (`geospot.answer.languages`).
- Minus with S or W is read once ("-33.9 S" is 33.9 south); a sign or an axis that contradicts the hemisphere
  ("-33.9 N", "Latitude: 5 E") is refused. Longitudes up to 360 are wrapped into [-180, 180); what is beyond is refused.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from geospot.answer.coordinates import (
    CONTRADICTION,
    LATITUDE_RANGE,
    LONGITUDE_RANGE,
    NOT_A_NUMBER,
    with_side,
    wrap_longitude,
)
from geospot.answer.fields import Found, clean_label, find_fields, unroll_tables
from geospot.answer.markup import strip_markup, strip_thinking
from geospot.answer.prompt import MAX_CHARS
from geospot.answer.regex import lazy

# Why a text has no answer: `Answer.error` is one of these.
EMPTY = "empty"
TOO_LONG = "text too long"
ONLY_THINKING = "only thinking"
NO_COORDINATES = "no coordinates"
NO_LATITUDE = "no latitude"
NO_LONGITUDE = "no longitude"
ERRORS = (EMPTY, TOO_LONG, ONLY_THINKING, NO_COORDINATES, NO_LATITUDE, NO_LONGITUDE)
ERRORS += (NOT_A_NUMBER, LATITUDE_RANGE, LONGITUDE_RANGE, CONTRADICTION)


_LABELS = ("city", "region", "country")
_TARGET_CHARS = 300  # a longer text is not in the plain form of the target
_RESTATED_DEGREES = 0.01


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
_TARGET = lazy(
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
    return _read(find_fields(unroll_tables(strip_markup(visible))))


@dataclass
class _Block:
    """The fields of one answer as far as they were read."""

    values: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)  # why "lat" or "lon" could not be read
    sides: dict[str, str] = field(default_factory=dict)  # hemispheres in fields of their own
    last: str = ""  # the field that was set last
    whole: bool = False  # a JSON object
    firm: bool = True  # both coordinates are fields of their own, not words in a sentence
    final: bool = False  # "final answer" or its like stands before it

    @property
    def complete(self) -> bool:
        return "lat" in self.values and "lon" in self.values

    @property
    def located(self) -> bool:
        return not {"lat", "lon"}.isdisjoint(self.values.keys() | self.reasons.keys())

    @property
    def empty(self) -> bool:
        return not (self.values or self.reasons)

    @property
    def labels(self) -> dict[str, str | None]:
        return {name: self.values[name] for name in _LABELS if name in self.values}

    @property
    def point(self) -> tuple[float, float]:
        return self.values["lat"], self.values["lon"]

    def put(self, name: str, value: float | str | None) -> None:
        """Sets a field; a coordinate may be a reason (str) for which it could not be read."""
        if name in _LABELS or not isinstance(value, str):
            self.values[name] = value
        else:
            self.reasons[name] = value
        self.last = name
        self._turn(name)

    def put_side(self, name: str, side: str) -> None:
        self.sides[name] = side
        self._turn(name)

    def _turn(self, name: str) -> None:
        """A coordinate whose hemisphere stands in a field of its own gets its sign, or the reason why it cannot."""
        if name in self.sides and isinstance(self.values.get(name), float):
            turned = with_side(self.values[name], self.sides[name], name)
            if isinstance(turned, str):
                self.reasons[name] = turned
                del self.values[name]
            else:
                self.values[name] = turned


def _read(fields: Iterable[Found]) -> Answer:
    """The answer that the fields of a text give; a link or a code counts where they give no coordinates."""
    fields = list(fields)
    answer = _choose(_blocks(found for found in fields if found.kind != "link"))
    links = [found.value for found in fields if found.kind == "link"]
    good = [pair for pair in links if not any(isinstance(part, str) for part in pair)]
    if answer.ok or not good:
        return answer
    lat, lon = good[-1]
    return Answer(lat, lon, answer.city, answer.region, answer.country)


def _blocks(fields: Iterable[Found]) -> list[_Block]:
    """The answers of a text, complete or not; where one ends and the next begins: this module's docstring."""
    blocks, depth, inside = [_Block()], 0, False
    for found in fields:
        kind, value, block = found.kind, found.value, blocks[-1]
        if kind == "object":
            _put_object(blocks, value)
        elif kind == "open":
            depth += 1
            if depth == 1:
                _close(blocks, block.complete)
                inside = blocks[-1].empty
        elif kind == "close":
            depth = max(depth - 1, 0)
            _close(blocks, depth == 0 and (inside or block.complete))
        elif kind in ("pause", "final"):
            _close(blocks, kind == "final" or (block.complete and depth == 0))
            blocks[-1].final = blocks[-1].final or kind == "final"
        elif kind in ("lat_side", "lon_side"):
            block.put_side(kind[:3], value)
        elif kind == "pair" and (stated := _restated(blocks, value)):
            if not stated.whole:
                stated.values["lat"], stated.values["lon"] = _finer(stated.point, value)
        else:
            for name, part in zip(("lat", "lon"), value, strict=True) if kind == "pair" else [(kind, value)]:
                _put(blocks, name, part, found.firm)
    return blocks


def _put_object(blocks: list[_Block], fields: list[tuple[str, Any]]) -> None:
    """A JSON object is a block of its own, from which and to which nothing is added."""
    final = blocks[-1].final and blocks[-1].empty
    whole = _Block(whole=True, final=final)
    for name, value in fields:
        if name in ("lat_side", "lon_side"):
            whole.put_side(name[:3], value)
        else:
            for part in zip(("lat", "lon"), value, strict=True) if name == "pair" else [(name, value)]:
                whole.put(*part)
    if blocks[-1].empty:
        blocks.pop()
    blocks += [whole, _Block()]


def _close(blocks: list[_Block], end: bool) -> None:
    if end and not blocks[-1].empty:
        blocks.append(_Block())


def _restated(blocks: list[_Block], pair: tuple[float | str, float | str]) -> _Block | None:
    """The block whose coordinates a pair says once more, if the pair directly follows it."""
    block = blocks[-2] if blocks[-1].empty and len(blocks) > 1 else blocks[-1]
    if not block.complete or any(isinstance(part, str) for part in pair):
        return None
    lat, lon = pair
    return block if _same(block.point, (float(lat), float(lon))) else None


def _same(old: tuple[float, float], new: tuple[float, float]) -> bool:
    """Whether coordinates say a place once more: within 0.01 degrees, or rounded to fewer digits."""
    if all(abs(a - b) <= _RESTATED_DEGREES for a, b in zip(old, new, strict=True)):
        return True
    digits = max(map(_digits, new))
    return all(abs(a - b) <= 0.5 * 10**-digits + 1e-9 for a, b in zip(old, new, strict=True))


def _digits(value: float) -> int:
    """The digits behind the point that a number was written with, at most 6."""
    return next((digits for digits in range(6) if round(value, digits) == value), 6)


def _finer(old: tuple[float, float], new: tuple[float, float]) -> tuple[float, float]:
    """Of two writings of a place the later one, unless it only rounds the earlier."""
    rounded = max(map(_digits, new)) < max(map(_digits, old)) and _same(old, new)
    return old if rounded else new


def _put(blocks: list[_Block], name: str, value: float | str | None, firm: bool) -> None:
    """Sets a field of the last block, or of a new one where it repeats in a block that has both coordinates.

    A field written twice in a row is a hedge within one answer, so it stays in the block and its last value counts.
    """
    if name != blocks[-1].last and name in blocks[-1].values:
        _close(blocks, blocks[-1].complete)
    block = blocks[-1]
    block.put(name, value)
    if name not in _LABELS:
        block.firm = block.firm and firm


def _choose(blocks: list[_Block]) -> Answer:
    """The last complete block as an answer; where there is none, the labels last given and the reason.

    A JSON object goes before sentences that follow it, unless these are said to be the final answer.
    """
    complete = [index for index, block in enumerate(blocks) if block.complete]
    if not complete:
        labels = next((block.labels for block in reversed(blocks) if block.labels), {})
        located = next((block for block in reversed(blocks) if block.located), None)
        return Answer(None, None, **labels, error=_reason(located) if located else NO_COORDINATES)
    index = complete[-1]
    objects = [i for i in complete if blocks[i].whole]
    if objects and not blocks[index].firm and not any(block.final for block in blocks[objects[-1] + 1 :]):
        index = objects[-1]
    block, earlier = blocks[index], [i for i in complete if i < index]
    point, labels = block.point, block.labels
    if earlier and _same(blocks[earlier[-1]].point, point):
        point, labels = _finer(blocks[earlier[-1]].point, point), blocks[earlier[-1]].labels | labels
    return Answer(*point, **(labels or _labels_beside(blocks, index)))


def _labels_beside(blocks: list[_Block], index: int) -> dict[str, str | None]:
    """The labels of a block without coordinates that follows a block, or that stands before an object."""
    behind = blocks[index + 1] if index + 1 < len(blocks) else None
    before = blocks[index - 1] if blocks[index].whole and index else None
    return next((block.labels for block in (before, behind) if block and block.labels and not block.located), {})


def _reason(block: _Block) -> str:
    for name in ("lat", "lon"):
        if name in block.reasons and name not in block.values:
            return block.reasons[name]
    return NO_LONGITUDE if "lat" in block.values else NO_LATITUDE
