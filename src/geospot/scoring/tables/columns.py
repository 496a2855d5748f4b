"""Which column of a table is what: the spellings in use, or names given by hand."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from geospot.answer import parse_answer
from geospot.answer.spellings import SPELLINGS, first_of, fold_name
from geospot.errors import TableError
from geospot.scoring.tables.formats import RawTable
from geospot.scoring.tables.nested import place_column, resolve
from geospot.scoring.tables.replies import read_cell

_LOOKED_AT = 30  # cells that say whether a column holds answers
_LONGEST_KEY = 400

# The thing itself; `_TRUE` or `_SAID` before or behind it tells whose it is.
_THINGS = {
    "lat": SPELLINGS["lat"],
    "lon": SPELLINGS["lon"],
    "country": SPELLINGS["country"],
    "region": SPELLINGS["region"],
    "area": ("area", "subregion", "county", "district", "admin2", "uniquesubregion"),
    "city": SPELLINGS["city"],
}
_TRUE = (
    "true", "truth", "gt", "groundtruth", "target", "label", "actual", "real", "t", "gts", "solution", "gold",
)  # fmt: skip
_SAID = (
    "pred", "predicted", "prediction", "guess", "guessed", "said", "answer", "est", "estimated", "model", "p", "hat",
    "response", "output", "result", "parsed", "extracted", "predictions", "completion",
)  # fmt: skip
# What may stand between the two: `ground_truth_coordinates.lat`, `pred_location_lon`.
_NOUNS = (
    "coordinates", "coordinate", "coords", "coord", "location", "position", "point", "gps", "geo", "latlon", "latlng",
)  # fmt: skip
# Objects with what a data set says of a picture, and with what a program noted of its request.
_OF_DATA = (
    "reference", "doc", "meta", "metadata", "sample", "extrainfo", "example", "item", "rewardmodel", "info", "dataset",
    "image", "location",
)  # fmt: skip
_OF_REQUEST = ("usage", "usageinfo", "config", "body", "request", "error", "arguments", "scores")
_SAID_PLACES = tuple(mark + noun for mark in _SAID for noun in _NOUNS)
_PLAIN = {
    "key": (
        "customid", *SPELLINGS["key"], *SPELLINGS["image"], "sampleid", "pictureid", "picturename", "picturepath",
        "picturefile", "photopath", "photofile", "imagekey", "imgkey", "imagefilename", "imgfilename", "fname",
        "filepath", "basename", "panoramaid", "pano", "imageurl", "imgurl", "photourl", "url", "locationid", "images",
    ),
    "number": ("questionid", "uid", "docid", "index", "idx"),  # a key where nothing names the picture
    "text": (
        "text", "answertext", "rawresponse", "modelresponse", "modeloutput", "rawoutput", "rawanswer", "response",
        "responses", "output", "outputs", "completion", "completions", "solutionstr", "reply", "generatedtext",
        "generation", "generated", "modelanswer", "prediction", "predictions", "pred", "predictedanswer", "messages",
        "conversation", "conversations", "trajectory", "choices", "candidates", "resps", "filteredresps", "answer",
        "result", "content", "message",
    ),
    "stop": ("finishreason", "stopreason", "finishreasons", "finishtype", "incompletedetails"),
    "radius_km": ("radiuskm", "radius", "uncertaintykm"),
    "probability": ("probability", "radiusprobability"),
    "rank": ("rank",),
    "epoch": ("epoch",),
    "place": (*SPELLINGS["place"], "sequence"),
    "error": ("error", "failure", "failurereason", "errormessage", "refused"),
}  # fmt: skip
# Columns that hold a whole truth in one cell, as trainers and evaluators write them.
_TRUTHS = (
    "groundtruth", "groundtruths", "gts", "gt", "target", "targets", "truth", "truelocation", "solution", "reference",
    "label", "gold", *(mark + noun for mark in _TRUE for noun in _NOUNS), "rewardmodel", "answer", "metadata", "doc",
    "extrainfo", "location",
)  # fmt: skip
ROLES = (
    "key", "lat", "lon", "text", "country", "region", "city", "radius_km", "probability", "rank", "place", "error",
    "true_lat", "true_lon", "true_country", "true_region", "true_area", "true_city", "stop", "truth",
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

    With `truths_only` the table holds no predictions: a plain `lat` is the truth. Names of columns inside objects are
    dotted, and what stands before the last dot says whose they are. TableError for a name in `chosen` that the table
    lacks.
    """
    for role, name in chosen.items():
        if not resolve(table, name):
            raise TableError(
                f"{table.path}: prediction_columns={role}={name}: no such column; it has {_listed(table.columns)}"
            )
    names = _Names(table)
    found: dict[str, Any] = {}
    for thing, spellings in _THINGS.items():
        plain = names.first(spellings)
        true, said = (names.first(_marked(spellings, marks)) for marks in (_TRUE, _SAID))
        if truths_only or (said and not true):
            true = true or plain
        found[f"true_{thing}"], found[thing] = true, None if truths_only else said or (plain if plain != true else None)
    # Labels without a mark beside unmarked coordinates of the truth are the truth's.
    if not truths_only and found["true_lat"] and fold_name(found["true_lat"]) in _THINGS["lat"]:
        for thing in ("country", "region", "area", "city"):
            if found[thing] and fold_name(found[thing]) in _THINGS[thing] and not found[f"true_{thing}"]:
                found[f"true_{thing}"], found[thing] = found[thing], None
    found |= {role: names.first(spellings) for role, spellings in _PLAIN.items() if role not in ("key", "text")}
    number = found.pop("number")
    found["key"] = names.first(_PLAIN["key"], lambda name: holds_keys(table.columns[name])) or number
    taken = {found["lat"], found["lon"], found["true_lat"], found["true_lon"], found["key"]}
    if not truths_only:
        answers = (*_PLAIN["text"], *_SAID_PLACES)
        found["text"] = names.first(answers, lambda name: name not in taken and holds_answers(table, name))
        found["text"] = found["text"] or names.first(_PLAIN["text"], lambda name: name not in taken)
    for role in ("lat", "lon", "true_lat", "true_lon"):
        if found[role] and role not in chosen:
            names.require_one(role, found[role])
    found |= chosen
    _find_whole_truths(table, found, chosen)
    return {role: name for role, name in found.items() if name}


