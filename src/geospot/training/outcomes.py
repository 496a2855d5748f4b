"""What came of a study: each variant's held-out metrics over seeds and places, its curves, signs of its training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geospot.earth.distance import haversine_km
from geospot.errors import RunError
from geospot.runs.folder import read_metrics
from geospot.scoring.metrics import Predictions
from geospot.scoring.metrics.bootstrap import resample
from geospot.scoring.metrics.seeds import Estimate, VariantEstimates, across_seeds, compare_variants, holm
from geospot.scoring.metrics.summary import columns, statistic
from geospot.training.closing import held_out_predictions, last_warnings
from geospot.training.plan import Plan, PlannedRun
from geospot.training.rollout import decimal_endings

METRICS = ("median_km", "mean_km", "geoguessr_score", "acc_25km", "acc_200km", "acc_750km", "failure_rate")
CURVE = "median_km"  # what the curves show
CURVE_RESAMPLES = 500
WINDOW = 10  # last steps of a run over which the signs of training are averaged


@dataclass(frozen=True)
class Outcome:
    """One variant from one start. `p_holm` by metric: of its difference, corrected for all of the study.

    `signs` are means over seeds: of the held-out answers the decimal endings (`held_out_endings`) and what their
    decimals are worth (`decimals_worth_km`); over the last steps `groups_without_signal`, `decimal_endings` and
    `entropy`; see docs/study.md.
    """

    start: str
    variant: str
    steps: float  # means over seeds: rollout steps, answers asked
    answers: float
    estimates: VariantEstimates
    signs: dict[str, float]
    p_holm: dict[str, float]


@dataclass(frozen=True)
class Pair:
    """A further comparison that the plan names: `variant` less `against`, paired by seed and place, from one start."""

    start: str
    variant: str
    against: str
    differences: dict[str, Estimate]
    p_holm: dict[str, float]


@dataclass(frozen=True)
class StudyCurve:
    """The median distance of one variant from one start over its steps and its answers."""

    start: str
    variant: str
    steps: list[int]
    answers: list[float]  # asked before the step, mean over seeds
    points: list[Estimate]


@dataclass(frozen=True)
class Results:
    """All of a study. `places` are those that the numbers are over."""

    held_out: str
    n_places: int
    outcomes: list[Outcome]
    pairs: list[Pair]
    curves: list[StudyCurve]


@dataclass(frozen=True)
class _Read:
    """A finished run: its answers at each evaluation, the keys of the pictures, and metrics.jsonl."""

    run: PlannedRun
    keys: list[str]
    evaluations: dict[int, Predictions]
    rows: list[dict]

    @property
    def last(self) -> Predictions:
        return self.evaluations[max(self.evaluations)]


def results(plan: Plan, n_resamples: int, seed: int) -> Results:
    """Of the runs that are finished, from their folders alone; RunError where there is nothing to compare."""
    finished = [run for run in plan.runs if run.is_finished]
    for start in plan.starts:
        there = {run.variant for run in finished if run.start == start}
        if plan.baseline not in there:
            raise RunError(f"{start}: no run of the baseline {plan.baseline} is finished: nothing to compare with")
    held_out = plan.held_out or _first_set(finished[0])
    read = _aligned([_read(run, held_out, plan.places) for run in finished], held_out)
    found = {
        start: compare_variants(_by_variant(read, start), plan.baseline, METRICS, n_resamples, seed)
        for start in plan.starts
    }
    differences = {
        (start, variant, plan.baseline): estimates.differences
        for start, variants in found.items() for variant, estimates in variants.items() if estimates.differences
    } | _named_pairs(plan, read, n_resamples, seed)  # fmt: skip
    corrected = _corrected(differences)
    pairs = [Pair(*key, differences[key], corrected[key]) for key in differences if key[1:] in plan.pairs]
    outcomes = [
        _outcome(start, variant, estimates, [r for r in read if (r.run.start, r.run.variant) == (start, variant)],
                 corrected.get((start, variant, plan.baseline), {}))
        for start, variants in found.items() for variant, estimates in variants.items()
    ]  # fmt: skip
    curves = [
        _curve(start, variant, [r for r in read if (r.run.start, r.run.variant) == (start, variant)], seed)
        for start, variants in found.items() for variant in variants
    ]  # fmt: skip
    return Results(held_out, read[0].last.n_places, outcomes, pairs, curves)


Compared = tuple[str, str, str]  # start, variant, what it is compared with


def _named_pairs(plan: Plan, read: Sequence[_Read], n_resamples: int, seed: int) -> dict[Compared, dict[str, Estimate]]:
    """The differences of the plan's `pairs` of which both have finished runs of the same seeds."""
    found = {}
    for start in plan.starts:
        variants = _by_variant(read, start)
        for first, second in plan.pairs:
            if first in variants and second in variants:
                both = {name: variants[name] for name in (first, second)}
                differences = compare_variants(both, second, METRICS, n_resamples, seed)[first].differences
                if differences:
                    found[start, first, second] = differences
    return found


