"""What `geospot doctor` measures of a machine, each in a bounded time: its memory, matrix products, disk."""

import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BUDGET_S = 0.2  # for a product of one kind
DISK_S = 1.0  # for writing
_ROWS, _WIDTH = 64, 1024  # of a product on a CPU: small enough for the slowest, 0.1 GFLOP
_GPU_SIZE = 4096
_CHUNK = 4 << 20
_MOST_CHUNKS = 32
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")


def processor() -> dict[str, Any]:
    """Name, cores that may be used, memory in bytes (all, and what is free), and instructions that matter here."""
    found: dict[str, Any] = {"name": platform.processor() or platform.machine(), "instructions": []}
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    about = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set((about.get("flags") or about.get("Features") or "").split())
    found["name"] = about.get("model name", found["name"])
    found["instructions"] = [name for name in _INSTRUCTIONS if name in flags]
    affinity = getattr(os, "sched_getaffinity", None)
    found["cores"] = len(affinity(0)) if affinity else os.cpu_count() or 1
    found["load"] = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    names = {"memory": "SC_PHYS_PAGES", "free": "SC_AVPHYS_PAGES"}
    for key, name in names.items():
        known = name in getattr(os, "sysconf_names", {})
        found[key] = os.sysconf(name) * os.sysconf("SC_PAGE_SIZE") if known else None
    return found


def gpus() -> list[dict[str, Any]]:
    """Name, memory and free memory in bytes of every GPU that torch sees."""
    import torch

    found = []
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        found.append({"name": torch.cuda.get_device_name(number), "memory": total, "free": free})
    return found


def products(device: str) -> list[dict[str, Any]]:
    """GFLOP/s of matrix products by precision and by how the weight is laid out: (out, in), or (in, out)."""
    import torch
    from torch.nn import functional as F

    rows, width = (_ROWS, _WIDTH) if device == "cpu" else (_GPU_SIZE, _GPU_SIZE)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(rows, width, device=device).to(dtype)
        weight = torch.randn(width, width, device=device).to(dtype)
        ways = {"(out, in)": lambda x=x, w=weight: F.linear(x, w), "(in, out)": lambda x=x, w=weight: x @ w}
        for layout, run in ways.items():
            if device != "cpu":
                run = _synchronised(run)
            speed = 2 * rows * width * width / least_s(run) / 1e9
            found.append({"dtype": str(dtype).removeprefix("torch."), "layout": layout, "gflops": speed})
    return found


def numpy_product() -> list[dict[str, Any]]:
    """The same in float32 where there is no torch."""
    x, weight = (np.ones(shape, np.float32) for shape in ((_ROWS, _WIDTH), (_WIDTH, _WIDTH)))
    speed = 2 * _ROWS * _WIDTH * _WIDTH / least_s(lambda: x @ weight) / 1e9
    return [{"dtype": "float32 (numpy)", "layout": "(in, out)", "gflops": speed}]


def _synchronised(run: Callable[[], object]) -> Callable[[], object]:
    import torch

    def whole() -> None:
        run()
        torch.cuda.synchronize()

    return whole


def least_s(run: Callable[[], object], budget_s: float = BUDGET_S) -> float:
    """The least time of a call in seconds; called twice at least, and then for as long as the budget lasts."""
    times, end = [], time.perf_counter() + budget_s
    while len(times) < 2 or time.perf_counter() < end:
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def disk(folder: str) -> dict[str, Any]:
    """MB/s of writing to a folder and of reading back, and its free bytes; `problem` in words where it cannot be."""
    place = Path(folder).expanduser()
    chunk = os.urandom(_CHUNK)
    try:
        status = os.statvfs(place)
        with tempfile.TemporaryFile(dir=place) as file:
            started, written = time.perf_counter(), 0
            while written < _MOST_CHUNKS and time.perf_counter() - started < DISK_S:
                written += file.write(chunk) // _CHUNK
            file.flush()
            os.fsync(file.fileno())
            write_s = time.perf_counter() - started
            if hasattr(os, "posix_fadvise"):  # or the system answers from its memory
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            file.seek(0)
            started = time.perf_counter()
            while file.read(_CHUNK):
                pass
            read_s = time.perf_counter() - started
    except OSError as error:
        return {"folder": folder, "problem": (error.strerror or str(error)).lower()}
    size = written * _CHUNK / 1e6
    return {
        "folder": folder,
        "free": status.f_bavail * status.f_frsize,
        "write_mb_s": size / write_s,
        "read_mb_s": size / max(read_s, 1e-9),
    }
