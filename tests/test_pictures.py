"""Encoded pictures made ready: the pixels are those of the photo, whatever its mode, format or size."""

import io

import numpy as np
import pytest
from PIL import Image

from geospot.data import pictures
from geospot.data.fields import BadSample
from geospot.data.pictures import prepare_picture


def photo(width: int, height: int) -> Image.Image:
    """Red above, and blue below at the left: no turn and no mirror image of it looks like it."""
    picture = Image.new("RGB", (width, height), (200, 200, 200))
    picture.paste((220, 20, 20), (0, 0, width, height // 2))
    picture.paste((20, 20, 220), (0, height // 2, width // 2, height))
    return picture


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def corners(data: bytes) -> list[str]:
    """The colours at the four corners, in words."""
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    words = []
    for y, x in ((2, 2), (2, -3), (-3, 2), (-3, -3)):
        red, green, blue = pixels[y, x]
        words.append("red" if red > green + 80 else "blue" if blue > green + 80 else "grey")
    return words


UPRIGHT = ["red", "red", "blue", "grey"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("max_pixels", [None, 1000])
def test_every_format_within_its_budget_and_not_mirrored(kind, max_pixels):
    data, name = prepare_picture(encoded(photo(80, 60), kind), max_pixels)
    image = Image.open(io.BytesIO(data))
    assert image.format == {"jpeg": "JPEG", "png": "PNG"}[name]
    assert corners(data) == UPRIGHT
    assert image.size == ((80, 60) if max_pixels is None else (36, 27))


def test_a_picture_that_is_good_as_it_is_keeps_its_bytes():
    for kind in ("JPEG", "PNG"):
        data = encoded(photo(80, 60), kind)
        assert prepare_picture(data, 4800)[0] is data


@pytest.mark.parametrize("mode", ["CMYK", "P", "RGBA", "LA"])
def test_other_modes_become_rgb(mode):
    data, name = prepare_picture(encoded(photo(80, 60).convert(mode), "JPEG" if mode == "CMYK" else "PNG"))
    assert (Image.open(io.BytesIO(data)).mode, name) == ("RGB", "jpeg")
    if mode != "LA":
        assert corners(data) == UPRIGHT


def test_sixteen_bits_a_pixel_are_not_clipped_to_white():
    grey = Image.fromarray(np.full((30, 40), 0x7F80, dtype=np.uint16))
    data, _ = prepare_picture(encoded(grey, "PNG"))
    assert np.abs(np.asarray(Image.open(io.BytesIO(data))).astype(int) - 127).max() <= 2


def test_heic_of_a_phone():
    heif = pytest.importorskip("pillow_heif")
    out = io.BytesIO()
    heif.from_pillow(photo(160, 120)).save(out)
    data, name = prepare_picture(out.getvalue(), 5000)
    assert name == "jpeg"
    assert corners(data) == UPRIGHT


def test_heic_without_its_extra_says_which(monkeypatch):
    monkeypatch.setattr(pictures, "register_heif", lambda: False)
    with pytest.raises(BadSample, match="extra heic"):
        prepare_picture(b"\0\0\0\x18ftypheic" + b"\0" * 50)


def test_the_pixels_of_draft_mode_are_those_of_the_photo():
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize((1600, 1200), Image.BICUBIC)
    data, _ = prepare_picture(encoded(smooth, "JPEG", quality=95), 160 * 120)
    expected = np.asarray(smooth.resize((160, 120), Image.BICUBIC)).astype(int)
    assert np.abs(np.asarray(Image.open(io.BytesIO(data))).astype(int) - expected).mean() < 3


@pytest.mark.parametrize(("kind", "decoded"), [("PNG", 16_000_000), ("JPEG", 1_000_000)])
def test_what_would_fill_the_memory_is_refused_where_it_must_be_decoded_whole(monkeypatch, kind, decoded):
    """The limit holds for the pixels that are computed: of a JPEG that is to be small, a fraction."""
    data = encoded(Image.new("RGB", (4000, 4000)), kind)
    monkeypatch.setattr(pictures, "MAX_DECODED_PIXELS", 2_000_000)
    if decoded > 2_000_000:
        with pytest.raises(BadSample, match="picture too large"):
            prepare_picture(data, 300 * 300)
    else:
        assert Image.open(io.BytesIO(prepare_picture(data, 300 * 300)[0])).size == (300, 300)
    with pytest.raises(BadSample, match="picture too large"):
        prepare_picture(data)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(monkeypatch):
    data = encoded(Image.new("1", (1000, 1000)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400_000)
    with pytest.raises(BadSample, match="picture too large"):
        prepare_picture(data, 1000)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_cut_off_pictures_are_unreadable(share, kind):
    data = encoded(photo(200, 150), kind, **({"lossless": True} if kind == "WEBP" else {}))
    with pytest.raises(BadSample, match="unreadable image"):
        prepare_picture(data[: int(share * len(data))])


def test_a_strip_is_refused():
    with pytest.raises(BadSample, match="too narrow: 3000x10"):
        prepare_picture(encoded(Image.new("RGB", (3000, 10)), "PNG"))
