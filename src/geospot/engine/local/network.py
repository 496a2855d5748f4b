"""A model in this process: its trainable tensors, and the forward passes that training and sampling share."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from tinker import types

from geospot.engine.local import head, products
from geospot.engine.local.activity import checkpoint
from geospot.engine.local.decoder import Decoder, LayerWeights
from geospot.engine.local.embedding import Embedded, embed
from geospot.engine.local.fitting import TokenBudget
from geospot.engine.local.inputs import Row, Tokens, to_tokens
from geospot.engine.local.machine import resident_bytes
from geospot.engine.local.options import (
    LORA_ALPHA,
    MOST_BATCH_TOKENS,
    MOST_SAMPLE_TOKENS,
    PARTS,
    REST,
    LocalOptions,
    NetworkSpec,
)
from geospot.engine.local.parts import adaptable, part_of
from geospot.engine.local.pictures import LruBytes, Pictures, preprocessing_of
from geospot.engine.local.vision import use_batched_attention, use_checkpoints
from geospot.errors import ModelError
from geospot.models.loading import load_model, load_processing

if TYPE_CHECKING:
    from peft import LoraConfig

_PICTURES = 64  # that the vision tower takes at once
LIBRARIES = 200 << 20  # bytes that are loaded with the first model and the first passes
CUDA_CONTEXT = 600 << 20


class Base:
    """One copy of a model's weights, as it was published, and what is the same for all `Network`s that use it."""

    def __init__(self, base_model: str, options: LocalOptions, *, dtype: str):
        checkpoint(f"loading {base_model}")
        self.processing = load_processing(base_model)
        # What is there before the weights are, and what the tokenizer and torch's workspaces add to it.
        self.process_bytes = (resident_bytes() + LIBRARIES) if options.device == "cpu" else CUDA_CONTEXT
        self.model: Any = load_model(self.processing, dtype=dtype, device=options.device)
        use_batched_attention(self.model)
        use_checkpoints(self.model)
        if products.is_slow(next(self.model.parameters())):
            products.settle(sum(p.numel() for p in self.model.parameters()))
            products.use_in(self.model)
        self._prepare = preprocessing_of(self.model, self.processing)
        self._kept = LruBytes(options.picture_cache_bytes)  # of the frozen vision tower: one cache for all
        self.pictures = self.pictures_of(self.model, (), batch=1 if options.batch_invariant else _PICTURES)

    def pictures_of(self, model: Any, parts: Sequence[str], batch: int = _PICTURES) -> Pictures:
        """`Pictures` for a model of which these parts are not the base's."""
        return Pictures(model, self.processing, self._kept, parts=parts, batch=batch, prepare=self._prepare)

    @property
    def n_bytes(self) -> int:
        """What the weights take."""
        return sum(p.numel() * p.element_size() for p in self.model.parameters())

    def modules(self, *, own_parameters: bool) -> Any:
        """The model's modules once more, to be changed at will, around the same tensors.

        With `own_parameters` each parameter may be pointed at another tensor; otherwise one that is laid out anew, to
        stand side by side with others, is so for everybody.
        """
        memo: dict[int, Any] = {id(buffer): buffer for buffer in self.model.buffers()}
        for p in self.model.parameters():
            memo[id(p)] = torch.nn.Parameter(p.data, requires_grad=False) if own_parameters else p
        return copy.deepcopy(self.model, memo)


