"""What a model is asked, about which pictures, and what becomes of the answers."""

import re
from pathlib import Path
from typing import Literal

import chz

from geospot.config.endpoint import ApiConfig
from geospot.config.engine import SOURCES, EngineConfig, SourceConfig
from geospot.config.keys import HOST_DOC, OPEN_DOC, check_port, fraction, not_negative, one_of, positive, topic
from geospot.earth.score import parse_scale
from geospot.engine.api.addresses import ApiModel, is_api_model
from geospot.errors import did_you_mean
from geospot.models.loading import TINY
from geospot.scoring.references import REFERENCES
from geospot.scoring.tables.columns import parse_columns

_input, _model, _data, _sampling = topic("Input"), topic("Model"), topic("Data"), topic("Sampling")
_prior = topic("Prior knowledge")
_eval, _output = topic("Evaluation"), topic("Output")

MAX_TOKENS, API_MAX_TOKENS = 64, 4096
DEMO_RUN = "runs/demo/train"  # what `geospot demo` leaves
FORMATS = ("text", "csv", "json", "geojson", "kml", "html")
_ENDINGS = {"": "text", "txt": "text", "htm": "html"} | {name: name for name in FORMATS if name != "text"}
_COLUMNS = "columns that are not detected automatically: key=NAME,lat=NAME,true_lat=NAME,text=NAME,..."
_SCALE = "scale of the GeoGuessr score: world, map (bounds of the truths) or a map's diagonal, km"
_REFERENCES = f"baseline rows to add: any of {', '.join(REFERENCES)}, or all"
_FIGURES = "also write figure.png and figure.pdf for papers (extra figures)"
_TRAIN_TRUTH = "table of training places that the baselines are fitted to"


@chz.chz
class GuesserConfig(EngineConfig, ApiConfig):
    """Which model guesses, and where it runs."""

    # pyrefly: ignore[bad-override]  (what is None here is filled in before an engine is opened)
    model_name: str | None = _model(
        None,
        "hub name or folder, openai/NAME, anthropic/NAME, gemini/NAME, or the http(s) address of a server that speaks "
        f"OpenAI's protocol; none: the checkpoint's model, else {TINY}",
    )
    checkpoint: str | None = _model(None, "run folder or checkpoint; none: the model's own weights")
    # pyrefly: ignore[bad-override]
    region: bool | None = _model(None, "also ask for a Region line; none: as in the checkpoint's run")
    # pyrefly: ignore[bad-override]
    max_tokens: int | None = _model(
        None, f"longest answer, tokens; none: {MAX_TOKENS}, for an API model {API_MAX_TOKENS} (some think first)"
    )
    prompt: str | None = _model(None, "file with a question of your own in place of the built-in one")

    @chz.validate
    def _check_guesser(self):
        if is_api_model(self.model_name, self.engine):
            ApiModel.of(str(self.model_name), name=self.api_model, base_url=self.base_url, key_env=self.api_key_env)
            if self.checkpoint:
                raise ValueError(f"model={self.model_name}, checkpoint={self.checkpoint}: give one of them")


@chz.chz
class PriorConfig:
    """What is known beforehand of where pictures were taken."""

    country: tuple[str, ...] = _prior(
        (), "known countries, codes or names: FR or FR,BE; answers elsewhere are set aside"
    )
    near: tuple[float, ...] = _prior((), "known surroundings: LAT,LON in degrees, with within=")
    within: float | None = _prior(None, "answers farther than this from near= are set aside, km")
    tell_prior: bool = _prior(False, "say in the question what is known")

    @chz.validate
    def _check_prior(self):
        positive(self, "within")
        if (len(self.near) > 0) != (self.within is not None):
            raise ValueError("near= and within=: give both, such as near=48.85,2.35 within=200")
        if self.near and not (len(self.near) == 2 and abs(self.near[0]) <= 90 and abs(self.near[1]) <= 180):
            raise ValueError(f"near={','.join(f'{x:g}' for x in self.near)}: must be LAT,LON in degrees")
        if self.tell_prior and not (self.country or self.near):
            raise ValueError("tell_prior=true: nothing is known; add country= or near= with within=")


