"""What is asked: a model, the weights of a checkpoint on it, and whether it is asked for regions."""

from dataclasses import dataclass
from pathlib import Path

from geospot.engine import read_spec
from geospot.loop import check_model, find_checkpoint
from geospot.models.loading import TINY
from geospot.runs import read_config


@dataclass(frozen=True)
class Subject:
    """The model, the weights (None: the model's own), and whether to ask for regions."""

    model_name: str
    checkpoint: str | None
    region: bool
    step: int | None = None  # optimizer steps behind the checkpoint

    @classmethod
    def of(cls, config) -> "Subject":
        """From `model_name`, `checkpoint` and `region` of a config; what it leaves open the checkpoint says."""
        if not config.checkpoint:
            return cls(config.model_name or TINY, None, bool(config.region))
        checkpoint = find_checkpoint(config.checkpoint)
        spec, step = read_spec(checkpoint)
        if config.model_name:
            check_model(checkpoint, config.model_name)
        region = run_setting(checkpoint, "region", False) if config.region is None else config.region
        return cls(spec.base_model, checkpoint, region, step)

    @property
    def title(self) -> str:
        """A short name: the run and the checkpoint, or the model."""
        if self.checkpoint is None:
            return self.model_name.rstrip("/").rsplit("/", 1)[-1]
        path = Path(self.checkpoint)
        return f"{path.parents[1].name}-{path.name}" if path.parent.name == "checkpoints" else path.name

    def sampler(self, service):
        """A sampling client on its weights."""
        if self.checkpoint:
            return service.create_sampling_client(model_path=self.checkpoint).result()
        return service.create_sampling_client(base_model=self.model_name).result()


def run_setting(checkpoint: str | None, key: str, otherwise):
    """A key of the configuration of the run that a checkpoint lies in; `otherwise` where it lies in none."""
    run = Path(checkpoint).parents[1] if checkpoint else None
    if run is None or not (run / "config.json").is_file():
        return otherwise
    return read_config(run).get(key, otherwise)
