"""What tests make: pictures, folders that they share, and patience."""

import contextlib
import fcntl
import io
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


def jpeg(seed: int, width: int = 112, height: int = 112) -> bytes:
    """A picture of random soft blotches."""
    from PIL import Image

    blotches = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(blotches).resize((width, height), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    return out.getvalue()


def until(condition: Callable[[], object], what: str = "", deadline_s: float = 600.0) -> None:
    """Wait until the condition holds; AssertionError where it does not for longer than any machine would need."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, what or "it never came to that"
        time.sleep(0.01)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder of this test session, filled by `make(folder)` in the first of pytest's processes that asks for it."""
    base = factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = base / name, base / f"{name}.made"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the file is closed
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


def odd_files(folder: Path) -> dict[str, str]:
    """Make what is called like a picture and is no regular file; name -> what it is."""
    os.mkfifo(folder / "fifo.jpg")
    (folder / "folder.jpg").mkdir()
    (folder / "device.jpg").symlink_to("/dev/zero")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    with (
        contextlib.closing(socket.socket(socket.AF_UNIX)) as one,
        contextlib.chdir(folder),
    ):  # paths of sockets are short
        one.bind("socket.jpg")
    return {
        "fifo.jpg": "a FIFO",
        "folder.jpg": "a folder",
        "device.jpg": "a device",
        "loop.jpg": "a loop of links",
        "socket.jpg": "a socket",
    }
