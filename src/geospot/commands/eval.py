"""`geospot eval`: a model, or predictions made elsewhere, on held-out pictures; every answer counts."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import chz

from geospot.answer import prompt_text
from geospot.asking.answer_log import AnswerLog, ask_set
from geospot.asking.calibration import Calibration, find_calibration
from geospot.asking.cluster import Draws
from geospot.asking.consensus import guesses_of_draws
from geospot.asking.requests import Question
from geospot.asking.subject import Subject, run_setting
from geospot.config import SOURCES, EngineConfig, SourceConfig, not_negative, positive, run_command
from geospot.data.held_out import count_held_out, held_out_places, held_out_samples
from geospot.data.records import Source
from geospot.data.samples import SkipCounter
from geospot.data.sets import held_out_sets
from geospot.data.world.mosaic import WorldConfig
from geospot.earth.score import parse_scale
from geospot.engine import open_engine
from geospot.errors import DataError
from geospot.models.loading import TINY, load_processing
from geospot.models.prompt import Renderer
from geospot.progress import Progress
from geospot.report.evaluation import Gallery, report_evaluations
from geospot.scoring.judge import Evaluation, judge
from geospot.scoring.references import parse_references
from geospot.scoring.results import prediction_rows, write_predictions
from geospot.scoring.tables.columns import parse_columns
from geospot.scoring.tables.evaluations import evaluate_file
from geospot.scoring.truths import Truths


@chz.chz
class AskConfig(EngineConfig, SourceConfig):
    """What a model is asked, and about which pictures: shared by eval and calibrate."""

    model_name: str | None = chz.field(
        default=None, doc=f"hub name or folder (also model=); none: the checkpoint's, else {TINY}"
    )
    checkpoint: str | None = chz.field(default=None, doc="run folder or checkpoint; none: the model as it is")
    region: bool | None = chz.field(default=None, doc="ask for a Region line; none: as the checkpoint's run did")
    data: str | None = chz.field(
        default=None,
        doc=f"bluemarble (its eval and eval-far sets), or {SOURCES}; none: bluemarble, or with predictions= the truths "
        "in their file",
    )
    zoom_km: float | None = chz.field(
        default=None,
        doc="ground that a side of a bluemarble picture covers, km; none: as in the checkpoint's run",
    )
    eval_places: int = chz.field(default=0, doc="the first so many of each set; 0: all")
    sets: tuple[str, ...] = chz.field(default=(), doc="only these sets of data, such as eval; none: all of them")
    samples: int = chz.field(default=1, doc="answers a picture; the largest cluster of several is the guess")
    temperature: float | None = chz.field(default=None, doc="none: 0 for one answer, 1 for several")
    seed: int = chz.field(default=0, doc="of the answers")
    batch_size: int = chz.field(default=256, doc="pictures asked about at once; as often the answers are saved")
    out: str | None = chz.field(default=None, doc="folder of answers and results; none: runs/eval-<model>")
    resume: str = chz.field(default="auto", doc="auto: answers that are in the folder are not asked for again; never")

    @chz.validate
    def _check_ask(self):
        not_negative(self, "eval_places", "seed")
        positive(self, "samples", "batch_size")
        if self.zoom_km is not None:
            positive(self, "zoom_km")
        if self.temperature is not None:
            not_negative(self, "temperature")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(f"samples={self.samples} at temperature=0: all answers would be alike; set temperature=1")
        if self.resume not in ("auto", "never"):
            raise ValueError(f"resume={self.resume!r}: must be auto or never")

    def question(self, region: bool) -> Question:
        """How each picture is asked about."""
        temperature = self.temperature if self.temperature is not None else float(self.samples > 1)
        return Question(prompt_text(region=region), self.max_tokens, self.samples, temperature, self.seed)


@chz.chz
class EvalConfig(AskConfig):
    """Evaluate a model on held-out pictures, or predictions made elsewhere: geospot eval predictions=FILE."""

    predictions: str | None = chz.field(
        default=None, doc="CSV, JSON lines or Parquet of guesses (lat, lon) or raw answers (text), instead of a model"
    )
    truth: str | None = chz.field(
        default=None,
        doc="table of truths (key, lat, lon, country, ...) for predictions; none: their own file, or data=",
    )
    prediction_columns: str = chz.field(
        default="", doc="columns that are not found by themselves: key=NAME,lat=NAME,true_lat=NAME,text=NAME,..."
    )
    scale: str = chz.field(
        default="world", doc="of the GeoGuessr score: world, a map's diagonal in km, or map (the truths' own bounds)"
    )
    references: tuple[str, ...] = chz.field(
        default=(), doc="rows to compare with: constant, country, population, published, or all"
    )
    train_truth: str | None = chz.field(
        default=None, doc="table of training places, which the references are fitted to"
    )
    calibration: str = chz.field(default="auto", doc="of the radius: auto (the model's own, if any), none, or a file")
    probability: float = chz.field(default=0.9, doc="with which the radius is to hold the truth")
    report: bool = chz.field(default=True, doc="write report.html, and figure.png and .pdf where matplotlib is there")

    @chz.validate
    def _check_eval(self):
        parse_scale(self.scale)
        parse_references(self.references)
        parse_columns(self.prediction_columns)
        if not 0 < self.probability < 1:
            raise ValueError(f"probability={self.probability}: must be between 0 and 1")
        if self.predictions is None and (self.truth or self.prediction_columns):
            raise ValueError("truth= and prediction_columns= belong to predictions=; a model is evaluated on data=")
        if self.predictions is not None and (self.model_name or self.checkpoint):
            raise ValueError("predictions= and a model: give one of them, and compare the results by geospot compare")


def run(config: EvalConfig) -> dict[str, Evaluation]:
    """Evaluate, print the tables, write the files; returns the evaluations by set."""
    if config.predictions is not None:
        found, gallery, about = _from_file(config)
        out = Path(config.out or f"runs/eval-{Path(config.predictions).stem}")
    else:
        found, gallery, about, out = _from_model(config)
    out.mkdir(parents=True, exist_ok=True)
    several = len(found) > 1
    rows = [r for name, e in found.items() for r in prediction_rows(e, name if several else None)]
    write_predictions(out / "predictions.jsonl", rows)
    train = None
    if config.train_truth:
        from geospot.scoring.tables import read_table_truths

        train = read_table_truths(config.train_truth)[0]
    report_evaluations(out, found, config, about=about, gallery=gallery, train=train)
    return found


def _from_file(config: EvalConfig) -> tuple[dict[str, Evaluation], dict, dict]:
    truths = None if config.data is None else set_truths(config, config.data)
    evaluation = evaluate_file(
        config.predictions, truths=truths, truth_file=config.truth, columns=config.prediction_columns,
        scale=config.scale,
    )  # fmt: skip
    galleries = {}
    if config.data is not None:
        gallery = Gallery.of(evaluation)
        gallery.read(
            sample for _, source in _sources(config) for sample in held_out_samples(config, source, SkipCounter())
        )
        galleries[evaluation.name] = gallery
    about = {"predictions": config.predictions, "truth": config.truth or config.data or config.predictions}
    return {evaluation.name: evaluation}, galleries, about


def _sources(config: AskConfig, checkpoint: str | None = None) -> list[tuple[str, Source]]:
    zoom_km = config.zoom_km or run_setting(checkpoint, "zoom_km", WorldConfig.width_km)
    sources = held_out_sets(chz.replace(config, data=config.data or "bluemarble"), zoom_km)
    if unknown := [name for name in config.sets if name not in sources]:
        raise DataError(f"sets={unknown[0]!r}: this data has {', '.join(sources)}")
    return [(name, source) for name, source in sources.items() if not config.sets or name in config.sets]


def set_truths(config: AskConfig, data: str) -> Truths:
    """The truths of a source of pictures, for predictions of it made elsewhere."""
    skipped, keys, places = SkipCounter(), [], []
    with Progress(f"reading the truths of {data}") as bar:
        for _, source in _sources(config):
            for key, place in held_out_places(config, source, skipped):
                keys.append(key)
                places.append(place)
                bar.advance(1)
    if skipped:
        print(f"samples skipped: {skipped}")
    return Truths.of(keys, places)


def ask(config: AskConfig, subject: Subject, out: Path, on_batch) -> None:
    """Ask about every sample of every set; `on_batch(set name, samples, draws)` is called with each batch."""
    question, skipped = config.question(subject.region), SkipCounter()
    sources = _sources(config, subject.checkpoint)
    counts = [count_held_out(config, source) for _, source in sources]
    settings = {
        "model_name": subject.model_name, "checkpoint": subject.checkpoint, "step": subject.step,
        "data": config.data or "bluemarble",
        "sources": {name: [source.spec, source.revision] for name, source in sources},
        "columns": config.columns, "views": config.views,
        "max_pixels": config.max_pixels, **asdict(question),
    }  # fmt: skip
    renderer = Renderer(load_processing(subject.model_name), max_pixels=config.max_pixels)
    with (
        AnswerLog(out, settings, fresh=config.resume == "never") as log,
        open_engine(subject.engine(config)) as service,
    ):
        if len(log):
            print(f"{len(log):,} answers are in {out} already; they are not asked for again")
        total = None if None in counts else sum(counts)
        with Progress("evaluating", total=total, initial=0) as bar:
            for name, source in sources:
                samples = held_out_samples(config, source, skipped)
                batches = ask_set(
                    lambda: subject.sampler(service), renderer, name, samples, question, log,
                    batch_size=config.batch_size,
                )  # fmt: skip
                for part, draws, _ in batches:
                    on_batch(name, part, draws)
                    bar.advance(len(part))
    if skipped:
        print(f"samples skipped: {skipped}")


def _from_model(config: EvalConfig) -> tuple[dict[str, Evaluation], dict, dict, Path]:
    subject = Subject.of(config)
    out = Path(config.out or f"runs/eval-{subject.title}")
    calibration = find_calibration(config.calibration, subject, config.question(subject.region))
    answered: dict[str, tuple[list, list, list]] = {}
    galleries: dict[str, Gallery] = {}

    def keep(name: str, samples: list, draws: list[Draws]) -> None:
        keys, places, all_draws = answered.setdefault(name, ([], [], []))
        keys += [sample.key for sample in samples]
        places += [sample.place for sample in samples]
        all_draws += draws
        galleries.setdefault(name, Gallery()).offer(samples, draws)

    ask(config, subject, out, keep)
    found = {name: _judged(config, name, *parts, calibration) for name, parts in answered.items()}
    about = {
        "title": subject.title,
        "model": subject.model_name,
        "checkpoint": subject.checkpoint,
        "step": subject.step,
    }
    if calibration is not None:
        about["calibration"] = {"data": calibration.data, "n": calibration.n}
    return found, galleries, about, out


def _judged(config: EvalConfig, name: str, keys, places, draws, calibration: Calibration | None) -> Evaluation:
    guesses, _ = guesses_of_draws(name, keys, draws, calibration, config.probability)
    return judge(Truths.of(keys, places), guesses, scale=config.scale)


def model_words(words: Mapping | list[str]) -> list[str]:
    """`model=` is another way to say `model_name=`."""
    return ["model_name=" + word.removeprefix("model=") if word.startswith("model=") else word for word in words]


def main(argv=None) -> None:
    """The command line."""
    import sys

    run_command("eval", EvalConfig, run, model_words(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    main()
