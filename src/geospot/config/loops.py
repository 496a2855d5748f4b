"""What the two training loops are configured with."""

import math
from typing import Literal

import chz

from geospot.config.engine import EngineConfig, SourceConfig
from geospot.config.keys import not_negative, one_of, positive, topic
from geospot.curves import CURVES, TAU_CURVES
from geospot.data.splits import CellSplit
from geospot.engine.local.options import ALL, DEFAULT_PARTS, PARTS
from geospot.engine.losses import LOSS_CONFIG, OF_ANSWERS
from geospot.models.loading import is_tiny
from geospot.reward import TAU_SCHEDULES, RewardConfig
from geospot.runs.sinks import SINKS, check_sinks

_model, _data, _reward, _sampling = topic("Model"), topic("Data"), topic("Reward"), topic("Sampling")
_optim, _eval, _run, _cost = topic("Optimisation"), topic("Evaluation"), topic("Run folder"), topic("Cost estimate")

PRICES = ("price_prefill", "price_sample", "price_train")
LOSSES = OF_ANSWERS


@chz.chz
class LoopConfig(EngineConfig, SourceConfig):
    """What the two training loops share."""

    shuffle_buffer: int = _data(1000, "places in memory (encoded) from which the next one is drawn")
    open_shards: int = _data(4, "shards read at once, their samples interleaved")
    holdout_km: float = _data(1.0, "never train on a place nearer than this to a held-out place, km")
    train_places: int = _data(12_288, "pictures to make for data=bluemarble")
    zoom_km: float = _data(1000.0, "side length of a bluemarble picture, km on the ground")

    max_steps: int = _optim(100, "length of the run: optimizer steps (sft), rollout steps (train); more extends a run")
    schedule_steps: int | None = _optim(
        None,
        "steps over which the learning rate decays and the reward tightens; none: max_steps, so that a longer run "
        "stretches both; after them both stay as they are",
    )
    batch_size: int = _optim(128, "pictures per step")
    learning_rate: float | None = _optim(
        None,
        "peak learning rate of Adam; none: 2e-4 for sft, 4e-5 for train, a tenth of that with lora_rank=0 (tiny "
        "model: 1e-3, 3e-4)",
    )
    lr_schedule: Literal["constant", "linear", "cosine"] = _optim(
        "linear", "constant, or decay to 0 over the run: linear, cosine"
    )
    warmup_steps: int = _optim(5, "warm-up, steps; at most half the run")
    weight_decay: float = _optim(0.0, "AdamW's weight decay")
    grad_clip_norm: float = _optim(1.0, "clip the gradient to this L2 norm; 0: no clipping")
    lora_rank: int | None = _optim(None, "adapter rank; 0: train the weights themselves; none: 32 (tiny model: 0)")
    lora_targets: tuple[str, ...] | None = _optim(
        None,
        f"parts of the model that learn, any of {', '.join(PARTS)}; none: what the checkpoint trained, else "
        "attention,mlp (lora_rank=0: everything)",
    )
    train_vision: bool | None = _optim(
        None,
        "whether the vision tower learns; false: frozen, its features kept up to picture_cache_mb; none: as "
        "lora_targets says",
    )
    seed: int = _optim(0, "seed of the adapter, the data order and sampling")

    eval_data: str = _eval(
        "auto",
        "held-out source; auto: the eval and eval-far sets for bluemarble; cells: map cells held out of `data`; none: "
        "no evaluation",
    )
    eval_fraction: float = _eval(0.02, "share of the map cells held out, for eval_data=cells")
    cell_km: float = _eval(100.0, "side length of a map cell, km, for eval_data=cells")
    eval_places: int = _eval(512, "evaluate at most this many places per held-out set; 0: all")
    eval_every: int = _eval(50, "steps between evaluations; also before the first step and after the last")

    early_stop: int = _eval(
        0, "end after this many evaluations in a row without a better score on the first held-out set; 0: never"
    )
    on_collapse: Literal["warn", "stop"] = _eval(
        "warn",
        "where answers no longer depend on the pictures, lose their form or (train) have no signal: warn, or also end "
        "the run; docs/metrics.md has the signs",
    )

    log_path: str | None = _run(None, "run folder; none: runs/<command>-<model>")
    branch_from: str | None = _run(
        None,
        "or from=RUN: begin a new run where RUN (or RUN/checkpoints/STEP) is, with its configuration, overridden by "
        "the keys given; log_path then is RUN-branch",
    )
    log_to: tuple[str, ...] = _run((), f"also log to any of {', '.join(SINKS)}")
    resume: Literal["auto", "never", "must"] = _run(
        "auto", "auto: continue a run found in log_path; never: refuse to; must: refuse to start anew"
    )
    save_every: int = _run(1, "steps between checkpoints; 0: automatic, once a minute at most, and 5 % of the time")
    keep_checkpoints: int = _run(2, "newest checkpoints to keep; the final one always stays")
    checkpoint_ttl_days: float = _run(
        7.0, "days that a service keeps a checkpoint other than the final one; 0: no expiry"
    )

    price_prefill: float | None = _cost(None, "$ per million prompt tokens")
    price_sample: float | None = _cost(None, "$ per million sampled tokens")
    price_train: float | None = _cost(None, "$ per million trained tokens")

    @chz.validate
    def _check_loop(self):
        positive(self, "max_steps", "batch_size", "learning_rate", "train_places", "zoom_km", "cell_km", "eval_every")
        positive(self, "shuffle_buffer", "open_shards", "keep_checkpoints", "schedule_steps")
        not_negative(self, "warmup_steps", "weight_decay", "grad_clip_norm", "lora_rank", "eval_places", "save_every")
        for part in self.lora_targets or ():
            one_of("lora_targets", part, PARTS)
        if self.lora_targets == ():
            raise ValueError(f"lora_targets=: nothing would learn; name any of {', '.join(PARTS)}")
        if self.train_vision is False and "vision" in (self.lora_targets or ()):
            raise ValueError(
                f"train_vision=false, lora_targets={','.join(self.lora_targets or ())}: they contradict each other; "
                "leave vision out of lora_targets, or omit train_vision"
            )
        not_negative(self, "early_stop", "seed", "holdout_km", "checkpoint_ttl_days", *PRICES)
        if self.schedule_length < self.max_steps and self.lr_schedule != "constant":
            raise ValueError(
                f"schedule_steps={self.schedule_steps}, max_steps={self.max_steps}: lr_schedule={self.lr_schedule} "
                f"reaches 0 at step {self.schedule_steps}, and later steps would learn nothing; set "
                "lr_schedule=constant, or omit schedule_steps to stretch the schedules over the whole run"
            )
        if self.early_stop and self.eval_data == "none":
            raise ValueError(
                f"early_stop={self.early_stop}: eval_data=none leaves nothing to see a gain by; name held-out data, or "
                "leave early_stop out"
            )
        CellSplit(self.eval_fraction, self.cell_km, self.holdout_km if self.eval_data == "cells" else 0.0)
        for sink in self.log_to:
            one_of("log_to", sink, SINKS)
        try:
            check_sinks(self.log_to)
        except ImportError as error:
            raise ValueError(str(error)) from None

    @property
    def pictures_per_step(self) -> int:
        """How many pictures a step reads."""
        return self.batch_size

    @property
    def pools_lag(self) -> int | None:
        """By how many steps the results lag that a step's pictures are drawn by; None: they are drawn by none."""
        return None

    @property
    def schedule_length(self) -> int:
        """Steps over which the learning rate decays and the reward tightens."""
        return self.schedule_steps or self.max_steps

    @property
    def ttl_seconds(self) -> int | None:
        """How long a service keeps a checkpoint that is not final; it takes an hour or more, None is for good."""
        return max(3600, round(86_400 * self.checkpoint_ttl_days)) if self.checkpoint_ttl_days else None

    @property
    def rank(self) -> int:
        """The adapter's rank, or 0 where all weights are trained."""
        return (0 if is_tiny(self.model_name) else 32) if self.lora_rank is None else self.lora_rank

    @property
    def parts(self) -> tuple[str, ...] | None:
        """The parts of the model that learn; None where neither key says: as the checkpoint, or the engine, has it."""
        if self.lora_targets is None and self.train_vision is None:
            return None
        every = ALL if self.rank == 0 else DEFAULT_PARTS
        named = {*(self.lora_targets or every)} | ({"vision"} if self.train_vision else set())
        return tuple(part for part in ALL if part in named and (part != "vision" or self.train_vision is not False))


