"""Encoded pictures made ready: the pixels are those of the photo, whatever its mode, format or size."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import odd_files
from PIL import Image, PngImagePlugin

from geospot.errors import BadSample
from geospot.pictures import (
    MAX_ASPECT,
    carries_position,
    decode_image,
    fitted_size,
    image_size,
    position_in_xmp,
    position_of,
    prepare_picture,
    read_file,
    read_header,
    read_position,
    reading,
    thumbnail,
)


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


@pytest.mark.parametrize("mode", ["CMYK", "P", "RGBA", "LA", "1"])
def test_other_modes_become_rgb(mode):
    data, name = prepare_picture(encoded(photo(80, 60).convert(mode), "JPEG" if mode == "CMYK" else "PNG"))
    assert (Image.open(io.BytesIO(data)).mode, name) == ("RGB", "jpeg")
    if mode not in ("LA", "1"):
        assert corners(data) == UPRIGHT


def pixels_of(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


@pytest.mark.parametrize(("kind", "dtype"), [("PNG", "uint16"), ("TIFF", "uint16"), ("TIFF", "int32")])
@pytest.mark.parametrize("value", [0, 200, 0x7F80, 0xFFFF])
def test_sixteen_bits_a_pixel_are_scaled_and_not_clipped(kind, dtype, value):
    grey = Image.fromarray(np.full((30, 40), value, dtype=dtype))
    data, _ = prepare_picture(encoded(grey, kind))
    assert np.abs(pixels_of(data) - (value >> 8)).max() <= 2


def test_sixteen_bits_with_a_transparent_grey():
    values = np.full((30, 40), 0x2000, dtype=np.uint16)
    values[:, 20:] = 0x9000
    data, _ = prepare_picture(encoded(Image.fromarray(values), "PNG", transparency=0x9000))
    assert np.abs(pixels_of(data)[:, 4:12] - 0x20).max() <= 3
    assert pixels_of(data)[:, 28:].min() >= 252


@pytest.mark.parametrize(
    ("pixels", "says"),
    [(np.full((30, 40), 0.5, np.float32), "floating-point"), (np.full((30, 40), 1 << 20, np.int32), "32 bits")],
)
def test_pixels_whose_range_nobody_knows_are_refused(pixels, says):
    with pytest.raises(BadSample, match=says):
        prepare_picture(encoded(Image.fromarray(pixels), "TIFF"))


def see_through(mode: str) -> Image.Image:
    """Green at the left, nothing at the right, where the colours left behind are black."""
    image = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
    image.paste((0, 128, 0, 255), (0, 0, 20, 30))
    if mode == "half":
        image.paste((0, 0, 0, 128), (20, 0, 40, 30))
    if mode == "P":
        palette = Image.new("P", (40, 30), 1)
        palette.putpalette([0, 128, 0, 0, 0, 0])
        palette.paste(0, (0, 0, 20, 30))
        return palette
    if mode == "RGB":
        return Image.alpha_composite(Image.new("RGBA", (40, 30), "black"), image).convert("RGB")
    return image.convert(mode) if mode == "LA" else image


@pytest.mark.parametrize(
    ("mode", "kind", "options", "right"),
    [
        ("RGBA", "PNG", {}, 255),
        ("half", "PNG", {}, 127),
        ("LA", "PNG", {}, 255),
        ("RGB", "PNG", {"transparency": (0, 0, 0)}, 255),
        ("P", "PNG", {"transparency": 1}, 255),
        ("P", "GIF", {"transparency": 1}, 255),
        ("RGBA", "WEBP", {"lossless": True, "exact": True}, 255),
        ("RGBA", "TIFF", {}, 255),
    ],
)
@pytest.mark.parametrize("max_pixels", [None, 300])
def test_what_is_transparent_lies_on_white(mode, kind, options, right, max_pixels):
    data, name = prepare_picture(encoded(see_through(mode), kind, **options), max_pixels)
    pixels = pixels_of(data)
    width = pixels.shape[1]
    assert name == "jpeg"
    assert np.abs(pixels[:, : width // 4] - ([75] * 3 if mode == "LA" else [0, 128, 0])).max() <= 12
    assert np.abs(pixels[:, -width // 4 :] - right).max() <= 4


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_picture_is_taken(kind):
    later = [Image.new("RGB", (80, 60), "green"), Image.new("RGB", (80, 60), "black")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(photo(80, 60), kind, save_all=True, append_images=later, **options)
    prepared, _ = prepare_picture(data)
    assert corners(prepared) == UPRIGHT
    assert getattr(Image.open(io.BytesIO(prepared)), "n_frames", 1) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_format_is_turned_once(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    undo = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM}
    undo |= {5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE}
    undo[8] = Image.Transpose.ROTATE_270
    stored = photo(80, 60)
    if orientation > 1:
        stored = stored.transpose(undo[orientation])
    stored = encoded(stored, kind, exif=exif)
    for max_pixels in (None, 1200):
        data, _ = prepare_picture(stored, max_pixels)
        assert corners(data) == UPRIGHT
        assert Image.open(io.BytesIO(data)).size == ((80, 60) if max_pixels is None else (40, 30))
        assert prepare_picture(data, max_pixels)[0] is data
    assert corners(thumbnail(stored, 40)) == UPRIGHT


def test_a_png_whose_orientation_stands_behind_its_pixels():
    exif = Image.Exif()
    exif[0x0112] = 3
    png = encoded(photo(80, 60).transpose(Image.Transpose.ROTATE_180), "PNG", exif=exif)
    start = png.index(b"eXIf") - 4
    chunk = png[start : start + 12 + int.from_bytes(png[start : start + 4], "big")]
    data, _ = prepare_picture(png.replace(chunk, b"")[:-12] + chunk + png[-12:])
    assert corners(data) == UPRIGHT


def described(kind: str) -> bytes:
    """A photo that says where and by whom it was taken, in every way of its format."""
    exif = Image.Exif()
    exif[0x010F] = "SECRET camera"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 30.0), 3: "E", 4: (2.0, 17.0, 40.0)})
    options = {"exif": exif, "icc_profile": b"SECRET profile" * 9}
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_text("Comment", "SECRET")
        text.add_itxt("XML:com.adobe.xmp", "<SECRET/>")
        return encoded(photo(80, 60), "PNG", pnginfo=text, **options) + b"SECRET behind it"
    if kind == "MPO":
        return encoded(photo(80, 60), "MPO", save_all=True, append_images=[Image.new("RGB", (20, 20))], **options)
    return encoded(photo(80, 60), "JPEG", comment=b"SECRET", xmp=b"<SECRET/>", **options) + b"\xff\xe1SECRET film"


@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG"])
def test_metadata_goes_and_pixels_stay(kind):
    data = described(kind)
    assert b"SECRET" in data
    bare, _ = prepare_picture(data)
    assert b"SECRET" not in bare
    assert b"Exif" not in bare
    np.testing.assert_array_equal(pixels_of(bare), pixels_of(data))
    assert prepare_picture(bare)[0] is bare
    for max_pixels in (None, 1000):  # and nothing of it comes along where a picture is written anew
        turned = encoded(Image.open(io.BytesIO(data)).convert("CMYK"), "JPEG", comment=b"SECRET")
        assert b"SECRET" not in prepare_picture(turned, max_pixels)[0]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 1}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_kind_of_jpeg_keeps_its_pixels(options, mode):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (61, 83, 3), dtype=np.uint8)).convert(mode)
    data = encoded(noise, "JPEG", comment=b"SECRET", exif=b"Exif\0\0SECRET", **options)
    bare, _ = prepare_picture(data + b"tail" * 99)
    assert b"SECRET" not in bare
    assert bare.endswith(b"\xff\xd9")
    np.testing.assert_array_equal(pixels_of(bare), pixels_of(data))


def test_a_damaged_jpeg_decodes_as_it_did():
    rng = np.random.default_rng(0)
    whole = encoded(photo(200, 150), "JPEG", comment=b"a comment", exif=b"Exif\0\0 maker")
    kept = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for at in rng.integers(2, len(whole), 3):
            damaged[at] = rng.integers(0, 256)
        try:
            bare, form = prepare_picture(bytes(damaged))
        except BadSample:
            continue
        if form == "jpeg" and pixels_of(bytes(damaged)).shape == pixels_of(bare).shape == (150, 200, 3):
            kept += 1
            np.testing.assert_array_equal(pixels_of(bare), pixels_of(bytes(damaged)))
    assert kept > 100


@pytest.mark.parametrize(
    ("stored", "budget", "decoded"),
    [((800, 600), 7500, (200, 150)), ((800, 600), 320 * 240, (400, 300)), ((800, 600), 321 * 241, (800, 600)),
     ((2048, 1536), 512 * 512, (1024, 768)), ((1400, 1050), 512 * 512, (1400, 1050))],
)  # fmt: skip
def test_a_jpeg_is_decoded_at_the_fraction_that_leaves_a_quarter_more_than_is_wanted(stored, budget, decoded):
    """Bicubic from there, written as JPEG of quality 92: the pixels that checkpoints are trained on."""
    rng = np.random.default_rng(0)
    soft = Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)).resize(stored)
    data, size = encoded(soft, "JPEG"), fitted_size(*stored, budget)
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", decoded)
    assert image.size == decoded
    out = io.BytesIO()
    image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(out, "JPEG", quality=92)
    assert prepare_picture(data, budget) == (out.getvalue(), "jpeg")


# -- what is accepted fits


sizes = st.integers(1, 70_000)


@given(sizes, sizes, st.none() | st.integers(1, 2_000_000))
def test_a_size_that_is_accepted_stays_acceptable(width, height, max_pixels):
    if max(width, height) > MAX_ASPECT * min(width, height):
        return
    small = fitted_size(width, height, max_pixels)
    assert min(small) >= 1
    assert max(small) <= MAX_ASPECT * min(small)
    assert max_pixels is None or small[0] * small[1] <= max(max_pixels, 1)
    assert fitted_size(*small, max_pixels) == small


@pytest.mark.parametrize(
    ("size", "small"),
    [
        ((41, 8190), (36, 7200)),
        ((19900, 100), (7200, 36)),
        ((800, 600), (591, 443)),
        ((1, 200), (1, 200)),
        ((70_000, 400), (6773, 38)),
    ],
)
def test_sizes_by_hand(size, small):
    assert fitted_size(*size, 512 * 512) == small


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 5000), st.sampled_from(["PNG", "JPEG"]))
def test_a_picture_that_is_accepted_is_left_alone_the_second_time(width, height, max_pixels, kind):
    data = encoded(Image.new("RGB", (width, height)), kind)
    if max(width, height) > MAX_ASPECT * min(width, height):
        with pytest.raises(BadSample, match="too narrow"):
            prepare_picture(data, max_pixels)
        return
    prepared, _ = prepare_picture(data, max_pixels)
    assert image_size(prepared) == fitted_size(width, height, max_pixels)
    assert prepare_picture(prepared, max_pixels)[0] is prepared
    assert decode_image(prepared).shape == (*image_size(prepared)[::-1], 3)


def test_heic_of_a_phone():
    heif = pytest.importorskip("pillow_heif")
    out = io.BytesIO()
    heif.from_pillow(photo(160, 120)).save(out)
    data, name = prepare_picture(out.getvalue(), 5000)
    assert name == "jpeg"
    assert corners(data) == UPRIGHT


def test_heic_without_its_extra_says_which(monkeypatch):
    monkeypatch.setattr(reading, "register_heif", lambda: False)
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
    monkeypatch.setattr(reading, "MAX_DECODED_PIXELS", 2_000_000)
    if decoded > 2_000_000:
        with pytest.raises(BadSample, match="picture too large"):
            prepare_picture(data, 300 * 300)
    else:
        assert Image.open(io.BytesIO(prepare_picture(data, 300 * 300)[0])).size == (300, 300)
    with pytest.raises(BadSample, match="picture too large"):
        prepare_picture(data)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_a_decompression_bomb_is_refused_by_its_header(monkeypatch, kind):
    data = encoded(Image.new("L", (1000, 1000)), kind)
    monkeypatch.setattr(reading, "MAX_DECODED_PIXELS", 400_000)
    for read in (prepare_picture, image_size, decode_image, read_header, read_position, lambda d: thumbnail(d, 99)):
        with pytest.raises(BadSample, match="picture too large: 1000x1000"):
            read(data[: len(data) // 2] if kind in ("PNG", "BMP") else data)


def test_a_large_jpeg_is_read_at_a_fraction_where_that_takes_a_fraction_of_the_memory(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)  # Pillow's own limit, which knows of no fractions
    monkeypatch.setattr(reading, "MAX_DECODED_PIXELS", 200_000)
    plain, progressive = (encoded(photo(1000, 800), "JPEG", progressive=p) for p in (False, True))
    assert corners(prepare_picture(plain, 10_000)[0]) == UPRIGHT
    assert corners(thumbnail(plain, 100)) == UPRIGHT
    for data, max_pixels in ((progressive, 10_000), (plain, None)):
        with pytest.raises(BadSample, match="picture too large"):
            prepare_picture(data, max_pixels)
    monkeypatch.setattr(reading, "MAX_STORED_PIXELS", 500_000)
    with pytest.raises(BadSample, match="picture too large"):
        prepare_picture(plain, 10_000)


# -- what is none


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "unreadable image: it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "Git LFS pointer: run git lfs"),
        (b"/annex/objects/SHA256E-s5--ab.jpg\n", "git-annex pointer"),
        (b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "is an HTML page"),
        (b"\xef\xbb\xbf<HTML>", "is an HTML page"),
        (b'<?xml version="1.0"?><!-- x --><html xmlns="a">', "is an HTML page"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{ } loop\n", "PostScript"),
        (b"\xc5\xd0\xd3\xc6" + b"\0" * 40, "PostScript"),
        (b"%PDF-1.7\n", "PDF"),
        (b"<!a>" * 250, "JSON or XML"),  # in exponential time this would not end
        (b"<!-- " * 200 + b"-->" * 9, "JSON or XML"),
        (b'{"error": "not found"}', "JSON"),
        (b"PK\x03\x04" + b"\0" * 40, "zip"),
        (b"\x1f\x8b" + b"\0" * 40, "gzip"),
        (b"\0" * 5000, "zero bytes"),
        (b"P6 9 9 255 " + b"x" * 243, "cannot be opened"),
        (b"no picture at all", "cannot be opened"),
    ],
)
def test_what_is_no_picture_is_named(data, says):
    for read in (prepare_picture, image_size, decode_image, read_header, read_position):
        with pytest.raises(BadSample, match=says) as refused:
            read(data)
        assert "0x" not in str(refused.value)
        assert "BytesIO" not in str(refused.value)


@pytest.mark.parametrize("kind", ["EPS", "PPM", "TGA", "PCX", "ICO", "SGI"])
def test_other_formats_are_not_opened_whatever_they_are_called(kind):
    with pytest.raises(BadSample, match="unreadable image"):
        prepare_picture(encoded(photo(64, 64), kind))


def test_only_regular_files_are_read(tmp_path):
    for name, kind in odd_files(tmp_path).items():
        with pytest.raises(BadSample, match=f"not a regular file: is {kind}"):
            read_file(tmp_path / name)
        with pytest.raises(BadSample, match=f"not a regular file: is {kind}"):
            read_position(tmp_path / name)
    (tmp_path / "a.jpg").symlink_to(tmp_path / "b.jpg")
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(b"12")
    assert read_file(tmp_path / "a.jpg") == b"12"


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_cut_off_pictures_are_unreadable(share, kind):
    data = encoded(photo(200, 150), kind, **({"lossless": True} if kind == "WEBP" else {}))
    with pytest.raises(BadSample, match="unreadable image"):
        prepare_picture(data[: int(share * len(data))])


def test_a_strip_is_refused():
    with pytest.raises(BadSample, match="too narrow: 3000x10"):
        prepare_picture(encoded(Image.new("RGB", (3000, 10)), "PNG"))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x28\xb5\x2f\xfd" + b"\0" * 40, "zstd"),
        (b"BZh91AY" + b"\0" * 40, "bzip2"),
        (b"7z\xbc\xaf\x27\x1c" + b"\0" * 40, "7z"),
    ],
)
def test_packed_files_in_pictures_places_are_named(data, says):
    with pytest.raises(BadSample, match=says):
        prepare_picture(data)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be", "utf-16-le", "utf-32"])
def test_xmp_in_each_encoding_that_its_standard_allows(encoding):
    packet = '<?xpacket begin="\ufeff"?><x exif:GPSLatitude="33,51.402S" exif:GPSLongitude="151,12.918E"/>'
    data = encoded(photo(80, 60), "JPEG", xmp=packet.encode(encoding))
    assert read_position(data) == pytest.approx((-33.8567, 151.2153))
    assert carries_position(data)


def test_positions_that_only_drones_and_old_cameras_write():
    drone = '<x drone-dji:GpsLatitude="-33.8567" drone-dji:GpsLongtitude="+151.2153"/>'
    assert position_in_xmp(drone) == (-33.8567, 151.2153)
    assert position_in_xmp(drone.replace("+", "")) is None  # a number without its sign says no hemisphere
    spaced = 'exif:GPSLatitude="33, 51.402S" exif:GPSLongitude="151 12.918 E"'
    assert position_in_xmp(spaced) == pytest.approx((-33.8567, 151.2153))
    nan = float("nan")
    assert position_of({1: "S", 2: (33.8567, nan, nan), 3: "E", 4: (151.2153, nan, nan)}) == (-33.8567, 151.2153)
    with pytest.raises(BadSample):  # whole degrees alone are half a country
        position_of({1: "S", 2: (33, nan, nan), 3: "E", 4: (151, nan, nan)})
