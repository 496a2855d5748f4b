"""What the commands around the loops are configured with: demo, data, serve, export."""

from dataclasses import fields
from typing import Literal

import chz

from geospot.config.engine import SOURCES, EngineConfig, SourceConfig
from geospot.config.keys import not_negative, positive
from geospot.config.loops import SftConfig, TrainConfig
from geospot.data.fields import Columns
from geospot.data.pack import PackSettings
from geospot.models.loading import TINY, TINY_UNTRAINED

DATA = chz.field(default=None, doc=f"also as a plain word: bluemarble, or {SOURCES}")


@chz.chz
class DemoConfig:
    """The recipe from start to end on the Blue Marble world. The same command resumes a demo that was stopped."""

    out: str = chz.field(default="runs/demo", doc="folder of the two runs, report.html and results.json")
    seed: int = chz.field(default=0, doc="of both runs; the places do not depend on it")
    model_name: str = chz.field(
        default=TINY,
        doc=f"{TINY} (knows the Earth, not the game) or {TINY_UNTRAINED} (knows nothing: give it more steps)",
    )
    train_places: int = chz.field(default=8192, doc="pictures to train on")
    sft_steps: int = chz.field(default=80, doc="steps of 64 pictures")
    grpo_steps: int = chz.field(default=150, doc="steps of 32 pictures, 16 answers each")
    sft_learning_rate: float = chz.field(default=1e-3, doc="peak")
    grpo_learning_rate: float = chz.field(default=3e-4, doc="peak")
    coord_tau_start: float = chz.field(default=500.0, doc="tau at the start, km: a few times the error after SFT")
    coord_tau: float = chz.field(default=50.0, doc="tau at the end, km: pictures 1,000 km wide do not show 25 km")
    threads: int = chz.field(default=0, doc="CPU threads of torch; 0: one a core")

    @chz.validate
    def _check_demo(self):
        positive(
            self,
            "train_places",
            "sft_steps",
            "grpo_steps",
            "sft_learning_rate",
            "grpo_learning_rate",
            "coord_tau",
            "coord_tau_start",
        )

    def shared(self) -> dict:
        """What both runs have in common."""
        return {
            "model_name": self.model_name,
            "lora_rank": 0,
            "seed": self.seed,
            "train_places": self.train_places,
            "eval_places": 512,
            "threads": self.threads,
            "save_every": 0,
            "max_tokens": 24,
        }

    def sft(self) -> SftConfig:
        """The warm start."""
        return SftConfig(
            log_path=f"{self.out}/sft",
            max_steps=self.sft_steps,
            batch_size=64,
            eval_every=50,
            learning_rate=self.sft_learning_rate,
            **self.shared(),
        )

    def train(self) -> TrainConfig:
        """GRPO from there."""
        return TrainConfig(
            log_path=f"{self.out}/train",
            checkpoint=f"{self.out}/sft",
            max_steps=self.grpo_steps,
            batch_size=32,
            group_size=16,
            eval_every=25,
            learning_rate=self.grpo_learning_rate,
            coord_tau_start=self.coord_tau_start,
            coord_tau=self.coord_tau,
            **self.shared(),
        )


@chz.chz
class InspectConfig:
    """Look through a data set: geospot data inspect SOURCE key=value ..."""

    data: str | None = DATA
    columns: str = chz.field(
        default="", doc="keys of the metadata that are not found by themselves: lat=KEY,lon=KEY,image=KEY,..."
    )
    out: str | None = chz.field(default=None, doc="page to write: FILE.html, with map and contact sheet")
    against: str | None = chz.field(
        default=None, doc="another source: is anything of it in this one? Leaves with status 1 where there is"
    )
    near_km: float = chz.field(default=1.0, doc="places of `against` nearer than this are a leak")
    limit: int = chz.field(default=0, doc="stop after so many places, of shards in a seeded order; 0: all")
    decode: bool = chz.field(default=True, doc="read pictures to their end, which finds damaged ones; false: headers")
    seed: int = chz.field(default=0, doc="of the contact sheet and of `limit`")
    data_workers: int = chz.field(default=-1, doc="processes that decode pictures; -1: all cores but one")

    @chz.validate
    def _check(self):
        Columns.parse(self.columns)
        not_negative(self, "limit", "seed")
        positive(self, "near_km")
        if self.data_workers < -1:
            raise ValueError(f"data_workers={self.data_workers}: must be -1 (choose) or above")
        if self.out is not None and not self.out.endswith((".html", ".htm")):
            raise ValueError(f"out={self.out!r}: must end in .html")


