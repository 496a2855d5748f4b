"""What a model is asked, about which pictures, and what becomes of the answers."""

from pathlib import Path

import chz

from geospot.config.engine import SOURCES, EngineConfig, SourceConfig
from geospot.config.keys import not_negative, positive
from geospot.earth.score import parse_scale
from geospot.models.loading import TINY
from geospot.scoring.references import parse_references
from geospot.scoring.tables.columns import parse_columns

FORMATS = ("text", "csv", "json", "geojson", "kml")


@chz.chz
class GuesserConfig(EngineConfig):
    """Which model guesses, and where it runs."""

    model_name: str | None = chz.field(
        default=None, doc=f"hub name or folder (also model=); none: the checkpoint's, else {TINY}"
    )
    checkpoint: str | None = chz.field(default=None, doc="run folder or checkpoint; none: the model as it is")
    region: bool | None = chz.field(default=None, doc="ask for a Region line; none: as the checkpoint's run did")


@chz.chz
class GuessConfig(GuesserConfig):
    """Guess where photos were taken: geospot guess PHOTO|FOLDER|URL ... key=value ..."""

    photos: tuple[str, ...] = chz.field(default=(), doc="pictures, folders or web addresses; also as plain words")
    samples: int = chz.field(default=1, doc="answers a photo; of several the clusters are ranked, and give a radius")
    temperature: float | None = chz.field(default=None, doc="none: 0 for one answer, 1 for several")
    probability: float = chz.field(default=0.9, doc="with which the radius is to hold the truth")
    calibration: str = chz.field(default="auto", doc="of the radius: auto (the model's own, if any), none, or a file")
    coarse: bool = chz.field(default=False, doc="country and region only, no coordinates")
    format: str = chz.field(default="auto", doc=f"{', '.join(FORMATS)}; auto: by the ending of out, else text")
    out: str | None = chz.field(default=None, doc="file to write; none: print")
    seed: int = chz.field(default=0, doc="of the answers")

    @chz.validate
    def _check_guess(self):
        positive(self, "samples")
        not_negative(self, "seed")
        if self.format not in ("auto", *FORMATS):
            raise ValueError(f"format={self.format!r}: must be auto or one of {', '.join(FORMATS)}")
        if not 0 < self.probability < 1:
            raise ValueError(f"probability={self.probability}: must be between 0 and 1")
        if self.temperature is not None:
            not_negative(self, "temperature")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(f"samples={self.samples} at temperature=0: all answers would be alike; set temperature=1")

    def chosen_format(self) -> str:
        """The format, found by the ending of `out` where it is left open."""
        if self.format != "auto":
            return self.format
        ending = Path(self.out).suffix.lower().lstrip(".") if self.out else "text"
        return ending if ending in FORMATS else "text"


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


@chz.chz
class CalibrateConfig(AskConfig):
    """Calibrate the radius of a model's guesses on held-out pictures of the kind that it will be asked about."""

    samples: int = chz.field(default=16, doc="answers a picture; guess takes as many")
    file: str | None = chz.field(default=None, doc="where to keep it; none: with the checkpoint, or in the cache")


@chz.chz
class CompareConfig:
    """Compare models by their predictions: geospot compare A B ... key=value ..."""

    models: tuple[str, ...] = chz.field(
        default=(), doc="predictions files or folders of geospot eval; also as plain words; NAME:PATH names one"
    )
    truth: str | None = chz.field(default=None, doc="table of truths (key, lat, lon, ...); none: those in the files")
    prediction_columns: str = chz.field(
        default="", doc="columns that are not found by themselves: key=NAME,lat=NAME,..."
    )
    scale: str = chz.field(default="world", doc="of the score: world, a map's diagonal in km, or map")
    references: tuple[str, ...] = chz.field(
        default=(), doc="further rows: constant, country, population, published, or all"
    )
    train_truth: str | None = chz.field(
        default=None, doc="table of training places, which the references are fitted to"
    )
    resamples: int = chz.field(default=2000, doc="bootstrap resamples")
    seed: int = chz.field(default=0, doc="of the resamples")
    out: str | None = chz.field(
        default=None, doc="folder for comparison.json, report.html and figures; none: print only"
    )

    @chz.validate
    def _check(self):
        parse_scale(self.scale)
        parse_references(self.references)
        parse_columns(self.prediction_columns)
        if self.resamples < 100:
            raise ValueError(f"resamples={self.resamples}: must be 100 or above; intervals need the tails")
