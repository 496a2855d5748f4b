"""The text decoder of a vision-language model, run on packed tokens: what training and sampling spend their time in.

Transformers' own code loads the model, encodes pictures and builds the embeddings and positions of a prompt; from
there on the layers are run here, where the members of a group share their prefix, layers are fused and nothing is
padded. That holds for decoders built like Llama's and Qwen's (`Decoder.of` looks at the modules and then compares
numbers); any other runs through transformers' own forward (`network`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from geospot.engine.local import products
from geospot.engine.local.activity import checkpoint as may_stop
from geospot.engine.local.linear import AsFiled, Linear, Part, Plain, Trained, WithLora
from geospot.engine.local.ops import Rope, gated, rms_norm, rotate, split_rotate, turned
from geospot.engine.local.packing import Packing

_TEXT_MODEL = {"embed_tokens", "layers", "norm", "rotary_emb"}
_LAYER = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
_MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}


@dataclass
class LayerWeights:
    """One layer's matrices as functions; a norm weight is None where it is folded into the matrix behind it."""

    qkv: Linear
    o: Linear
    gate_up: Linear
    down: Linear
    norm_in: torch.Tensor | None
    norm_mlp: torch.Tensor | None

    def tensors(self) -> list[torch.Tensor]:
        """The matrices' tensors."""
        return [t for linear in (self.qkv, self.o, self.gate_up, self.down) for t in linear.tensors()]


class Angles:
    """Rotary angles of one token of each of C blocks of M rows, as `turned` takes them."""

    def __init__(self, cos: torch.Tensor, sin: torch.Tensor, shape: tuple[int, int]):
        """cos, sin: (C M, D)."""
        self.shape = shape
        first, second = sin.chunk(2, -1)
        of_rows = [part.view(shape[0], 1, shape[1], -1) for part in (cos, -first, second)]
        self.of_keys = tuple(of_rows)  # (C, 1, M, D), (C, 1, M, D / 2) twice
        self.of_queries = tuple(part.unsqueeze(3) for part in of_rows)


