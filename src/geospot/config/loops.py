"""What the two training loops are configured with."""

import math
from typing import Literal

import chz

from geospot.config.engine import SOURCES, EngineConfig, SourceConfig
from geospot.config.keys import not_negative, positive
from geospot.data.splits import CellSplit
from geospot.engine.losses import LOSS_CONFIG
from geospot.models.loading import is_tiny
from geospot.reward import RewardConfig
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
LOSSES = ("importance_sampling", "ppo", "cispo")


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


@chz.chz
class SftConfig(LoopConfig):
    """Supervised fine-tuning on true answers."""

    checkpoint: str | None = chz.field(default=None, doc="run folder or checkpoint whose weights to start from")
    decimals: int = chz.field(default=2, doc="of the coordinates in the targets, 2 to 4 (0.01 degrees are 1.1 km)")

    @chz.validate
    def _check_sft(self):
        if not 2 <= self.decimals <= 4:
            raise ValueError(f"decimals={self.decimals}: must be 2, 3 or 4")


@chz.chz
class TrainConfig(LoopConfig):
    """GRPO with hierarchical geodesic tightening."""

    checkpoint: str = chz.field(
        default="auto",
        doc="run folder or checkpoint to start from; auto: the model's SFT run in runs/; none: the model itself",
    )
    group_size: int = chz.field(default=16, doc="answers a picture")
    num_substeps: int = chz.field(
        default=1, doc="minibatches, each with an optimizer step, in a pass over a step's answers"
    )
    num_epochs: int = chz.field(default=1, doc="passes over a step's answers, with the sampler's logprobs frozen")
    loss: str = chz.field(
        default="auto",
        doc="importance_sampling, ppo or cispo; auto: ppo where answers are reused or old, else importance_sampling",
    )
    clip_low: float | None = chz.field(
        default=None, doc="ratio below which the loss is clipped; none: 0.8 (ppo), 0 (cispo)"
    )
    clip_high: float | None = chz.field(
        default=None, doc="ratio above which the loss is clipped; none: 1.2 (ppo), 4 (cispo)"
    )
    divide_by_std: bool = chz.field(default=False, doc="divide advantages by the group's standard deviation")
    leave_one_out: bool = chz.field(default=False, doc="baseline: the mean of the other answers of the group")
    overlap: bool = chz.field(
        default=False,
        doc="ask for a step's answers while the update before it is still at work: faster, and one step off-policy",
    )
    min_group_share: float = chz.field(
        default=0.8, doc="of a step's pictures that must be answered; requests that fail twice are left out and counted"
    )
    kl_coef: float = chz.field(
        default=0.0, doc="penalty on KL to the weights at the start of the run, in reward a token"
    )
    max_mismatch_kl: float = chz.field(
        default=0.1, doc="stop if sampler and trainer disagree by more than this KL on the first minibatch of a step"
    )

    coord_tau_start: float = chz.field(default=2000.0, doc="tau at the start, km")
    coord_tau: float = chz.field(default=25.0, doc="tau at the end, km (geometric in between)")
    coord_weight_start: float = chz.field(default=0.3, doc="weight of exp(-km/tau) at the start")
    coord_weight: float = chz.field(default=0.7, doc="weight of exp(-km/tau) at the end (linear in between)")
    hierarchy_weight_start: float = chz.field(
        default=0.7 / 3, doc="weight of each of country, region, city at the start"
    )
    hierarchy_weight: float = chz.field(default=0.1, doc="weight of each of country, region, city at the end")
    format_weight: float = chz.field(default=0.0, doc="reward of an answer that can be read at all")

    def reward_config(self) -> RewardConfig:
        """The reward's knobs; ValueError where they do not fit together."""
        names = RewardConfig.__dataclass_fields__
        return RewardConfig(**{name: getattr(self, name) for name in names})

    @chz.validate
    def _check_train(self):
        positive(self, "group_size", "num_substeps", "num_epochs", "max_mismatch_kl")
        not_negative(self, "kl_coef")
        if not 0 < self.min_group_share <= 1:
            raise ValueError(f"min_group_share={self.min_group_share}: must be above 0 and at most 1")
        if self.group_size < 2:
            raise ValueError(f"group_size={self.group_size}: must be at least 2, or there is nothing to compare with")
        if self.num_substeps > self.batch_size:
            raise ValueError(f"num_substeps={self.num_substeps}: must be at most batch_size={self.batch_size}")
        if self.loss not in ("auto", *LOSSES):
            raise ValueError(f"loss={self.loss!r}: must be auto, {', '.join(LOSSES)}")
        if not LOSS_CONFIG[self.loss_fn] and (self.clip_low, self.clip_high) != (None, None):
            raise ValueError(
                f"clip_low={self.clip_low}, clip_high={self.clip_high}: {self.loss_fn} does not clip; set loss=ppo or "
                "loss=cispo"
            )
        if self.clips[0] >= self.clips[1]:
            raise ValueError(f"clip_low={self.clips[0]}: must be below clip_high={self.clips[1]}")
        self.reward_config()

    @property
    def loss_fn(self) -> str:
        """The loss by name: an unclipped ratio has no bound once the weights have moved."""
        reused = self.num_substeps * self.num_epochs > 1 or self.overlap
        return self.loss if self.loss != "auto" else "ppo" if reused else "importance_sampling"

    @property
    def clips(self) -> tuple[float, float]:
        """Bounds of the ratio; (0, inf) for the loss without."""
        known = LOSS_CONFIG[self.loss_fn]
        low = known.get("clip_low_threshold", 0.0) if self.clip_low is None else self.clip_low
        high = known.get("clip_high_threshold", math.inf) if self.clip_high is None else self.clip_high
        return low, high

    @property
    def loss_fn_config(self) -> dict[str, float] | None:
        """What goes with the loss to the engine."""
        if not LOSS_CONFIG[self.loss_fn]:
            return None
        return dict(zip(("clip_low_threshold", "clip_high_threshold"), self.clips, strict=True))


def default_log_path(command: str, model_name: str) -> str:
    """runs/<command>-<last part of the model's name>."""
    return f"runs/{command}-{model_name.rstrip('/').rsplit('/', 1)[-1]}"
