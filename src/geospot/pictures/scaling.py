"""Encoded pictures made ready for a model: upright, RGB, within a budget of pixels, without metadata.

Never mirrored: a mirrored street drives on the other side and its signs cannot be read.
"""

import io
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from geospot.errors import BadSample
from geospot.pictures.bare import bare
from geospot.pictures.reading import MAX_ASPECT, draft, load, open_image, read_exif

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage
    from PIL.Image import Transpose

Format = Literal["jpeg", "png"]

# What is transparent lies on white, as browsers, viewers and printers show it: the picture that its owner knows. The
# colours behind a transparent pixel are whatever the last program left there.
PAPER = "white"
JPEG_QUALITY = 92
# A JPEG is decoded at 1/2, 1/4 or 1/8 where that leaves this many times the wanted width and height: less than half of
# the time for 2048 x 1536, and a third or less of what is changed by encoding the result (benchmarks/decode.py).
OVERSAMPLING = 1.25
_AS_THEY_ARE: dict[str | None, Format] = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png"}
_PLAIN = ("RGB", "L")
_ORIENTATION = 0x0112


def prepare_picture(data: bytes, max_pixels: int | None = None, *, verify: bool = True) -> tuple[bytes, Format]:
    """The picture's bytes and format ("jpeg" or "png"), encoded again only where its pixels had to change.

    A picture of over `max_pixels` pixels is scaled down, one that EXIF turns is turned, what is transparent is laid on
    white, other modes and formats become RGB JPEG. Metadata goes. What this returns it returns unchanged when asked
    again. Raises BadSample where it cannot be read; `verify=False` does not decode one whose pixels stay.
    """
    with open_image(data) as image:
        size = fitted_size(*image.size, max_pixels)
        if _stays(image, size):
            if verify:
                load(image)
            return bare(data), _AS_THEY_ARE[image.format]
        upright = _upright(image, size)
        out = io.BytesIO()
        upright.save(out, "JPEG", quality=JPEG_QUALITY)
        return out.getvalue(), "jpeg"


def _stays(image: "PillowImage", size: tuple[int, int]) -> bool:
    return (
        image.format in _AS_THEY_ARE
        and image.mode in _PLAIN
        and image.size == size
        and not image.has_transparency_data
        and _turn(image) is None
    )


def fitted_size(width: int, height: int, max_pixels: int | None) -> tuple[int, int]:
    """(width, height) within a budget of pixels, in proportion; a strip stays within MAX_ASPECT when it is rounded."""
    if max_pixels is None or width * height <= max_pixels:
        return width, height
    scale = (max_pixels / (width * height)) ** 0.5
    width, height = max(1, int(width * scale)), max(1, int(height * scale))
    longest = max(1, min(MAX_ASPECT * min(width, height), max_pixels // min(width, height)))
    return min(width, longest), min(height, longest)


def thumbnail(data: bytes, side: int, quality: int = 85) -> bytes:
    """A small JPEG for a page, upright and without metadata; BadSample where the picture cannot be read."""
    with open_image(data) as image:
        scale = min(1.0, side / max(image.size))
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        small = _upright(image, size)
        out = io.BytesIO()
        small.save(out, "JPEG", quality=quality)
        return out.getvalue()


def _upright(image: "PillowImage", size: tuple[int, int]) -> "PillowImage":
    """The decoded picture at this size (as it is stored, before it is turned), in RGB, upright."""
    from PIL import Image

    small = size != image.size
    if small:
        draft(image, "RGB", (round(OVERSAMPLING * size[0]), round(OVERSAMPLING * size[1])))
    load(image)
    turn = _turn(image)  # behind `load`, which turns a TIFF by itself
    flat = _flat(image)
    if small:
        flat = flat.resize(size, Image.Resampling.BICUBIC)
    if turn is not None:
        flat = flat.transpose(turn)
    flat.info.clear()  # Pillow would write a comment of the old file into the new one
    return flat


def _flat(image: "PillowImage") -> "PillowImage":
    """8 bits a channel, RGB, what is transparent on white."""
    from PIL import Image

    if image.mode.startswith("I"):
        image = _eight_bits(image)
    elif image.mode == "F":
        raise BadSample("unreadable image", "its pixels are floating-point numbers; save it with 8 or 16 bits")
    if image.has_transparency_data:
        paper = Image.new("RGB", image.size, PAPER)
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        paper.paste(image, mask=image)
        return paper
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: "PillowImage") -> "PillowImage":
    """Grey of 16 bits (which Pillow may hold in 32) by its upper 8: `convert` would clip what is above 255."""
    from PIL import Image

    values = np.asarray(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise BadSample("unreadable image", "its pixels have 32 bits; save it with 8 or 16")
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    if (key := image.info.get("transparency")) is not None:
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return grey


def _turn(image: "PillowImage") -> "Transpose | None":
    """How a picture must be turned to stand upright, by its EXIF or XMP; None for not at all."""
    from PIL.Image import Transpose

    try:
        orientation = read_exif(image).get(_ORIENTATION)
    except BadSample:
        raise
    except Exception:  # damaged EXIF, for which Pillow raises whatever it runs into: the pixels are still good
        return None
    turns = (Transpose.FLIP_LEFT_RIGHT, Transpose.ROTATE_180, Transpose.FLIP_TOP_BOTTOM, Transpose.TRANSPOSE)
    turns += (Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90)
    return dict[Any, Transpose](enumerate(turns, start=2)).get(orientation)
