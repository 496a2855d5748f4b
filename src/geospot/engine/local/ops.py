"""The element-wise steps of a decoder layer with gradients written out: each reads and writes its tensors once or
twice, where torch's own gradients of the same formulas keep and pass over many more."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from geospot.engine.local.activity import checkpoint

Rope = tuple[torch.Tensor, torch.Tensor]  # cos and sin of the rotary angles


class _RmsNorm(torch.autograd.Function):
    """y = x / r with r = sqrt(mean(x^2) + eps); dx = (dy - y mean(dy y)) / r."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, eps: float) -> torch.Tensor:
        inverse = _inverse_rms(x, eps)
        y = x * inverse
        ctx.save_for_backward(y, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        checkpoint("a training pass, the gradient's way back")
        (dy,), (y, inverse) = grads, ctx.saved_tensors
        along = (dy * y).mean(-1, keepdim=True)
        return torch.addcmul(dy, y, along, value=-1).mul_(inverse), None


def _inverse_rms(x: torch.Tensor, eps: float) -> torch.Tensor:
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.addcmul(norm.new_full((), eps), norm, norm, value=1 / x.shape[-1]).rsqrt_()


def rms_norm(x: torch.Tensor, weight: torch.Tensor | None, eps: float) -> torch.Tensor:
    """x / rms(x) * weight over the last axis; the root mean square is taken in float32."""
    wide = x.float()
    y = _RmsNorm.apply(wide, eps) if torch.is_grad_enabled() else wide * _inverse_rms(wide, eps)
    x = y.to(x.dtype)
    return x if weight is None else x * weight


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding of x (N, heads, D) by angles (N, 1, D) whose halves are equal."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


def turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
    """The same into `out`, without gradients."""
    half = x.shape[-1] // 2
    torch.mul(x, cos, out=out)
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return out


def turned(x: torch.Tensor, cos: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """The same as a new contiguous tensor, without gradients; `low` is the first half of -sin, `high` the other of sin:
    a step of sampling cuts them once for all layers."""
    first, second = x.chunk(2, -1)
    if torch.compiler.is_compiling():  # the compiler fuses the plain formula, and does not take `out`
        ahead, behind = cos.chunk(2, -1)
        return torch.cat((first * ahead + second * low, second * behind + first * high), -1)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    torch.mul(x, cos, out=out)
    out_first, out_second = out.chunk(2, -1)
    out_first.addcmul_(second, low)
    out_second.addcmul_(first, high)
    return out


class _SplitRotate(torch.autograd.Function):
    """Queries, keys and values out of one projection, the first two rotated; the gradient goes back into one tensor."""

    @staticmethod
    def forward(
        ctx: Any, qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, heads: int, kv_heads: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(cos, sin)
        qk = turn(qkv[:, : heads + kv_heads], cos, sin, out=qkv.new_empty(len(qkv), heads + kv_heads, qkv.shape[2]))
        return qk[:, :heads], qk[:, heads:], qkv[:, heads + kv_heads :].clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        (dq, dk, dv), (cos, sin) = grads, ctx.saved_tensors
        heads, both = dq.shape[1], dq.shape[1] + dk.shape[1]
        out = dq.new_empty(len(dq), both + dv.shape[1], dq.shape[2])
        turn(dq, cos, -sin, out=out[:, :heads])  # a rotation's transpose turns back
        turn(dk, cos, -sin, out=out[:, heads:both])
        out[:, both:] = dv
        return out, None, None, None, None


def split_rotate(qkv: torch.Tensor, rope: Rope, heads: int, kv_heads: int) -> tuple[torch.Tensor, ...]:
    """(N, heads + 2 kv_heads, D) -> queries (N, heads, D), keys and values (N, kv_heads, D), the first two rotated."""
    if torch.is_grad_enabled():
        return _SplitRotate.apply(qkv, *rope, heads, kv_heads)
    qk, v = qkv.split((heads + kv_heads, kv_heads), 1)
    return *rotate(qk, *rope).split((heads, kv_heads), 1), v


class _GatedSilu(torch.autograd.Function):
    """silu(gate) * up from (N, 2 F)."""

    @staticmethod
    def forward(ctx: Any, gate_up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate_up)
        out = gate_up.new_empty(len(gate_up), gate_up.shape[1] // 2)
        for rows in _in_cache(gate_up):
            gate, up = gate_up[rows].chunk(2, -1)
            torch.mul(F.silu(gate), up, out=out[rows])
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        (dy,), (gate_up,) = grads, ctx.saved_tensors
        out = torch.empty_like(gate_up)
        for rows in _in_cache(gate_up):
            gate, up = gate_up[rows].chunk(2, -1)
            d_gate, d_up = out[rows].chunk(2, -1)
            torch.mul(dy[rows], F.silu(gate), out=d_up)
            torch.ops.aten.silu_backward.grad_input(dy[rows] * up, gate, grad_input=d_gate)
        return out


def _in_cache(x: torch.Tensor) -> list[slice]:
    """Rows (N, F) in blocks that a core's cache holds through several operations; on a GPU all at once."""
    step = max(1, len(x) if x.is_cuda else 2**18 // x.shape[1])
    return [slice(start, start + step) for start in range(0, len(x), step)]


def gated(act: nn.Module, is_silu: bool, gate_up: torch.Tensor) -> torch.Tensor:
    """act(gate) * up from (N, 2 F)."""
    if torch.is_grad_enabled() and is_silu:
        return _GatedSilu.apply(gate_up)
    gate, up = gate_up.chunk(2, -1)
    return act(gate) * up
