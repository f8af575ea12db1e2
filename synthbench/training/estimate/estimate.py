"""What a training run would take, found before it starts: memory, time, disk.

Memory and floating-point operations come from a step on tensors without data (PyTorch's
`FakeTensorMode`), so a network far too large for the machine can be looked at on it. The time
is that of a few steps of the training loop itself, where they fit and are short enough.
"""

from __future__ import annotations

import gc
import os
import platform
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from synthbench.errors import UsageError
from synthbench.generators.contracts import Monitor
from synthbench.generators.generator import Progress, Shape, Stage
from synthbench.generators.loop import freezing, sources, train
from synthbench.generators.loop.settings import StepSettings
from synthbench.runs.folder import Run

USABLE = 0.9
"""The share of a device's memory that a run may plan with: the rest is the driver's, or lost to
fragmentation."""

CPU_OVERHEAD = 1.25
"""What training takes of a CPU's memory, over its tensors: work space of the convolutions, and gaps
between tensors. Measured on five networks: 1.13 to 1.7 times."""

TIMED_STEPS = 3
"""After a first one that is not counted."""

MOST_ON_A_CPU = 10**12
"""Operations of a step that is timed on a CPU: about a minute for the four steps on two cores.

A longer step is not timed: the operations say how long it is, from the time of a smaller preset.
"""


def check_freeze(stages: Sequence[Stage]) -> None:
    """Raise where `freeze` names what a network does not have, or leaves nothing to train.

    Raises
    ------
    UsageError
        See `synthbench.generators.loop.freezing.freeze`.
    """
    for stage in stages:
        settings = step_settings(stage)
        if settings.freeze:
            with torch.device("meta"):
                freezing.freeze(stage.build(), settings.freeze, setting=f"{stage.prefix}freeze")


def step_settings(stage: Stage) -> StepSettings:
    """Return the settings of a stage.

    Raises
    ------
    UsageError
        They are not a `StepSettings`, against the contract of `TrainedBySteps`.
    """
    if not isinstance(stage.settings, StepSettings):
        raise UsageError(
            "stages(): settings of each must be StepSettings "
            f"(synthbench.generators.loop.settings); found {type(stage.settings).__name__}."
        )
    return stage.settings


@dataclass(frozen=True)
class Memory:
    """Bytes on one device at the highest point of a step.

    Attributes
    ----------
    weights, gradients, adam, ema
        The weights, the gradients of those that are trained (twice with several processes, which
        exchange copies), Adam's two moments of these, the averaged weights.
    activations
        All else: what the forward pass keeps for the backward pass, and work space.
    process
        On a CPU, the interpreter and its libraries, as they are resident now.
    """

    weights: int
    gradients: int
    adam: int
    ema: int
    activations: int
    process: int

    @property
    def training(self) -> int:
        """What training adds to a process."""
        return self.weights + self.gradients + self.adam + self.ema + self.activations

    @property
    def total(self) -> int:
        """All of it."""
        return self.training + self.process


@dataclass(frozen=True)
class Estimate:
    """What a training run takes.

    Attributes
    ----------
    parameters
        Of the network.
    flops_a_step
        Floating-point operations of an optimizer step, forward and backward, all processes; a
        multiplication and an addition are two.
    saved_bytes
        What the forward pass of one batch keeps for the backward pass.
    memory
        Of one process, at its highest point.
    device_name, device_memory_bytes
        The device, and its memory: all of a GPU's, or what a CPU's processes can still take.
    seconds_a_step
        None where nothing was timed: it does not fit, or a step takes long.
    steps
        Optimizer steps in all.
    checkpoint_bytes
        Of one checkpoint on disk.
    batch_size, accumulation, processes, precision
        The settings that decide it.
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
        """Of one process, at its highest point."""
        return self.memory.total

    @property
    def total_seconds(self) -> float | None:
        """Of all steps; None where nothing was timed."""
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
    """Estimate what training on `volumes` volumes of that grid takes.

    Parameters
    ----------
    stage
        The network, what it is trained for, and the run's settings of it.
    shape
        The grid; the network must be able to take it (`check_grid`).
    volumes
        How many there are to train on.
    processes
        How many train, each on a device like this one. All must call this where they measure.
    device
        Where to train.
    measure
        Whether to time steps.
    """
    settings = step_settings(stage)
    traced = _trace(stage, shape)
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
    """Whether what training adds is within what can be used of the device's memory."""
    return estimated.memory.training <= USABLE * estimated.device_memory_bytes


# ---------------------------------------------------------------- a step without data


@dataclass(frozen=True)
class _Trace:
    """One batch, forward and backward: operations, and bytes of tensors.

    `weights` is of all parameters, `trained` of those that are not frozen: `tensors` many.
    """

    parameters: int
    weights: int
    trained: int
    tensors: int
    flops: int
    saved: int
    peak: int


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storage of all tensors that operations make, for as long as they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.peak = 0
        self._seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        self._seen.add(storage)
        size = storage.nbytes()
        weakref.finalize(storage, self._release, size)
        self.bytes += size
        if self.bytes > 1.01 * self.peak:
            # Tensors without data outlive their use in reference cycles; those with data do not.
            gc.collect()
        self.peak = max(self.peak, self.bytes)

    def _release(self, size: int) -> None:
        self.bytes -= size


