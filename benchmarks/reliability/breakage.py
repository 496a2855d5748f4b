"""What breaks a run folder: small disks (Linux, as root or in a mount namespace) and damaged files."""

import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BIG = "1g"


@contextmanager
def tmpfs(place: Path, size: str) -> Iterator[None]:
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def grow(place: Path, size: str = BIG) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", place], check=True)


def shrink(place: Path, spare_kb: int) -> None:
    """Leave so much room and no more, while somebody else is writing."""
    for _ in range(1000):
        used = int(subprocess.run(["du", "-sk", place], capture_output=True, text=True).stdout.split()[0])
        size = f"remount,size={used + spare_kb}k"
        if not subprocess.run(["mount", "-o", size, place], capture_output=True).returncode:
            return


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scribble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 64] = b"\xa5" * 64
    path.write_bytes(bytes(data))


def blank(path: Path) -> None:
    path.write_bytes(b"")


def jumping_clock() -> None:
    """Have time.time() jump by up to ten years, forwards and backwards, at every call."""
    rng, real = random.Random(0), time.time
    time.time = lambda: real() + rng.uniform(-3e8, 3e8)
