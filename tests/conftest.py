"""What the tests share: a small untrained model in hub format, an engine on it, and pictures."""

import gc
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

# What is set here holds for this process, pytest-xdist's workers and every process that a test starts.
os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: no test may need the network
os.environ["TINKER_TELEMETRY"] = "0"
os.environ["TINKER_API_KEY"] = ""  # no test may reach the hosted service
os.environ["TINKER_BASE_URL"] = ""
# Before numpy and torch are imported: these models are too small to share, sums keep one order, and of several pools of
# threads on the same cores each would wait for the others.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["KMP_BLOCKTIME"] = "0"  # threads that have nothing to do sleep at once

import pytest
from hypothesis import HealthCheck, settings
from live_site import chromium, in_browser, open_page  # noqa: F401 (fixtures)
from made import jpeg, made_once
from small_runs import common, half_trained, run_settings, sft_run, shards  # noqa: F401 (fixtures)

# How long an example takes says more about the machine than about the code.
settings.register_profile("untimed", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def fsync(handle: Any) -> None:
    """In place of `os.fsync`: no test cuts the power, and waiting for the disk thousands of times is half a minute."""
    os.fstat(handle if isinstance(handle, int) else handle.fileno())  # a file that is closed is refused, as it would be


def pytest_configure(config: pytest.Config) -> None:
    """What the processes that tests start have from this one."""
    if not hasattr(config, "workerinput"):  # those of pytest-xdist have it from the one that started them
        trust_one_authority()
    os.fsync = fsync
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what is to run in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # A dozen tests start processes that import torch: without bytecode each would compile its 2,000 files anew.
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        os.environ["PYTHONPYCACHEPREFIX"] = str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
        sys.dont_write_bytecode, sys.pycache_prefix = False, os.environ["PYTHONPYCACHEPREFIX"]


def trust_one_authority() -> None:
    """No test speaks TLS, yet every HTTP client would read all the authorities that it is to trust, in 30 to 50 ms."""
    import certifi

    first, end, _ = certifi.contents().partition("-----END CERTIFICATE-----\n")
    file = Path(__file__).parents[1] / ".pytest_cache" / "authority.pem"
    file.parent.mkdir(exist_ok=True)
    file.write_text(first + end)
    os.environ["SSL_CERT_FILE"] = str(file)


def pytest_collection_finish() -> None:
    """What was imported stays: the garbage collector need not walk its million objects again and again."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Libraries that count what is left when the interpreter ends find it gone."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def pictures() -> list[bytes]:
    """JPEGs of different sizes: 4, 4, 2, 4 and 3 image tokens for the tiny model."""
    sizes = [(112, 112), (112, 112), (112, 56), (140, 130), (60, 170)]
    return [jpeg(i, *size) for i, size in enumerate(sizes)]


def save_sharp(folder: Path, layers: int) -> None:
    """An untrained model of the tiny architecture at a third of its width, saved in hub format.

    Its logits are eight times those of a fresh model: with nearly equal probabilities nothing wrong would show.
    """
    from safetensors.torch import load_file, save_file

    from geospot.models.tiny import save_untrained

    save_untrained(folder, hidden=64, layers=layers, vision_hidden=64, vision_layers=layers)
    weights = load_file(folder / "model.safetensors")
    [last_norm] = [
        name for name in weights if name.endswith("norm.weight") and "layers" not in name and "visual" not in name
    ]
    weights[last_norm] *= 8
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> str:
    """The model that most tests use: two layers (see `save_sharp`)."""
    return str(made_once(tmp_path_factory, "tiny", partial(save_sharp, layers=2)))


@pytest.fixture(scope="session")
def one_layer_folder(tmp_path_factory) -> str:
    """The same with one layer, for what costs time by layer and asks nothing of a second."""
    return str(made_once(tmp_path_factory, "one-layer", partial(save_sharp, layers=1)))


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

    return str(made_once(tmp_path_factory, "qwen", qwen_small.save))
