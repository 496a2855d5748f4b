"""`geospot eval`: a model or checkpoint on held-out sets, every answer counted, with intervals."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import chz

from geospot.config import SOURCES, EngineConfig, SourceConfig, not_negative, positive, run_command
from geospot.data.fields import Columns
from geospot.data.samples import ReadOptions, SkipCounter
from geospot.data.sets import held_out_sets, worker_count
from geospot.data.world import WorldConfig
from geospot.engine import open_engine, weights_info
from geospot.evaluate import Evaluation, evaluate, load_eval_set, rollout_rows
from geospot.files import write_bytes_atomic, write_json_atomic
from geospot.loop import check_model, find_checkpoint
from geospot.models.loading import TINY, load_processing
from geospot.models.prompt import Renderer
from geospot.progress import Progress, table
from geospot.runs import read_config


@chz.chz
class EvalConfig(EngineConfig, SourceConfig):
    """Evaluate on held-out pictures."""

    model_name: str | None = chz.field(default=None, doc=f"hub name or folder; none: the checkpoint's, else {TINY}")
    checkpoint: str | None = chz.field(default=None, doc="run folder or checkpoint; none: the model as it is")
    region: bool | None = chz.field(default=None, doc="ask for a Region line; none: as the checkpoint's run did")
    data: str = chz.field(default="bluemarble", doc=f"bluemarble (its eval and eval-far sets), or {SOURCES}")
    zoom_km: float | None = chz.field(
        default=None,
        doc="ground that a side of a bluemarble picture covers, km; none: as in the checkpoint's run",
    )
    eval_places: int = chz.field(default=0, doc="the first so many of each set; 0: all")
    out: str | None = chz.field(default=None, doc="folder for metrics.json and predictions.jsonl")

    @chz.validate
    def _check_eval(self):
        not_negative(self, "eval_places")
        if self.zoom_km is not None:
            positive(self, "zoom_km")


def metrics_table(evaluations: dict[str, Evaluation], title: str = "model") -> str:
    """One line an evaluation, for people."""
    return table(table_row(title, name, e.summary, e.intervals) for name, e in evaluations.items())


def table_row(title: str, name: str, summary: dict, intervals: dict) -> dict:
    """The main metrics of one evaluation as the cells of a text table."""
    low, high = intervals.get("median_km", (float("nan"), float("nan")))
    cells = {title: name, "median km": f"{summary['median_km']:.0f}", "95 % interval": f"{low:.0f} to {high:.0f}"}
    cells |= {"mean km": f"{summary['mean_km']:.0f}", "score": f"{summary['geoguessr_score']:.0f}"}
    for radius in (25, 200, 750, 2500):
        cells[f"<{radius}km"] = f"{100 * summary[f'acc_{radius}km']:.1f}%"
    for label in ("country", "region", "city"):
        cells[label] = f"{100 * summary[f'{label}_acc']:.1f}%"
    return cells | {"failed": f"{100 * summary['failure_rate']:.1f}%"}


@dataclass(frozen=True)
class Subject:
    """What is evaluated: the model, the weights (None: the model's own), and whether to ask for regions."""

    model_name: str
    checkpoint: str | None
    region: bool

    @classmethod
    def of(cls, config) -> "Subject":
        """From `model_name`, `checkpoint` and `region` of a config; what it leaves open the checkpoint says."""
        if not config.checkpoint:
            return cls(config.model_name or TINY, None, bool(config.region))
        checkpoint = find_checkpoint(config.checkpoint)
        model_name = weights_info(checkpoint, config.base_url).base_model
        if config.model_name:
            check_model(checkpoint, config.model_name, base_url=config.base_url)
        region = run_setting(config.checkpoint, "region", False) if config.region is None else config.region
        return cls(model_name, checkpoint, region)

    def engine(self, config):
        """The config with what is evaluated filled in, for `open_engine`."""
        return chz.replace(config, model_name=self.model_name, checkpoint=self.checkpoint)

    def sampler(self, service):
        """A sampling client on its weights."""
        if self.checkpoint:
            return service.create_sampling_client(model_path=self.checkpoint).result()
        return service.create_sampling_client(base_model=self.model_name).result()


def run_setting(checkpoint: str | None, key: str, otherwise):
    """A key of the configuration of a run, given its folder or a checkpoint in it; `otherwise` where there is none."""
    place = Path(checkpoint or "").expanduser().absolute()
    run = next((folder for folder in (place, *place.parents[1:2]) if (folder / "checkpoints.jsonl").is_file()), None)
    return otherwise if run is None or not checkpoint else read_config(run).get(key, otherwise)


def run(config: EvalConfig) -> dict[str, Evaluation]:
    """Evaluate, print the table, write the files; returns the evaluations by set."""
    skipped, evaluations = SkipCounter(), {}
    subject = Subject.of(config)
    renderer = Renderer(load_processing(subject.model_name), max_pixels=config.max_pixels)
    zoom_km = config.zoom_km or run_setting(config.checkpoint, "zoom_km", WorldConfig.width_km)
    options = ReadOptions(max_pixels=config.max_pixels, columns=Columns.parse(config.columns))
    sets = [
        load_eval_set(
            name,
            source,
            config.eval_places,
            skipped,
            options=options,
            views=config.views,
            workers=worker_count(config),
        )
        for name, source in held_out_sets(config, zoom_km).items()
    ]
    with (
        open_engine(subject.engine(config)) as service,
        Progress("evaluating", total=sum(len(s.samples) for s in sets)) as bar,
    ):
        sampler = subject.sampler(service)
        for eval_set in sets:
            evaluations[eval_set.name] = evaluate(
                sampler, renderer, eval_set, max_tokens=config.max_tokens, region=subject.region, advance=bar.advance
            )
    print(metrics_table(evaluations, "set"))
    for name, evaluation in evaluations.items():
        if reasons := evaluation.predictions.failure_counts():
            print(f"{name}: failed answers: " + ", ".join(f"{reason} {n}" for reason, n in reasons.items()))
    if skipped:
        print(f"samples skipped: {skipped}")
    if config.out:
        write_results(Path(config.out), evaluations)
        print(f"wrote {config.out}/metrics.json and predictions.jsonl")
    return evaluations


def write_results(folder: Path, evaluations: dict[str, Evaluation]) -> None:
    """metrics.json (values and intervals by set) and predictions.jsonl (an answer a line)."""
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {name: {"metrics": e.summary, "intervals": e.intervals} for name, e in evaluations.items()}
    write_json_atomic(folder / "metrics.json", finite(metrics))
    rows = [row for e in evaluations.values() for row in rollout_rows(e)]
    lines = "".join(json.dumps(finite(row), ensure_ascii=False) + "\n" for row in rows)
    write_bytes_atomic(folder / "predictions.jsonl", lines.encode())


def finite(value: object) -> object:
    """The value with None for each NaN in it, however deep: JSON knows no NaN."""
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and value != value else value


def main(argv=None) -> None:
    """The command line."""
    run_command("eval", EvalConfig, run, argv)


if __name__ == "__main__":
    main()
