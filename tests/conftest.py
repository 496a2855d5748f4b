"""What the tests share: a small untrained model in hub format, an engine on it, and pictures."""

import io
import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: no test may need the network
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is: these models are too small to share, and sums keep one order

import numpy as np
import pytest




def jpeg(seed: int, width: int = 112, height: int = 112) -> bytes:
    """A picture of random soft blotches."""
    from PIL import Image

    blotches = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(blotches).resize((width, height), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    return out.getvalue()


@pytest.fixture(scope="session")
def pictures() -> list[bytes]:
    """JPEGs of different sizes: 4, 4, 2, 4 and 3 image tokens for the tiny model."""
    sizes = [(112, 112), (112, 112), (112, 56), (140, 130), (60, 170)]
    return [jpeg(i, *size) for i, size in enumerate(sizes)]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """An untrained model of the tiny architecture at half its width, saved in hub format."""
    from geospot.models.tiny import save_untrained

    folder = tmp_path_factory.mktemp("tiny")
    return str(save_untrained(folder, hidden=64, layers=2, vision_hidden=64, vision_layers=2))


@pytest.fixture(scope="session")
def renderer(tiny_folder):
    """Renders prompts for the model in `tiny_folder`."""
    from geospot.models.loading import load_processing
    from geospot.models.prompt import Renderer

    return Renderer(load_processing(tiny_folder))


@pytest.fixture
def service(tmp_path):
    """A local engine that writes its checkpoints to the test's own folder."""
    from geospot.engine.local.service import LocalOptions, LocalServiceClient

    with LocalServiceClient(LocalOptions(checkpoint_dir=str(tmp_path / "checkpoints"), threads=1)) as client:
        yield client
