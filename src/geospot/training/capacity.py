"""Which models fit into a memory, and at which batch: for SFT, GRPO, an evaluation and a guess, by the engine's own
estimate of what each needs."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from geospot.engine.local.memory import Shape, needs
from geospot.engine.local.options import LocalOptions
from geospot.engine.workload import Batch, Workload
from geospot.models.known import KNOWN, KnownModel

Task = Literal["sft", "train", "eval", "guess"]
TASKS: tuple[Task, ...] = ("sft", "train", "eval", "guess")
BATCHES = (128, 64, 32, 16, 8, 4, 2, 1)  # pictures per step
RANK, GROUP = 32, 16
PROMPT, ANSWER = 384, 64  # tokens: a picture of 512 x 512 pixels with its question; the longest answer
LEAST_SAMPLED = 4096  # tokens in the caches of a sampling batch, where more do not fit
PROCESS = 1 << 30  # bytes that Python and the libraries take before the model does
_EVALUATED = 128  # prompts that an evaluation has in flight
_PICTURES = 64  # different ones whose features are kept


@dataclass(frozen=True)
class Fit:
    """The largest batch of a task that fits (0: none), the bytes that it needs (those of the smallest if none), and
    settings without which it would not."""

    batch: int
    n_bytes: int
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Capacity:
    """What of a model fits, task by task, with weights of a precision."""

    model: KnownModel
    dtype: str
    fits: dict[Task, Fit]

    @property
    def trains(self) -> bool:
        """Whether both stages of training fit."""
        return all(self.fits[task].batch for task in ("sft", "train"))


def capacities(
    available: int, dtypes: Sequence[str], models: Sequence[KnownModel] = KNOWN, device: str = "cuda"
) -> list[Capacity]:
    """For each model the first of the precisions in which most tasks fit into `available` bytes of a device."""
    found = []
    for model in models:
        each = [
            Capacity(model, dtype, {t: _largest(model, t, dtype, device, available) for t in TASKS}) for dtype in dtypes
        ]
        most = max(sum(fit.batch > 0 for fit in capacity.fits.values()) for capacity in each)
        fitting = [c for c in each if sum(fit.batch > 0 for fit in c.fits.values()) == most]
        found.append(fitting[0] if most else fitting[-1])
    return found


def _largest(model: KnownModel, task: Task, dtype: str, device: str, available: int) -> Fit:
    least = 0
    for batch in BATCHES if task in ("sft", "train") else (1,):
        for settings, most in (((), None), ((f"max_sample_tokens={LEAST_SAMPLED}",), LEAST_SAMPLED)):
            least = peak(model, task, batch, dtype, device, most)
            if least <= available:
                return Fit(batch, least, settings)
    return Fit(0, least)


def peak(
    model: KnownModel, task: Task, batch: int, dtype: str, device: str = "cuda", max_sample_tokens: int | None = None
) -> int:
    """Bytes at once of a task with an adapter of rank 32 (the tiny model: all weights); training evaluates, too."""
    options = LocalOptions(max_sample_tokens=max_sample_tokens or 0)
    trains = task in ("sft", "train")
    full = model.name.startswith("geospot/")
    trained = (model.parameters if full else model.adapter(RANK)) if trains else 0
    dtype = "float32" if full else dtype
    as_filed = dtype == "bfloat16" and device == "cpu"
    shape = replace(_shape(model, trained, full and trains), as_filed=as_filed, copies=not as_filed)
    return needs(shape, options, _work(task, batch), dtype=dtype, process=PROCESS).peak


def _work(task: Task, batch: int) -> Workload:
    """What a task asks for with that many pictures per step."""
    step = Batch(batch, PROMPT, ANSWER, GROUP if task in ("train", "guess") else 1)
    if task == "guess":
        return Workload((step,), pictures=1, picture_tokens=PROMPT)
    evaluation = Batch(_EVALUATED, PROMPT, ANSWER, greedy=True)
    sampling = {"sft": (evaluation,), "train": (step, evaluation), "eval": (evaluation,)}[task]
    trained = None if task == "eval" else step
    return Workload(sampling, trained, _PICTURES, PROMPT, keeps_sampler=task == "train", saves=task != "eval")


def _shape(model: KnownModel, trained: int, trains_base: bool) -> Shape:
    """The sizes that the estimate goes by."""
    sizes: dict[str, Any] = {
        "parameters": model.parameters, "decoder": model.decoder, "trained": trained, "trains_base": trains_base,
        "hidden": model.hidden, "inner": model.inner, "layers": model.layers, "heads": model.heads,
        "kv_heads": model.kv_heads, "head_dim": model.head_dim, "vocabulary": model.vocabulary,
        "seen": model.vision_hidden, "seen_inner": model.vision_inner,
        "kept": 0 if trains_base else model.hidden,
    }  # fmt: skip
    return Shape(**{field.name: sizes[field.name] for field in fields(Shape) if field.name in sizes})
