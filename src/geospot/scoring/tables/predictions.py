"""A table as guesses, as truths, or as both; what is odd in it is told with its row."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from geospot.answer import Answer, parse_answer
from geospot.earth.distance import wrap_longitude
from geospot.earth.folding import is_blank
from geospot.errors import TableError
from geospot.scoring.guesses import Guesses
from geospot.scoring.tables.columns import find_columns, missing_columns
from geospot.scoring.tables.formats import RawTable, read_axis, read_numbers, read_raw
from geospot.scoring.truths import LABELS, Truths

NOT_NUMBERS = "coordinates are not numbers"
OUT_OF_RANGE = "coordinates out of range"
SAID = ("country", "region", "city")


def read_guesses(
    path: str | Path, columns: Mapping[str, str] | None = None, name: str | None = None
) -> tuple[Guesses, Truths | None, list[str]]:
    """The guesses of a predictions file, the truths if it has them too, and warnings that name rows.

    A guess is a pair of coordinates or a raw answer text, which is read as geospot reads a model's. A row whose guess
    cannot be read stays as a failed answer; a row whose truth cannot be read is left out and told.
    """
    table = read_raw(path)
    roles = find_columns(table, columns or {})
    has_coordinates = "lat" in roles and "lon" in roles
    if not has_coordinates and "text" not in roles:
        raise missing_columns(
            table, "the guess", "Name coordinates lat and lon, or raw answers text; or say "
            "prediction_columns=lat=...,lon=... or prediction_columns=text=..."
        )  # fmt: skip
    truths_here = "true_lat" in roles and "true_lon" in roles
    if "key" not in roles and not truths_here:
        raise missing_columns(table, "the key of a picture", "Name it key, or say prediction_columns=key=...")
    keys = _keys(table, roles)
    label = name or table.path.stem
    guesses = _of_coordinates(table, roles, keys, label) if has_coordinates else _of_texts(table, roles, keys, label)
    truths = None
    keep = _without_duplicates(table, guesses, _first_ranks(table, roles))
    if truths_here:
        truths, good = _truths(table, roles, keys)
        keep = [i for i in keep if good[i]]
        truths = truths.take(keep)
    return guesses.take(keep), truths, table.warnings


def read_table_truths(path: str | Path, columns: Mapping[str, str] | None = None) -> tuple[Truths, list[str]]:
    """The truths of a table with a key and coordinates a row, and warnings that name rows."""
    table = read_raw(path)
    given = {role: name for role, name in (columns or {}).items() if role == "key" or role.startswith("true_")}
    roles = find_columns(table, {r: n for r, n in given.items() if n in table.columns}, truths_only=True)
    if "true_lat" not in roles or "true_lon" not in roles:
        raise missing_columns(
            table, "the true coordinates", "Name them lat and lon, or say prediction_columns=true_lat=..."
        )
    if "key" not in roles:
        raise missing_columns(table, "the key of a picture", "Name it key, or say prediction_columns=key=...")
    truths, good = _truths(table, roles, _keys(table, roles))
    first: dict[str, int] = {}
    for i, key in enumerate(truths.keys):
        j = first.setdefault(key, i)
        same = truths.lat[i] == truths.lat[j] and truths.lon[i] == truths.lon[j]
        if i != j and good[i] and good[j] and not same:
            raise TableError(f"{table.path}: {table.where(j)} and {table.where(i)} give different places for {key!r}")
    keep = [i for i in sorted(first.values()) if good[i]]
    if not keep:
        raise TableError(f"{table.path}: no row has true coordinates that can be used; {'; '.join(table.warnings)}")
    return truths.take(keep), table.warnings


def _keys(table: RawTable, roles: Mapping[str, str]) -> list[str]:
    """The key of each row as text; the row's number in place of a missing column."""
    if "key" not in roles:
        return [table.number(i) for i in range(len(table))]
    values = table.columns[roles["key"]]
    keys = ["" if v is None else str(int(v)) if isinstance(v, float) and v.is_integer() else str(v).strip()
            for v in values]  # fmt: skip
    if empty := [i for i, key in enumerate(keys) if not key]:
        raise TableError(f"{table.path}: {table.where(empty[0])} has no {roles['key']} ({len(empty)} such rows)")
    return keys