def _corrected(differences: Mapping[Compared, Mapping[str, Estimate]]) -> dict[Compared, dict[str, float]]:
    """p-values by metric, each corrected for all comparisons of the study."""
    by_metric = {key: holm([found[key].p for found in differences.values()]) for key in METRICS}
    return {which: {key: by_metric[key][i] for key in METRICS} for i, which in enumerate(differences)}


def _first_set(run: PlannedRun) -> str:
    names = [k.rpartition("/")[0] for row in read_metrics(run.path) for k in row if k.endswith("/failure_rate")]
    if not names:
        raise RunError(f"{run.path}: this run evaluated no held-out set, and has nothing to compare")
    return names[0]


def _read(run: PlannedRun, held_out: str, places: tuple[int, int] | None) -> _Read:
    rows = read_metrics(run.path)
    steps = [row["step"] for row in rows if row.get(f"{held_out}/failure_rate") is not None]
    evaluations, keys = {}, []
    for step in steps:
        keys, predictions = held_out_predictions(run.path, held_out, step)
        chosen = np.arange(len(keys))[slice(*places) if places else slice(None)]
        evaluations[step], keys = predictions.take(chosen), [keys[i] for i in chosen]
    if not keys:
        what = f"no answers to {held_out}" if not steps else f"no held-out place from {places}"
        raise RunError(f"{run.path}: this run has {what}: held_out and places of the plan say what is compared")
    return _Read(run, keys, evaluations, rows)


def _aligned(read: Sequence[_Read], held_out: str) -> list[_Read]:
    """All over the pictures that every run has, in the order of the first."""
    common = set(read[0].keys).intersection(*(set(one.keys) for one in read))
    keys = [key for key in read[0].keys if key in common]
    if not keys:
        raise RunError(f"{read[0].run.path} and {read[-1].run.path} have no picture of {held_out} in common")
    aligned = []
    for one in read:
        at = {key: i for i, key in enumerate(one.keys)}
        rows = np.array([at[key] for key in keys])
        aligned.append(_Read(one.run, keys, {step: p.take(rows) for step, p in one.evaluations.items()}, one.rows))
    return aligned


def _by_variant(read: Sequence[_Read], start: str) -> dict[str, dict[int, Predictions]]:
    found: dict[str, dict[int, Predictions]] = {}
    for one in read:
        if one.run.start == start:
            found.setdefault(str(one.run.variant), {})[one.run.seed] = one.last
    return found


def _outcome(
    start: str, variant: str, estimates: VariantEstimates, read: Sequence[_Read], p_holm: dict[str, float]
) -> Outcome:
    trained = [[row for row in one.rows if row.get("reward") is not None] for one in read]
    signs = {
        key: _mean([row[key] for rows in trained for row in rows[-WINDOW:] if row.get(key) is not None])
        for key in ("groups_without_signal", "decimal_endings", "entropy")
    }
    signs["held_out_endings"] = _mean([_endings(one.last) for one in read])
    signs["decimals_worth_km"] = _mean([decimals_worth_km(one.last) for one in read])
    return Outcome(
        start=start,
        variant=variant,
        steps=_mean([len(rows) for rows in trained]),
        answers=_mean([sum(row.get("answers_asked") or 0 for row in rows) for rows in trained]),
        estimates=estimates,
        signs=signs,
        p_holm=p_holm,
    )


def _endings(predictions: Predictions) -> float:
    there = ~predictions.failed
    return float(decimal_endings(list(zip(predictions.lat[there], predictions.lon[there], strict=True))))


