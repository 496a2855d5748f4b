"""`geospot demo`: pictures, SFT, GRPO, evaluation, one table, one report; on two cores, without network, key or GPU."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import chz

from geospot.asking.subject import Subject
from geospot.config import DemoConfig
from geospot.data.samples import Sample, SkipCounter
from geospot.data.sources import open_source
from geospot.data.stream import read_all
from geospot.data.world.bluemarble import ensure_shards
from geospot.data.world.mosaic import BlueMarble
from geospot.engine.open import open_engine
from geospot.models.loading import TINY, TINY_UNTRAINED, load_processing
from geospot.models.prompt import Renderer
from geospot.progress import Progress, table, true_minus
from geospot.report.demo_page import Stage, write_demo_report, write_results_json
from geospot.runs.checkpoints import find_checkpoint
from geospot.runs.config import typed_config
from geospot.runs.control import Stopped
from geospot.runs.folder import read_metrics
from geospot.scoring.metrics import paired_differences
from geospot.scoring.references import reference_rows
from geospot.scoring.terminal import table_row
from geospot.scoring.truths import Truths
from geospot.sft import fit as fit_sft
from geospot.train import fit as fit_train
from geospot.training.closing import last_warnings
from geospot.training.held_out import evaluate


def run(config: DemoConfig) -> dict[str, dict[str, Stage]]:
    """Do everything, print the table, write the report; returns set -> stage name -> stage."""
    started = time.monotonic()
    out = Path(config.out)
    folders = ensure_shards(n_train=config.train_places)
    sets = {
        name: list(read_all(open_source(str(folders[name])), skipped=SkipCounter())) for name in ("eval", "eval-far")
    }
    try:
        fit_sft(config.sft())
        fit_train(config.train())
    except Stopped:
        print("The demo stopped; the same command goes on from here.")
        raise
    stages = evaluate_stages(config, sets)
    elapsed_s = time.monotonic() - started
    print()
    for name, by_stage in stages.items():
        n = len(next(iter(by_stage.values())).predictions)
        print(f"{name} ({n} places): {SET_NOTES[name]}")
        print(table(table_row("stage", s.name, s.summary, s.intervals) for s in by_stage.values()), end="\n\n")
    difference = compare(stages["eval"])
    print(difference)
    warnings = run_warnings(out)
    print("".join(f"warning: {said}\n" for said in warnings), end="")
    write_results_json(out / "results.json", stages, difference)
    report = write_demo_report(
        out,
        typed_config(chz.asdict(config)),
        stages,
        SET_NOTES,
        [difference, f"This session took {elapsed_s / 60:.1f} minutes."],
        warnings,
    )
    print(f"{elapsed_s / 60:.1f} minutes. Report: {report}")
    return stages


def run_warnings(out: Path) -> list[str]:
    """What the two runs warn of at their ends.

    But for the ground that they have not seen: what a model can know of it, its row beside the constant place says.
    """
    folders = {"SFT": out / "sft", "GRPO": out / "train"}
    found = [(name, said) for name, run in folders.items() for said in last_warnings(read_metrics(run))]
    return [f"{name}: {said}" for name, said in found if not said.startswith("eval-far:")]


# The base has seen the Earth, though neither the held-out places nor the game: the table says so.
STAGE_NAMES = {"untrained": "untrained (random weights)", "base": "base (pretrained on captions)"}
SET_NOTES = {
    "eval": "new places on the known Earth, none within 25 km of a training place; the ground nearby was seen",
    "eval-far": "four regions whose pixels no training picture shows",
}


def evaluate_stages(config: DemoConfig, sets: Mapping[str, Sequence[Sample]]) -> dict[str, dict[str, Stage]]:
    """Every stage on every set."""
    models = {
        "untrained": (TINY_UNTRAINED, None),
        "base": (TINY, None),
        "SFT": (config.model_name, find_checkpoint(f"{config.out}/sft")),
        "GRPO": (config.model_name, find_checkpoint(f"{config.out}/train")),
    }
    if config.model_name == TINY_UNTRAINED:
        del models["base"]
    train = BlueMarble().places("train", config.train_places)
    trained_on = Truths([str(i) for i in range(len(train))], *train.T)
    stages = {name: {"constant": constant_stage(trained_on, samples)} for name, samples in sets.items()}
    total = len(models) * sum(map(len, sets.values()))
    with Progress("evaluating", total=total) as bar:
        for stage, (model_name, checkpoint) in models.items():
            renderer = Renderer(load_processing(model_name))
            with open_engine(config.sft()) as service:
                sampler = Subject(model_name, checkpoint, region=False).sampler(service)
                for name, samples in sets.items():
                    result, _ = evaluate(sampler, renderer, name, samples, max_tokens=24, advance=bar.advance)
                    stages[name][stage] = Stage(
                        STAGE_NAMES.get(stage, stage),
                        result.predictions,
                        result.summary,
                        result.intervals,
                        samples,
                        result.guesses.texts,
                    )
    return stages


def constant_stage(trained_on: Truths, samples: Sequence[Sample]) -> Stage:
    """The one place that is nearest to all training places, as everybody's guess. It says no country."""
    truths = Truths.of([s.key for s in samples], [s.place for s in samples])
    (row,) = reference_rows(truths, ["constant"], train=trained_on)
    return Stage(row.name, row.predictions, row.summary, row.intervals)


def compare(stages: dict[str, Stage]) -> str:
    """GRPO against SFT on the same places, with a paired interval."""
    before, after = stages["SFT"].predictions, stages["GRPO"].predictions
    found = paired_differences(after, before, keys=("median_km", "geoguessr_score"))
    km, points = found["median_km"], found["geoguessr_score"]
    return true_minus(
        f"GRPO minus SFT on eval, paired 95 % intervals: median {km.value:+.0f} km [{km.low:+.0f}, {km.high:+.0f}], "
        f"score {points.value:+.0f} [{points.low:+.0f}, {points.high:+.0f}]"
    )
