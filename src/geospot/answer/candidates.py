"""Of several candidates in one answer the one that it holds most likely, by the probability or the rank of each."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from geospot.answer.regex import lazy
from geospot.answer.spellings import fold_name

T = TypeVar("T")

_PROBABILITY = (
    "probability", "prob", "confidence", "likelihood", "certainty", "probabilitypercent", "confidencepercent",
    "confidencescore", "confidencelevel",
)  # fmt: skip
_RANK = ("rank", "ranking")
_NUMBER = lazy(r"[~≈*`\s]{0,4}([0-9]{1,9}(?:[.,][0-9]{1,18})?)[\s*`]{0,4}(%?)[\s*`]{0,4}")


def most_likely_first(items: Sequence[T], fields: Callable[[T], Iterable[tuple[str, object]]]) -> list[T] | None:
    """The candidates by what each says of itself, the most likely first, equals in their order.

    `fields` gives the names and values of one. None where not every candidate states a probability, or every one a
    rank: then the order says nothing that can be relied on.
    """
    if len(items) < 2:
        return None
    said = [list(fields(item)) for item in items]
    for names, sign in ((_PROBABILITY, -1.0), (_RANK, 1.0)):
        stated = [number for pairs in said if (number := _stated(pairs, names)) is not None]
        if len(stated) == len(items):
            # A bare number above 1 says that the bare ones of this list are percents, as those with the sign are.
            bare = 100 if any(value > 1 for value, is_percent in stated if not is_percent) else 1
            values = [sign * value / (100 if is_percent else bare) for value, is_percent in stated]
            return [items[i] for i in sorted(range(len(items)), key=values.__getitem__)]
    return None


def _stated(fields: Iterable[tuple[str, object]], names: Sequence[str]) -> tuple[float, bool] | None:
    """The number under one of these names, and whether it is said to be a percentage: 0.6, "60 %"."""
    for name, value in fields:
        if not isinstance(name, str) or len(name) > 40 or fold_name(name) not in names:
            continue
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9:
            return float(value), False
        if isinstance(value, str) and (match := _NUMBER.fullmatch(value[:60])):
            return float(match[1].replace(",", ".")), bool(match[2])
    return None
