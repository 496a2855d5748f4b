"""Which model runs where, and how a source of pictures is read."""

import re
from typing import Literal

import chz

from geospot.config.keys import not_negative, positive, topic
from geospot.data.fields import Columns
from geospot.data.samples import check_views
from geospot.models.loading import TINY, TINY_UNTRAINED

_model, _engine, _data = topic("Model"), topic("Engine"), topic("Data")

SOURCES = (
    "WebDataset shards (a folder, glob, {0000..0009} or .txt list; on disk, http(s) or hf://datasets/OWNER/NAME/PATH), "
    "a CSV or Parquet table, or a folder of photos; see docs/data.md"
)


@chz.chz
class EngineConfig:
    """Which model, where it runs, and how a picture is shown to it."""

    model_name: str = _model(
        TINY, f"hub name, folder written by save_pretrained, {TINY}, or {TINY_UNTRAINED} (random weights)"
    )
    max_pixels: int = _model(512 * 512, "larger pictures are scaled down to this many pixels")
    max_tokens: int = _model(64, "longest answer, tokens")
    region: bool = _model(False, "also ask for a Region line")

    engine: Literal["auto", "local", "tinker"] = _engine(
        "auto",
        "local: torch in this process; tinker: the hosted service, or base_url; auto: tinker if base_url is set, or if "
        "TINKER_API_KEY is set and the service offers the model",
    )
    base_url: str | None = _engine(None, "server of the Tinker protocol, such as `geospot serve`; none: hosted service")
    server_timeout_s: float = _engine(45.0, "a server silent for this many seconds is considered dead")
    device: str = _engine("auto", "auto, cpu, cuda or cuda:N; auto: a GPU if there is one")
    dtype: Literal["auto", "float32", "bfloat16"] = _engine(
        "auto",
        "precision of the frozen weights; auto: bfloat16 on a GPU; on a CPU float32, bfloat16 if memory is too small",
    )
    threads: int = _engine(0, "CPU threads for torch; 0: one per core")
    max_batch_tokens: int = _engine(
        0, "padded tokens per training pass, larger batches are split; 0: at most 16384, less where memory is small"
    )
    max_sample_tokens: int = _engine(
        0, "tokens in the key-value cache of one sampling batch; 0: at most 131072, less where memory is small"
    )
    picture_cache_mb: int = _engine(1024, "encoded pictures kept while the vision tower is frozen, MB")
    gradient_checkpointing: bool = _engine(False, "recompute activations: less memory, about a third slower")
    merge_lora: bool = _engine(
        True, "sample from a copy of the weights with the adapter merged in; false: less memory, slower"
    )
    batch_invariant: bool = _engine(
        False, "sample and score each request alone: the same to the bit in any company; 3 to 15 times slower"
    )
    compile: bool = _engine(False, "torch.compile the sampling step: for GPUs; slower on a CPU")

    @chz.validate
    def _check_engine(self):
        positive(self, "picture_cache_mb", "max_pixels", "max_tokens")
        positive(self, "server_timeout_s")
        not_negative(self, "threads", "max_batch_tokens", "max_sample_tokens")
        if self.engine == "local" and self.base_url is not None:
            raise ValueError(
                f"engine=local, base_url={self.base_url}: the local engine has no server; omit one of them"
            )
        if self.device not in ("auto", "cpu", "cuda") and not re.fullmatch(r"cuda:\d+", self.device):
            raise ValueError(f"device={self.device}: must be auto, cpu, cuda or cuda:N")


@chz.chz
class SourceConfig:
    """How a source of pictures is read."""

    data: str | None = _data("bluemarble", f"bluemarble (built in), or {SOURCES}")
    columns: str = _data("", "metadata keys that are not detected automatically: lat=KEY,lon=KEY,image=KEY,...")
    views: str = _data("4", "most pictures of one place shown together, a seeded choice; each: one sample per picture")
    data_workers: int = _data(-1, "processes that decode pictures; -1: one less than the cores, 0 for bluemarble")

    @chz.validate
    def _check_source(self):
        Columns.parse(self.columns)
        check_views(self.views)
        check_workers(self.data_workers)


def check_workers(data_workers: int) -> None:
    """ValueError for a number of worker processes that means nothing."""
    if data_workers < -1:
        raise ValueError(f"data_workers={data_workers}: must be -1 (automatic) or above")
