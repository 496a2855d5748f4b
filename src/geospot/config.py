"""What `sft` and `train` have in common to be configured, and how a command line becomes a configuration."""

import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal, NoReturn

import chz

from geospot.data.fields import Columns
from geospot.data.samples import check_views
from geospot.data.splits import CellSplit
from geospot.engine import follow, is_follower, lead
from geospot.errors import GeospotError
from geospot.models.loading import TINY, TINY_UNTRAINED, is_tiny
from geospot.runs.sinks import SINKS, check_sinks

# What may change when a run is resumed: how often things are kept and shown, not what a step learns.
MAY_DIFFER = frozenset(
    {
        "save_every",
        "eval_every",
        "keep_checkpoints",
        "log_to",
        "log_path",
        "resume",
        "threads",
        "max_sample_tokens",
        "data_workers",
        "picture_cache_mb",
        "gradient_checkpointing",
        "merge_lora",
        "compile",
        "base_url",
        "server_timeout_s",
        "checkpoint_ttl_days",
        "price_prefill",
        "price_sample",
        "price_train",
    }
)

PRICES = ("price_prefill", "price_sample", "price_train")


def positive(config: Any, *names: str) -> None:
    """ValueError that names the first of these fields that is not above 0 (NaN is not)."""
    for name in names:
        if not getattr(config, name) > 0:
            raise ValueError(f"{name}={getattr(config, name)}: must be above 0")


def not_negative(config: Any, *names: str) -> None:
    """ValueError that names the first of these fields that is not 0 or above."""
    for name in names:
        if not getattr(config, name) >= 0:
            raise ValueError(f"{name}={getattr(config, name)}: must be 0 or above")


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


SOURCES = (
    "a folder, glob, {0000..0009} or .txt list of WebDataset shards, on disk, http(s) or "
    "hf://datasets/OWNER/NAME/PATH; a CSV or Parquet table; a folder of photos (docs/data.md)"
)


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


@chz.chz
class LoopConfig(EngineConfig, SourceConfig):
    """What the two training loops share."""

    max_steps: int = chz.field(default=100, doc="optimizer steps (sft) or rollout steps (train)")
    batch_size: int = chz.field(default=128, doc="pictures a step")
    learning_rate: float | None = chz.field(
        default=None, doc="peak of Adam's; none: for sft 2e-4 (tiny: 1e-3), for train 4e-5 (tiny: 3e-4)"
    )
    lr_schedule: Literal["constant", "linear", "cosine"] = chz.field(default="linear", doc="decay over the run, to 0")
    warmup_steps: int = chz.field(default=5, doc="steps over which the rate rises to its peak, at most half the run")
    weight_decay: float = chz.field(default=0.0, doc="of AdamW")
    grad_clip_norm: float = chz.field(default=1.0, doc="the gradient is scaled down to this norm; 0: never")
    lora_rank: int | None = chz.field(
        default=None, doc="rank of the adapter; 0 trains all weights; none: 0 for the tiny model, else 32"
    )
    seed: int = chz.field(default=0, doc="of the adapter, the data's order and the sampling")

    data: str = chz.field(default="bluemarble", doc=f"bluemarble, or {SOURCES}")
    eval_data: str = chz.field(
        default="auto",
        doc="held-out source; auto: the world's eval and eval-far for bluemarble; cells: places of `data` itself, by "
        "cells of the map; none: no evaluation",
    )
    holdout_km: float = chz.field(default=1.0, doc="nothing is trained on that is nearer to a held-out place")
    eval_fraction: float = chz.field(default=0.02, doc="of the cells, for eval_data=cells")
    cell_km: float = chz.field(default=100.0, doc="side of a cell, for eval_data=cells")
    train_places: int = chz.field(default=12_288, doc="pictures that are made for data=bluemarble")
    zoom_km: float = chz.field(default=1000.0, doc="ground that a side of a bluemarble picture covers, km")
    shuffle_buffer: int = chz.field(default=1000, doc="places among which the next is drawn; held in memory, encoded")
    open_shards: int = chz.field(default=4, doc="shards that are read at once, their samples in turn")
    eval_places: int = chz.field(default=512, doc="the first so many of each held-out set are evaluated; 0: all")
    eval_every: int = chz.field(default=50, doc="steps between evaluations (also before the first and after the last)")

    log_path: str | None = chz.field(default=None, doc="the run's folder; none: runs/<command>-<model>")
    log_to: tuple[str, ...] = chz.field(default=(), doc="beside the run folder: wandb, tensorboard, trackio")
    resume: Literal["auto", "never", "must"] = chz.field(
        default="auto", doc="auto: go on where the run in log_path stopped; never: refuse one; must: refuse none"
    )
    save_every: int = chz.field(
        default=1, doc="steps between checkpoints; 0: as often as keeps saving below 5 % of the time"
    )
    keep_checkpoints: int = chz.field(default=2, doc="older ones are deleted; the final one stays")
    checkpoint_ttl_days: float = chz.field(
        default=7.0, doc="how long a service keeps a checkpoint other than the final one; 0: for good"
    )
    price_prefill: float | None = chz.field(
        default=None, doc="$ a million prompt tokens, for the estimate at the start"
    )
    price_sample: float | None = chz.field(default=None, doc="$ a million sampled tokens")
    price_train: float | None = chz.field(default=None, doc="$ a million trained tokens")

    @chz.validate
    def _check_loop(self):
        positive(
            self,
            "max_steps",
            "batch_size",
            "train_places",
            "zoom_km",
            "shuffle_buffer",
            "open_shards",
            "cell_km",
            "eval_every",
            "keep_checkpoints",
        )
        not_negative(self, "warmup_steps", "weight_decay", "grad_clip_norm", "eval_places", "save_every", "seed")
        not_negative(self, "holdout_km")
        CellSplit(self.eval_fraction, self.cell_km, self.holdout_km if self.eval_data == "cells" else 0.0)
        not_negative(self, "checkpoint_ttl_days")
        not_negative(self, *(name for name in PRICES if getattr(self, name) is not None))
        if self.lora_rank is not None:
            not_negative(self, "lora_rank")
        if self.learning_rate is not None:
            positive(self, "learning_rate")
        for sink in self.log_to:
            if sink not in SINKS:
                raise ValueError(f"log_to={sink!r}: must be one of {', '.join(SINKS)}")
        try:
            check_sinks(self.log_to)
        except ImportError as error:
            raise ValueError(str(error)) from None

    @property
    def ttl_seconds(self) -> int | None:
        """How long a service keeps a checkpoint that is not final; it takes an hour or more, None is for good."""
        return max(3600, round(86_400 * self.checkpoint_ttl_days)) if self.checkpoint_ttl_days else None

    @property
    def rank(self) -> int:
        """The adapter's rank, or 0 where all weights are trained."""
        return (0 if is_tiny(self.model_name) else 32) if self.lora_rank is None else self.lora_rank


