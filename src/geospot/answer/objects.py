"""JSON objects in a text: whole ones are parsed, so that nothing else of the text gets into their fields.

Broken objects (single quotes, a missing comma, one that is cut off) are left to `answer.fields`, which reads them as
any other text.
"""

import json
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeGuard

from geospot.answer.candidates import most_likely_first
from geospot.answer.coordinates import NOT_A_NUMBER, in_range, plain, read_coordinate, read_pair, with_side
from geospot.answer.languages import hemisphere, to_english
from geospot.answer.regex import lazy
from geospot.answer.spellings import coordinate_columns

Fields = list[tuple[str, object]]
KeyKind = Callable[[str], str | None]

_RECURSION_CHARS = 10_000  # what an object that nests too deeply counts for
_CAMEL = lazy(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_BEGINS = lazy(r"\{\s{0,99}\"[^\"\n]{1,80}\"\s{0,9}:")
_LIST_BEFORE = lazy(r"\[\s{0,99}\Z")
_MOST_KEYS = 100  # of an object in which minutes and seconds are looked for
_NUMBERS = ("lat", "lon")
_LABELS = ("city", "region", "country")


class _Pairs(list):
    """The items of a JSON object in order, repeated keys included."""


_DECODER = json.JSONDecoder(object_pairs_hook=_Pairs, strict=False)


class Objects:
    """The JSON objects of a text, by the place of their opening brace; a budget keeps the search linear."""

    def __init__(self, text: str, key_kind: KeyKind):
        self._text, self._key_kind = text, key_kind
        self._budget = 4 * len(text) + 1000  # characters that objects which turn out to be broken may take

    def at(self, start: int) -> tuple[int, list[Fields]] | None:
        """Where the object that opens at `start` ends and the answers in it; None where it is broken or has no place.

        An answer is a list of fields as `geospot.answer.fields.find_fields` gives them.
        """
        if self._budget < 0 or not _BEGINS.match(self._text, start):
            return None
        opening = _LIST_BEFORE.search(self._text, max(0, start - 100), start)
        if opening and (candidates := self._parsed(opening.start(), self._candidates)):
            return candidates
        return self._parsed(start, self._answers)

    def _parsed(self, start: int, answers_of: Callable[[Any], Iterator[Fields]]) -> tuple[int, list[Fields]] | None:
        try:
            value, end = _DECODER.raw_decode(self._text, start)
            answers = list(answers_of(value))
        except json.JSONDecodeError as error:
            self._budget -= error.pos - start + error.pos // 50 + 16  # the error counts the lines before it
            return None
        except (ValueError, RecursionError):  # an integer of thousands of digits, a thousand braces
            self._budget -= _RECURSION_CHARS
            return None
        if not any(kind in ("lat", "lon", "pair") for answer in answers for kind, _ in answer):
            self._budget -= end - start
            return None
        return end, answers

    def _answers(self, items: _Pairs) -> Iterator[Fields]:
        """The answers of an object: those in its lists, then its own, nested objects included.

        Of a list of candidates the most likely one is the last, where they say how likely they are.
        """
        own: Fields = []
        inner: list[list[_Pairs]] = []
        self._collect(items, own, inner)
        for listed in inner:
            likely = most_likely_first(listed, lambda item: item)
            for item in reversed(likely) if likely else listed:
                yield from self._answers(item)
        if own:
            yield own

    def _candidates(self, listed: object) -> Iterator[Fields]:
        """The answers of a list of candidates that say how likely they are; those of any other are read one by one."""
        objects = isinstance(listed, list) and not isinstance(listed, _Pairs)
        if (
            objects
            and all(isinstance(item, _Pairs) for item in listed)
            and most_likely_first(listed, lambda item: item)
        ):
            yield from self._answers(_Pairs([("candidates", listed)]))

    def _collect(self, items: _Pairs, own: Fields, inner: list[list[_Pairs]]) -> None:
        point = ("type", "Point") in items  # GeoJSON (RFC 7946) puts the longitude first
        names = tuple(key for key, _ in items)
        for key, value in items:
            kind = self._key_kind(_CAMEL.sub("_", key[:80]))
            if kind in _NUMBERS and isinstance(value, _Pairs):
                own.append((kind, _from_parts(dict(value), kind)))
            elif kind in _NUMBERS and len(names) <= _MOST_KEYS and (parts := _beside(items, key, kind, names)):
                own.append((kind, _from_parts(parts, kind)))
            elif kind in _LABELS and isinstance(value, _Pairs | list):
                name = _name_in(value)
                own += [(kind, name)] if name else []
            elif isinstance(value, _Pairs):
                self._collect(value, own, inner)
            elif isinstance(value, list) and any(isinstance(item, _Pairs) for item in value):
                inner.append([item for item in value if isinstance(item, _Pairs)])
            elif kind in _NUMBERS:
                own.append((kind, _coordinate(value, kind)))
            elif kind in ("pair", "swapped"):
                pair = _pair(value, kind == "swapped" or point)
                own += [("pair", pair)] if pair else []
            elif kind in _LABELS and (value is None or isinstance(value, str)):
                own.append((kind, value))
            elif kind in ("lat_side", "lon_side") and isinstance(value, str) and hemisphere(plain(value).strip()):
                own.append((kind, hemisphere(plain(value).strip())))


def _beside(items: _Pairs, key: str, axis: str, names: tuple[str, ...]) -> dict[str, object] | None:
    """Degrees, minutes and seconds where an object has them under keys of their own (lat_deg, lat_min, lat_sec)."""
    _, minutes, seconds = coordinate_columns(key, axis, names)
    found = dict(items)
    if not minutes:
        return None
    return {"deg": found[key], "min": found[minutes], "sec": found[seconds] if seconds else 0}


def _name_in(value: object) -> str | None:
    """The name in {"name": "France", "code": "FR"}, or in a list of nothing but one name."""
    if isinstance(value, _Pairs):
        value = [part for key, part in value if key.lower() == "name"]
    return value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str) else None


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _coordinate(value: object, axis: str) -> float | str:
    if _is_number(value):
        try:
            return in_range(float(value), axis)
        except OverflowError:
            return NOT_A_NUMBER
    if isinstance(value, str):
        read = read_coordinate(to_english(plain(value[:400])), axis)
        return NOT_A_NUMBER if read is None else read
    return NOT_A_NUMBER


