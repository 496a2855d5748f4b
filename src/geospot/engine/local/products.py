"""Matrix products with frozen weights where they are, and on a CPU with bfloat16 as this machine does them fastest.

Few processors multiply bfloat16 themselves. The others do it 10 times slower than float32, and 100 times slower where
the weight is not transposed, as in a gradient. So a block of the weight that fits into the cache is raised to float32,
multiplied, and forgotten: the weight stays as it is in its file, and no copy of it is kept.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from geospot.engine.local.activity import checkpoint

BLOCK = 1 << 20  # numbers of a weight that are raised at once: 4 MB
FEW = 4  # rows below which reading the weight is all that a product costs
LARGE = 100_000_000  # parameters of a model for which the machine is measured
_MARGIN = 1.5  # how much faster a way must be to be taken instead of the usual one: noise must not decide


@dataclass(frozen=True)
class Ways:
    """Which products raise the weight: of few rows, of many, and the gradient's, dy @ W."""

    few: bool = False
    many: bool = True
    back: bool = True


_ways = Ways()  # as on a processor without instructions for bfloat16


def settle(n_parameters: int) -> None:
    """Choose for this process, by measuring the machine once; a small model takes the usual ways."""
    global _ways
    if n_parameters >= LARGE:
        _ways = measure()


@cache
def measure(width: int = 768) -> Ways:
    """Measure both ways of each product on this machine, in about a quarter of a second; once a process."""
    x, weight = torch.randn(64, width).bfloat16(), torch.randn(width, width).bfloat16()

    def faster(run: Callable[[Ways], object], usual: bool) -> bool:
        seconds = {way: _seconds(lambda way=way: run(Ways(way, way, way))) for way in (False, True)}
        return (not usual) if seconds[not usual] * _MARGIN < seconds[usual] else usual

    return Ways(
        few=faster(lambda ways: _forward(x[:1], [weight], None, torch.bfloat16, ways), usual=False),
        many=faster(lambda ways: _forward(x, [weight], None, torch.bfloat16, ways), usual=True),
        back=faster(lambda ways: _backward(x[:8], [weight], ways), usual=True),
    )


def _seconds(run: Callable[[], object], times: int = 3) -> float:
    best = float("inf")
    for _ in range(times):
        started = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - started)
    return best


def is_slow(tensor: torch.Tensor) -> bool:
    """Whether products with this weight are done here: lower precision on a CPU."""
    return tensor.dtype == torch.bfloat16 and tensor.device.type == "cpu"


def product(
    x: torch.Tensor, weights: Sequence[torch.Tensor], bias: torch.Tensor | None = None, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """x (N, in) times each weight (out, in) transposed, side by side (N, sum of out), as `dtype` (None: of x)."""
    return _forward(x, weights, bias, dtype or x.dtype, _ways)


def product_back(dy: torch.Tensor, weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """dy (N, sum of out) times the weights (out, in) one above the other: (N, in), in float32."""
    return _backward(dy, weights, _ways)


def _forward(
    x: torch.Tensor, weights: Sequence[torch.Tensor], bias: torch.Tensor | None, dtype: torch.dtype, ways: Ways
) -> torch.Tensor:
    raised = ways.few if len(x) < FEW else ways.many
    if not is_slow(weights[0]) or (dtype == x.dtype and not raised):
        y = torch.cat([F.linear(x, weight) for weight in weights], 1) if len(weights) > 1 else F.linear(x, weights[0])
        return y if bias is None else y.add_(bias)
    y = torch.empty(len(x), sum(map(len, weights)), dtype=dtype)
    wide = x.float()
    for where, block in _raised(weights):
        part = wide @ block.T
        y[:, where] = part if bias is None else part.add_(bias[where])
    return y


def _backward(dy: torch.Tensor, weights: Sequence[torch.Tensor], ways: Ways) -> torch.Tensor:
    if not is_slow(weights[0]) or (not ways.back and dy.dtype == weights[0].dtype):
        return (dy @ (weights[0] if len(weights) == 1 else torch.cat(list(weights)))).float()
    dx = torch.zeros(len(dy), weights[0].shape[1])
    for where, block in _raised(weights):
        dx.addmm_(dy[:, where].float(), block)
    return dx


def _raised(weights: Sequence[torch.Tensor]) -> Iterator[tuple[slice, torch.Tensor]]:
    """(where in the output, float32 block (rows, in)), block by block in one place of memory."""
    width = weights[0].shape[1]
    rows = max(1, BLOCK // width)
    scratch = torch.empty(min(rows, max(map(len, weights))), width)
    start = 0
    for weight in weights:
        for first in range(0, len(weight), rows):
            checkpoint()
            source = weight[first : first + rows]
            block = scratch[: len(source)]
            block.copy_(source)
            yield slice(start + first, start + first + len(source)), block
        start += len(weight)


class _Frozen(torch.autograd.Function):
    """`product` with a gradient for x alone."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, bias: torch.Tensor | None, *weights: torch.Tensor) -> torch.Tensor:
        ctx.weights = weights
        return product(x, weights, bias)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (dy,) = grads
        return product_back(dy, ctx.weights).to(dy.dtype), None, *(None for _ in ctx.weights)


def frozen(x: torch.Tensor, weights: Sequence[torch.Tensor], bias: torch.Tensor | None = None) -> torch.Tensor:
    """`product` of x (..., in), differentiable in x."""
    flat = x.reshape(-1, x.shape[-1])
    flat = _Frozen.apply(flat, bias, *weights) if torch.is_grad_enabled() else product(flat, weights, bias)
    return flat.view(*x.shape[:-1], -1)


def use_in(model: nn.Module) -> None:
    """Let every linear layer of a frozen model multiply like this, in place: the vision tower's, and the decoder's
    where transformers runs it. Patch embeddings are linear layers, too (`models.loading.use_linear_patch_embed`)."""
    for module in model.modules():
        if isinstance(module, nn.Linear) and is_slow(module.weight):
            module.forward = MethodType(_linear, module)
        elif isinstance(getattr(module, "forward", None), MethodType) and "forward" in vars(module):
            proj = getattr(module, "proj", None)
            if isinstance(proj, nn.Conv3d) and is_slow(proj.weight):
                module.forward = MethodType(_patches, module)


def _linear(self: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    return frozen(x, [self.weight], self.bias)


def _patches(self: Any, patches: torch.Tensor) -> torch.Tensor:
    return frozen(patches.to(self.proj.weight.dtype).flatten(1), [self.proj.weight.flatten(1)], self.proj.bias)
