"""What tests make: pictures, and patience."""

import io
import time
from collections.abc import Callable

import numpy as np


def jpeg(seed: int, width: int = 112, height: int = 112) -> bytes:
    """A picture of random soft blotches."""
    from PIL import Image

    blotches = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(blotches).resize((width, height), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    return out.getvalue()


def until(condition: Callable[[], object], what: str = "", deadline_s: float = 600.0) -> None:
    """Wait until the condition holds; AssertionError where it does not for longer than any machine would need."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, what or "it never came to that"
        time.sleep(0.01)
