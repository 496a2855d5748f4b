"""A photo shows the model the same bytes in training, in evaluation and in a guess, whatever kind of picture it is."""

import io
from pathlib import Path

import numpy as np
import pytest
from made import odd_files
from PIL import Image

from geospot import __main__ as geospot
from geospot.asking.photos import find_photos, read_photos
from geospot.config import EngineConfig
from geospot.data.facts import read_facts
from geospot.data.fields import Columns
from geospot.data.inspect import inspect
from geospot.data.pack import PackSettings, pack
from geospot.data.samples import ReadOptions, SkipCounter
from geospot.data.sets import held_out_samples
from geospot.data.sources import open_source
from geospot.data.stream import SampleStream
from geospot.engine.local.pictures import LruBytes, Pictures
from geospot.models.loading import load_model
from geospot.models.prompt import Renderer

MAX_PIXELS = 60 * 60


def save(path: Path, size: tuple[int, int], mode: str = "RGB", **options: object) -> None:
    """Soft blotches in colour, with transparency where the mode has it."""
    rng = np.random.default_rng(7)
    kind = "RGBA" if mode in ("RGBA", "LA", "PA") else "RGB"
    soft = Image.fromarray(rng.integers(0, 256, (5, 5, len(kind)), dtype=np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    if mode == "I;16":
        image = Image.fromarray(np.asarray(soft.convert("L")).astype(np.uint16) * 257)
    else:
        image = soft.convert("RGBA" if mode == "PA" else mode)
    if mode == "PA":
        image = image.quantize(64)
    image.save(path, **options)


def lying() -> bytes:
    """EXIF of a photo on its side that says where it was taken."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 30.0), 3: "E", 4: (2.0, 17.0, 40.0)})
    return exif.tobytes()


def kinds(folder: Path, size: tuple[int, int]) -> list[str]:
    """One file of every kind of picture; their names."""
    later = [Image.new("RGB", size, colour) for colour in ("red", "blue")]
    for name, mode, options in [
        ("plain.jpg", "RGB", {"comment": b"SECRET"}),
        ("grey.jpg", "L", {}),
        ("cmyk.jpg", "CMYK", {}),
        ("progressive.jpg", "RGB", {"progressive": True}),
        ("turned.jpg", "RGB", {"exif": lying()}),
        ("plain.png", "RGB", {}),
        ("see-through.png", "RGBA", {}),
        ("grey-see-through.png", "LA", {}),
        ("palette.png", "P", {}),
        ("palette-see-through.png", "PA", {}),
        ("sixteen.png", "I;16", {}),
        ("key.png", "L", {"transparency": 127}),
        ("turned.png", "RGB", {"exif": lying()}),
        ("two-colours.png", "1", {}),
        ("animated.png", "RGB", {"save_all": True, "append_images": later}),
        ("animated.gif", "RGB", {"save_all": True, "append_images": later}),
        ("animated.webp", "RGB", {"save_all": True, "append_images": later}),
        ("see-through.webp", "RGBA", {}),
        ("turned.webp", "RGB", {"exif": lying()}),
        ("turned.tif", "RGB", {"exif": lying()}),
        ("sixteen.tiff", "I;16", {}),
        ("cmyk.tif", "CMYK", {}),
        ("plain.bmp", "RGB", {}),
        ("turned.avif", "RGB", {"exif": lying()}),
    ]:
        stem, _, kind = name.partition(".")
        save(folder / f"48.858,2.294_{stem}-{kind}.{kind}", size, mode, **options)
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("size", [(48, 36), (320, 240), (41, 8190), (300, 2), (1, 1), (1, 3), (3, 1)])
def test_guess_evaluation_and_training_show_the_model_identical_bytes(tmp_path, renderer, size):
    names = kinds(tmp_path, size)
    source = open_source(str(tmp_path))

    def shown(key: str, picture: bytes) -> tuple[str, bytes]:
        return key, Renderer(renderer.processing, max_pixels=MAX_PIXELS).image_chunk(picture).data

    with SampleStream(source, seed=0, options=ReadOptions(MAX_PIXELS), epochs=1, buffer=4) as stream:
        trained = dict(shown(sample.key, sample.pictures[0]) for sample in stream)
        assert not stream.skipped
    config = type("Config", (), {"eval_places": 0, "views": "4", "columns": "", "data_workers": 0})
    config.max_pixels = MAX_PIXELS
    evaluated = dict(shown(s.key, s.pictures[0]) for s in held_out_samples(config, source, SkipCounter()))
    guessed = {}
    for photo in read_photos(find_photos([str(tmp_path)]), MAX_PIXELS):
        key, data = shown(str(Path(photo.name).with_suffix("").name), photo.picture)
        guessed[key] = data
        assert b"SECRET" not in data
        assert (photo.gps is not None) == ("turned" in photo.name)
    assert set(trained) == {str(Path(name).with_suffix("")) for name in names}
    assert trained == evaluated == guessed


@pytest.mark.parametrize("size", [(w, h) for w in (1, 2, 3, 4, 5, 28, 40) for h in (1, 2, 3, 4, 5, 28, 40)])
def test_every_size_from_one_pixel_up_gives_the_model_as_many_features_as_its_prompt_has_tokens(tiny, renderer, size):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    out = io.BytesIO()
    image.save(out, "PNG")
    chunk = renderer.image_chunk(out.getvalue())
    features = tiny.encode([chunk.data])["mm_encoder_outputs"]["image"].pooler_output
    assert sum(len(part) for part in features) == chunk.expected_tokens == tiny.count_tokens(chunk.data)
    expected = renderer.processing.image_processor(images=[image], return_tensors="pt")  # Pillow's images are plain
    found = tiny._preprocess([chunk.data])
    np.testing.assert_array_equal(found["pixel_values"].numpy(), expected["pixel_values"].numpy())


@pytest.fixture(scope="module")
def tiny(renderer):
    return Pictures(load_model(renderer.processing), renderer.processing, LruBytes(1 << 20))


@pytest.mark.parametrize("size", [(41, 8190), (8190, 41), (19900, 100), (1, 200), (200, 1), (199, 1), (2, 399)])
@pytest.mark.parametrize("max_pixels", [512 * 512, 5000, 100])
def test_a_strip_that_is_accepted_renders(renderer, size, max_pixels):
    out = io.BytesIO()
    Image.new("RGB", size, "green").save(out, "PNG")
    chunk = Renderer(renderer.processing, max_pixels=max_pixels).image_chunk(out.getvalue())
    assert chunk.expected_tokens >= 1


# -- a folder of good and odd files, through every command


@pytest.fixture
def mixed(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, size in {"48.858,2.294_good.png": (60, 40), "48.858,2.295_strip.png": (4400, 20)}.items():
        save(folder / name, size)
    (folder / "48.858,2.296_pointer.jpg").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    (folder / "48.858,2.297_page.jpg").write_bytes(b"<!doctype html><p>Sign in")
    (folder / "48.858,2.298_empty.jpg").write_bytes(b"")
    (folder / "48.858,2.299_eps.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n{ } loop\n")
    for name in odd_files(folder):
        if name != "loop.jpg":
            (folder / name).rename(folder / f"48.858,2.293_{name}")
    return folder


REASONS = {
    "picture too narrow": 1,
    "Git LFS pointer": 1,
    "HTML page": 1,
    "unreadable image": 2,
    "not a regular file": 4,
    "no coordinates in the name": 1,
}


@pytest.mark.parametrize("workers", [0, 1])
def test_inspect_and_pack_count_them(mixed, tmp_path, workers):
    found = inspect(open_source(f"names:{mixed}"), columns=Columns(), workers=workers)
    assert (found.places, dict(found.skipped)) == (1, REASONS)
    packed = pack(open_source(f"names:{mixed}"), tmp_path / "out", PackSettings(), workers=workers)
    assert packed.told["places"] == {"train": 1}
    assert packed.told["skipped"] == REASONS


def test_guess_answers_the_good_one_and_names_the_others(mixed, tiny_folder, capsys):
    with pytest.raises(SystemExit) as left:
        geospot.main(["guess", str(mixed), f"model={tiny_folder}", "threads=1", "max_tokens=4", "format=csv"])
    assert left.value.code == 1
    out, err = capsys.readouterr()
    assert "48.858,2.294_good.png" in out
    assert err.count("skipped ") == 10
    for says in ("is a FIFO", "is a socket", "is a device", "is a folder", "is a loop of links", "too narrow: 4400x20",
                 "is a Git LFS pointer: run git lfs pull", "is an HTML page", "is empty", "PostScript"):  # fmt: skip
        assert says in err
    with pytest.raises(SystemExit):
        geospot.main(["guess", str(mixed / "48.858,2.293_fifo.jpg"), f"model={tiny_folder}", "threads=1"])
    assert "is a FIFO" in capsys.readouterr().err


def test_a_packed_picture_is_still_known_by_its_hash(tmp_path):
    (tmp_path / "photos").mkdir()
    save(tmp_path / "photos" / "48.858,2.294_a.jpg", (60, 40), comment=b"SECRET")
    source = open_source(str(tmp_path / "photos"))
    pack(source, tmp_path / "out", PackSettings())
    before, after = (
        read_facts(next(one.read(0)), Columns(), decode=False) for one in (source, open_source(str(tmp_path / "out")))
    )
    assert before.pictures[0].digest == after.pictures[0].digest
    assert b"SECRET" not in (next((tmp_path / "out").glob("*.tar"))).read_bytes()


def test_the_budget_of_a_guess_is_that_of_training():
    assert EngineConfig().max_pixels == 512 * 512