@chz.chz
class GuessConfig(GuesserConfig, PriorConfig):
    """Guess where photos were taken.

    geospot guess photos/ checkpoint=runs/demo/train samples=16 out=guesses.geojson
    """

    photos: tuple[str, ...] = _input(..., "pictures, folders or web addresses; the key itself may be omitted")
    allow_private: bool = _input(False, "accept addresses outside the public internet (this machine, this network)")
    samples: int = _sampling(1, "answers per photo; several are clustered and ranked, and give a radius")
    temperature: float | None = _sampling(None, "sampling temperature; none: 0 for one answer, 1 for several")
    seed: int = _sampling(0, "seed of the answers")
    probability: float = _output(0.9, "probability that the radius contains the true place")
    calibration: str = _output("auto", "calibration of the radius: auto (the model's own, if any), none, or a file")
    coarse: bool = _output(False, "report country and region only, no coordinates")
    format: Literal["auto", "text", "csv", "json", "geojson", "kml", "html"] = _output(
        "auto", "text, csv, json, geojson, kml or html (a page with maps); auto: from the suffix of out, else text"
    )
    out: str | None = _output(None, "file to write; none: print")

    @chz.validate
    def _check_guess(self):
        not_negative(self, "seed")
        one_of("format", self.format, ("auto", *FORMATS))
        self.chosen_format()
        fraction(self, "probability")
        _check_sampling(self)
        if self.chosen_format() == "html" and self.out is None:
            raise ValueError("format=html needs a file to write the page to: add out=map.html")

    def chosen_format(self) -> str:
        """The format, found by the suffix of `out` where it is left open; ValueError where that says none."""
        if self.format != "auto":
            return self.format
        suffix = Path(self.out).suffix.lower() if self.out else ""
        if suffix.lstrip(".") not in _ENDINGS:
            endings = [f".{name}" for name in _ENDINGS if name]
            raise ValueError(
                f"out={self.out}: must end in {', '.join(endings)}{did_you_mean(suffix, endings)}; or name the format: "
                f"format={', '.join(FORMATS)}"
            )
        return _ENDINGS[suffix.lstrip(".")]


@chz.chz
class ProbeConfig(GuesserConfig):
    """Find out whether a model sees its pictures, and is the one that was asked for.

    geospot probe http://127.0.0.1:8000/v1 api_model=Qwen/Qwen3-VL-8B-Instruct
    """

    # pyrefly: ignore[bad-override]
    model_name: str = _model(..., "openai/NAME, anthropic/NAME, gemini/NAME, an http(s) address, or a model of ours")
    seed: int = _sampling(0, "seed of the choice of word and colour")

    @chz.validate
    def _check_probe(self):
        not_negative(self, "seed")


@chz.chz
class AskConfig(GuesserConfig, SourceConfig):
    """What a model is asked, and about which pictures: shared by eval and calibrate."""

    data: str | None = _data(
        None,
        f"bluemarble (its eval and eval-far sets), or {SOURCES}; none: bluemarble, or with predictions= the truths "
        "in their file",
    )
    sets: tuple[str, ...] = _data((), "names of the sets to use, such as eval; empty: all")
    zoom_km: float | None = _data(
        None, "side length of a bluemarble picture, km on the ground; none: as in the checkpoint's run"
    )
    eval_places: int = _data(0, "use at most this many places per set; 0: all")
    samples: int = _sampling(1, "answers per picture; the largest cluster is the guess")
    temperature: float | None = _sampling(None, "sampling temperature; none: 0 for one answer, 1 for several")
    seed: int = _sampling(0, "seed of the answers")
    batch_size: int = _sampling(256, "pictures per batch; answers are saved after each batch")
    out: str | None = _output(None, "folder for answers and results; none: runs/<command>-<model>")
    resume: Literal["auto", "never"] = _output("auto", "auto: reuse the answers saved in the folder; never: ask again")

    @chz.validate
    def _check_ask(self):
        not_negative(self, "eval_places", "seed")
        positive(self, "batch_size", "zoom_km")
        one_of("resume", self.resume, ("auto", "never"))
        _check_sampling(self)


@chz.chz
class EvalConfig(AskConfig, PriorConfig):
    """Evaluate a model on held-out pictures, or score predictions made elsewhere.

    geospot eval predictions=gpt.csv truth=test.csv references=all out=runs/gpt
    """

    predictions: str | None = _input(
        None, "CSV, JSON lines or Parquet file of guesses (lat, lon) or raw answers (text) to score instead of a model"
    )
    truth: str | None = _input(
        None, "table of truths (key, lat, lon, country, ...) for predictions; none: their own file, or data"
    )
    prediction_columns: str = _input("", _COLUMNS)
    scale: str = _eval("world", _SCALE)
    references: tuple[str, ...] = _eval((), _REFERENCES)
    train_truth: str | None = _eval(None, _TRAIN_TRUTH)
    calibration: str = _eval("auto", "calibration of the radius: auto (the model's own, if any), none, or a file")
    probability: float = _eval(0.9, "probability that the radius contains the true place")
    report: bool = _output(True, "write report.html")
    figures: bool = _output(False, _FIGURES)

    @chz.validate
    def _check_eval(self):
        _check_scoring(self)
        fraction(self, "probability")
        if self.predictions is None and (self.truth or self.prediction_columns):
            raise ValueError("truth= and prediction_columns= belong to predictions=; a model is evaluated on data=")
        if self.predictions is not None and (self.model_name or self.checkpoint):
            raise ValueError(
                "predictions= and a model (model_name=, checkpoint=): give one of them; `geospot compare` sets the "
                "results side by side"
            )


