"""A model in this process: its trainable tensors, and the forward passes that training and sampling share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache

from geospot.engine.local.inputs import Row, Tokens, micro_batches, pad, to_tokens
from geospot.engine.local.pictures import Pictures
from geospot.models.loading import load_model, load_processing

ATTENTION_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP_MODULES = ("gate_proj", "up_proj", "down_proj")
LORA_ALPHA = 32  # the service's choice: the learning rate means the same at every rank

# Log-softmax rows are recomputed in the backward pass rather than kept once their logits exceed this many numbers.
_KEPT_LOGITS = 1 << 26
_HEAD_ROWS = 4096


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


class Network:
    """Holds one copy of the base weights; `activate` puts one client's trainable tensors into it."""

    def __init__(self, spec: NetworkSpec, *, dtype: str, device: str, max_batch_tokens: int, cache_bytes: int):
        self.spec, self.device, self.max_batch_tokens = spec, device, max_batch_tokens
        self.processing = load_processing(spec.base_model)
        self.model = load_model(self.processing, dtype=dtype, device=device)
        self.trainable = self._make_trainable()
        self._base = {name: p.data for name, p in self.trainable.items()}
        vision_frozen = not any("visual" in name or "vision" in name for name in self.trainable)
        self.pictures = Pictures(self.model, self.processing, frozen=vision_frozen, cache_bytes=cache_bytes, batch=64)
        vocabulary = self.model.get_output_embeddings().weight.shape[0]
        self.ban = torch.zeros(vocabulary, device=device)
        self.ban[list(self.processing.banned_token_ids)] = -torch.inf

    def _make_trainable(self) -> dict[str, torch.nn.Parameter]:
        """Name -> parameter of what is trained; adds the LoRA layers."""
        if self.spec.frozen:
            return {}
        if self.spec.lora_rank == 0:
            self.model.requires_grad_(True)
        else:
            from peft import LoraConfig, inject_adapter_in_model

            with torch.random.fork_rng(devices=[]):
                inject_adapter_in_model(self._lora_config(LoraConfig), self.model)
        # LoRA matrices stay in float32 beside base weights of lower precision: their updates are too small for bf16.
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def _lora_config(self, config_class):
        spec = self.spec
        names = (ATTENTION_MODULES if spec.train_attn else ()) + (MLP_MODULES if spec.train_mlp else ())
        targets = [
            name
            for name, _ in self.model.named_modules()
            if name.rsplit(".", 1)[-1] in names and "visual" not in name and "vision" not in name
        ]
        if spec.train_unembed:
            targets.append("lm_head")
        if not targets:
            raise ValueError(
                f"LoRA finds none of {', '.join(names)} in a {self.model.config.model_type} model: "
                "only lora_rank=0 trains it"
            )
        return config_class(r=spec.lora_rank, lora_alpha=LORA_ALPHA, lora_dropout=0.0, target_modules=targets)

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
        return {name: torch.zeros_like(value) for name, value in self._base.items()}

    def activate(self, weights: dict[str, torch.Tensor]) -> None:
        """Let the model use these tensors, without copying them."""
        for name, parameter in self.trainable.items():
            parameter.data = weights[name].data

    def take_gradients(self, into: dict[str, torch.nn.Parameter]) -> None:
        """Move what the backward passes left in the model to the owner of the weights."""
        for name, parameter in self.trainable.items():
            if parameter.grad is not None:
                owner = into[name]
                owner.grad = parameter.grad if owner.grad is None else owner.grad + parameter.grad
        self.drop_gradients()

    def drop_gradients(self) -> None:
        """Forget what backward passes left in the model."""
        for parameter in self.trainable.values():
            parameter.grad = None

    def tokens(self, model_input) -> Tokens:
        """Write out a `ModelInput` (see `to_tokens`); raises ValueError for a token that the model does not have."""
        tokens = to_tokens(model_input, self.processing.image_token_id, self.pictures.count_tokens)
        if tokens.ids.min() < 0 or tokens.ids.max() >= len(self.ban):
            raise ValueError(f"a token of the prompt is outside the vocabulary of {len(self.ban)}")
        return tokens

    # -- forward passes -------------------------------------------------------------------------------------------

    def prefill(self, prefixes: Sequence[Tokens], ends: Sequence[int]):
        """Run each prefix `tokens.ids[:end]` once.

        Returns the hidden states (U, P, H) of the left-padded batch, its attention mask (U, P), its key-value cache
        and the next text position of each prefix (U,).
        """
        pairs = list(zip(prefixes, ends, strict=True))
        pad_id = self.processing.tokenizer.pad_token_id or 0
        ids, mask = pad([t.ids[:end] for t, end in pairs], pad_id, left=True)
        kinds, _ = pad([t.is_image[:end].astype(np.int64) for t, end in pairs], 0, left=True)
        pictures = [data for t in prefixes for data in t.pictures]
        cache = DynamicCache(config=self.model.config)
        inputs = {}
        if pictures:
            features, grid = self.pictures.encode(pictures)
            inputs = {"mm_encoder_outputs": {"image": features}, "image_grid_thw": grid}
        inner = self.model.model
        inner.rope_deltas = None  # of an earlier batch
        mask = mask.to(self.device)
        if not pictures:
            inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
        hidden = inner(
            input_ids=ids.to(self.device),
            attention_mask=mask,
            mm_token_type_ids=kinds.to(self.device),
            past_key_values=cache,
            use_cache=True,
            **inputs,
        ).last_hidden_state
        next_position = mask.sum(1)
        if pictures and getattr(inner, "rope_deltas", None) is not None:
            next_position = next_position + inner.rope_deltas.view(-1).to(self.device)
        return hidden, mask, cache, next_position

    def extend(self, ids, mask, positions, cache) -> torch.Tensor:
        """Hidden states (B, S, H) of tokens (B, S) behind a cache; mask (B, past + S), text positions (B, S)."""
        if getattr(self.model.model, "rope_deltas", None) is not None:
            positions = positions[None].expand(3, -1, -1)  # time, height, width agree on text
        return self.model.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        ).last_hidden_state

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(K, H) -> (K, V) float32 with the vision tokens banned."""
        return self.model.lm_head(hidden).float() + self.ban

    def _logprobs_of(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        def rows(h, t):
            return -F.cross_entropy(self.logits(h), t, reduction="none")

        out = []
        for h, t in zip(hidden.split(_HEAD_ROWS), targets.split(_HEAD_ROWS), strict=True):
            if torch.is_grad_enabled() and len(hidden) * len(self.ban) > _KEPT_LOGITS:
                out.append(checkpoint(rows, h, t, use_reentrant=False))
            else:
                out.append(rows(h, t))
        return torch.cat(out)

    def logprobs(self, rows: Sequence[Row]) -> torch.Tensor:
        """Log-probabilities (K,) of the targets at the scored positions of `rows`, row after row.

        A prefix that several rows share is run once, with gradient; only scored positions reach the vocabulary.
        """
        first: dict[tuple, int] = {}
        group = [first.setdefault(row.prefix_key, len(first)) for row in rows]
        heads = [rows[group.index(u)] for u in range(len(first))]
        hidden, mask, cache, next_position = self.prefill([r.tokens for r in heads], [r.split for r in heads])
        prefix_length = hidden.shape[1]
        select = torch.tensor(group, device=self.device)
        suffix_ids, suffix_mask = pad([r.tokens.ids[r.split :] for r in rows], 0, left=False)
        suffix_hidden = None
        if suffix_ids.shape[1]:
            cache.batch_select_indices(select)
            positions = next_position[select, None] + torch.arange(suffix_ids.shape[1], device=self.device)
            both = torch.cat([mask[select], suffix_mask.to(self.device)], 1)
            suffix_hidden = self.extend(suffix_ids.to(self.device), both, positions, cache)
        # One index for all rows: the gradient of a slice a row would be a tensor of zeros a row.
        flat = (
            hidden.flatten(0, 1)
            if suffix_hidden is None
            else torch.cat([hidden.flatten(0, 1), suffix_hidden.flatten(0, 1)])
        )
        suffix_length, index, targets = suffix_ids.shape[1], [], []
        for b, row in enumerate(rows):
            where = np.flatnonzero(row.scored)
            targets.append(row.targets[where])
            in_prefix = (group[b] + 1) * prefix_length - row.split + where
            in_suffix = len(heads) * prefix_length + b * suffix_length + where - row.split
            index.append(np.where(where < row.split, in_prefix, in_suffix))
        picked = flat[torch.from_numpy(np.concatenate(index)).to(self.device)]
        return self._logprobs_of(picked, torch.from_numpy(np.concatenate(targets)).to(self.device))

    def batches(self, rows: Sequence[Row]) -> Iterable[list[int]]:
        """Indices of the rows that have something to score, in micro-batches that fit the token budget."""
        useful = [i for i, row in enumerate(rows) if row.scored.any()]
        for batch in micro_batches([rows[i] for i in useful], self.max_batch_tokens):
            yield [useful[i] for i in batch]