class Decoder:
    """Runs the layers of one model's text decoder. Made by `Decoder.of`."""

    def __init__(self, text_model: Any):
        self.text_model = text_model  # transformers' own: what its modules hold no type says
        attention = text_model.layers[0].self_attn
        self.head_dim = attention.head_dim
        self.scaling = attention.scaling
        self.kv_heads = Part(attention.k_proj).base.out_features // self.head_dim
        self.heads = Part(attention.q_proj).base.out_features // self.head_dim
        self.eps = text_model.norm.variance_epsilon
        self.act = text_model.layers[0].mlp.act_fn
        self.is_silu = text_model.config.hidden_act in ("silu", "swish")
        self.three_axes = hasattr(text_model.rotary_emb, "mrope_section")
        layers = [m for m in text_model.layers.modules() if isinstance(m, nn.Linear)]
        weight = Part(attention.o_proj).base.weight
        self.is_large = sum(m.weight.numel() for m in layers) >= products.LARGE
        adapted = any("lora_" in name for name, _ in text_model.layers.named_parameters())
        # Where an adapter can be merged; slow products hide what it costs to add it to the outputs instead.
        self.merges = not products.is_slow(weight)
        # A copy with everything merged is for adapters, and for small matrices, where a product fewer counts.
        self.as_filed = not self.merges or (self.is_large and not adapted and weight.device.type == "cpu")

    @classmethod
    def of(cls, model: nn.Module) -> "Decoder | None":
        """The decoder of a transformers model, or None where this code does not compute what the model's own does."""
        text_model = getattr(getattr(model, "model", None), "language_model", None)
        if text_model is None or not _is_known(text_model):
            return None
        decoder = cls(text_model)
        return decoder if decoder._agrees() else None

    @torch.no_grad()
    def _agrees(self) -> bool:
        """Whether a few tokens come out as transformers has them, to rounding; of a large model in two layers."""
        if self.is_large:
            every, self.text_model.layers = self.layers, self.layers[:2]
            try:
                return self._computes_the_same()
            finally:
                self.text_model.layers = every
        return self._computes_the_same()

    def _computes_the_same(self) -> bool:
        table = self.text_model.embed_tokens.weight
        ids = torch.arange(12, device=table.device) * 7919 % len(table)
        want = self.text_model(input_ids=ids[None], use_cache=False).last_hidden_state[0].float()
        x, n = self.text_model.embed_tokens(ids), len(ids)
        rope = self.rope(x, torch.arange(n, device=x.device))
        packing = Packing.of([n], [], [], x.device)
        got = self.final_norm(self.run(self.training_weights(), x, rope, packing)).float()
        tolerance = 1e-4 if table.dtype == torch.float32 else 0.05
        return bool((got - want).norm() <= tolerance * want.norm())

    # -- weights --------------------------------------------------------------------------------------------------

    def training_weights(self) -> list[LayerWeights]:
        """What a forward and backward pass uses: gradients reach whatever in the model requires them.

        To be made anew when the trained tensors have changed.
        """

        def linear(parts: list[Part], fold: torch.Tensor | None = None) -> Linear:
            if any(part.base.weight.requires_grad for part in parts):
                return Trained(parts)
            if any(part.lora for part in parts):
                return WithLora(parts, fold)
            return AsFiled(parts) if self.as_filed else Plain(parts, fold)

        # A norm can be folded into a matrix only where both stay as they are.
        return [
            self._layer(layer, linear, fold=not (self.as_filed or any(p.requires_grad and "lora_" not in n for n, p in
                        layer.named_parameters())))
            for layer in self.layers
        ]  # fmt: skip

    @torch.no_grad()
    def sampling_weights(self) -> list[LayerWeights]:
        """For passes without gradients: a copy with everything merged and folded, or the weights where they are."""
        if not self.as_filed:
            return [self._layer(layer, Plain, fold=True) for layer in self.layers]
        if not self.merges:
            return self.training_weights()
        return [self._layer(layer, AsFiled, fold=False) for layer in self.layers]

    @property
    def layers(self) -> Any:
        """The model's own layers."""
        return self.text_model.layers

    @staticmethod
    def _layer(layer: Any, linear: Callable[..., Linear], *, fold: bool) -> LayerWeights:
        attention, mlp = layer.self_attn, layer.mlp
        norm_in, norm_mlp = layer.input_layernorm.weight, layer.post_attention_layernorm.weight
        # In lower precision a folded weight would be rounded once more.
        fold = fold and norm_in.dtype == torch.float32
        folds = (norm_in.detach(), norm_mlp.detach()) if fold else (None, None)

        def parts(module: nn.Module, *names: str) -> list[Part]:
            return [Part(getattr(module, name)) for name in names]

        return LayerWeights(
            qkv=linear(parts(attention, "q_proj", "k_proj", "v_proj"), folds[0])
            if fold
            else linear(parts(attention, "q_proj", "k_proj", "v_proj")),
            o=linear(parts(attention, "o_proj")),
            gate_up=linear(parts(mlp, "gate_proj", "up_proj"), folds[1])
            if fold
            else linear(parts(mlp, "gate_proj", "up_proj")),
            down=linear(parts(mlp, "down_proj")),
            norm_in=None if fold else norm_in,
            norm_mlp=None if fold else norm_mlp,
        )

    # -- pieces of a layer ----------------------------------------------------------------------------------------

    def rope(self, x: torch.Tensor, positions: torch.Tensor) -> Rope:
        """cos and sin (N, 1, D) of text positions (N,), or of positions (3, N) in time, height and width."""
        if positions.ndim == 1 and self.three_axes:
            positions = positions.expand(3, -1)
        positions = positions[:, None] if positions.ndim == 2 else positions[None]
        cos, sin = self.text_model.rotary_emb(x, positions)
        return cos[0, :, None], sin[0, :, None]

    def project(self, i: int, w: LayerWeights, x: torch.Tensor, rope: Rope) -> tuple[torch.Tensor, ...]:
        """Queries (N, heads, D) and keys and values (N, kv_heads, D) of layer i for hidden states x (N, H)."""
        qkv = w.qkv(rms_norm(x, w.norm_in, self.eps)).view(len(x), -1, self.head_dim)
        own = self.layers[i].self_attn
        if hasattr(own, "q_norm"):
            q, k, v = qkv.split((self.heads, self.kv_heads, self.kv_heads), 1)
            q = rms_norm(q, own.q_norm.weight, own.q_norm.variance_epsilon)
            k = rms_norm(k, own.k_norm.weight, own.k_norm.variance_epsilon)
            return rotate(q, *rope), rotate(k, *rope), v
        return split_rotate(qkv, rope, self.heads, self.kv_heads)

    def project_blocks(self, i: int, w: LayerWeights, x: torch.Tensor, angles: Angles) -> tuple[torch.Tensor, ...]:
        """The same for one token of each of C blocks of M rows, x (C M, H), without gradients.

        Queries (C, kv_heads, M, heads each, D), keys and values (C, kv_heads, M, D).
        """
        qkv = w.qkv(rms_norm(x, w.norm_in, self.eps)).view(*angles.shape, -1, self.head_dim)
        q, k, v = qkv.split((self.heads, self.kv_heads, self.kv_heads), 2)
        own = self.layers[i].self_attn
        if hasattr(own, "q_norm"):
            q = rms_norm(q, own.q_norm.weight, own.q_norm.variance_epsilon)
            k = rms_norm(k, own.k_norm.weight, own.k_norm.variance_epsilon)
        q = q.unflatten(2, (self.kv_heads, -1)).transpose(1, 2)
        return turned(q, *angles.of_queries), turned(k.transpose(1, 2), *angles.of_keys), v.transpose(1, 2)

    def finish(self, w: LayerWeights, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """The layer's output: x (N, H) with what attention (N, heads, D) and the MLP add."""
        x = w.o.onto(x, attended.reshape(len(x), -1))
        return w.down.onto(x, gated(self.act, self.is_silu, w.gate_up(rms_norm(x, w.norm_mlp, self.eps))))

    def final_norm(self, x: torch.Tensor) -> torch.Tensor:
        """What the vocabulary projection takes."""
        return rms_norm(x, self.text_model.norm.weight, self.eps)

    # -- a packed pass --------------------------------------------------------------------------------------------

    def run(
        self,
        weights: Sequence[LayerWeights],
        x: torch.Tensor,
        rope: Rope,
        packing: Packing,
        *,
        deepstack: tuple[torch.Tensor, Sequence[torch.Tensor]] | None = None,
        keep: Callable[[int, torch.Tensor, torch.Tensor], None] | None = None,
        checkpointing: bool = False,
    ) -> torch.Tensor:
        """Hidden states (N, H) before the last norm, of packed tokens x (N, H): all prefixes, then all suffixes.

        deepstack: indices (M,) of the picture tokens and what is added to them (M, H) behind each of the first layers.
        keep(i, k, v) is shown the keys and values (N, kv_heads, D) of every layer. With `checkpointing` a layer's
        inner values are computed again for the gradient rather than kept.
        """

        def layer(i: int, w: LayerWeights, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.project(i, w, x, rope)
            if keep is not None:
                keep(i, k, v)
            x = self.finish(w, x, packing.attention(q, k, v, self.scaling))
            if deepstack is not None and i < len(deepstack[1]):
                x = x.index_add(0, deepstack[0], deepstack[1][i].to(x.dtype))
            return x

        for i, w in enumerate(weights):
            may_stop(f"{'a training' if torch.is_grad_enabled() else 'a forward'} pass, layer", i + 1, len(weights))
            x = checkpoint(layer, i, w, x, use_reentrant=False) if checkpointing else layer(i, w, x)
        return x


def _is_known(text_model: Any) -> bool:
    """Whether the modules are those of a Llama: pre-norm, rotary embedding, gated MLP, full causal attention."""

    def children(module: nn.Module) -> set[str]:
        return {name for name, _ in module.named_children()}

    kinds = getattr(text_model.config, "layer_types", None) or ["full_attention"]
    return (
        children(text_model) == _TEXT_MODEL
        and set(kinds) == {"full_attention"}
        and hasattr(text_model.norm, "variance_epsilon")
        and all(
            children(layer) == _LAYER
            and children(layer.self_attn) in (_ATTENTION, _ATTENTION | {"q_norm", "k_norm"})
            and children(layer.mlp) == _MLP
            and hasattr(layer.self_attn, "scaling")
            for layer in text_model.layers
        )
    )
