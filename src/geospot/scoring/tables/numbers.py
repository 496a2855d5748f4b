"""Numbers of a column that may hold text: "48.85", " 48,85 ", "48.85°", "nan", ""."""

import re

import numpy as np

from geospot.scoring.tables.formats import RawTable

_BLANK = {"", "nan", "none", "null", "n/a", "na", "-", "unknown"}
_DEGREES = re.compile(r"\s*([+-]?\d+(?:[.,]\d+)?)\s*°?\s*([NSEWnsew]?)\s*$")


def read_numbers(table: RawTable, column: str) -> tuple[np.ndarray, np.ndarray]:
    """(values (N,), NaN where there is none; (N,) bool where there is text that is no number). Such text is told."""
    cells = table.columns[column]
    try:  # the usual column, all at once
        values = np.array([np.nan if c is None or c == "" else c for c in cells], dtype=np.float64)
        bad = np.zeros(len(values), bool)
    except (TypeError, ValueError):
        read = [_number(cell) for cell in cells]
        values = np.array([np.nan if value is None else value for value in read], dtype=np.float64)
        bad = np.array([value is None for value in read])
    values = np.where(np.isfinite(values), values, np.nan)
    if bad.any():
        i = int(np.argmax(bad))
        table.warn(f"{int(bad.sum())} values of {column} are no numbers, the first is {table.where(i)}: {cells[i]!r}")
    return values, bad


def _number(cell: object) -> float | None:
    """NaN for a blank, None for what is no number."""
    if cell is None or isinstance(cell, bool):
        return np.nan if cell is None else None
    if isinstance(cell, int | float):
        return float(cell)
    if not isinstance(cell, str):
        return None
    if cell.strip().lower() in _BLANK:
        return np.nan
    match = _DEGREES.match(cell)
    if match is None:
        try:
            return float(cell)
        except ValueError:
            return None
    value = float(match[1].replace(",", "."))
    return -value if match[2].upper() in ("S", "W") and value > 0 else value
