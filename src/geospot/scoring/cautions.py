"""What a reader must know before the numbers: the model sees nothing, its axes are swapped, its answers failed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geospot.answer import LATITUDE_RANGE, Answer
from geospot.answer.places import OUT_OF_RANGE
from geospot.earth.distance import haversine_km
from geospot.earth.spot import name_points
from geospot.scoring.guesses import NOT_GIVEN
from geospot.scoring.join import swapped_notes
from geospot.scoring.judge import Evaluation
from geospot.scoring.metrics import Predictions, paired_differences, summarize
from geospot.scoring.references import best_constant_place, least_median_km
from geospot.scoring.truths import Truths

FEWEST_PLACES = 20  # of fewer the best constant place is near by chance
FAILURES = 0.1
SAME_PLACE = 0.1  # of the answers, and three times the share of the pictures that were taken there
FEWEST_SAME = 5
NEAR_KM = 25.0  # of a place: taken there
RESAMPLES = 500
PAIRED = 2000  # places whose distances from each other cost less than the search for the best constant place
FITTED = 4000  # places that the constant is fitted to, of more a sample
_RULE = "!" * 100
_COMPARED = ("median_km", "geoguessr_score", "acc_25km", "acc_200km", "acc_750km", "geo_country_acc")


@dataclass(frozen=True)
class Caution:
    """One thing to know: `kind` for machines ("constant", "swapped", "failures", "one place", "answered")."""

    kind: str
    text: str


def cautions(evaluation: Evaluation, train: Truths | None = None) -> list[Caution]:
    """Everything that makes the numbers of an evaluation doubtful, the gravest first; empty for one without.

    train: the places that the constant place is fitted to; None: the evaluated ones.
    """
    return [
        *(Caution("swapped", text) for text in _swapped(evaluation)),
        *_constant(evaluation, train),
        *_failures(evaluation),
        *_one_place(evaluation),
        *_answered(evaluation),
    ]


def _swapped(evaluation: Evaluation) -> list[str]:
    notes = swapped_notes(evaluation.truths, evaluation.guesses)
    if notes:
        return notes
    # A longitude of Asia or America read as a latitude is out of range: then mostly those pictures fail.
    far = np.abs(evaluation.truths.lon) > 90
    out = np.array([reason in (OUT_OF_RANGE, LATITUDE_RANGE) for reason in evaluation.guesses.failures])
    if out.sum() >= FEWEST_SAME and (out & far).sum() >= 0.9 * out.sum() and (out & far).sum() >= 0.5 * far.sum():
        return [
            f"latitude and longitude of the guesses look swapped: {int(out.sum())} answers are out of range, nearly "
            "all of them to pictures whose longitude is beyond 90"
        ]
    return []


def _constant(evaluation: Evaluation, train: Truths | None) -> list[Caution]:
    """No better than one place for all: neither median nor score is better beyond its paired interval."""
    predictions, fitted = evaluation.predictions, evaluation.truths if train is None else train
    if predictions.n_places < FEWEST_PLACES or predictions.failed.all():
        return []
    truths, far = evaluation.truths, 2.01 * evaluation.summary["median_km"]  # beyond twice the median, see below
    if len(truths) <= PAIRED and far < least_median_km(truths.lat, truths.lon):
        return []  # no need to look for the constant place
    chosen = np.random.default_rng(0).permutation(len(fitted))[:FITTED]
    lat, lon = best_constant_place(fitted.lat[chosen], fitted.lon[chosen])
    constant = Predictions(
        predictions.truth_lat,
        predictions.truth_lon,
        np.full(len(predictions), lat),
        np.full(len(predictions), lon),
        place=predictions.place,
        score_decay_km=predictions.score_decay_km,
    )
    keys = ("median_km", "geoguessr_score")
    (median, score), (constant_median, constant_score) = (
        [summary[key] for key in keys] for summary in (evaluation.summary, summarize(constant))
    )
    if median < 0.5 * constant_median:
        return []  # no need to resample
    gain = paired_differences(predictions, constant, RESAMPLES, keys=keys)
    if gain["median_km"].high < 0 or gain["geoguessr_score"].low > 0:
        return []
    whose = "" if train is not None else ", chosen by these very pictures,"
    return [
        Caution(
            "constant",
            f"no better than one place for all pictures: median {median:,.0f} km and score {score:,.0f}, where the "
            f"best constant place ({lat:.0f}, {lon:.0f}){whose} has {constant_median:,.0f} km and "
            f"{constant_score:,.0f}. Did the pictures reach the model?",
        )
    ]


def _failures(evaluation: Evaluation) -> list[Caution]:
    rate = evaluation.summary["failure_rate"]
    if rate <= FAILURES:
        return []
    counts = evaluation.predictions.failure_counts()
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in list(counts.items())[:4])
    more = f" and {len(counts) - 4} more reasons" if len(counts) > 4 else ""
    what = "have no answer in the file" if set(counts) == {NOT_GIVEN} else "failed"
    return [Caution("failures", f"{100 * rate:.1f} % of the answers {what}, and count as wrong: {reasons}{more}")]


def _one_place(evaluation: Evaluation) -> list[Caution]:
    """Many answers to the hundredth of a degree alike, far more than pictures were taken there."""
    guesses, truths = evaluation.guesses, evaluation.truths
    good = ~evaluation.predictions.failed
    if good.sum() < FEWEST_PLACES:
        return []
    rounded = np.stack([guesses.lat[good], guesses.lon[good]], axis=1).round(2) + 0.0
    places, counts = np.unique(rounded, axis=0, return_counts=True)
    n, (lat, lon) = int(counts.max()), places[np.argmax(counts)]
    share = n / good.sum()
    there = float(np.mean(haversine_km(truths.lat, truths.lon, lat, lon) <= NEAR_KM))
    if n < FEWEST_SAME or share < SAME_PLACE or share < 3 * there:
        return []
    return [
        Caution(
            "one place",
            f"{100 * share:.0f} % of the answers ({n:,}) are one place, {lat:g}, {lon:g}{_name(lat, lon)}; "
            f"{100 * there:.1f} % of the pictures were taken within {NEAR_KM:g} km of it",
        )
    ]


def _name(lat: float, lon: float) -> str:
    return f" ({name_points([Answer(float(lat), float(lon))])[0].spot})"


def _answered(evaluation: Evaluation) -> list[Caution]:
    """Metrics whose values over all and over those answered lie outside each other's intervals."""
    summary, intervals = evaluation.summary, evaluation.intervals
    apart = [key for key in _COMPARED if _outside(summary, intervals, key)]
    if not apart or evaluation.predictions.failed.all():
        return []
    shown = "; ".join(f"{_title(key)} {_show(key, summary[key])} of all, {_show(key, summary[f'answered/{key}'])} of "
                      "those answered" for key in apart[:3])  # fmt: skip
    return [
        Caution(
            "answered",
            f"without the failed answers the numbers are others, by more than their intervals: {shown}. Whoever skips "
            "hard pictures looks better: compare models by all of them",
        )
    ]


def _outside(summary: dict[str, float], intervals: dict[str, tuple[float, float]], key: str) -> bool:
    pairs = ((key, f"answered/{key}"), (f"answered/{key}", key))
    return all(
        other in summary and bool(summary[other] < intervals[one][0] or summary[other] > intervals[one][1])
        for one, other in pairs
        if one in intervals
    ) and all(one in intervals for one, _ in pairs)


def _title(key: str) -> str:
    known = {"median_km": "median", "geoguessr_score": "score", "geo_country_acc": "country (geo)"}
    return known.get(key) or f"within {int(key[4:-2]):,} km"


def _show(key: str, value: float) -> str:
    return f"{100 * value:.1f} %" if key.endswith("_acc") or key.startswith("acc_") else (
        f"{value:,.0f} km" if key.endswith("_km") else f"{value:,.0f}"
    )  # fmt: skip


def caution_lines(name: str, found: Sequence[Caution]) -> str:
    """Cautions in a frame that nobody can miss; empty where there are none."""
    if not found:
        return ""
    return "\n".join([_RULE, *(f"WARNING  {name}: {caution.text}" for caution in found), _RULE])