def _labels(
    table: RawTable, roles: Mapping[str, str], levels: Sequence[str], prefix: str = ""
) -> dict[str, list[str | None]]:
    """The label columns; blanks ("", "nan", "unknown", but not "NA", which is Namibia) are None."""
    found = {}
    for level in levels:
        if column := roles.get(prefix + level):
            values = table.columns[column]
            known = {v: None if not isinstance(v, str) or is_blank(v) else v.strip() for v in set(map(_text, values))}
            found[level] = [known[_text(value)] for value in values]
    return found


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _truths(table: RawTable, roles: Mapping[str, str], keys: list[str]) -> tuple[Truths, np.ndarray]:
    """The truth of each row, and which rows (N,) have one that can be used."""
    lat, lon = (read_axis(table, roles[f"true_{axis}"], axis)[0] for axis in ("lat", "lon"))
    high, swappable = np.abs(lat) > 90, (np.abs(lat) <= 180) & (np.abs(lon) <= 90)
    if high.any() and (high & swappable).sum() >= 0.9 * high.sum() and high.sum() >= 0.05 * len(lat):
        i = int(np.argmax(high))
        raise TableError(
            f"{table.path}: {roles['true_lat']} and {roles['true_lon']} look swapped: {table.where(i)} has latitude "
            f"{lat[i]:g}, longitude {lon[i]:g}, and {int(high.sum())} rows are like it. Say "
            f"prediction_columns=true_lat={roles['true_lon']},true_lon={roles['true_lat']}"
        )
    lon = np.where((np.abs(lon) > 180) & (np.abs(lon) <= 360), wrap_longitude(lon), lon)
    good = np.isfinite(lat) & np.isfinite(lon) & (np.abs(lat) <= 90) & (np.abs(lon) <= 180) & ~((lat == 0) & (lon == 0))
    if not good.all():
        bad = np.flatnonzero(~good)
        values = tuple(table.columns[roles[f"true_{axis}"]][bad[0]] for axis in ("lat", "lon"))
        table.warn(f"{len(bad)} rows without a usable truth were left out, the first is {table.where(bad[0])} with "
                   f"{values[0]!r}, {values[1]!r}")  # fmt: skip
    ids = None
    if "place" in roles:
        ids = np.unique([str(v) for v in table.columns[roles["place"]]], return_inverse=True)[1]
    return Truths(keys, lat, lon, _labels(table, roles, LABELS, "true_"), ids), good


def _of_coordinates(table: RawTable, roles: Mapping[str, str], keys: list[str], name: str) -> Guesses:
    """Guesses from two columns of numbers."""
    (lat, bad_lat), (lon, bad_lon) = (read_axis(table, roles[axis], axis) for axis in ("lat", "lon"))
    if turned := int(np.sum((np.abs(lon) > 180) & (np.abs(lon) <= 360))):
        table.warn(f"{turned} longitudes beyond 180 were turned into -180..180")
    lon = np.where((np.abs(lon) > 180) & (np.abs(lon) <= 360), wrap_longitude(lon), lon)
    outside = (np.abs(lat) > 90) | (np.abs(lon) > 180)
    if outside.any():
        i = int(np.argmax(outside))
        swapped = np.abs(lat[outside]) <= 180
        hint = ""
        if swapped.all() and (np.abs(lon[outside]) <= 90).all():
            hint = f"; they look swapped: say prediction_columns=lat={roles['lon']},lon={roles['lat']}"
        table.warn(f"{int(outside.sum())} guesses are out of range and count as failed, the first is {table.where(i)} "
                   f"with latitude {lat[i]:g}, longitude {lon[i]:g}{hint}")  # fmt: skip
    said = table.columns[roles["error"]] if "error" in roles else [None] * len(table)
    failures: list[str | None] = []
    missing = np.isnan(lat) | np.isnan(lon)
    for i, (no, out) in enumerate(zip(missing.tolist(), outside.tolist(), strict=True)):
        if not no and not out:
            failures.append(None)
        elif out:
            failures.append(OUT_OF_RANGE)
        elif bad_lat[i] or bad_lon[i]:
            failures.append(NOT_NUMBERS)
        else:
            reason = said[i]
            failures.append(reason.strip() if isinstance(reason, str) and reason.strip() else "no coordinates")
    failed = np.array([failure is not None for failure in failures])
    texts = [str(v) if v is not None else "" for v in table.columns[roles["text"]]] if "text" in roles else None
    radius, probability = _radius(table, roles)
    return Guesses(
        name, keys, np.where(failed, np.nan, lat), np.where(failed, np.nan, lon), tuple(failures),
        _labels(table, roles, SAID), texts, radius, probability,
    )  # fmt: skip


