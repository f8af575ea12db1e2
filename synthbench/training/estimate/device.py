"""The memory of a device, as far as a training can use it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import torch


def device_memory(device: torch.device) -> tuple[str, int]:
    """Return the name of a device and its memory in bytes; for a CPU, the free main memory.

    Memory limits of containers and batch systems (cgroups) count.
    """
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return properties.name, int(properties.total_memory)
    cores = torch.get_num_threads()
    name = f"CPU ({platform.machine()}, {cores} thread{'s' if cores > 1 else ''})"
    return name, available_memory()


def available_memory(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes of main memory that are still free for processes like this one.

    Parameters
    ----------
    proc, cgroups
        Folders in which Linux reports memory. On other systems all memory counts as free.
    """
    report = proc / "meminfo"
    if not report.is_file():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    lines = dict(
        line.split(":", 1)
        for line in report.read_text(encoding="utf-8").splitlines()
        if ":" in line
    )
    free = 1024 * int(lines["MemAvailable"].split()[0])
    return min([free, *_cgroup_rooms(proc, cgroups)])


def resident_memory(proc: Path = Path("/proc")) -> int:
    """Return the bytes of main memory of this process; 0 where the system does not report them."""
    report = proc / "self" / "statm"
    if not report.is_file():
        return 0
    return int(report.read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _cgroup_rooms(proc: Path, cgroups: Path) -> Iterator[int]:
    """Yield the free bytes of each memory limit on this process: of its group and all above."""
    membership = proc / "self" / "cgroup"
    if not membership.is_file():
        return
    for line in membership.read_text(encoding="utf-8").splitlines():
        _, controllers, own = line.split(":", 2)
        if controllers == "":
            root, names = cgroups, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root, names = cgroups / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        group = root / own.lstrip("/")
        for folder in (group, *group.parents):
            limit, used = (_number(folder / name) for name in names)
            if limit is not None and used is not None:
                yield max(0, limit - used)
            if folder == root:
                break


def _number(file: Path) -> int | None:
    """Return the number in a file of a cgroup; None without a file or without a limit."""
    try:
        return int(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