def _find_whole_truths(table: RawTable, found: dict[str, Any], chosen: Mapping[str, str]) -> None:
    """The truth from a column that holds all of it, where no columns hold its parts."""
    if "truth" not in chosen and found["true_lat"] and found["true_lon"]:
        return
    folded = {fold_name(name): name for name in reversed(list(table.columns))}
    taken = {found.get(role) for role in ("text", "lat", "lon", "key")}
    wanted = [folded[word] for word in _TRUTHS if word in folded and folded[word] not in taken]
    if "truth" in chosen:
        wanted = [chosen["truth"]]
    parts = place_column(table, wanted)
    if "truth" in chosen and not parts:
        raise TableError(f"{table.path}: prediction_columns=truth={chosen['truth']}: its cells hold no coordinates")
    given = {f"true_{part}" for part in parts} & chosen.keys()
    found |= {f"true_{part}": name for part, name in parts.items() if f"true_{part}" not in given}


class _Names:
    """The columns of a table by what they are called; those inside objects by their last word and their owner."""

    def __init__(self, table: RawTable):
        self.table = table
        self.flat = tuple(name for name in table.columns if name not in table.nested)
        inner = [name for name in table.columns if name in table.nested]  # in the order of the file
        self.known: dict[str, str] = {}
        self.rivals: dict[str, list[str]] = {}  # all that have an alias, the outermost first
        for name in sorted(inner, key=lambda name: name.count(".")):
            self.known.setdefault(_alias(name), name)
            self.rivals.setdefault(_alias(name), []).append(name)

    def first(self, spellings: Sequence[str], test: Callable[[str], bool] | None = None) -> str | None:
        """The first that is spelled in one of these ways: of the columns, else of those inside objects.

        With a `test` only a name that passes it counts.
        """
        aliases = tuple(self.known)
        if test is None:
            alias = None if (found := first_of(spellings, self.flat)) else first_of(spellings, aliases)
            return self.known[alias] if alias else found
        flat = filter(None, (first_of([spelling], self.flat) for spelling in spellings))
        inner = (self.known[a] for spelling in spellings if (a := first_of([spelling], aliases)))
        return next((name for name in (*flat, *inner) if test(name)), None)

    def require_one(self, role: str, name: str) -> None:
        """TableError where another object at the same depth has coordinates with as good a claim, and other ones."""
        rivals = self.rivals.get(_alias(name), []) if name in self.table.nested else []
        for other in rivals:
            if other.count(".") == name.count(".") and self.table.columns[other] != self.table.columns[name]:
                raise TableError(
                    f"{self.table.path}: {name} and {other} may both be the {role.replace('_', ' ')}; say which: "
                    f"prediction_columns={role}={name}"
                )


