"""What the tests share: a small untrained model in hub format, an engine on it, and pictures."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: no test may need the network
os.environ["TINKER_TELEMETRY"] = "0"
os.environ["TINKER_API_KEY"] = ""  # no test may reach the hosted service
os.environ["TINKER_BASE_URL"] = ""
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is: these models are too small to share, and sums keep one order

import pytest
from made import jpeg
from small_runs import common, half_trained, sft_run, shards  # noqa: F401 (fixtures)


@pytest.fixture(scope="session")
def pictures() -> list[bytes]:
    """JPEGs of different sizes: 4, 4, 2, 4 and 3 image tokens for the tiny model."""
    sizes = [(112, 112), (112, 112), (112, 56), (140, 130), (60, 170)]
    return [jpeg(i, *size) for i, size in enumerate(sizes)]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> str:
    """An untrained model of the tiny architecture at a third of its width, saved in hub format.

    Its logits are eight times those of a fresh model: with nearly equal probabilities nothing wrong would show.
    """
    from safetensors.torch import load_file, save_file

    from geospot.models.tiny import save_untrained

    folder = tmp_path_factory.mktemp("tiny")
    save_untrained(folder, hidden=64, layers=2, vision_hidden=64, vision_layers=2)
    weights = load_file(folder / "model.safetensors")
    [last_norm] = [
        name for name in weights if name.endswith("norm.weight") and "layers" not in name and "visual" not in name
    ]
    weights[last_norm] *= 8
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


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


@pytest.fixture
def make_service():
    """Makes local engines with `LocalOptions`, and closes them."""
    from contextlib import ExitStack

    from geospot.engine.local.service import LocalOptions, LocalServiceClient

    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(LocalServiceClient(LocalOptions(threads=1, **options)))


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory) -> str:
    """The files of Qwen/Qwen2.5-VL-3B-Instruct with the real tokenizer and small tensors (see `qwen_small`)."""
    pytest.importorskip("dashscope")
    import qwen_small

    return str(qwen_small.save(tmp_path_factory.mktemp("qwen")))
