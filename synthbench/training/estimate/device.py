"""The memory of a device, as far as a training can use it."""

from __future__ import annotations

import platform

import torch

from synthbench.runtime.memory import available_memory


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