def _alias(name: str) -> str:
    """`ground_truth.gps.lat` -> `true_lat`, `response.parsed.lat` -> `pred_lat`, `doc.lat` -> `true_lat`.

    Of what a program noted of its request nothing is a role's: the name stays whole.
    """
    *owners, leaf = name.split(".")
    folded = [fold_name(owner) for owner in owners]
    if any(owner in _OF_REQUEST for owner in folded):
        return name
    of_place = any(fold_name(leaf) in spellings for spellings in _THINGS.values())
    for owner in folded if of_place else ():
        mark = _without_noun(owner)
        if mark in _TRUE or owner in _OF_DATA:
            return f"true_{leaf}"
        if mark in _SAID:
            return f"pred_{leaf}"
    return name if any(owner in _SAID for owner in folded) and not of_place else leaf


def _without_noun(owner: str) -> str:
    """`gtcoords` -> `gt`; a noun alone stays."""
    return next((mark for noun in _NOUNS if (mark := owner.removesuffix(noun)) not in (owner, "")), owner)


def is_marked(name: str) -> bool:
    """Whether a column's name says that it is a guess (`pred_lat`), not only what it is (`lat`)."""
    return fold_name(name.rsplit(".", 1)[-1]) not in (*_THINGS["lat"], *_THINGS["lon"]) or "." in name


def holds_keys(values: Sequence[object]) -> bool:
    """Whether the cells can name pictures: texts of some length, numbers, or objects with a path."""
    first = next((value for value in map(key_of, values) if value), "")
    return len(first) <= _LONGEST_KEY and not first.startswith("data:")


def key_of(value: object) -> str:
    """A cell as the key of a picture; of a list its first entry, of an object its path or name."""
    if isinstance(value, list) and value:
        return key_of(value[0])
    if isinstance(value, Mapping):
        return key_of(next((value[k] for k in ("path", "file_name", "filename", "name", "url") if value.get(k)), None))
    if value is None or value == []:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def holds_answers(table: RawTable, name: str) -> bool:
    """Whether some of the cells of a column name coordinates when read as answers."""
    cells = [cell for cell in table.columns[name] if cell not in (None, "", [], {})]
    sample = cells[:: max(1, len(cells) // _LOOKED_AT)]
    return any(parse_answer(read_cell(cell).text).ok for cell in sample)


@cache
def _marked(spellings: tuple[str, ...], marks: tuple[str, ...]) -> tuple[str, ...]:
    near = [word for mark in marks for s in spellings for word in (mark + s, s + mark)]
    return (*near, *(mark + noun + s for mark in marks for noun in _NOUNS for s in spellings))


def _listed(names: Iterable[object]) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:12]) + (f" and {len(shown) - 12} more" if len(shown) > 12 else "")


def missing_columns(table: RawTable, what: str, mend: str) -> TableError:
    """The error for columns that are not there."""
    return TableError(f"{table.path}: no column for {what}; it has {_listed(table.columns)}. {mend}")