def _pair(value: object, lon_first: bool) -> tuple[float | str, float | str] | None:
    if isinstance(value, str):
        return read_pair(to_english(plain(value[:400])), lon_first)
    if not isinstance(value, list) or len(value) not in (2, 3) or isinstance(value, _Pairs):
        return None
    if any(isinstance(part, list) for part in value):  # a line or an area
        return None
    lat, lon = (value[1], value[0]) if lon_first else value[:2]
    if isinstance(lat, str) and isinstance(lon, str):  # ["48.9 N", "2.3 E"]
        return read_pair(to_english(plain(f"{value[0][:200]}, {value[1][:200]}")), lon_first)
    return _coordinate(lat, "lat"), _coordinate(lon, "lon")


def _from_parts(parts: dict[str, object], axis: str) -> float | str:
    """{"degrees": 48, "minutes": 51, "seconds": 24, "direction": "N"} as degrees, or a reason."""
    named = {key.lower()[:3]: value for key, value in parts.items() if isinstance(key, str)}
    value = next((named[key] for key in ("deg", "val", "dec") if key in named), None)
    numbers: Any = [value, named.get("min", 0), named.get("sec", 0)]
    if not all(_is_number(number) and math.isfinite(number) and abs(number) <= 360 for number in numbers):
        return _coordinate(value, axis) if isinstance(value, str) else NOT_A_NUMBER
    if not (0 <= numbers[1] < 60 and 0 <= numbers[2] < 60):
        return NOT_A_NUMBER
    size = abs(numbers[0]) + numbers[1] / 60 + numbers[2] / 3600
    size = math.copysign(size, numbers[0])
    side = next((word for key in ("dir", "hem", "ref") if isinstance(word := named.get(key), str)), "")
    side = hemisphere(side.strip())
    return with_side(size, side, axis) if side else in_range(size, axis)
