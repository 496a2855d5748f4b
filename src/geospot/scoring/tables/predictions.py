"""A table as guesses, as truths, or as both; what is odd in it is told with its row."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from geospot.answer import NO_COORDINATES, Answer, parse_answer
from geospot.answer.endings import failed_request, with_ending
from geospot.answer.places import NOT_NUMBERS, OUT_OF_RANGE
from geospot.earth.distance import wrap_longitude
from geospot.earth.folding import is_blank
from geospot.errors import TableError
from geospot.scoring.guesses import Guesses
from geospot.scoring.tables.columns import find_columns, is_marked, key_of, missing_columns
from geospot.scoring.tables.formats import RawTable, read_axis, read_numbers, read_raw
from geospot.scoring.tables.nested import resolve, unfold
from geospot.scoring.tables.replies import CellReply, read_cell, read_stop
from geospot.scoring.truths import LABELS, Truths

SAID = ("country", "region", "city")


def read_guesses(
    path: str | Path, columns: Mapping[str, str] | None = None, name: str | None = None
) -> tuple[Guesses, Truths | None, list[str]]:
    """The guesses of a predictions file, the truths if it has them too, and warnings that name rows.

    A guess is a pair of coordinates or a raw answer text, which is read as geospot reads a model's. A row whose guess
    cannot be read stays as a failed answer; a row whose truth cannot be read is left out and told.
    """
    table = _read(path)
    chosen = columns or {}
    roles = find_columns(table, chosen)
    if "text" in roles and "lat" in roles and "lon" in roles:
        roles = _whose(table, roles, chosen)
    has_coordinates = "lat" in roles and "lon" in roles
    if not has_coordinates and "text" not in roles:
        raise missing_columns(
            table, "the guess", "Name coordinates lat and lon, or raw answers text; or say "
            "prediction_columns=lat=...,lon=... or prediction_columns=text=..."
        )  # fmt: skip
    truths_here = "true_lat" in roles and "true_lon" in roles
    if "key" not in roles and not truths_here:
        raise missing_columns(table, "the key of a picture", "Name it key, or say prediction_columns=key=...")
    keys = _keys(table, roles, numbered=truths_here)
    label = name or table.path.stem
    guesses = _of_coordinates(table, roles, keys, label) if has_coordinates else _of_texts(table, roles, keys, label)
    truths = None
    keep = _without_duplicates(table, guesses, _first_ranks(table, roles, keys))
    if truths_here:
        truths, good = _truths(table, roles, keys)
        keep = [i for i in keep if good[i]]
        if not keep:
            raise _no_truth(table)
        truths = truths.take(keep)
    guesses = replace(guesses.take(keep), columns=taken_columns(roles, has_coordinates))
    return guesses, truths, table.warnings


def _read(path: str | Path) -> RawTable:
    table = read_raw(path)
    unfold(table)
    return table


def _whose(table: RawTable, roles: dict[str, str], chosen: Mapping[str, str]) -> dict[str, str]:
    """Where a file has answers as text and coordinates as well: which of them are the guess.

    What is named by hand counts. Coordinates whose names say nothing may be the truth that a text is an answer to: they
    are, where the texts can be read and say other places.
    """
    coordinates = {"lat": roles["lat"], "lon": roles["lon"]}
    without = {role: name for role, name in roles.items() if role not in coordinates}
    if "text" in chosen and not coordinates.keys() & chosen.keys():
        return without
    if roles["lat"].startswith(f"{roles['text']}."):
        return {role: name for role, name in roles.items() if role != "text"}  # the object itself
    if coordinates.keys() & chosen.keys() or is_marked(roles["lat"]):
        return roles
    lat, lon = (
        read_axis(RawTable(table.path, table.columns, table.rows), roles[axis], axis)[0] for axis in coordinates
    )
    rows = [i for i in range(len(table)) if lat[i] == lat[i] and lon[i] == lon[i]]
    said = [(i, parse_answer(read_cell(table.columns[roles["text"]][i]).text)) for i in rows[:: len(rows) // 50 + 1]]
    read = [(i, answer) for i, answer in said if answer.lat is not None and answer.lon is not None]
    same = sum(abs(a.lat - lat[i]) < 0.1 and abs(a.lon - lon[i]) < 0.1 for i, a in read)
    if not read or 2 * same >= len(read):
        return roles
    if "true_lat" in roles:
        return without
    theirs = coordinates | {level: roles[level] for level in SAID if level in roles}
    return {f"true_{part}": name for part, name in theirs.items()} | without


def taken_columns(roles: Mapping[str, str], has_coordinates: bool) -> dict[str, str]:
    """What was taken for what, for people: key, guess, what it names, truth."""
    guess = f"{roles['lat']}, {roles['lon']}" if has_coordinates else f"text of {roles['text']}"
    taken = {"key": roles.get("key", "none, so rows are numbered"), "guess": guess}
    if has_coordinates:
        taken["names"] = ", ".join(roles[level] for level in SAID if level in roles)
        taken["answers as text, not read"] = roles.get("text", "")
    taken["end"] = "" if has_coordinates else roles.get("stop", "")
    taken["error"] = roles.get("error", "")
    if "true_lat" in roles:
        parts = ("lat", "lon", *LABELS)
        taken["truth"] = ", ".join(roles[f"true_{part}"] for part in parts if f"true_{part}" in roles)
    return {what: column for what, column in taken.items() if column}


def read_table_truths(path: str | Path, columns: Mapping[str, str] | None = None) -> tuple[Truths, list[str]]:
    """The truths of a table with a key and coordinates a row, and warnings that name rows."""
    table = _read(path)
    given = {role: name for role, name in (columns or {}).items() if role == "key" or role.startswith("true_")}
    roles = find_columns(table, {r: n for r, n in given.items() if resolve(table, n)}, truths_only=True)
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
        raise _no_truth(table)
    return truths.take(keep), table.warnings


def _no_truth(table: RawTable) -> TableError:
    return TableError(f"{table.path}: no row has true coordinates that can be used; {'; '.join(table.warnings)}")


def _keys(table: RawTable, roles: Mapping[str, str], *, numbered: bool = False) -> list[str]:
    """The key of each row as text; the row's number in place of a missing column and, with `numbered`, of a missing
    key. Else rows without one are left out, here, of the table. TableError where no row has one.
    """
    if "key" not in roles:
        return [table.number(i) for i in range(len(table))]
    keys = [key_of(value) for value in table.columns[roles["key"]]]
    if not (empty := [i for i, key in enumerate(keys) if not key]):
        return keys
    rows = f"{len(empty)} rows have no {roles['key']}"
    if len(empty) == len(keys):
        raise TableError(
            f"{table.path}: {table.where(0)} has no {roles['key']}, nor has any other; name the column of the key: "
            "prediction_columns=key=..."
        )
    first = table.where(empty[0])
    if numbered:
        table.warn(f"{rows} and are called by their number, the first is {first}")
        return [key or table.number(i) for i, key in enumerate(keys)]
    table.warn(f"{rows} and were left out, the first is {first}")
    table.keep([i for i, key in enumerate(keys) if key])
    return list(filter(None, keys))


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
    said = _errors(table, roles)
    failures: list[str | None] = []
    missing = np.isnan(lat) | np.isnan(lon)
    for i, (no, out) in enumerate(zip(missing.tolist(), outside.tolist(), strict=True)):
        if not no and not out:
            failures.append(None)
        elif out:
            failures.append(OUT_OF_RANGE)
        else:
            failures.append(said[i] or (NOT_NUMBERS if bad_lat[i] or bad_lon[i] else NO_COORDINATES))
    texts = None
    if "text" in roles:
        replies = [read_cell(cell) for cell in table.columns[roles["text"]]]
        texts = [reply.text for reply in replies]
        failures = [reason if reason != NO_COORDINATES else _told(reply) for reason, reply in
                    zip(failures, replies, strict=True)]  # fmt: skip
    failed = np.array([failure is not None for failure in failures])
    radius, probability = _radius(table, roles)
    return Guesses(
        name, keys, np.where(failed, np.nan, lat), np.where(failed, np.nan, lon), tuple(failures),
        _labels(table, roles, SAID), texts, radius, probability,
    )  # fmt: skip


def _told(reply: CellReply) -> str:
    """Why there are no coordinates of an answer whose text is there, too."""
    return reply.error or with_ending(Answer(None, None, error=NO_COORDINATES), reply.text, reply.stop).error or ""


def _errors(table: RawTable, roles: Mapping[str, str]) -> list[str | None]:
    """The reason that a row gives for having no answer; None for none."""
    if "error" not in roles:
        return [None] * len(table)
    cells = table.columns[roles["error"]]
    return [None if cell in (None, "", False, "False", "false", "nan", "None", {}, []) else failed_request(cell)
            for cell in cells]  # fmt: skip


def _of_texts(table: RawTable, roles: Mapping[str, str], keys: list[str], name: str) -> Guesses:
    """Guesses from raw answers."""
    replies = [read_cell(cell) for cell in table.columns[roles["text"]]]
    if several := sum(reply.others > 0 for reply in replies):
        table.warn(f"{several} rows have several answers, of which one was read: the most likely, where they say so, "
                   "and else the first")  # fmt: skip
    stops = [reply.stop for reply in replies]
    if "stop" in roles:
        stops = [own or read_stop(cell) for own, cell in zip(stops, table.columns[roles["stop"]], strict=True)]
    texts = [reply.text for reply in replies]
    known: dict[str, Answer] = {text: parse_answer(text) for text in set(texts)}
    answers = [with_ending(known[text], text, stop) for text, stop in zip(texts, stops, strict=True)]
    errors = [reply.error or said for reply, said in zip(replies, _errors(table, roles), strict=True)]
    answers = [answer if answer.ok or not error else replace(answer, error=error) for answer, error in
               zip(answers, errors, strict=True)]  # fmt: skip
    guesses = Guesses.of_answers(name, keys, answers, texts)
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


def _first_ranks(table: RawTable, roles: Mapping[str, str], keys: list[str]) -> list[int]:
    """The rows of rank 1: candidates of lower rank are no guesses of their own (geospot guess writes them so).

    Of a picture that was asked about in several epochs (Inspect) the first one.
    """
    rows = list(range(len(table)))
    if "rank" in roles:
        rank = read_numbers(table, roles["rank"])[0]
        rows = np.flatnonzero(~(rank > 1)).tolist()
        if len(rows) < len(table):
            table.warn(f"{len(table) - len(rows)} candidates of a rank below the first were left out")
    if "epoch" in roles and "key" in roles:
        epoch, first = table.columns[roles["epoch"]], {}
        kept = [i for i in rows if first.setdefault(keys[i], epoch[i]) == epoch[i]]
        if len(kept) < len(rows):
            table.warn(f"{len(rows) - len(kept)} answers of further epochs were left out")
        rows = kept
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
                f"({len(twice)} keys come twice). Keep one per picture, or give each picture its own key"
            )
    if twice:
        j, i = twice[0]
        table.warn(f"{len(twice)} rows repeat another and were left out, the first is {table.where(i)}, which repeats "
                   f"{table.where(j)}")  # fmt: skip
    return list(first.values())
