"""Linear layers of a text decoder read out of their modules: fused, with their LoRA, for training or for sampling."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from geospot.engine.local import products


class Part:
    """One `nn.Linear`, with its LoRA where peft put one, and the norm weight that its input is multiplied by."""

    def __init__(self, module: Any):
        self.module = module  # of torch or of peft
        base = getattr(module, "base_layer", module)
        if not isinstance(base, nn.Linear):
            raise TypeError(f"{type(base).__name__} is not a linear layer")
        self.base = base

    @property
    def lora(self) -> tuple[torch.Tensor, torch.Tensor, float] | None:
        """A (r, in), B (out, r) and the scale of B @ A; None without an adapter."""
        if self.base is self.module:
            return None
        [name] = self.module.active_adapters
        return self.module.lora_A[name].weight, self.module.lora_B[name].weight, self.module.scaling[name]

    @torch.no_grad()
    def merged(self, fold: torch.Tensor | None) -> torch.Tensor:
        """(out, in): the weight with its LoRA and, where given, the norm weight (in,) in front of it."""
        weight = self.base.weight
        if self.lora is None and fold is None:
            return weight
        total = weight.float()
        if self.lora is not None:
            a, b, scale = self.lora
            total = torch.addmm(total, b.float(), a.float(), alpha=scale)
        if fold is not None:
            total = total * fold.float()
        return total.to(weight.dtype)


class Linear:
    """Several linear layers with one input as one: (N, in) -> (N, sum of out)."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The layers' outputs side by side."""
        raise NotImplementedError

    def onto(self, total: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """total (N, sum of out) with the layers' outputs added, as a new tensor."""
        return total + self(x)

    def tensors(self) -> list[torch.Tensor]:
        """Those that are not the model's own parameters."""
        return []


class Plain(Linear):
    """As one matrix product, without gradients for the weights."""

    def __init__(self, parts: Sequence[Part], fold: torch.Tensor | None = None):
        as_it_is = fold is None and all(part.lora is None for part in parts)
        # A merged weight is a copy anyway: it is laid out (in, out), which a processor multiplies fastest.
        self.matrix = side_by_side(parts).T if as_it_is else _cat([part.merged(fold) for part in parts]).T.contiguous()
        self.bias = _bias(parts)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.matrix if self.bias is None else torch.addmm(self.bias, x, self.matrix)

    def onto(self, total: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return torch.addmm(total if self.bias is None else total + self.bias, x, self.matrix)

    def tensors(self) -> list[torch.Tensor]:
        return [self.matrix] if self.bias is None else [self.matrix, self.bias]


class AsFiled(Linear):
    """The layers' own weights, with no copy made of them: what a CPU does with frozen bfloat16 weights."""

    def __init__(self, parts: Sequence[Part]):
        self.weights, self.bias = [part.base.weight for part in parts], _bias(parts)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return products.frozen(x, self.weights, self.bias)


class Trained(Linear):
    """Trained themselves (or not at all, but without LoRA): torch's own gradients."""

    def __init__(self, parts: Sequence[Part]):
        self.parts = parts

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if len(self.parts) == 1:
            return F.linear(x, self.parts[0].base.weight, self.parts[0].base.bias)
        weight = torch.cat([part.base.weight for part in self.parts])
        return F.linear(x, weight, torch.cat([p.base.bias for p in self.parts]) if _has_bias(self.parts) else None)


class WithLora(Linear):
    """Frozen, with trained LoRA, fused.

    In float32 the adapter is merged: one matrix product forward, one backward, and thin ones for A and B. In lower
    precision the weights would swallow the adapter's small numbers, so it is added to the layer's output instead
    (and `fold` is not allowed: it would round the weights once more); on a CPU that is done in float32, and the weights
    are used where they are.
    """

    def __init__(self, parts: Sequence[Part], fold: torch.Tensor | None = None):
        self.fold = fold
        self.is_merged = parts[0].base.weight.dtype == torch.float32
        self.as_filed = [part.base.weight for part in parts] if products.is_slow(parts[0].base.weight) else []
        if not self.as_filed:
            self.weight = _cat([part.merged(fold) for part in parts]) if self.is_merged else side_by_side(parts)
        self.bias = _bias(parts)
        self.sizes = [part.base.out_features for part in parts]
        self.adapted = {i: lora for i, part in enumerate(parts) if (lora := part.lora) is not None}

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return _LoraLinear.apply(x, self, *(m for part in self.adapted.values() for m in part[:2]))

    def tensors(self) -> list[torch.Tensor]:
        return [*([] if self.as_filed else [self.weight]), *([] if self.bias is None else [self.bias])]

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """x W' + bias, without what is not merged."""
        return products.product(x, self.as_filed, self.bias) if self.as_filed else F.linear(x, self.weight, self.bias)

    def product_back(self, dy: torch.Tensor) -> torch.Tensor:
        """dy W."""
        return products.product_back(dy, self.as_filed) if self.as_filed else dy @ self.weight


class _LoraLinear(torch.autograd.Function):
    """y = x W' + scale x A' B', with gradients for x, A and B alone; nothing but x is kept for them."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: WithLora, *matrices: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, *matrices)
        ctx.layer = layer
        y = layer.product(x)
        if not layer.is_merged:
            thin = x.float() if layer.as_filed else x
            for out, a, b, scale in _adapters(layer, matrices):
                xa = thin @ _cast(a, layer.fold, thin).T
                if layer.as_filed:
                    y[:, out] += (scale * xa) @ b.T
                else:
                    y[:, out].addmm_(xa, b.to(x.dtype).T, alpha=scale)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (dy,) = grads
        x, *matrices = ctx.saved_tensors
        layer = ctx.layer
        dx, dtype = (layer.product_back(dy) if ctx.needs_input_grad[0] else None), x.dtype
        if layer.as_filed:
            x, dy = x.float(), dy.float()
        adapters = _adapters(layer, matrices)
        stacked = torch.cat([_cast(a, layer.fold, x) for _, a, _, _ in adapters])  # thin products, all at once
        xa = x @ stacked.T
        # B of all parts in one product: the zeros between them cost less than a product with a slice of dy each would.
        each = {out.start: scale * b for out, _, b, scale in adapters}
        starts = accumulate(layer.sizes[:-1], initial=0)
        blocks = [each.get(at, dy.new_zeros(n, 0)) for at, n in zip(starts, layer.sizes, strict=True)]
        dxa = dy @ torch.block_diag(*blocks).to(dy.dtype)
        if dx is not None and not layer.is_merged:
            dx.addmm_(dxa, stacked)
        da = (dxa.T @ x).to(matrices[0].dtype)
        if layer.fold is not None:
            da = da * layer.fold
        found, row = [], 0
        for out, a, _, scale in adapters:
            r = len(a)
            found += [da[row : row + r], (scale * (xa[:, row : row + r].T @ dy[:, out])).T.to(a.dtype)]
            row += r
        return None if dx is None else dx.to(dtype), None, *found


def _adapters(
    layer: WithLora, matrices: Sequence[torch.Tensor]
) -> list[tuple[slice, torch.Tensor, torch.Tensor, float]]:
    """(where in the output, A, B, scale) of each adapted part."""
    ends = torch.tensor([0, *layer.sizes]).cumsum(0).tolist()
    return [
        (slice(ends[i], ends[i + 1]), matrices[2 * j], matrices[2 * j + 1], scale)
        for j, (i, (_, _, scale)) in enumerate(layer.adapted.items())
    ]


def _cast(a: torch.Tensor, fold: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    return (a if fold is None else a * fold).to(like.dtype)


@torch.no_grad()
def side_by_side(parts: Sequence[Part]) -> torch.Tensor:
    """The weights (sum of out, in) of layers as one tensor, of which the layers' own then are views: no second copy."""
    weights = [part.base.weight for part in parts]
    step, address = weights[0].element_size(), weights[0].data_ptr()
    for weight in weights:
        if weight.data_ptr() != address or not weight.is_contiguous():
            break
        address += weight.numel() * step
    else:
        if (
            weights[0].untyped_storage().nbytes() - weights[0].storage_offset() * step
            >= address - weights[0].data_ptr()
        ):
            return weights[0].detach().as_strided((sum(map(len, weights)), weights[0].shape[1]), weights[0].stride())
    fused, row = torch.cat(weights), 0
    for weight in weights:
        weight.data = fused[row : row + len(weight)]
        row += len(weight)
    return fused


def _cat(weights: list[torch.Tensor]) -> torch.Tensor:
    return weights[0] if len(weights) == 1 else torch.cat(weights)


def _has_bias(parts: Sequence[Part]) -> bool:
    return parts[0].base.bias is not None


def _bias(parts: Sequence[Part]) -> torch.Tensor | None:
    return _cat([part.base.bias for part in parts]).detach() if _has_bias(parts) else None
