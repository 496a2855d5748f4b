"""The answers of a run for the page: the numbers of many steps packed into arrays, the words of one picture."""

import base64
import json
import sqlite3
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from geospot.errors import RunError
from geospot.runs.rollouts import query_rollouts

# Little-endian float32 arrays of N answers, one after another; `group` is which picture of the step an answer is to.
COLUMNS = ("group_index", "lat", "lon", "distance_km", "reward", "true_lat", "true_lon")
WAIT_S = 2.0  # for a file that somebody else has locked
_SELECT = (
    f"SELECT step, {', '.join(COLUMNS)} FROM rollouts WHERE step BETWEEN ? AND ? AND split = ? "
    "ORDER BY step, group_index, member_index"
)
_WORDS = (
    "SELECT group_index, sample_key, text, lat, lon, error, distance_km, reward, parts, advantage, n_tokens, "
    "true_lat, true_lon, true_city, true_region, true_country FROM rollouts WHERE step = ? AND split = ?"
)


def counts(run: Path, first_step: int = 0, wait_s: float = WAIT_S) -> dict[str, list[list[int]]]:
    """split -> [step, answers] pairs from `first_step` on, by step; empty where there are no answers yet."""
    sql = "SELECT split, step, COUNT(*) AS n FROM rollouts WHERE step >= ? GROUP BY step, split ORDER BY step"
    found: dict[str, list[list[int]]] = {}
    for row in _query(run, sql, [first_step], wait_s):
        found.setdefault(row["split"], []).append([row["step"], row["n"]])
    return found


def packed(run: Path, split: str, first: int, last: int, only: Collection[int] | None = None) -> dict[str, Any]:
    """The answers of the steps from `first` to `last`, or of `only` these among them.

    {"steps", "counts": answers of each, "columns": names, "data": the columns in base64}
    """
    rows = _query(run, _SELECT, [first, last, split])
    if only is not None:
        kept = set(only)
        rows = [row for row in rows if row["step"] in kept]
    steps, n = np.unique([row["step"] for row in rows], return_counts=True)
    table = np.array([[row[name] for row in rows] for name in COLUMNS], dtype=np.float64).astype("<f4")
    return {
        "steps": steps.astype(int).tolist(),
        "counts": n.tolist(),
        "columns": COLUMNS,
        "data": base64.b64encode(table.tobytes()).decode(),
    }


def picture(run: Path, split: str, step: int, group: int) -> dict[str, Any] | None:
    """One picture of a step: its truth and every answer to it in words; None where there is none."""
    rows = _query(run, f"{_WORDS} AND group_index = ? ORDER BY member_index", [step, split, group])
    return _words(rows) if rows else None


def picture_words(run: Path, split: str, step: int) -> dict[int, dict[str, Any]]:
    """As `picture`, of every picture of a step by its number."""
    rows = _query(run, f"{_WORDS} ORDER BY group_index, member_index", [step, split])
    groups: dict[int, list[dict]] = {}
    for row in rows:
        groups.setdefault(row["group_index"], []).append(row)
    return {group: _words(members) for group, members in groups.items()}


def _words(rows: list[dict]) -> dict[str, Any]:
    first = rows[0]
    place = ", ".join(str(first[f"true_{part}"]) for part in ("city", "region", "country") if first[f"true_{part}"])
    shown = ("text", "lat", "lon", "error", "distance_km", "reward", "advantage", "n_tokens")
    answers = [{key: row[key] for key in shown} | {"parts": json.loads(row["parts"] or "{}")} for row in rows]
    truth = {"lat": first["true_lat"], "lon": first["true_lon"], "place": place}
    return {"key": first["sample_key"], "truth": truth, "answers": answers}


def _query(run: Path, sql: str, params: list[Any], wait_s: float = WAIT_S) -> list[dict]:
    """Rows; none where the run has no answers, or is just making the file. RunError where it cannot be read (now)."""
    try:
        return query_rollouts(run, sql, params, wait_s=wait_s)
    except FileNotFoundError:
        return []
    except sqlite3.DatabaseError as error:
        if "no such table" in str(error):
            return []
        raise RunError(
            f"the answers cannot be read ({error}): rollouts.sqlite is in use elsewhere, or damaged"
        ) from error
