"""Patch embedding as the matrix product it is."""

from types import MethodType

import torch
from torch import nn


def use_linear_patch_embed(model: nn.Module) -> nn.Module:
    """Let Qwen-VL's patch embeddings run as a linear layer, in place; returns the model.

    Transformers writes them as a Conv3d whose kernel is as large as its input, which torch runs several times slower on
    a CPU (benchmarks/patch_embed.py). Weights, names and results (to rounding) stay as they are.
    """
    for module in model.modules():
        proj = getattr(module, "proj", None)
        if (
            type(module).__name__.endswith("PatchEmbed")
            and isinstance(proj, nn.Conv3d)
            and proj.kernel_size == proj.stride
        ):
            module.forward = MethodType(_forward, module)
    return model


def _forward(self, patches: torch.Tensor) -> torch.Tensor:
    """(n_patches, channels * time * height * width) -> (n_patches, dim)."""
    weight = self.proj.weight
    return nn.functional.linear(patches.to(weight.dtype).flatten(1), weight.flatten(1), self.proj.bias)