class Network:
    """A model's modules around the base weights; `activate` puts one client's trainable tensors into them."""

    def __init__(self, spec: NetworkSpec, options: LocalOptions, base: Base):
        self.spec, self.options, self.device = spec, options, options.device
        self.processing = base.processing
        trains_base = spec.lora_rank == 0 and not spec.frozen
        self.model = base.modules(own_parameters=trains_base)
        self.trainable = self._make_trainable()
        self._base = {name: p.data for name, p in self.trainable.items()} if trains_base else {}
        own_features = {"vision", "projector"} & {*spec.parts}
        self.pictures = base.pictures_of(self.model, spec.parts) if own_features else base.pictures
        self.vocabulary = self.model.get_input_embeddings().weight.shape[0]
        self.banned = torch.tensor(self.processing.banned_token_ids, device=self.device)
        self.decoder = Decoder.of(self.model) if options.fused_decoder else None
        self.process_bytes = base.process_bytes
        self.budget = TokenBudget(options.max_batch_tokens or MOST_BATCH_TOKENS)
        # Fewer once that has been too many for the memory.
        self.max_sample_tokens = options.max_sample_tokens or MOST_SAMPLE_TOKENS
        # Emptied, not only forgotten, before others are made: what sampled with them may not be collected yet.
        self.between: Callable[[], None] = lambda: None  # called between the parts of a long pass
        self._training_weights: list[LayerWeights] = []
        self._sampling_weights: list[LayerWeights] = []
        self._sampling_key: int | None = None

    def _make_trainable(self) -> dict[str, torch.nn.Parameter]:
        """Name -> parameter of what `spec.parts` names, held ones without a gradient; adds the LoRA layers."""
        if self.spec.frozen:
            return {}
        if self.spec.lora_rank == 0:
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(part_of(name) in self.spec.parts)
            self._check_parts({part_of(name) for name, p in self.model.named_parameters() if p.requires_grad})
        else:
            from peft import inject_adapter_in_model

            with torch.random.fork_rng(devices=[]):
                inject_adapter_in_model(self._lora_config(), self.model)
        # LoRA matrices stay in float32 beside base weights of lower precision: their updates are too small for bf16.
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        found = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        for name, parameter in found.items():
            parameter.requires_grad_(part_of(name) not in self.spec.held)
        return found

    def _lora_config(self) -> "LoraConfig":
        from peft import LoraConfig

        layers = adaptable(self.model)
        self._check_parts(set(layers.values()))
        targets = [name for name, part in layers.items() if part in self.spec.parts]
        return LoraConfig(r=self.spec.lora_rank, lora_alpha=LORA_ALPHA, lora_dropout=0.0, target_modules=targets)

    def _check_parts(self, found: set[str]) -> None:
        """ModelError for a part that the model lacks, unless all of it is trained."""
        spec, kind = self.spec, self.model.config.model_type
        missing = [part for part in spec.parts if part not in found]
        if not missing or (spec.lora_rank == 0 and REST in spec.parts):
            return
        if spec.lora_rank == 0 and "head" in missing:
            raise ModelError(
                f"lora_targets=head: the output layer of this {kind} model is its input embedding; leave head out, or "
                "put an adapter on it (lora_rank=32)"
            )
        has = ", ".join(part for part in PARTS if part in found) or "none"
        layers, other = ("tensors", "") if spec.lora_rank == 0 else ("known linear layers", "; lora_rank=0 trains it")
        raise ModelError(
            f"lora_targets={','.join(missing)}: a {kind} model has no {layers} there (it has {has}){other}"
        )

    def initial_weights(self, seed: int | None) -> dict[str, torch.Tensor]:
        """Fresh trainable tensors: for LoRA A is Kaiming-uniform from `seed` and B zero; else the base weights."""
        if self.spec.lora_rank == 0:
            return {name: value.clone() for name, value in self._base.items()}
        generator = torch.Generator()
        generator.manual_seed(seed if seed is not None else generator.seed())
        weights = {}
        for name, p in self.trainable.items():
            value = torch.zeros(p.shape)
            if ".lora_A." in name:
                # kaiming_uniform_(a=sqrt(5)), as in peft, from a generator of our own
                value.uniform_(-(p.shape[1] ** -0.5), p.shape[1] ** -0.5, generator=generator)
            weights[name] = value.to(p.device)
        return weights

    def base_weights(self) -> dict[str, torch.Tensor]:
        """Trainable tensors that leave the base model as it is."""
        if self.spec.lora_rank == 0:
            return self._base
        return {name: torch.zeros_like(p) for name, p in self.trainable.items()}

    def activate(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Let the model use these tensors, without copying them."""
        for name, parameter in self.trainable.items():
            parameter.data = weights[name].data
        self._training_weights.clear()

    def release(self) -> None:
        """Let go what was merged; it is made again when it is wanted."""
        self._training_weights.clear()
        self._sampling_weights.clear()

    def gradients(self, loss: torch.Tensor, into: dict[str, torch.Tensor]) -> None:
        """Add the gradient of a loss to `into`, by name: that of a pass that fails midway leaves nothing behind."""
        learning = {name: p for name, p in self.trainable.items() if p.requires_grad}
        found = torch.autograd.grad(loss, list(learning.values()), allow_unused=True)
        for name, gradient in zip(learning, found, strict=True):
            if gradient is not None:
                into[name] = gradient if name not in into else into[name].add_(gradient)

    def tokens(self, model_input: types.ModelInput) -> Tokens:
        """Write out a `ModelInput` (see `to_tokens`); raises ValueError for a token that the model does not have."""
        tokens = to_tokens(model_input, self.processing.image_token_id, self.pictures.count_tokens)
        if tokens.ids.min() < 0 or tokens.ids.max() >= self.vocabulary:
            raise ValueError(f"a token of the prompt is outside the vocabulary of {self.vocabulary}")
        if (limit := self.options.max_context) is not None and len(tokens) > limit:
            raise ValueError(f"{len(tokens)} tokens, pictures included: the context has {limit}")
        return tokens

    # -- forward passes -------------------------------------------------------------------------------------------

    def embed(self, prefixes: Sequence[Tokens], ends: Sequence[int]) -> Embedded:
        """The prefixes `tokens.ids[:end]` with their pictures, ready for the text decoder."""
        return embed(self.model, self.pictures, prefixes, ends, self.processing.tokenizer.pad_token_id or 0)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(K, H) -> (K, V) float32 with the vision tokens banned."""
        return head.logits(self.model.lm_head, hidden, self.banned)

    @property
    def training_weights(self) -> list[LayerWeights]:
        """The decoder's layers for a pass with the active weights; made once an activation.

        Those for sampling go first, so that there is one merged copy at a time: before sampling comes again there is
        an activation, and in a run nearly always another step's weights.
        """
        if not self._training_weights:
            self._sampling_weights.clear()
            assert self.decoder is not None
            self._training_weights += self.decoder.training_weights()
        return self._training_weights

    def sampling_weights(self, key: int) -> list[LayerWeights]:
        """The decoder's layers for sampling with the active weights, merged once for each `key`; the last are kept."""
        assert self.decoder is not None
        if not (self.options.merge_lora and self.decoder.merges):
            return self.training_weights
        if not self._sampling_weights or self._sampling_key != key:
            self._sampling_weights.clear()
            self._sampling_weights += self.decoder.sampling_weights()
            self._sampling_key = key
        return self._sampling_weights

    def in_batches(self, rows: Sequence[Row], work: Callable[[list[int]], None]) -> None:
        """Call `work` with the indices of rows that have something to score, in micro-batches that fit the memory."""
        self.budget.run(rows, [i for i, row in enumerate(rows) if not row.is_empty], work, self.between)
