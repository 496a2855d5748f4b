"""What is asked: a model, the weights of a checkpoint on it, and whether it is asked for regions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chz

from geospot.config import EngineConfig, GuesserConfig
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

    @classmethod
    def of(cls, config: GuesserConfig) -> "Subject":
        """From `model_name`, `checkpoint` and `region` of a config; what it leaves open the checkpoint says."""
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

    @property
    def title(self) -> str:
        """A short name: the run and the checkpoint, or the model."""
        if self.checkpoint is None:
            return self.model_name.rstrip("/").rsplit("/", 1)[-1]
        path = Path(self.checkpoint)
        return f"{path.parents[1].name}-{path.name}" if path.parent.name == "checkpoints" else path.name

    def sampler(self, service: ServiceClient) -> SamplingClient:
        """A sampling client on its weights."""
        if self.checkpoint:
            return service.create_sampling_client(model_path=self.checkpoint).result()
        return service.create_sampling_client(base_model=self.model_name).result()


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
