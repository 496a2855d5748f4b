"""Encoded pictures made ready for a model: read to the end, upright, RGB, within a budget of pixels.

Never mirrored: a mirrored street drives on the other side and its signs cannot be read.
"""

import io

from geospot.data.fields import BadSample
from geospot.data.heif import is_heif, register_heif
from geospot.errors import install_extra

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif")
MAX_ASPECT = 200  # Qwen-VL's image processors refuse a longer strip, in the middle of a step
MAX_DECODED_PIXELS = 90_000_000  # after a JPEG's draft mode; a larger one would take over 270 MB
JPEG_QUALITY = 92
_FORMATS = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png"}
_PLAIN = ("RGB", "L")


def prepare_picture(data: bytes, max_pixels: int | None = None, *, verify: bool = True) -> tuple[bytes, str]:
    """The picture's bytes and format ("jpeg" or "png"), encoded again only where something had to change.

    A picture of over `max_pixels` pixels is scaled down, one that EXIF turns is turned, other modes and formats become
    RGB JPEG. Raises BadSample where it cannot be read; `verify=False` does not decode one that needs no change.
    """
    from PIL import Image

    if is_heif(data) and not register_heif():
        raise BadSample("HEIC needs the extra heic", install_extra("heic"))
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            if max(width, height) > MAX_ASPECT * min(width, height):
                raise BadSample("picture too narrow", f"{width}x{height}")
            turn = _turn(image)
            small = max_pixels is None or width * height <= max_pixels
            if small and turn is None and image.format in _FORMATS and image.mode in _PLAIN:
                if verify:
                    _check_room(image)
                    image.load()
                return data, _FORMATS[image.format]
            if not small:
                scale = (max_pixels / (width * height)) ** 0.5
                size = max(1, int(width * scale)), max(1, int(height * scale))
                image.draft("RGB", (2 * size[0], 2 * size[1]))  # a JPEG is decoded at 1/2, 1/4 or 1/8 where that does
            _check_room(image)
            if image.mode.startswith("I"):  # 16 or 32 bits: convert would clip what is above 255
                image = image.convert("I").point(lambda value: value * (1 / 256))
            upright = image if image.mode == "RGB" else image.convert("RGB")
            if not small:
                upright = upright.resize(size, Image.Resampling.BICUBIC)
            if turn is not None:
                upright = upright.transpose(turn)
            out = io.BytesIO()
            upright.save(out, "JPEG", quality=JPEG_QUALITY)
            return out.getvalue(), "jpeg"
    except BadSample:
        raise
    except Image.DecompressionBombError as error:
        raise BadSample("picture too large", str(error)) from None
    except Exception as error:  # Pillow raises whatever it runs into in a damaged file
        raise BadSample("unreadable image", str(error)) from None


def _check_room(image) -> None:
    if image.width * image.height > MAX_DECODED_PIXELS:
        raise BadSample("picture too large", f"{image.width}x{image.height}")


def _turn(image):
    """How a picture must be turned to stand upright (a `PIL.Image.Transpose`), by its EXIF; None for not at all."""
    from PIL.Image import Transpose

    try:
        orientation = image.getexif().get(0x0112)
    except Exception:  # damaged EXIF, for which Pillow raises whatever it runs into: the pixels are still good
        return None
    turns = (Transpose.FLIP_LEFT_RIGHT, Transpose.ROTATE_180, Transpose.FLIP_TOP_BOTTOM, Transpose.TRANSPOSE)
    turns += (Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90)
    return dict(enumerate(turns, start=2)).get(orientation)