def _of_texts(table: RawTable, roles: Mapping[str, str], keys: list[str], name: str) -> Guesses:
    """Guesses from raw answers."""
    texts = ["" if v is None else str(v) for v in table.columns[roles["text"]]]
    known: dict[str, Answer] = {text: parse_answer(text) for text in set(texts)}
    guesses = Guesses.of_answers(name, keys, [known[text] for text in texts], texts)
    failed = [i for i, reason in enumerate(guesses.failures) if reason is not None]
    if failed:
        i = failed[0]
        table.warn(f"{len(failed)} of {len(texts)} answers cannot be read and count as failed, the first is "
                   f"{table.where(i)} ({guesses.failures[i]}): {texts[i][:60]!r}")  # fmt: skip
    return guesses


def _radius(table: RawTable, roles: Mapping[str, str]) -> tuple[np.ndarray | None, float | None]:
    if "radius_km" not in roles:
        return None, None
    radius = read_numbers(table, roles["radius_km"])[0]
    if "probability" not in roles:
        return radius, None
    stated = read_numbers(table, roles["probability"])[0]
    different = np.unique(stated[~np.isnan(stated)])
    if len(different) > 1:
        table.warn(
            f"its radii are for several probabilities ({different[0]:g} to {different[-1]:g}): coverage is of all"
        )
    return radius, float(different[0]) if len(different) == 1 else None


def _first_ranks(table: RawTable, roles: Mapping[str, str]) -> list[int]:
    """The rows of rank 1: candidates of lower rank are no guesses of their own (geospot guess writes them so)."""
    if "rank" not in roles:
        return list(range(len(table)))
    rank = read_numbers(table, roles["rank"])[0]
    rows = np.flatnonzero(~(rank > 1)).tolist()
    if len(rows) < len(table):
        table.warn(f"{len(table) - len(rows)} candidates of a rank below the first were left out")
    return rows


def _without_duplicates(table: RawTable, guesses: Guesses, rows: list[int]) -> list[int]:
    """The first of the rows of each key; TableError where two rows of a key differ."""
    first: dict[str, int] = {}
    twice: list[tuple[int, int]] = []
    for i in rows:
        key = guesses.keys[i]
        if (j := first.setdefault(key, i)) != i:
            twice.append((j, i))
    for j, i in twice:
        same = np.array_equal([guesses.lat[i], guesses.lon[i]], [guesses.lat[j], guesses.lon[j]], equal_nan=True)
        if not same:
            raise TableError(
                f"{table.path}: {table.where(j)} and {table.where(i)} are different guesses for {guesses.keys[i]!r} "
                f"({len(twice)} keys come twice). Keep one a picture, or give each picture its own key"
            )
    if twice:
        j, i = twice[0]
        table.warn(f"{len(twice)} rows repeat another and were left out, the first is {table.where(i)}, which repeats "
                   f"{table.where(j)}")  # fmt: skip
    return list(first.values())
