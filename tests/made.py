"""What tests make: pictures, and patience."""

import contextlib
import io
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


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
