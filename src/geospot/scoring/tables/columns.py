"""Which column of a table is what: the spellings in use, or names given by hand."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from geospot.answer.spellings import SPELLINGS, first_of, fold_name
from geospot.errors import TableError
from geospot.scoring.tables.formats import RawTable

# The thing itself; `_TRUE` or `_SAID` before or behind it tells whose it is.
_THINGS = {
    "lat": SPELLINGS["lat"],
    "lon": SPELLINGS["lon"],
    "country": SPELLINGS["country"],
    "region": SPELLINGS["region"],
    "area": ("area", "subregion", "county", "district", "admin2", "uniquesubregion"),
    "city": SPELLINGS["city"],
}
_TRUE = ("true", "truth", "gt", "groundtruth", "target", "label", "actual", "real", "t")
_SAID = (
    "pred", "predicted", "prediction", "guess", "guessed", "said", "answer", "est", "estimated", "model", "p", "hat",
)  # fmt: skip
_PLAIN = {
    "key": (
        *SPELLINGS["key"], *SPELLINGS["image"], "sampleid", "pictureid", "picturename", "picturepath", "picturefile",
        "photopath", "photofile", "imagekey", "imgkey", "imagefilename", "imgfilename", "fname", "filepath", "basename",
        "panoramaid", "pano", "imageurl", "imgurl", "photourl", "url",
    ),
    "text": ("text", "answer", "answertext", "response", "output", "completion", "prediction", "generatedtext", "reply",
             "rawresponse", "modeloutput"),
    "radius_km": ("radiuskm", "radius", "uncertaintykm"),
    "probability": ("probability", "radiusprobability"),
    "rank": ("rank",),
    "place": (*SPELLINGS["place"], "sequence"),
    "error": ("error", "failure", "failurereason"),
}  # fmt: skip
ROLES = (
    "key", "lat", "lon", "text", "country", "region", "city", "radius_km", "probability", "rank", "place", "error",
    "true_lat", "true_lon", "true_country", "true_region", "true_area", "true_city",
)  # fmt: skip


def parse_columns(text: str) -> dict[str, str]:
    """From 'lat=y,true_lat=y0,key=photo'; ValueError that says what is allowed."""
    given: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        role, equals, name = (word.strip() for word in pair.partition("="))
        if not equals or not name or role not in ROLES or role in given:
            raise ValueError(
                f"prediction_columns={text!r}: {pair!r} must be ROLE=COLUMN, each role once; roles: {', '.join(ROLES)}"
            )
        given[role] = name
    return given


def find_columns(table: RawTable, chosen: Mapping[str, str], *, truths_only: bool = False) -> dict[str, str]:
    """Role -> column name. In a table of predictions a plain `lat` is the guess, unless a `pred_lat` is there too.

    With `truths_only` the table holds no predictions: a plain `lat` is the truth. TableError for a name in `chosen`
    that the table lacks.
    """
    for role, name in chosen.items():
        if name not in table.columns:
            raise TableError(
                f"{table.path}: prediction_columns={role}={name}: no such column; it has {_listed(table.columns)}"
            )
    names = tuple(table.columns)
    found: dict[str, Any] = {}
    for thing, spellings in _THINGS.items():
        plain = first_of(spellings, names)
        true, said = (first_of(_marked(spellings, marks), names) for marks in (_TRUE, _SAID))
        if truths_only or (said and not true):
            true = true or plain
        found[f"true_{thing}"], found[thing] = true, None if truths_only else said or (plain if plain != true else None)
    # Labels without a mark beside unmarked coordinates of the truth are the truth's.
    if not truths_only and found["true_lat"] and fold_name(found["true_lat"]) in _THINGS["lat"]:
        for thing in ("country", "region", "area", "city"):
            if found[thing] and fold_name(found[thing]) in _THINGS[thing] and not found[f"true_{thing}"]:
                found[f"true_{thing}"], found[thing] = found[thing], None
    found |= {role: first_of(spellings, names) for role, spellings in _PLAIN.items()}
    if truths_only:
        found["text"] = None
    found |= chosen
    return {role: name for role, name in found.items() if name}


def _marked(spellings: Sequence[str], marks: Sequence[str]) -> list[str]:
    return [word for mark in marks for s in spellings for word in (mark + s, s + mark)]


def _listed(names: Iterable[object]) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:12]) + (f" and {len(shown) - 12} more" if len(shown) > 12 else "")


def missing_columns(table: RawTable, what: str, mend: str) -> TableError:
    """The error for columns that are not there."""
    return TableError(f"{table.path}: no column for {what}; it has {_listed(table.columns)}. {mend}")
