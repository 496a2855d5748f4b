"""Pictures that tests make."""

import io

import numpy as np


def jpeg(seed: int, width: int = 112, height: int = 112) -> bytes:
    """A picture of random soft blotches."""
    from PIL import Image

    blotches = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(blotches).resize((width, height), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    return out.getvalue()
