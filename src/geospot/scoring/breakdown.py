"""An evaluation taken apart: by country and continent, by who lives there, and which countries are confused."""

from collections import Counter
from dataclasses import dataclass

from geospot.earth.gazetteer import Gazetteer
from geospot.earth.people import (
    DENSITY_NAMES,
    INCOME_GROUPS,
    continent,
    density_group,
    income_group,
    population_density,
)
from geospot.scoring.judge import Evaluation
from geospot.scoring.metrics import Group, by_group
from geospot.scoring.truths import Truths

GROUPINGS = ("continent", "population density", "income group", "country")


def group_names(truths: Truths) -> dict[str, list[str | None]]:
    """For each of GROUPINGS the group of each picture; None for none. Countries are alpha-2 codes."""
    codes = truths.country
    names = {code: (continent(code), income_group(code)) for code in set(codes)}
    return {
        "continent": [names[code][0] for code in codes],
        "population density": density_group(population_density(truths.lat, truths.lon)).tolist(),
        "income group": [names[code][1] for code in codes],
        "country": codes,
    }


def group_tables(evaluation: Evaluation, names: dict[str, list[str | None]] | None = None) -> dict[str, list[Group]]:
    """For each of GROUPINGS a table; `names` as `group_names` gives them, to share them between models."""
    names = names or group_names(evaluation.truths)
    orders = {"population density": DENSITY_NAMES, "income group": INCOME_GROUPS}
    return {
        key: by_group(evaluation.predictions, names[key], orders.get(key), whole=evaluation.intervals)
        for key in GROUPINGS
    }


@dataclass(frozen=True)
class Confusion:
    """Pictures of one country whose guess lies in another: how many, and which share of that country's pictures."""

    truth: str
    guess: str
    n: int
    share: float


def confusions(evaluation: Evaluation, most: int = 20) -> list[Confusion]:
    """The most frequent pairs of true and guessed country (alpha-2 codes)."""
    guesses = evaluation.guesses
    guessed = Gazetteer.load().locate(guesses.lat, guesses.lon).country.tolist()
    rows = list(zip(evaluation.truths.country, evaluation.truths.codes, guessed, strict=True))
    totals = Counter(true for true, _, _ in rows if true)
    pairs = Counter((true, guess) for true, codes, guess in rows if true and guess and guess not in codes)
    return [Confusion(true, guess, n, n / totals[true]) for (true, guess), n in pairs.most_common(most)]


def country_title(code: str) -> str:
    """The English name of a code; the code itself where it has none."""
    try:
        return Gazetteer.load().country_name(code)
    except KeyError:
        return code
