"""Truths and guesses of the same pictures, side by side."""

import re
from collections.abc import Callable, Sequence
from urllib.parse import unquote

import numpy as np

from geospot.earth.distance import haversine_km
from geospot.earth.gazetteer import Gazetteer
from geospot.errors import TableError
from geospot.scoring.guesses import Guesses
from geospot.scoring.truths import Truths

# Points of a set that are looked up to see whether it lies on land.
_LOOKED_UP = 2000


def join(truths: Truths, guesses: Guesses) -> tuple[Truths, Guesses, list[str]]:
    """Both over the keys of the truths, in their order, with warnings.

    A picture without a guess is a failed answer (NOT_GIVEN): skipping the hard ones must not pay off. A guess without a
    truth cannot be scored and is left out. Keys match as they are, or else without folders and file endings.
    """
    notes: list[str] = []
    place: dict[str, int] = {}
    for shorten in (str, _stem):
        place = _unique({}, guesses.keys, shorten)
        if any(shorten(key) in place for key in truths.keys):
            break
    else:
        raise TableError(
            f"{guesses.name}: none of its {len(guesses):,} keys is among the truths: keys such as {guesses.keys[0]!r} "
            f"against {truths.keys[0]!r}. Name the column of the key: prediction_columns=key=..."
        )
    if shorten is _stem:
        notes.append(f"{guesses.name}: keys were matched by their file names without folders and endings")
    rows = np.array([place.get(shorten(key), -1) for key in truths.keys])
    if absent := int(np.sum(rows < 0)):
        first = truths.keys[int(np.argmax(rows < 0))]
        notes.append(f"{guesses.name}: {absent:,} of {len(truths):,} pictures have no answer and count as failed, the "
                     f"first is {first!r}")  # fmt: skip
    used = np.zeros(len(guesses), bool)
    used[rows[rows >= 0]] = True
    if extra := int(np.sum(~used)):
        first = guesses.keys[int(np.argmin(used))]
        notes.append(f"{guesses.name}: {extra:,} answers have no truth and were left out, the first is {first!r}")
    return truths, guesses.take(rows, truths.keys), notes


def in_all(keys: Sequence[Sequence[str]]) -> tuple[list[list[int]], bool]:
    """The rows, for each of several lists of keys, of the keys that all have, in the first one's order.

    Keys match as they are, or else without folders and file endings, which the second value says.
    """
    for shorten in (str, _stem):
        rows = [_unique({}, one, shorten) for one in keys]
        common = set(rows[0]).intersection(*rows[1:])
        order = [short for key in keys[0] if (short := shorten(key)) in common]
        if order:
            return [[row[short] for short in order] for row in rows], shorten is _stem
    return [[] for _ in keys], False


def _stem(key: str) -> str:
    if "://" in key:
        key = unquote(re.split("[?#]", key, maxsplit=1)[0])
    name = key.replace("\\", "/").rsplit("/", 1)[-1]
    head, dot, tail = name.rpartition(".")
    return head if dot and head and len(tail) <= 5 and not tail.isdigit() else name


def _unique(place: dict[str, int], keys: Sequence[str], shorten: Callable[[str], str]) -> dict[str, int]:
    """Shortened key -> row; one that two keys share stands for neither."""
    shared = set()
    for i, key in enumerate(keys):
        short = shorten(key)
        if short in place:
            shared.add(short)
        place[short] = i
    return {key: i for key, i in place.items() if key not in shared}


def swapped_notes(truths: Truths, guesses: Guesses) -> list[str]:
    """Warnings where latitude and longitude of the guesses, or of the truths, look swapped, or like radians."""
    notes = []
    lat, lon = guesses.lat, guesses.lon
    could = ~np.isnan(lat) & (np.abs(lon) <= 90)
    if could.sum() >= 5:
        as_is = haversine_km(truths.lat[could], truths.lon[could], lat[could], lon[could])
        swapped = haversine_km(truths.lat[could], truths.lon[could], lon[could], lat[could])
        if np.median(swapped) < 0.5 * np.median(as_is) and np.median(as_is) > 1000:
            i = int(np.flatnonzero(could)[np.argmax(as_is - swapped)])
            notes.append(
                f"{guesses.name}: latitude and longitude of the guesses look swapped: the median distance is "
                f"{np.median(as_is):,.0f} km as given and {np.median(swapped):,.0f} km the other way round "
                f"({truths.keys[i]!r} is at {truths.lat[i]:.2f}, {truths.lon[i]:.2f}, the guess at {lat[i]:.2f}, "
                f"{lon[i]:.2f}). Give prediction_columns=lat=...,lon=... with the two swapped"
            )
    return notes + truths_swapped(truths) + _in_radians(truths, guesses)


def _in_radians(truths: Truths, guesses: Guesses) -> list[str]:
    """A warning where degrees look like radians: all within pi of 0, 0, which is open sea."""
    notes = []
    sides = [("the truths", truths.lat, truths.lon), (f"the guesses of {guesses.name}", guesses.lat, guesses.lon)]
    for whose, lat, lon in sides:
        lat, lon = lat[~np.isnan(lat)], lon[~np.isnan(lon)]
        small = len(lat) >= 20 and bool(np.all(np.abs(lat) <= np.pi / 2) and np.all(np.abs(lon) <= np.pi))
        if small and np.ptp(lat) > 0.5 and np.ptp(lon) > 1:
            notes.append(
                f"{whose} look like radians: latitudes from {lat.min():.2f} to {lat.max():.2f}, longitudes from "
                f"{lon.min():.2f} to {lon.max():.2f}. Multiply both by 57.29578 in the file"
            )
    return notes


def truths_swapped(truths: Truths) -> list[str]:
    """A warning where most true points lie at sea, and on land with the two swapped."""
    could = np.flatnonzero(np.abs(truths.lon) <= 90)[:_LOOKED_UP]
    if len(could) < 20:
        return []
    gazetteer, lat, lon = Gazetteer.load(), truths.lat[could], truths.lon[could]
    as_is = np.mean(gazetteer.locate(lat, lon).country_index >= 0)
    if as_is < 0.85 and (other := np.mean(gazetteer.locate(lon, lat).country_index >= 0)) > as_is + 0.1:
        return [
            f"latitude and longitude of the truths look swapped: {100 * as_is:.0f} % of them lie on land, and "
            f"{100 * other:.0f} % the other way round (such as {truths.keys[could[0]]!r} at {lat[0]:g}, {lon[0]:g})"
        ]
    return []