def default_log_path(command: str, model_name: str) -> str:
    """runs/<command>-<last part of the model's name>."""
    return f"runs/{command}-{model_name.rstrip('/').rsplit('/', 1)[-1]}"


def fail(command: str, message: str) -> NoReturn:
    """Print one clear message and leave with status 2."""
    print(f"geospot {command}: {message}", file=sys.stderr)
    raise SystemExit(2)


def run_command(command: str, config_class: type, main: Callable, argv: Sequence[str] | None = None) -> None:
    """Parse key=value arguments into `config_class` and call `main(config)`.

    Bad arguments, and errors that geospot raises with a mend in them, end in one message and status 2.
    """
    from chz.blueprint import (
        ConstructionException,
        EntrypointHelpException,
        ExtraneousBlueprintArg,
        InvalidBlueprintArg,
        MissingBlueprintArg,
    )

    bad_words = (ConstructionException, ExtraneousBlueprintArg, InvalidBlueprintArg, MissingBlueprintArg)
    argv = list(sys.argv[1:] if argv is None else argv)
    if any(word in ("-h", "help") for word in argv):
        argv = ["--help"]
    try:
        config = chz.Blueprint(config_class).make_from_argv(argv)
    except EntrypointHelpException as shown:
        print(f"Usage: geospot {command} key=value ...\n")
        print(str(shown).partition("Entry point: ")[2].split("\n", 1)[1].strip())
        raise SystemExit(0) from None
    except (ValueError, TypeError, *bad_words) as error:
        fail(command, f"{error}\nSee `geospot {command} --help` for every key.")
    try:
        if isinstance(config, EngineConfig) and is_follower():
            follow(config)  # the first process runs the command; this one does shares of its passes
            return
        if isinstance(config, EngineConfig):
            lead(config)
        main(config)
    except (GeospotError, OSError) as error:
        fail(command, str(error))
    except KeyboardInterrupt:
        print(f"geospot {command}: stopped; what was saved is whole", file=sys.stderr)
        raise SystemExit(130) from None
