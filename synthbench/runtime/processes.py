"""The processes of a run: one, or those that `accelerate launch` or `torchrun` started."""

from __future__ import annotations

import os

import torch
from accelerate import PartialState

from synthbench.errors import UsageError


def on_cpu() -> bool:
    """Return True where several processes must talk through the CPU, because there is no CUDA."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.cuda.is_available()


def processes() -> PartialState:
    """Return Accelerate's view of the processes: which one this is, and a barrier.

    Raises
    ------
    UsageError
        `accelerate launch --cpu --num_processes N` was called without MPI: Accelerate then
        starts a single process and says nothing.
    """
    if "MASTER_ADDR" in os.environ and not _has_rank():
        raise UsageError(
            "accelerate launch was asked for several processes and started one (with --cpu it "
            "needs MPI). Launch with --multi_gpu in place of --cpu: on a machine without CUDA "
            "synthbench's processes then talk through the CPU."
        )
    return PartialState(cpu=on_cpu())


def is_main() -> bool:
    """Return True in the process that writes files (the only one, or the first)."""
    return bool(processes().is_main_process)


def _has_rank() -> bool:
    ranks = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
    return any(name in os.environ for name in ranks)
