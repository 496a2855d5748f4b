"""Signs that a run degenerates: answers that do not depend on the picture, lose their form, or leave no signal.

Each sign is a number in metrics.jsonl; each warning follows from those numbers alone, so that the loop says it when it
happens and the last table says it again.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from geospot.answer import in_form
from geospot.scoring.judge import Evaluation
from geospot.scoring.references import reference_rows

MIN_PICTURES = 20  # of a held-out set; fewer say little about different answers, and fit a constant place too well
FEW_ANSWERS = 0.1  # different answers per picture
IN_FORM = 0.9
WINDOW = 10  # steps of GRPO over which these shares are averaged
# Key of metrics.jsonl, the share above which it is a sign, what the share is of.
STEP_SIGNS = (
    ("groups_without_signal", 0.75, "of the groups of the last {n} steps have no signal: all their answers earn the "
     "same, and nothing is learned from them"),
    ("answers_cut_off", 0.25, "of the answers of the last {n} steps reached max_tokens: they grow, or never end"),
)  # fmt: skip
SCORE = "geoguessr_score"  # the best checkpoint has the most of it on the first held-out set


class GuardConfig(Protocol):
    """What a guard needs of `LoopConfig`."""

    @property
    def on_collapse(self) -> str:
        """warn or stop."""

    @property
    def early_stop(self) -> int:
        """Evaluations without gain; 0: no limit."""


def signs(evaluation: Evaluation, texts: Sequence[str], *, region: bool, constant_km: float) -> dict[str, float]:
    """`<set>/<sign>` of an evaluation's answers: pictures, different answers, lines in form, the best constant's km."""
    guesses = evaluation.guesses
    points = {point for point in zip(guesses.lat.tolist(), guesses.lon.tolist(), strict=True) if point[0] == point[0]}
    found = {
        "pictures": float(len(texts)),
        "distinct_answers": float(len(points)),
        "in_form": float(np.mean([in_form(text, region=region) for text in texts])),
        "constant_km": constant_km,
    }
    return {f"{evaluation.name}/{key}": value for key, value in found.items()}


def constant_km(evaluation: Evaluation) -> float:
    """The median distance of the one place that is nearest to all places of the set: what a blind model reaches."""
    (row,) = reference_rows(evaluation.truths, ["constant"])
    return float(row.summary["median_km"])


def evaluation_warnings(metrics: Mapping[str, float | None]) -> list[str]:
    """What the signs of an evaluation mean, in sentences; empty where nothing is wrong."""
    said = []
    for key, value in metrics.items():
        name, _, sign = key.rpartition("/")
        if sign != "constant_km" or value is None:
            continue
        n, median = metrics.get(f"{name}/pictures") or 0, metrics.get(f"{name}/median_km")
        distinct, form = metrics.get(f"{name}/distinct_answers"), metrics.get(f"{name}/in_form")
        if median is not None and n >= MIN_PICTURES and median >= value:
            said.append(
                f"{name}: no better than one constant place (median {median:,.0f} km; the one that is nearest to these "
                f"pictures has {value:,.0f} km): the model does not use the pictures"
            )
        if distinct is not None and n >= MIN_PICTURES and distinct <= FEW_ANSWERS * n:
            said.append(f"{name}: {distinct:,.0f} different answers for {n:,.0f} pictures")
        if form is not None and form < IN_FORM:
            said.append(
                f"{name}: {form:.0%} of the answers' lines are in the form that the prompt asks for; the others are "
                "repeated, added or missing"
            )
    return said


def step_warnings(rows: Sequence[Mapping[str, float | None]]) -> list[str]:
    """What the last steps of GRPO mean, in sentences; empty where nothing is wrong, or where there are too few."""
    said = []
    for key, most, words in STEP_SIGNS:
        recent = [value for row in rows if (value := row.get(key)) is not None][-WINDOW:]
        if len(recent) == WINDOW and (share := sum(recent) / WINDOW) > most:
            said.append(f"{share:.0%} {words.format(n=WINDOW)}")
    return said


class Guard:
    """Watches a run: prints each warning when it begins, knows the best evaluation, says when to stop.

    `state` is all that it remembers; it is part of the run's checkpoints.
    """

    def __init__(self, config: GuardConfig, state: dict[str, Any]):
        self._config, self.state = config, state
        state.setdefault("best", {"step": None, "score": -1.0, "evaluations_since": 0})
        state.setdefault("steps", [])
        state.pop("no_signal", None)  # what it was called before
        state.setdefault("warned", [])

    def evaluated(self, step: int, first_set: str | None, metrics: Mapping[str, float]) -> bool:
        """Take in an evaluation; returns whether it is the best so far. Before the first step nothing is warned of.

        A run that goes on may evaluate a step again that is in its state already; it counts once.
        """
        if step > 0:
            self._warn("evaluation", evaluation_warnings(metrics))
        best = self.state["best"]
        score = metrics.get(f"{first_set}/{SCORE}")
        if score is None or self.state.get("evaluated") == step:
            return False
        self.state["evaluated"] = step
        if not score > best["score"]:
            best["evaluations_since"] += 1
            return False
        self.state["best"] = {"step": step, "score": score, "evaluations_since": 0}
        return True

    def stepped(self, metrics: Mapping[str, float]) -> None:
        """Take in a step of GRPO."""
        newest = {key: metrics[key] for key, *_ in STEP_SIGNS if key in metrics}
        self.state["steps"] = [*self.state["steps"], newest][-WINDOW:]
        self._warn("step", step_warnings(self.state["steps"]))

    def _warn(self, when: str, said: list[str]) -> None:
        """Print what was not yet said; `warned` holds what is wrong now, without its numbers."""
        kinds = {f"{when}:{sentence.translate(_WITHOUT_DIGITS)}": sentence for sentence in said}
        for kind, sentence in kinds.items():
            if kind not in self.state["warned"]:
                print(f"warning: {sentence}", flush=True)
        kept = [kind for kind in self.state["warned"] if not kind.startswith(f"{when}:")]
        self.state["warned"] = [*kept, *kinds]

    def reason_to_stop(self) -> str | None:
        """Why the run should end here, in words; None: it should not."""
        patience = self._config.early_stop
        best = self.state["best"]
        if patience and best["evaluations_since"] >= patience:
            return (
                f"early_stop={patience}: no gain in {best['evaluations_since']} evaluations; the best was before step "
                f"{best['step']}"
            )
        if self._config.on_collapse == "stop" and self.state["warned"]:
            return "on_collapse=stop: see the warning above"
        return None


def begin_anew(state: dict[str, Any]) -> None:
    """For a run that had ended early and goes on: patience begins anew, and what is still wrong is said again."""
    state["warned"], state["steps"] = [], []
    if "best" in state:
        state["best"] = state["best"] | {"evaluations_since": 0}


def idle_text(early_stop: int, eval_every: int, max_steps: int) -> str:
    """A line where `early_stop` cannot end a run of so many steps, which has too few evaluations; else nothing."""
    within = max(0, max_steps - 2) // eval_every  # behind the first step, early enough to leave a step out
    if not early_stop or early_stop <= within:
        return ""
    return (
        f"early_stop={early_stop} cannot end this run: with eval_every={eval_every} and max_steps={max_steps} it is "
        f"evaluated only {within} time{'s' * (within != 1)} between its first and its last step"
    )


_WITHOUT_DIGITS = str.maketrans("", "", "0123456789.,%")