@chz.chz
class SftConfig(LoopConfig):
    """Supervised fine-tuning on true answers.

    geospot sft model_name=Qwen/Qwen2.5-VL-3B-Instruct data='shards/*.tar' max_steps=1000
    """

    checkpoint: str | None = _model(None, "run folder or checkpoint to start from; none: the model's own weights")
    decimals: int = _data(2, "decimal places of the target coordinates, 2 to 4 (0.01 degrees is 1.1 km)")

    @chz.validate
    def _check_sft(self):
        if not 2 <= self.decimals <= 4:
            raise ValueError(f"decimals={self.decimals}: must be 2, 3 or 4")
        if self.on_collapse == "stop" and self.eval_data == "none":
            raise ValueError(
                "on_collapse=stop: sft sees a collapse by its evaluations, and eval_data=none leaves it none; name "
                "held-out data, or leave on_collapse out"
            )


@chz.chz
class TrainConfig(LoopConfig):
    """GRPO with a reward that tightens over the run.

    geospot train model_name=Qwen/Qwen2.5-VL-3B-Instruct data='shards/*.tar' max_steps=100
    """

    checkpoint: str = _model(
        "auto", "run folder or checkpoint to start from; auto: the model's SFT run in runs/; none: the model itself"
    )

    reward_curve: str = _reward(
        RewardConfig.reward_curve,
        f"worth of a distance: {', '.join(CURVES)} ({', '.join(TAU_CURVES)} use tau), or module:function of your own, "
        "such as mycurves:steep for the function steep in mycurves.py in this folder",
    )
    tau_schedule: str = _reward(
        RewardConfig.tau_schedule,
        f"how tau moves from start to end: {', '.join(TAU_SCHEDULES)}, or adaptive: the running median distance of the "
        "run's own answers, never rising",
    )
    coord_tau_start: float = _reward(RewardConfig.coord_tau_start, "tau at the start, km")
    coord_tau: float = _reward(RewardConfig.coord_tau, "tau at the end, km")
    coord_weight_start: float = _reward(
        RewardConfig.coord_weight_start, "weight of the coordinates (reward_curve) at the start"
    )
    coord_weight: float = _reward(RewardConfig.coord_weight, "the same at the end; every weight moves linearly")
    hierarchy_weight_start: float = _reward(
        RewardConfig.hierarchy_weight_start, "weight of each of country, region, city at the start"
    )
    hierarchy_weight: float = _reward(
        RewardConfig.hierarchy_weight, "weight of each of country, region, city at the end"
    )
    format_weight: float = _reward(RewardConfig.format_weight, "reward of any answer that can be parsed")
    form_penalty: float = _reward(
        RewardConfig.form_penalty,
        "share of the reward that is for the form: what an answer loses for lines that it adds, repeats or leaves out",
    )

    group_size: int = _sampling(16, "answers per picture")
    oversample: float = _sampling(
        1.0,
        "ask about this many times batch_size pictures and learn from at most batch_size whose answers differ in "
        "reward, 1 or more",
    )
    difficulty_pools: bool = _sampling(
        False,
        "draw a picture less often, one time in four at least, where all its answers earned the same when it was asked "
        "about before; acts from the second epoch of the data on",
    )
    overlap: bool = _sampling(
        False, "request the next step's answers while the update is running: faster, one step off-policy"
    )
    min_group_share: float = _sampling(
        0.8, "share of the pictures per step that must be answered; requests that fail twice are dropped and counted"
    )

    num_substeps: int = _optim(1, "minibatches per pass over a step's answers, one optimizer step each")
    num_epochs: int = _optim(1, "passes over a step's answers; the sampler's log-probabilities stay fixed")
    loss: str = _optim("auto", f"one of {', '.join(LOSSES)}; auto: ppo if answers are reused or off-policy")
    clip_low: float | None = _optim(None, "lower clipping bound of the ratio; none: 0.8 (ppo), 0 (cispo)")
    clip_high: float | None = _optim(None, "upper clipping bound of the ratio; none: 1.2 (ppo), 4 (cispo)")
    divide_by_std: bool = _optim(False, "divide advantages by the group's standard deviation")
    leave_one_out: bool = _optim(False, "baseline: mean reward of the group's other answers")
    entropy_coef: float = _optim(
        0.0, "bonus on the entropy of the sampled tokens, reward per nat; none in a step without any signal"
    )
    kl_coef: float = _optim(0.0, "penalty on the KL divergence from the initial weights, reward per token")
    max_mismatch_kl: float = _optim(
        0.1, "stop if the KL between sampler and trainer exceeds this on a step's first minibatch"
    )

    def reward_config(self) -> RewardConfig:
        """The reward's knobs; ValueError where they do not fit together."""
        names = RewardConfig.__dataclass_fields__
        return RewardConfig(**{name: getattr(self, name) for name in names})

    @chz.validate
    def _check_train(self):
        positive(self, "group_size", "num_substeps", "num_epochs", "max_mismatch_kl")
        not_negative(self, "kl_coef", "entropy_coef")
        for name in ("kl_coef", "entropy_coef"):
            if not math.isfinite(value := getattr(self, name)):
                raise ValueError(f"{name}={value}: must be finite")
        if not 1 <= self.oversample < math.inf:
            raise ValueError(f"oversample={self.oversample}: must be 1 or above")
        one_of("loss", self.loss, ("auto", *LOSSES))
        if not 0 < self.min_group_share <= 1:
            raise ValueError(f"min_group_share={self.min_group_share}: must be above 0 and at most 1")
        if self.group_size < 2:
            raise ValueError(f"group_size={self.group_size}: must be at least 2; advantages compare answers in a group")
        if self.num_substeps > self.batch_size:
            raise ValueError(f"num_substeps={self.num_substeps}: must be at most batch_size={self.batch_size}")
        if "clip_low_threshold" not in LOSS_CONFIG[self.loss_fn] and (self.clip_low, self.clip_high) != (None, None):
            raise ValueError(
                f"clip_low={self.clip_low}, clip_high={self.clip_high}: {self.loss_fn} does not clip; set loss=ppo or "
                "loss=cispo"
            )
        if self.clips[0] >= self.clips[1]:
            raise ValueError(f"clip_low={self.clips[0]}: must be below clip_high={self.clips[1]}")
        self.reward_config()

    @property
    def pictures_per_step(self) -> int:
        """How many pictures a step reads and asks about."""
        return math.ceil(round(self.batch_size * self.oversample, 6))

    @property
    def pools_lag(self) -> int | None:
        """A step's pictures are read one step ahead, and with `overlap` asked about one step ahead of that."""
        return (3 if self.overlap else 2) if self.difficulty_pools else None

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
        clips = dict(zip(("clip_low_threshold", "clip_high_threshold"), self.clips, strict=True))
        return {key: clips.get(key, default) for key, default in LOSS_CONFIG[self.loss_fn].items()} or None


def default_log_path(command: str, model_name: str) -> str:
    """runs/<command>-<last part of the model's name>."""
    return f"runs/{command}-{model_name.rstrip('/').rsplit('/', 1)[-1]}"
