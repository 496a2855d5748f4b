"""Which model runs where, and how a source of pictures is read."""

import re
from typing import Literal

import chz

from geospot.config.keys import not_negative, positive
from geospot.data.fields import Columns
from geospot.data.views import check_views
from geospot.models.loading import TINY, TINY_UNTRAINED

SOURCES = (
    "a folder, glob, {0000..0009} or .txt list of WebDataset shards, on disk, http(s) or "
    "hf://datasets/OWNER/NAME/PATH; a CSV or Parquet table; a folder of photos (docs/data.md)"
)


@chz.chz
class EngineConfig:
    """Which model, where it runs, and how a picture is shown to it."""

    model_name: str = chz.field(
        default=TINY, doc=f"hub name, folder of save_pretrained, {TINY} or {TINY_UNTRAINED} (random weights)"
    )
    engine: Literal["auto", "local", "tinker"] = chz.field(
        default="auto",
        doc="local: torch in this process; tinker: the hosted service or base_url; auto: tinker where base_url is set, "
        "or TINKER_API_KEY and the service lists the model",
    )
    base_url: str | None = chz.field(
        default=None, doc="a server of the Tinker protocol, such as `geospot serve`; none: the hosted service"
    )
    server_timeout_s: float = chz.field(
        default=45.0, doc="seconds without a sign of life after which a server is dead (engine=tinker)"
    )
    device: str = chz.field(default="auto", doc="auto, cpu, cuda or cuda:N (auto: a GPU where there is one)")
    dtype: Literal["auto", "float32", "bfloat16"] = chz.field(
        default="auto", doc="of the frozen weights (auto: bfloat16 on a GPU, float32 on a CPU)"
    )
    threads: int = chz.field(default=0, doc="CPU threads of torch; 0: one a core")
    max_batch_tokens: int = chz.field(default=16_384, doc="padded tokens of one training pass; longer ones are split")
    max_sample_tokens: int = chz.field(default=131_072, doc="tokens held in the caches of one sampling batch")
    picture_cache_mb: int = chz.field(
        default=1024, doc="encoded pictures that are kept while the vision tower is frozen, MB"
    )
    gradient_checkpointing: bool = chz.field(
        default=False, doc="compute layers again for the gradient rather than keep them: less memory, a third slower"
    )
    merge_lora: bool = chz.field(
        default=True, doc="sample with the adapter merged into a copy of the weights; false: less memory, slower"
    )
    compile: bool = chz.field(default=False, doc="torch.compile the sampling step: for GPUs; slower on a CPU")
    max_pixels: int = chz.field(default=512 * 512, doc="larger pictures are scaled down to this many pixels")
    max_tokens: int = chz.field(default=64, doc="longest answer, in tokens")
    region: bool = chz.field(default=False, doc="ask for a Region line, too")

    @chz.validate
    def _check_engine(self):
        positive(self, "max_batch_tokens", "max_sample_tokens", "picture_cache_mb", "max_pixels", "max_tokens")
        positive(self, "server_timeout_s")
        not_negative(self, "threads")
        if self.engine == "local" and self.base_url is not None:
            raise ValueError(
                f"engine='local', base_url={self.base_url!r}: the local engine has no server; leave one out"
            )
        if self.device not in ("auto", "cpu", "cuda") and not re.fullmatch(r"cuda:\d+", self.device):
            raise ValueError(f"device={self.device!r}: must be auto, cpu, cuda or cuda:N")


@chz.chz
class SourceConfig:
    """How a source of pictures is read."""

    columns: str = chz.field(
        default="", doc="keys of the metadata that are not found by themselves: lat=KEY,lon=KEY,image=KEY,..."
    )
    views: str = chz.field(
        default="4", doc="how many pictures of one place are shown together, in a seeded choice; each: a sample each"
    )
    data_workers: int = chz.field(
        default=-1, doc="processes that decode pictures; -1: all cores but one, none for bluemarble"
    )

    @chz.validate
    def _check_source(self):
        Columns.parse(self.columns)
        check_views(self.views)
        if self.data_workers < -1:
            raise ValueError(f"data_workers={self.data_workers}: must be -1 (choose) or above")