def _trace(stage: Stage, shape: Shape) -> _Trace:
    """Take one batch forward and backward without data, on as good as a CPU."""
    settings, objective = step_settings(stage), stage.objective
    aten = torch.ops.aten
    # PyTorch counts attention on GPUs only.
    attention = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
    }
    live, counter = _Live(), FlopCounterMode(display=False, custom_mapping=attention)
    with FakeTensorMode(allow_non_fake_inputs=True), _only_new_garbage():
        network = stage.build()
        values = list(network.parameters())
        trained = freezing.freeze(network, settings.freeze)
        sizes = stage.samples(shape)
        clean, *conditioning = (torch.empty(settings.batch_size, *size) for size in sizes)
        noise = torch.empty_like(clean)
        t = torch.zeros(settings.batch_size, dtype=torch.int64)
        with counter, live:
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
                loss = objective.losses(network, clean, t, noise, *conditioning).mean()
            saved = live.bytes
            loss.backward()  # type: ignore[no-untyped-call]
    return _Trace(
        parameters=sum(value.numel() for value in values),
        weights=_bytes(values),
        trained=_bytes(trained),
        tensors=len(trained),
        flops=counter.get_total_flops(),
        saved=saved,
        peak=live.peak,
    )


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@contextmanager
def _only_new_garbage() -> Iterator[None]:
    """Let the collector pass over everything that is there already: it is called often."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _attention_flops(
    query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...], *_: Any, **__: Any
) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _attention_backward_flops(
    gradient: tuple[int, ...],
    query: tuple[int, ...],
    key: tuple[int, ...],
    value: tuple[int, ...],
    *_: Any,
    **__: Any,
) -> int:
    count = sdpa_backward_flop_count(gradient, query, key, value)  # type: ignore[no-untyped-call]
    return int(count)


def _memory(traced: _Trace, settings: StepSettings, processes: int, device: torch.device) -> Memory:
    weights, trained = traced.weights, traced.trained
    gradients = trained * (2 if processes > 1 else 1)
    # The batches after the first find all gradients in place; before, they come as maps go.
    # Adam's own work space is a copy of the weights that it moves.
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


# ---------------------------------------------------------------- steps with data


class MadeUp:
    """A source of noise in the place of training samples: reading them is not timed."""

    def __init__(self, n: int, sizes: Sequence[tuple[int, ...]]) -> None:
        self.n, self.sizes = n, sizes

    def __len__(self) -> int:
        return self.n

    def opened(self, progress: Progress | None) -> AbstractContextManager[None]:
        """Prepare nothing."""
        return nullcontext()

    def batch(self, items: Sequence[int], draws: Sequence[torch.Generator]) -> tuple[Tensor, ...]:
        """Return samples of random numbers from 0 to 1."""
        return tuple(
            torch.stack([torch.rand(size, generator=g) for g in draws]) for size in self.sizes
        )


def seconds_a_step(stage: Stage, shape: Shape, volumes: int) -> float:
    """Return how long an optimizer step of the training loop takes, in every process.

    The mean of three steps after a first one, on made-up samples and the run's own settings. It
    has all that the loop does in a step but reading and augmenting volumes, which other threads
    do meanwhile, and what is done every so many steps: checkpoints, validation, previews, scores.
    Nothing is left on disk.
    """
    settings = step_settings(stage).model_copy(update={"steps": 1 + TIMED_STEPS, "epochs": None})
    source = MadeUp(volumes, stage.samples(shape))
    task = sources.Task(stage.build(), stage.objective, source, settings)
    with TemporaryDirectory() as folder:
        training = train.Training(task, Run(Path(folder)), Monitor(), resume=False)
        with closing(training.batches()) as ahead:
            training.step(ahead)
            began = time.perf_counter()
            for _ in range(TIMED_STEPS):
                training.step(ahead)
            return (time.perf_counter() - began) / TIMED_STEPS


# ---------------------------------------------------------------- the device


def device_memory(device: torch.device) -> tuple[str, int]:
    """Return the name of a device and its memory in bytes: a CPU's as far as it is free.

    Memory limits of containers and batch systems (cgroups) are respected.
    """
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return properties.name, int(properties.total_memory)
    cores = torch.get_num_threads()
    name = f"CPU ({platform.machine()}, {cores} thread{'s' if cores > 1 else ''})"
    return name, available_memory()


def available_memory(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes of main memory that this process and its like can still take.

    Parameters
    ----------
    proc, cgroups
        Where the kernel reports; other systems' whole memory is returned.
    """
    report = proc / "meminfo"
    if not report.is_file():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    lines = dict(line.split(":", 1) for line in report.read_text().splitlines() if ":" in line)
    free = 1024 * int(lines["MemAvailable"].split()[0])
    return min([free, *_cgroup_rooms(proc, cgroups)])


def resident_memory(proc: Path = Path("/proc")) -> int:
    """Return the bytes of main memory that this process holds; 0 where the system does not say."""
    report = proc / "self" / "statm"
    if not report.is_file():
        return 0
    return int(report.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _cgroup_rooms(proc: Path, cgroups: Path) -> Iterator[int]:
    """What each memory limit on this process leaves: its own group's and all above it."""
    membership = proc / "self" / "cgroup"
    if not membership.is_file():
        return
    for line in membership.read_text().splitlines():
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
    """The number in a file of a cgroup; None where there is none, or no limit."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