@chz.chz
class PlayConfig(GuesserConfig, SourceConfig):
    """Play on a page against a model, or alone: say where a picture was taken. A tab takes photos of your own.

    geospot play checkpoint=runs/demo/train
    """

    # pyrefly: ignore[bad-override]
    checkpoint: str | None = _model(
        "auto", f"run folder or checkpoint to play against; auto: {DEMO_RUN} if there is one; none: play alone"
    )
    set: str | None = _data(None, "name of the held-out set to play on, such as eval; none: the first")
    zoom_km: float | None = _data(
        None, "side length of a bluemarble picture, km on the ground; none: as in the checkpoint's run"
    )
    eval_places: int = _data(1024, "most places to deal from; 0: all of the set, which are kept in memory")
    samples: int = _sampling(16, "answers of the model per place")
    seed: int | None = _sampling(
        None, "begin with the game of this number, the same places for all; none: by a new code each time"
    )
    seconds: int = _eval(0, "time per place, s; 0: no limit")
    scale: str = _eval("world", _SCALE)
    tiles: str | None = _output(
        None, "address of map tiles, https://HOST/{z}/{x}/{y}.png, asked by the browser; none: the map that is built in"
    )
    tiles_by: str = _output("", "whose tiles they are, to be named on the map")
    host: str = _output("127.0.0.1", HOST_DOC)
    port: int = _output(8323, "port to listen on; 0: any free one")
    open: bool = _output(True, OPEN_DOC)

    @chz.validate
    def _check_play(self):
        not_negative(self, "eval_places", "seed", "seconds")
        positive(self, "samples", "zoom_km")
        check_port(self.port)
        parse_scale(self.scale)
        if self.seconds > 3600:
            raise ValueError(f"seconds={self.seconds}: must be at most 3600")
        if self.tiles is not None and not re.fullmatch(r"https?://[\w.-]+(:\d+)?/\S*\{z\}\S*", self.tiles):
            raise ValueError(f"tiles={self.tiles}: must be such as https://tiles.example/{{z}}/{{x}}/{{y}}.png")


@chz.chz
class CalibrateConfig(AskConfig):
    """Calibrate the radius of a model's guesses on held-out pictures.

    geospot calibrate checkpoint=runs/demo/train sets=eval
    """

    samples: int = _sampling(16, "answers per picture; use the same number with `geospot guess`")
    file: str | None = _output(None, "calibration file to write; none: beside the checkpoint, or in the cache")


@chz.chz
class CompareConfig:
    """Compare two or more models by their predictions on the same pictures.

    geospot compare runs/gpt mine:predictions.jsonl truth=test.csv
    """

    models: tuple[str, ...] = _input(
        ..., "predictions files, or folders of `geospot eval`; NAME:PATH names one; the key itself may be omitted"
    )
    truth: str | None = _input(
        None,
        "table of truths (key, lat, lon, ...), each of its pictures counts; none: the pictures that all files have",
    )
    prediction_columns: str = _input("", _COLUMNS)
    scale: str = _eval("world", _SCALE)
    references: tuple[str, ...] = _eval((), _REFERENCES)
    train_truth: str | None = _eval(None, _TRAIN_TRUTH)
    resamples: int = _eval(2000, "bootstrap resamples, 100 or more")
    seed: int = _eval(0, "seed of the resamples")
    out: str | None = _output(None, "folder for comparison.json and report.html; none: print only")
    figures: bool = _output(False, _FIGURES)

    @chz.validate
    def _check(self):
        if len(self.models) < 2:
            raise ValueError(f"models={','.join(self.models)}: give two or more predictions files")
        _check_scoring(self)
        if self.resamples < 100:
            raise ValueError(f"resamples={self.resamples}: must be 100 or above; intervals need the tails")
        if self.figures and self.out is None:
            raise ValueError("figures=true needs a folder to write them into: add out=FOLDER")


def _check_sampling(config: GuessConfig | AskConfig) -> None:
    positive(config, "samples")
    not_negative(config, "temperature")
    if config.samples > 1 and config.temperature == 0:
        raise ValueError(f"samples={config.samples} at temperature=0: all answers would be alike; set temperature=1")


def _check_scoring(config: EvalConfig | CompareConfig) -> None:
    parse_scale(config.scale)
    parse_columns(config.prediction_columns)
    for name in config.references:
        one_of("references", name, (*REFERENCES, "all"))