def decimals_worth_km(predictions: Predictions, shuffles: int = 20) -> float:
    """How much farther the median of the answers (km) is with the decimals of their coordinates swapped among them.

    About 0: the decimals say nothing about the picture, however many different ones there are.
    """
    there = ~predictions.failed
    if not there.any():
        return float("nan")
    guess = np.stack([predictions.lat[there], predictions.lon[there]], axis=1)
    truth = predictions.truth_lat[there], predictions.truth_lon[there]
    decimals, whole = np.modf(guess)
    side = np.where(np.signbit(guess), -1.0, 1.0)
    rng, found = np.random.default_rng(0), []
    for _ in range(shuffles):
        swapped = whole + side * np.abs(decimals)[rng.permutation(len(guess))]
        found.append(np.median(haversine_km(*truth, np.clip(swapped[:, 0], -90, 90), swapped[:, 1])))
    return float(np.mean(found) - np.median(haversine_km(*truth, *guess.T)))


def _curve(start: str, variant: str, read: Sequence[_Read], seed: int) -> StudyCurve:
    """At the steps where every seed has an evaluation."""
    steps = sorted(set(read[0].evaluations).intersection(*(set(one.evaluations) for one in read)))
    points, answers = [], []
    for step in steps:
        predictions = [one.evaluations[step] for one in read]
        drawn = resample(predictions, CURVE_RESAMPLES, seed, [CURVE])
        values = [statistic(CURVE, columns(found)[CURVE]) for found in predictions]
        points.append(across_seeds(values, [one[CURVE] for one in drawn], predictions[0].n_places))
        answers.append(_mean([sum(r.get("answers_asked") or 0 for r in one.rows if r["step"] < step) for one in read]))
    return StudyCurve(start, variant, steps, answers, points)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def results_json(plan: Plan, found: Results) -> dict:
    """Everything, as plain values: the same runs give the same text."""

    table = [
        {
            "start": one.start,
            "variant": one.variant,
            "seeds": list(one.estimates.seeds),
            "steps": one.steps,
            "answers": one.answers,
            "metrics": _cells(one.estimates.metrics),
            "by_seed": one.estimates.by_seed,
            "paired_seeds": list(one.estimates.paired_seeds),
            "differences": _tested(one.estimates.differences, one.p_holm),
            "training": one.signs,
        }
        for one in found.outcomes
    ]
    pairs = [
        {"start": p.start, "variant": p.variant, "against": p.against,
         "differences": _tested(p.differences, p.p_holm)}
        for p in found.pairs
    ]  # fmt: skip
    curves = [
        {"start": c.start, "variant": c.variant, "steps": c.steps, "answers": c.answers,
         CURVE: [p.value for p in c.points], "low": [p.low for p in c.points], "high": [p.high for p in c.points]}
        for c in found.curves
    ]  # fmt: skip
    return {"plan": plan.document, "held_out": found.held_out, "places": found.n_places, "baseline": plan.baseline,
            "table": table, "pairs": pairs, "curves": curves}  # fmt: skip


def _cells(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float]]:
    return {key: {"value": e.value, "low": e.low, "high": e.high} for key, e in estimates.items()}


def _tested(differences: Mapping[str, Estimate], p_holm: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Differences with their p-values, as they are and corrected."""
    return {key: cell | {"p": differences[key].p, "p_holm": p_holm[key]} for key, cell in _cells(differences).items()}


def warned(plan: Plan) -> list[str]:
    """What the finished runs warn of at their ends, a line for each start and variant that does."""
    lines = []
    for start in plan.starts:
        for variant in plan.variants:
            runs = [run for run in plan.runs if (run.start, run.variant) == (start, variant) and run.is_finished]
            said = [found for run in runs if (found := last_warnings(read_metrics(run.path)))]
            if said:
                lines.append(f"warning: {start}/{variant}: {len(said)} of {len(runs)} runs, such as: {said[0][0]}")
    return lines


def left_over(plan: Plan) -> str:
    """What is missing where not all runs are finished, in words; empty where all are."""
    left = [run.name for run in plan.runs if not run.is_finished]
    names = ", ".join(left[:6]) + (", ..." if len(left) > 6 else "")
    return f"{len(left)} of {len(plan.runs)} runs are not finished, and not in the table: {names}" if left else ""
