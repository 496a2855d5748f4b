"""Objects in cells -> columns with dotted names: `ground_truth.lat`; a place written into a cell -> its coordinates."""

import ast
import json
from collections.abc import Iterable, Mapping
from typing import Any

from geospot.answer import parse_answer
from geospot.answer.places import as_row, has_place
from geospot.answer.spellings import find_column
from geospot.scoring.tables.formats import RawTable

_DEEPEST = 8
_MOST_COLUMNS = 1000  # objects by key are no columns
_LOOKED_AT = 50  # cells that say what a column holds
_PARTS = ("lat", "lon", "country", "region", "city")


def unfold(table: RawTable) -> None:
    """Add a column for each value of the objects in a table's cells; lists are left as they are (see `resolve`)."""
    level = list(table.columns)
    for _ in range(_DEEPEST):
        added: dict[str, list] = {}
        for name in level:
            values = table.columns[name]
            if not isinstance(next((v for v in values if v is not None), None), Mapping):
                continue
            inside: dict[object, list | None] = {}  # by key; None for one that the table has a column of
            for i, value in enumerate(values):
                for key, part in value.items() if isinstance(value, Mapping) else ():
                    if key not in inside:
                        inner = f"{name}.{key}"
                        known = inner in table.columns
                        inside[key] = None if known else added.setdefault(inner, [None] * len(values))
                    if (column := inside[key]) is not None:
                        column[i] = part
            if len(added) + len(table.columns) > _MOST_COLUMNS:
                table.warn(f"its objects have more than {_MOST_COLUMNS} keys; name what is inside them in full")
                return
        table.columns |= added
        table.nested |= added.keys()
        level = list(added)


def resolve(table: RawTable, name: str) -> bool:
    """Whether there is a column of this name, or a value at this dotted path (`choices.0.message`), then added."""
    if name in table.columns:
        return True
    head = max((c for c in table.columns if name.startswith(f"{c}.")), key=len, default=None)
    if head is None:
        return False
    path = name[len(head) + 1 :].split(".")
    values = [_walk(value, path) for value in table.columns[head]]
    if all(value is None for value in values):
        return False
    table.columns[name] = values
    return True


def _walk(value: Any, path: Iterable[str]) -> Any:
    for step in path:
        value = _object(value)
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.lstrip("-").isdigit():
            value = value[int(step)] if -len(value) <= int(step) < len(value) else None
        else:
            return None
    return value


def _object(value: Any) -> Any:
    """What a cell holds where it is JSON, or Python's own writing, of an object or a list."""
    if not isinstance(value, str) or not value.strip().startswith(("{", "[", "(")):
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            return read(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return value


def place_column(table: RawTable, names: Iterable[str]) -> dict[str, str]:
    """Of the first column whose cells hold places (objects, "48.86, 2.35", [48.86, 2.35], an answer's text) the parts
    as columns of their own: {"lat": "target.lat", ...}; nothing where no column does.
    """
    for name in names:
        cells = [cell for cell in table.columns[name] if cell not in (None, "")]
        sample = cells[:: max(1, len(cells) // _LOOKED_AT)]
        if not sample or 2 * sum("lat" in _place(cell) for cell in sample) < len(sample):
            continue
        rows, found = [_place(cell) for cell in table.columns[name]], {}
        for part in _PARTS:
            if any(row.get(part) not in (None, "") for row in rows):
                found[part] = f"{name}.{part}"
                table.columns[found[part]] = [row.get(part) for row in rows]
        return found
    return {}


def _place(cell: object) -> dict[str, object]:
    """lat, lon and labels of a cell, as far as it has them; empty where it holds no place."""
    value = _object(cell)
    if isinstance(value, list | tuple):
        if len(value) == 2 and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value):
            return {"lat": value[0], "lon": value[1]}
        return _place(value[0]) if len(value) == 1 else {}
    if isinstance(value, Mapping):
        row = as_row(value)
        if not has_place(row):
            inner = next((_place(v) for v in value.values() if isinstance(v, Mapping | list) and _place(v)), {})
            row = {**value, **inner}
        names = tuple(row)
        columns = {part: find_column(part, names) for part in _PARTS}
        found = {part: row[column] for part, column in columns.items() if column is not None}
        return found if {"lat", "lon"} <= found.keys() else {}
    if not isinstance(value, str):
        return {}
    row = as_row({"location": value})
    if has_place(row):
        return {"lat": row["lat"], "lon": row["lon"]}
    answer = parse_answer(value)
    return {part: getattr(answer, part) for part in _PARTS} if answer.ok else {}
