"""The memory, time and disk space of a training, estimated before it starts.

Memory and floating-point operations come from a step on tensors without data (`trace`), so a
network that is far too large for the machine can be estimated on it. The time is measured on a few
steps of the training loop (`timing`), where they fit and are short enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from synthbench.generators.generator import Shape, Stage
from synthbench.generators.loop.settings import StepSettings
from synthbench.runtime.memory import resident_memory
from synthbench.training.estimate.device import device_memory
from synthbench.training.estimate.timing import seconds_a_step
from synthbench.training.estimate.trace import Trace, trace
from synthbench.training.stages import step_settings

USABLE = 0.9
"""Share of a device's memory that a run can plan with. The rest is the driver's, or is lost to
fragmentation."""

CPU_OVERHEAD = 1.25
"""Memory that training takes on a CPU, relative to its tensors. The rest is work space of the
convolutions, and gaps between tensors. Measured on five networks: 1.13 to 1.7."""

MOST_ON_A_CPU = 10**12
"""Most operations of a step that is timed on a CPU: about a minute for the four steps on two cores.

A longer step is not timed. Its time can be computed from its operations and the time of a smaller
preset.
"""


@dataclass(frozen=True)
class Memory:
    """Bytes on one device where a step takes the most memory.

    Attributes
    ----------
    weights, gradients, adam, ema
        The weights; the gradients of those that are trained (twice with several processes, which
        exchange copies); Adam's two moments of these; the averaged weights.
    activations
        Everything else: tensors that the forward pass keeps for the backward pass, and work space.
    process
        On a CPU, the memory of the interpreter and its libraries at this moment.
    """

    weights: int
    gradients: int
    adam: int
    ema: int
    activations: int
    process: int

    @property
    def training(self) -> int:
        """The memory that training adds to a process."""
        return self.weights + self.gradients + self.adam + self.ema + self.activations

    @property
    def total(self) -> int:
        """The sum of all parts."""
        return self.training + self.process


@dataclass(frozen=True)
class Estimate:
    """The estimate of a training.

    Attributes
    ----------
    parameters
        Number of parameters of the network.
    flops_a_step
        Floating-point operations per optimizer step, forward and backward, all processes. A
        multiplication and an addition are two operations.
    saved_bytes
        Bytes that the forward pass of one batch keeps for the backward pass.
    memory
        Largest memory of one process.
    device_name, device_memory_bytes
        The device, and its memory: all memory of a GPU, or the free main memory for a CPU.
    seconds_a_step
        Seconds per optimizer step; None where steps were not timed, because they do not fit or take
        too long.
    steps
        Number of optimizer steps.
    checkpoint_bytes
        Size of one checkpoint on disk.
    batch_size, accumulation, processes, precision
        The settings that the estimate depends on.
    """

    parameters: int
    flops_a_step: int
    saved_bytes: int
    memory: Memory
    device_name: str
    device_memory_bytes: int
    seconds_a_step: float | None
    steps: int
    checkpoint_bytes: int
    batch_size: int
    accumulation: int
    processes: int
    precision: Literal["fp32", "bf16"]

    @property
    def memory_bytes(self) -> int:
        """The largest memory of one process, in bytes."""
        return self.memory.total

    @property
    def total_seconds(self) -> float | None:
        """Seconds for all steps; None where steps were not timed."""
        return None if self.seconds_a_step is None else self.steps * self.seconds_a_step


def estimate(
    stage: Stage,
    shape: Shape,
    *,
    volumes: int,
    processes: int = 1,
    device: torch.device,
    measure: bool = True,
) -> Estimate:
    """Return the memory, time and disk space of a training.

    Parameters
    ----------
    stage
        The network, its loss and its settings.
    shape
        The grid; it must be possible for the network (`check_grid`).
    volumes
        Number of training volumes.
    processes
        Number of processes, each on a device like this one. With `measure`, all must call this.
    device
        The device of the training.
    measure
        True: time some steps.
    """
    settings = step_settings(stage)
    traced = trace(stage, shape)
    name, available = device_memory(device)
    memory = _memory(traced, settings, processes, device)
    short = device.type != "cpu" or traced.flops * settings.accumulation <= MOST_ON_A_CPU
    timed = measure and short and memory.training <= USABLE * available
    return Estimate(
        parameters=traced.parameters,
        flops_a_step=traced.flops * settings.accumulation * processes,
        saved_bytes=traced.saved,
        memory=memory,
        device_name=name,
        device_memory_bytes=available,
        seconds_a_step=seconds_a_step(stage, shape, volumes) if timed else None,
        steps=settings.total_steps(volumes, processes),
        # Weights, averages, and Adam's two moments with a step count for each trained tensor.
        checkpoint_bytes=2 * traced.weights + 2 * traced.trained + 4 * traced.tensors,
        batch_size=settings.batch_size,
        accumulation=settings.accumulation,
        processes=processes,
        precision=settings.precision,
    )


def fits(estimated: Estimate) -> bool:
    """Return True where the training fits into the usable part of the device's memory."""
    return estimated.memory.training <= USABLE * estimated.device_memory_bytes


def _memory(traced: Trace, settings: StepSettings, processes: int, device: torch.device) -> Memory:
    weights, trained = traced.weights, traced.trained
    gradients = trained * (2 if processes > 1 else 1)
    # `peak` is of the first batch and includes its gradients, which are counted above. With
    # accumulation, later batches begin with all gradients in place, so the peak comes on top.
    # Adam's work space is a copy of the trained weights: the activations are at least as large.
    activations = max(traced.peak - (0 if settings.accumulation > 1 else trained), trained)
    on_cpu = device.type == "cpu"
    if on_cpu:
        tensors = 2 * weights + 2 * trained + gradients + activations
        activations += int((CPU_OVERHEAD - 1) * tensors)
    return Memory(
        weights=weights,
        gradients=gradients,
        adam=2 * trained,
        ema=weights,
        activations=activations,
        process=resident_memory() if on_cpu else 0,
    )
