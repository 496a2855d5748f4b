"""What the demo writes: results.json for machines, report.html for people."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from geospot._version import __version__
from geospot.data.samples import Sample
from geospot.earth.spot import truth_text
from geospot.files import write_json_atomic
from geospot.report import Chart, Example, Row, Series, StageAnswer, Table, pick_examples, write_report
from geospot.report.lead import result_sentence
from geospot.report.page import command_line
from geospot.runs.folder import read_metrics
from geospot.scoring.metrics import Predictions
from geospot.scoring.results import finite

LEAD = (
    "A small model learned to say where on Earth a satellite picture was taken, first from examples with answers, then "
    "from how near its own guesses came. It was tested on {n:,} places that it had not seen. "
)


@dataclass(frozen=True)
class Stage:
    """One row of the table: a model, or the constant guess (which has no answers)."""

    name: str
    predictions: Predictions
    summary: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    samples: Sequence[Sample] = ()
    texts: Sequence[str] | None = None


def write_results_json(path: Path, stages: Mapping[str, Mapping[str, Stage]], difference: str) -> None:
    """Every metric of every stage and set with its interval."""
    results = {
        name: {stage.name: {"metrics": stage.summary, "intervals": stage.intervals} for stage in by_stage.values()}
        for name, by_stage in stages.items()
    }
    write_json_atomic(path, finite({"results": results, "difference": difference}))


def curve(rows: Sequence[Mapping], key: str, name: str, band: bool = False) -> Series:
    """A metric of metrics.jsonl over the steps that have it."""
    have = [row for row in rows if row.get(key) is not None]
    low, high = ([row[f"{key}_{end}"] for row in have] for end in ("low", "high")) if band else (None, None)
    return Series(name, [row["step"] for row in have], [row[key] for row in have], low, high)


def charts(out: Path) -> list[Chart]:
    """Learning curves of the two runs."""
    sft, train = read_metrics(out / "sft"), read_metrics(out / "train")
    parts = ("coordinate", "country", "region", "city")
    return [
        Chart("SFT: loss, nats per token", [curve(sft, "loss", "loss")]),
        Chart("SFT: median distance on eval, km", [curve(sft, "eval/median_km", "eval", band=True)], log=True),
        Chart("GRPO: median distance on eval, km", [curve(train, "eval/median_km", "eval", band=True)]),
        Chart("GRPO: score on eval, points", [curve(train, "eval/geoguessr_score", "eval", band=True)]),
        Chart("GRPO: reward (its scale tightens)", [curve(train, "reward", "reward")]),
        Chart("GRPO: parts of the reward (labels by text)", [curve(train, f"reward_{p}", p) for p in parts]),
        Chart("GRPO: tau, km", [curve(train, "tau_km", "tau")], log=True),
        Chart(
            "GRPO: weights",
            [curve(train, "coord_weight", "coordinates"), curve(train, "hierarchy_weight", "each label")],
        ),
        Chart("GRPO: entropy, nats per token", [curve(train, "entropy", "entropy")]),
    ]


def examples(stages: Mapping[str, Stage]) -> list[Example]:
    """The best, middling and worst places of GRPO with every model's answer."""
    models = [stage for stage in stages.values() if stage.texts is not None]
    km = {stage.name: stage.predictions.distance_km for stage in models}
    out = []
    for i, tag in pick_examples(km[models[-1].name], count=4, middle=4):
        sample = models[-1].samples[i]
        answers = [
            StageAnswer(
                s.name,
                s.texts[i] if s.texts is not None else "",
                None if s.predictions.failed[i] else float(km[s.name][i]),
                float(s.predictions.lat[i]),
                float(s.predictions.lon[i]),
            )
            for s in models
        ]
        truth = truth_text(sample.place)
        out.append(Example(tag, sample.pictures, truth, sample.place.lat, sample.place.lon, answers))
    return out


def versions() -> dict[str, str]:
    """The versions of what ran."""
    from importlib.metadata import version

    packages = ("torch", "transformers", "tinker", "numpy")
    return {"geospot": __version__, "python": platform.python_version(), **{name: version(name) for name in packages}}


def write_demo_report(
    out: Path,
    configuration: Mapping[str, object],
    stages: Mapping[str, Mapping[str, Stage]],
    set_notes: Mapping[str, str],
    notes: Sequence[str],
    warnings: Sequence[str] = (),
) -> Path:
    """Write report.html. `stages` by set and stage; `set_notes` say what each set is; `warnings` go above all of it."""
    tables = [
        Table(name, [Row(s.name, s.summary, s.intervals) for s in by_stage.values()], set_notes[name])
        for name, by_stage in stages.items()
    ]
    shown = {s.name: s.predictions for key, s in stages["eval"].items() if key in ("base", "SFT", "GRPO")}
    cards, last = examples(stages["eval"]), stages["eval"]["GRPO"]
    return write_report(
        out / "report.html",
        title="geospot demo: where on Earth is this?",
        tables=tables,
        maps=shown,
        charts=charts(out),
        examples=cards,
        configuration=configuration,
        versions=versions(),
        command=command_line(),
        notes=notes,
        warnings=warnings,
        lead=LEAD.format(n=len(last.predictions)) + result_sentence(last.predictions, last.summary, "the model’s"),
        opening=next((replace(card, tag="a typical picture") for card in cards if card.tag == "median"), None),
    )
