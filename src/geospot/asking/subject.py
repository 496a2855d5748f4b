"""What is asked: a model, the weights of a checkpoint on it or its API, and the question that it is asked."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chz

from geospot.answer import prompt_text
from geospot.asking.requests import Question
from geospot.config import API_MAX_TOKENS, MAX_TOKENS, EngineConfig, GuesserConfig
from geospot.engine.api.addresses import ApiModel, is_api_model
from geospot.engine.protocols import SamplingClient, ServiceClient
from geospot.engine.weights import weights_info
from geospot.errors import DataError
from geospot.models.loading import TINY
from geospot.runs.checkpoints import find_checkpoint
from geospot.runs.folder import read_config


@dataclass(frozen=True)
class Subject:
    """The model, the weights (None: the model's own), and whether to ask for regions."""

    model_name: str
    checkpoint: str | None
    region: bool
    step: int | None = None  # optimizer steps behind the checkpoint
    api: ApiModel | None = None  # of a model that is not ours
    thinking: str = ""  # and whatever else changes its answers beside the question

    @classmethod
    def of(cls, config: GuesserConfig) -> "Subject":
        """From `model_name`, `checkpoint` and `region` of a config; what it leaves open the checkpoint says.

        The name of a model at an address, where it is left open, is asked of its server.
        """
        if is_api_model(config.model_name, config.engine):
            api = _api_model(config)
            extra = json.dumps([config.thinking, config.extra_body]) if config.thinking or config.extra_body else ""
            return cls(str(api), None, bool(config.region), api=api, thinking=extra)
        if not config.checkpoint:
            return cls(config.model_name or TINY, None, bool(config.region))
        checkpoint = find_checkpoint(config.checkpoint)
        model_name = weights_info(checkpoint, config.base_url).base_model
        if config.model_name:
            check_model(checkpoint, config.model_name, base_url=config.base_url)
        region = run_setting(config.checkpoint, "region", False) if config.region is None else config.region
        name = checkpoint.rstrip("/").rsplit("/", 1)[-1]
        return cls(model_name, checkpoint, region, int(name) if name.isdecimal() else None)

    def engine(self, config: GuesserConfig) -> EngineConfig:
        """The config with what is asked filled in, for `open_engine`."""
        return chz.replace(config, model_name=self.model_name, checkpoint=self.checkpoint)

    def question(self, config: GuesserConfig, samples: int, temperature: float | None, seed: int) -> Question:
        """How each picture is asked about: the built-in question, or that of the file `prompt`."""
        heat = float(samples > 1) if temperature is None else temperature
        longest = config.max_tokens or (API_MAX_TOKENS if self.api else MAX_TOKENS)
        return Question(self._text(config), longest, samples, heat, seed)

    def manner_of(self, question: Question) -> str:
        """A short hash of what is unusual in how it is asked; "" for the built-in question and nothing else."""
        own = "" if question.text == prompt_text(region=self.region) else question.text
        return hashlib.sha256(f"{own}{self.thinking}".encode()).hexdigest()[:8] if own or self.thinking else ""

    def _text(self, config: GuesserConfig) -> str:
        if config.prompt is None:
            return prompt_text(region=self.region)
        try:
            text = Path(config.prompt).expanduser().read_text(encoding="utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"prompt={config.prompt}: cannot be read as text ({error})") from None
        if not text:
            raise DataError(f"prompt={config.prompt}: is empty; it must hold the question")
        return text

    @property
    def title(self) -> str:
        """A short name: the run and the checkpoint, or the model."""
        if self.api is not None:
            return re.sub(r"[^\w.-]+", "-", self.api.name.rstrip("/").rsplit("/", 1)[-1])
        if self.checkpoint is None:
            return self.model_name.rstrip("/").rsplit("/", 1)[-1]
        path = Path(self.checkpoint)
        return f"{path.parents[1].name}-{path.name}" if path.parent.name == "checkpoints" else path.name

    def sampler(self, service: ServiceClient) -> SamplingClient:
        """A sampling client on its weights."""
        if self.checkpoint:
            return service.create_sampling_client(model_path=self.checkpoint).result()
        return service.create_sampling_client(base_model=self.model_name).result()


def _api_model(config: GuesserConfig) -> ApiModel:
    model = ApiModel.of(
        str(config.model_name), name=config.api_model, base_url=config.base_url, key_env=config.api_key_env
    )
    if model.name:
        return model
    from geospot.engine.api.client import ApiClient

    with ApiClient(model, config.api_options()) as client:
        return model.named(client.served())


def run_setting(checkpoint: str | None, key: str, otherwise: Any) -> Any:
    """A key of the configuration of a run, given its folder or a checkpoint in it; `otherwise` where there is none."""
    place = Path(checkpoint or "").expanduser().absolute()
    run = next((folder for folder in (place, *place.parents[1:2]) if (folder / "checkpoints.jsonl").is_file()), None)
    return otherwise if run is None or not checkpoint else read_config(run).get(key, otherwise)


def check_model(checkpoint: str, *names: str, base_url: str | None = None) -> None:
    """DataError where a checkpoint was trained on another model than any of these names (or folders) of one."""
    theirs = weights_info(checkpoint, base_url).base_model
    if theirs not in names:
        raise DataError(
            f"model_name={names[0]!r}: the checkpoint {checkpoint} is of {theirs!r}; set model_name={theirs}"
        )
