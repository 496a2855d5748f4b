"""What memory the machine has, and what this process takes of it."""

import os
from pathlib import Path

import torch


def available_bytes(device: str) -> int | None:
    """Memory of the device that this process can have: all of a GPU's; of a computer's what is free, and what the
    process has already. None where it cannot be told."""
    if device.startswith("cuda"):
        return total_bytes(device)
    free = free_bytes(device)
    return None if free is None else free + _status("RssAnon")


def free_bytes(device: str) -> int | None:
    """Memory of the device that nobody has; None where it cannot be told."""
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)[0]
    free, limited = _meminfo("MemAvailable"), free_in_cgroup()
    return free if free is None or limited is None else min(free, limited)


def held_bytes(device: str) -> dict[str, int]:
    """What torch holds of a GPU's memory: allocated to tensors, and reserved in all. Empty for a CPU."""
    if not device.startswith("cuda"):
        return {}
    return {"allocated": torch.cuda.memory_allocated(device), "reserved": torch.cuda.memory_reserved(device)}


def total_bytes(device: str) -> int | None:
    """Memory of the device, whoever has it now."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_properties(device).total_memory
    total, limit = _meminfo("MemTotal"), cgroup_limit()
    return total if total is None or limit is None else min(total, limit)


def resident_bytes() -> int:
    """What this process holds in memory, files that it has mapped included; 0 where that cannot be told."""
    return _status("VmRSS")


def peak_bytes() -> int:
    """The most that this process has held so far."""
    return _status("VmHWM")


def _meminfo(name: str) -> int | None:
    try:
        with open("/proc/meminfo") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
    except (OSError, StopIteration):
        return None


def _status(name: str) -> int:
    try:
        with open(f"/proc/{os.getpid()}/status") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
    except (OSError, StopIteration):
        return 0


def cgroup_limit(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What a container may use, of either version of cgroups; None where that is all there is."""
    for file in (root / "memory.max", root / "memory" / "memory.limit_in_bytes"):
        try:
            return int(file.read_text())
        except (OSError, ValueError):  # no such file, or no limit: "max"
            continue
    return None


def free_in_cgroup(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What is left of the memory that a container may use, of either version of cgroups; None where all of it may."""
    for folder, limit, used, files in (
        (root, "memory.max", "memory.current", "inactive_file"),
        (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            left = int((folder / limit).read_text()) - int((folder / used).read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # no such file, or no limit: "max"
            continue
        return left + int(stat.get(files, 0))  # files that were read stay while nobody wants their place
    return None
