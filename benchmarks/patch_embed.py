"""Patch embedding as a matrix product against transformers' Conv3d: forward and backward of 2,048 patches.

uv run python benchmarks/patch_embed.py
"""

import json
import platform
import time

import torch
from torch import nn

from geospot.progress import table

PATCHES, REPEATS = 2048, 4
SHAPES = ((14, 160), (28, 160), (14, 1280))  # pixels of a patch's side, width; the last is Qwen2.5-VL-3B's


def best_ms(run) -> float:
    """The least time of a few runs with their backward pass, milliseconds."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        run().sum().backward()
        times.append(time.perf_counter() - started)
    return 1000 * min(times)


def main() -> None:
    rows = []
    for patch, width in SHAPES:
        kernel = (2, patch, patch)
        conv = nn.Conv3d(3, width, kernel, kernel, bias=False)
        x = torch.randn(PATCHES, 3 * 2 * patch * patch)
        conv_ms = best_ms(lambda conv=conv, x=x, kernel=kernel: conv(x.view(PATCHES, 3, *kernel)))
        linear_ms = best_ms(lambda conv=conv, x=x: nn.functional.linear(x, conv.weight.flatten(1)))
        rows.append({"patch": patch, "width": width, "conv_ms": conv_ms, "linear_ms": linear_ms})
        rows[-1]["ratio"] = conv_ms / linear_ms
    print(table(rows))
    facts = {"device": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    print(json.dumps({"benchmark": "patch_embed", "peer": "torch.nn.Conv3d", **facts, "n": REPEATS, "rows": rows}))


if __name__ == "__main__":
    main()