@chz.chz
class PackConfig(SourceConfig):
    """Write a data set as WebDataset shards: geospot data pack SOURCE out=DIR key=value ..."""

    data: str | None = DATA
    out: str | None = chz.field(default=None, doc="folder to write: new, empty, or one where this command was stopped")
    shard_samples: int = chz.field(default=1000, doc="places a shard")
    max_pixels: int | None = chz.field(
        default=None, doc="larger pictures are scaled down to this many pixels; none: they stay as they are"
    )
    fill_labels: bool = chz.field(default=True, doc="country, region and city from the coordinates where they miss")
    shuffle: bool = chz.field(default=True, doc="seeded order; false: the source's own")
    shuffle_buffer: int = chz.field(default=1000, doc="places among which the next is drawn; held in memory, encoded")
    seed: int = chz.field(default=0, doc="of the order, the choice of views and of held-out cells")
    eval_fraction: float = chz.field(default=0.0, doc="of the cells of the map, written to DIR/eval; 0: no such split")
    cell_km: float = chz.field(default=100.0, doc="side of a cell, for eval_fraction")
    holdout_km: float = chz.field(default=1.0, doc="between any place of DIR/eval and any of DIR/train")

    @chz.validate
    def _check_pack(self):
        positive(self, "shard_samples", "shuffle_buffer", "cell_km")
        not_negative(self, "seed", "eval_fraction", "holdout_km")
        if self.max_pixels is not None:
            positive(self, "max_pixels")
        _ = self.settings.split  # refuses what does not fit together

    @property
    def settings(self) -> PackSettings:
        """What decides the bytes."""
        return PackSettings(**{field.name: getattr(self, field.name) for field in fields(PackSettings)})


@chz.chz
class ServeConfig(EngineConfig):
    """Serve a model over the wire protocol of the Tinker SDK 0.38."""

    host: str = chz.field(default="127.0.0.1", doc="address to listen on; any but this machine's own needs a key")
    port: int = chz.field(default=8321, doc="0: any free one")
    checkpoint_dir: str = chz.field(default="runs/serve", doc="where checkpoints are kept, also over a restart")
    max_rank: int = chz.field(default=256, doc="highest rank of an adapter")

    @chz.validate
    def _check_serve(self):
        not_negative(self, "port")
        positive(self, "max_rank")
        if self.port > 65_535:
            raise ValueError(f"port={self.port}: must be at most 65535")
        if self.engine == "tinker" or self.base_url is not None:
            raise ValueError("engine, base_url: `geospot serve` is itself the server; leave them out")


@chz.chz
class ExportConfig:
    """Write a checkpoint of either engine as a PEFT adapter, as merged weights in the hub's format, or as both."""

    checkpoint: str = chz.field(doc="run folder, checkpoint or tinker:// path")
    out: str = chz.field(doc="folder to write; adapter and merged weights go into folders of these names in it")
    form: Literal["auto", "adapter", "merged", "both"] = chz.field(
        default="auto", doc="auto: adapter where one was trained, merged where all weights were"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = chz.field(
        default="auto", doc="of merged weights; auto: the base model's"
    )
    base_url: str | None = chz.field(default=None, doc="the server of a tinker:// path; none: the hosted service")
    server_timeout_s: float = chz.field(default=45.0, doc="seconds without a sign of life after which it is dead")
    push: str | None = chz.field(
        default=None, doc="owner/name of a hub repository to upload to (`hf auth login` first)"
    )
    private: bool = chz.field(default=True, doc="make a repository that does not exist yet private")

    @chz.validate
    def _check_export(self):
        if self.push is not None and self.push.count("/") != 1:
            raise ValueError(f"push={self.push!r}: must be owner/name")
        if self.push is not None and self.form == "both":
            raise ValueError("form='both': a repository holds one model; push the adapter and the merged weights apart")
