"""How the local engine uses the machine (options, device, processes), and what of which model it trains."""

import os
from collections.abc import Collection
from dataclasses import dataclass

from geospot.errors import EngineError, ModelError

MAX_CONTEXT = 32_768  # tokens that a server takes of a prompt with its answer
MOST_BATCH_TOKENS, MOST_SAMPLE_TOKENS = 16_384, 131_072  # that automatic limits are lowered from
LORA_ALPHA = 32  # the service's choice: the learning rate means the same at every rank
PARTS = ("attention", "mlp", "projector", "vision", "head")  # of a model, that may learn or stay as they are
REST = "rest"  # embeddings and norms of the text decoder: only where all weights are trained
ALL = (*PARTS, REST)
DEFAULT_PARTS = ("attention", "mlp")  # that have adapters


@dataclass(frozen=True)
class LocalOptions:
    """Settings of `LocalServiceClient`."""

    checkpoint_dir: str = "checkpoints"  # where save_state and save_weights_for_sampler write
    dtype: str = "float32"  # of the frozen base weights; auto: see `memory.dtype_for`
    device: str = "cpu"
    threads: int | None = None  # of torch on a CPU; None leaves torch's choice
    # 0: automatic (see `memory.fitted`), at most 16,384 and 131,072.
    max_batch_tokens: int = 0  # padded tokens of one training pass; longer batches are split, with equal gradients
    max_sample_tokens: int = 0  # positions in the key-value caches of one sampling batch
    picture_cache_bytes: int = 1 << 30  # features of pictures, kept while the vision tower is frozen
    gradient_checkpointing: bool = False  # compute a layer's inner values again for the gradient: less memory, slower
    merge_lora: bool = True  # sample with the adapter merged into a copy of the weights
    batch_invariant: bool = False  # each request is sampled alone: the same to the bit, whoever asks beside it; slower
    compile: bool = False  # torch.compile the decoding step (CUDA graphs on a GPU)
    skip_unweighted: bool = False  # report 0 for positions without weight or advantage, which is faster
    max_context: int | None = None  # tokens of the longest prompt or datum that is taken
    takes_turns: bool = False  # sampling in slices between other work, for several clients; their batches then mix
    fused_decoder: bool = True  # run the decoder's layers here where they are known; else through transformers


@dataclass(frozen=True)
class NetworkSpec:
    """Which model, and what of it is trained. Two clients with equal specs share one model."""

    base_model: str
    lora_rank: int  # 0: no adapter, the weights of `parts` are trained themselves
    parts: tuple[str, ...] = DEFAULT_PARTS  # of ALL, in its order: what differs from the base model
    held: tuple[str, ...] = ()  # those of `parts` that stay as the checkpoint of an earlier stage has them

    @classmethod
    def of(cls, base_model: str, lora_rank: int, parts: Collection[str], held: Collection[str] = ()) -> "NetworkSpec":
        """With the parts in their order; ValueError for one that there is not."""
        if unknown := sorted({*parts, *held} - {*ALL}):
            raise ValueError(f"part {unknown[0]!r}: must be one of {', '.join(PARTS)}")
        return cls(base_model, lora_rank, *(tuple(p for p in ALL if p in given) for given in ({*parts, *held}, held)))

    @property
    def frozen(self) -> bool:
        """Nothing is trained: the base model as it is, for sampling."""
        return not self.parts

    @property
    def sdk_flags(self) -> dict[str, bool]:
        """Which parts have adapters, in the SDK's words, which know of no vision tower."""
        names = {"train_unembed": "head", "train_mlp": "mlp", "train_attn": "attention"}
        return {flag: part in self.parts for flag, part in names.items()}


def resolve_device(wanted: str) -> str:
    """The device behind "auto"; ModelError for a GPU that is not there. Of several processes each has its own GPU."""
    import torch

    gpus, size = torch.cuda.device_count(), team_size()
    if wanted == "cpu" or (wanted == "auto" and not gpus):
        return "cpu"
    if not gpus:
        raise ModelError(f"device={wanted}: torch sees no GPU here; device=cpu works everywhere")
    _, _, number = wanted.partition(":")
    if size > 1:
        if number:
            raise ModelError(f"device={wanted}: all {size} processes would share it; set device=cuda, a GPU for each")
        if int(number := os.environ["LOCAL_RANK"]) >= gpus:
            raise ModelError(
                f"device={wanted}: no GPU for process {number} (from 0) of this machine, torch sees {gpus}; set "
                f"--nproc-per-node {gpus}, or device=cpu"
            )
        return f"cuda:{number}"
    if number and int(number) >= gpus:
        raise ModelError(f"device={wanted}: torch sees {gpus} GPUs, from cuda:0; the last is cuda:{gpus - 1}")
    return "cuda" if wanted == "auto" else wanted


def team_size() -> int:
    """How many processes torchrun or accelerate started for this command; EngineError where they cannot meet."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if size > 1 and missing:
        raise EngineError(
            f"WORLD_SIZE={size} without {', '.join(missing)}: start with torchrun, which sets them all, or unset "
            "WORLD_SIZE for one process"
        )
    return size


def is_follower() -> bool:
    """Whether this process stands beside a first one, which runs the command."""
    return team_size() > 1 and int(os.environ["RANK"]) > 0
