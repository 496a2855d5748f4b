"""How the local engine uses the machine, and what of which model it trains."""

from dataclasses import dataclass

LORA_ALPHA = 32  # the service's choice: the learning rate means the same at every rank


@dataclass(frozen=True)
class LocalOptions:
    """Settings of `LocalServiceClient`."""

    checkpoint_dir: str = "checkpoints"  # where save_state and save_weights_for_sampler write
    dtype: str = "float32"  # of the frozen base weights
    device: str = "cpu"
    threads: int | None = None  # of torch on a CPU; None leaves torch's choice
    max_batch_tokens: int = 16_384  # padded tokens of one training pass; longer batches are split, with equal gradients
    max_sample_tokens: int = 131_072  # positions in the key-value caches of one sampling batch
    picture_cache_bytes: int = 1 << 30  # features of pictures, kept while the vision tower is frozen
    gradient_checkpointing: bool = False  # compute a layer's inner values again for the gradient: less memory, slower
    merge_lora: bool = True  # sample with the adapter merged into a copy of the weights
    batch_invariant: bool = False  # each request is sampled alone: the same to the bit, whoever asks beside it; slower
    compile: bool = False  # torch.compile the decoding step (CUDA graphs on a GPU)
    fused_decoder: bool = True  # run the decoder's layers here where they are known; else through transformers


@dataclass(frozen=True)
class NetworkSpec:
    """Which model, and what of it is trained. Two clients with equal specs share one model."""

    base_model: str
    lora_rank: int  # 0 trains all weights, the vision tower's too
    train_attn: bool = True
    train_mlp: bool = True
    train_unembed: bool = False

    @property
    def frozen(self) -> bool:
        """Nothing is trained: the base model as it is, for sampling."""
        return not (self.train_attn or self.train_mlp or self.train_unembed)
