"""The rows of a JSON file of places, in whichever of the usual shapes it has them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from geospot.answer.places import as_row, has_place, is_pair, place_in

_TURNS = ("role", "from", "type")  # of the objects of a conversation or of an answer, which are no rows


def place_rows(content: object) -> list[object] | None:
    """The rows of a JSON file of places, each with its place on top; None where it holds none.

    A list of objects; an object with one (`images`, `customCoordinates`, `features`, or its longest list), also inside
    objects of one key; an object of objects, or of [lat, lon], by key; columns as pandas writes them.
    """
    content = _inside(content)
    if isinstance(content, Mapping):
        lists = {key: value for key, value in content.items() if isinstance(value, list)}
        if (rows := _of_columns(content)) is not None:
            content = rows
        elif _all(content.values(), lambda v: isinstance(v, Mapping)) and place_in(content) is None:
            content = [{"key": key, **value} for key, value in content.items()]
        elif _all(content.values(), is_pair):
            content = [{"key": key, "lat": value[0], "lon": value[1]} for key, value in content.items()]
        elif as_row(content) is not content or has_place(content):
            content = [content]
        else:
            content = lists.get("images") or max(lists.values(), key=len, default=None)
    if not isinstance(content, list) or not content:
        return None
    return [as_row(row) for row in content]


def _inside(content: Any) -> Any:
    """What objects of a single key hold, down to one with a list of rows: {"results": {"rows": [..]}}."""
    inner, depth = content, 0
    while isinstance(inner, Mapping) and len(inner) == 1 and depth < 8:
        inner, depth = next(iter(inner.values())), depth + 1
    held = inner.values() if isinstance(inner, Mapping) else [inner]
    return inner if depth and any(map(_are_rows, held)) else content


def _are_rows(value: object) -> bool:
    return isinstance(value, list) and _all(
        value, lambda row: isinstance(row, Mapping) and not any(key in row for key in _TURNS)
    )


def _of_columns(content: Mapping) -> list[dict[str, Any]] | None:
    """Rows of {"lat": [..], ..}, {"lat": {"0": ..}, ..} or {"columns": [..], "data": [[..], ..]}; None for no such."""
    names, data = content.get("columns"), content.get("data")
    if isinstance(names, list) and isinstance(data, list) and _all(
        data, lambda row: isinstance(row, list) and len(row) == len(names)
    ):  # fmt: skip
        return [dict(zip(map(str, names), row, strict=True)) for row in data]
    columns = list(content.values())
    if len(columns) < 2:
        return None
    if _all(columns, lambda v: isinstance(v, Mapping)):
        numbered = [str(i) for i in range(len(columns[0]))]
        if not numbered or any(list(column) != numbered for column in columns):
            return None
        columns = [list(column.values()) for column in columns]
    elif not _all(columns, lambda v: isinstance(v, list) and len(v) == len(columns[0]) > 0):
        return None
    elif not has_place(content) and (_all(columns, is_pair) or 2 * sum(map(_are_rows, columns)) >= len(columns)):
        return None  # places by key; rows, and a list of something else
    return [dict(zip(content, row, strict=True)) for row in zip(*columns, strict=True)]


def _all(values: Iterable[object], test: Callable[[Any], bool]) -> bool:
    found = list(values)
    return bool(found) and all(map(test, found))
