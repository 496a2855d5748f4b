"""The files of an evaluation: metrics.json for machines, predictions.jsonl with every answer."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from geospot._version import __version__
from geospot.files import write_bytes_atomic, write_json_atomic
from geospot.scoring.breakdown import Confusion
from geospot.scoring.judge import Evaluation
from geospot.scoring.metrics import Group


def finite(value: Any) -> Any:
    """The value with None for each NaN or infinity in it, however deep: JSON knows neither."""
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and (value != value or abs(value) == float("inf")) else value


def evaluation_json(
    evaluation: Evaluation, groups: Mapping[str, list[Group]] | None = None, confused: Iterable[Confusion] = ()
) -> dict:
    """Everything that was found about one model on one set, as plain JSON."""
    found: dict[str, Any] = {
        "n": len(evaluation.predictions),
        "n_places": evaluation.predictions.n_places,
        "score_decay_km": evaluation.predictions.score_decay_km,
        "metrics": evaluation.summary,
        "intervals": evaluation.intervals,
        "failures": evaluation.predictions.failure_counts(),
    }
    if evaluation.radius is not None:
        found["radius"] = asdict(evaluation.radius)
    if groups:
        found["groups"] = {key: [asdict(group) for group in rows] for key, rows in groups.items()}
    if confused := list(confused):
        found["confusions"] = [asdict(c) for c in confused]
    return finite(found)


def write_metrics(path: Path, evaluations: Mapping[str, dict], **facts: object) -> None:
    """metrics.json: each set's (or model's) `evaluation_json` by name; `facts` say what was evaluated and how."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json_atomic(path, {**evaluations, "about": finite({"geospot": __version__, **facts})})


def prediction_rows(evaluation: Evaluation, set_name: str | None = None) -> list[dict]:
    """One row per picture: its key, the truth, the answer and how far apart they are."""
    truths, guesses, km = evaluation.truths, evaluation.guesses, evaluation.predictions.distance_km
    rows = []
    for i, key in enumerate(truths.keys):
        row = {} if set_name is None else {"set": set_name}
        row |= {"key": key, "true_lat": float(truths.lat[i]), "true_lon": float(truths.lon[i])}
        row |= {f"true_{level}": values[i] for level, values in truths.labels.items()}
        row |= {"lat": float(guesses.lat[i]), "lon": float(guesses.lon[i])}
        row |= {level: values[i] for level, values in guesses.labels.items()}
        row |= {"distance_km": float(km[i]), "error": guesses.failures[i]}
        if guesses.radius_km is not None:
            row |= {"radius_km": float(guesses.radius_km[i]), "probability": guesses.probability}
            row |= {"radius_calibrated_on": guesses.calibrated_on} if guesses.calibrated_on else {}
        if guesses.texts is not None:
            row["text"] = guesses.texts[i]
        rows.append(finite(row))
    return rows


def write_predictions(path: Path, rows: Iterable[dict]) -> None:
    """predictions.jsonl, whole or not at all; `geospot compare` and `geospot eval predictions=` read it."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_bytes_atomic(path, lines.encode("utf-8", "replace"))
