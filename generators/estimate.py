"""What a training run would take, found before it starts: memory, time, disk.

Memory and floating-point operations come from a step on tensors without data (PyTorch's
`FakeTensorMode`), so a network far too large for the machine can be looked at on it. The time
comes from a few real steps, on a smaller grid where the whole one would not fit or would take long.
"""

from __future__ import annotations

import gc
import math
import os
import platform
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from synthbench.generators.loop import Objective, freeze

Shape: TypeAlias = tuple[int, int, int]

USABLE = 0.9
"""The share of a device's memory that a run may plan with: the rest is the driver's, or lost to
fragmentation."""

CPU_OVERHEAD = 1.25
"""What training takes of a CPU's memory, over its tensors: work space of the convolutions, and gaps
between tensors. Measured on five networks: 1.13 to 1.7 times."""

LONG = 30.0
"""Seconds of steps that an estimate may spend on one grid."""

TIMED_STEPS = 3
_SHRUNK = (16, 12, 8, 6, 4, 3, 2, 1)  # the sides of the grids that are timed, as divisors


class TrainingSettings(Protocol):
    """What an estimate reads of a generator's settings (see `LoopSettings`, `NetworkSettings`)."""

    @property
    def batch_size(self) -> int: ...
    @property
    def accumulation(self) -> int: ...
    @property
    def precision(self) -> Literal["fp32", "bf16"]: ...
    @property
    def gradient_checkpointing(self) -> bool: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def ema_decay(self) -> float: ...
    @property
    def clip_norm(self) -> float: ...
    @property
    def freeze(self) -> Sequence[str]: ...
    def total_steps(self, n: int, processes: int) -> int: ...
    def nearest_grid(self, shape: Shape) -> Shape: ...
    def model_copy(self, *, update: Mapping[str, Any]) -> Any: ...


# Settings -> (what builds the network, what it is trained for).
Parts: TypeAlias = Callable[[Any], tuple[Callable[[], nn.Module], Objective]]
# Grid of the volumes -> shapes of one training sample: the clean one, then all that is told of it.
SampleShapes: TypeAlias = Callable[[Shape], tuple[tuple[int, ...], ...]]


def whole_volumes(shape: Shape) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of a sample that is a volume, of which nothing is told."""
    return ((1, *shape),)


@dataclass(frozen=True)
class Stage:
    """One of the networks that a generator trains, one after the other.

    Attributes
    ----------
    name
        What a reader calls it; empty where there is one alone.
    prefix
        Of its settings, as `--set` takes them: "autoencoder." or nothing.
    parts, settings
        As for `estimate`.
    samples
        Shapes of what it is trained on.
    """

    name: str
    prefix: str
    parts: Parts
    settings: TrainingSettings
    samples: SampleShapes = whole_volumes


def stages(plugin: Any, settings: Any) -> list[Stage]:
    """Return the networks that a generator trains; none where it does not say."""
    if hasattr(plugin, "stages"):
        return list(plugin.stages(settings))
    return [Stage("", "", plugin.parts, settings)] if hasattr(plugin, "parts") else []


def check_freeze(stages: Sequence[Stage]) -> None:
    """Raise where `freeze` names what a network does not have, or leaves nothing to train.

    Raises
    ------
    UsageError
        See `synthbench.generators.loop.freeze`.
    """
    for stage in stages:
        if stage.settings.freeze:
            build, _ = stage.parts(stage.settings)
            with torch.device("meta"):
                freeze(build(), stage.settings.freeze, setting=f"{stage.prefix}freeze")


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
        None where nothing was timed.
    timing
        "measured" on this grid, "extrapolated" by operations from `timed_shape`, or "none".
    timed_shape
        The grid that was timed.
    steps
        Optimizer steps in all.
    checkpoint_bytes
        Of one checkpoint on disk.
    batch_size, accumulation, processes, precision, gradient_checkpointing
        The settings that decide it.
    """

    parameters: int
    flops_a_step: int
    saved_bytes: int
    memory: Memory
    device_name: str
    device_memory_bytes: int
    seconds_a_step: float | None
    timing: Literal["measured", "extrapolated", "none"]
    timed_shape: Shape | None
    steps: int
    checkpoint_bytes: int
    batch_size: int
    accumulation: int
    processes: int
    precision: Literal["fp32", "bf16"]
    gradient_checkpointing: bool

    @property
    def memory_bytes(self) -> int:
        """Of one process, at its highest point."""
        return self.memory.total

    @property
    def total_seconds(self) -> float | None:
        """Of all steps; None where nothing was timed."""
        return None if self.seconds_a_step is None else self.steps * self.seconds_a_step


@dataclass(frozen=True)
class Alternative:
    """Changed settings with which a run would fit.

    Attributes
    ----------
    changes
        Setting and value, as `--set` takes them.
    memory_bytes
        What the run would then need.
    """

    changes: Mapping[str, Any]
    memory_bytes: int

    @property
    def overrides(self) -> list[str]:
        """The changes as `key=value`."""
        return [f"{key}={_yaml(value)}" for key, value in self.changes.items()]


def estimate(
    parts: Parts,
    settings: TrainingSettings,
    shape: Shape,
    *,
    volumes: int,
    processes: int = 1,
    device: torch.device,
    measure: bool = True,
    samples: SampleShapes = whole_volumes,
) -> Estimate:
    """Estimate what training on `volumes` volumes of that grid takes.

    Parameters
    ----------
    parts
        For settings, what builds the network and what it is trained for: a generator's `parts`.
    settings
        The run's.
    shape
        The grid; the network must be able to take it (`check_grid`).
    volumes
        How many there are to train on.
    processes
        How many train, each on a device like this one.
    device
        Where to train.
    measure
        Whether to time steps: about a minute on two CPU cores at most.
    samples
        Shapes of what the network is trained on, for volumes of a grid.
    """
    traced = _trace(parts, settings, shape, samples)
    name, available = device_memory(device)
    memory = _memory(traced, settings, processes, device)
    timed = _Timing(None, None)
    if measure:
        fitting = memory.training <= USABLE * available
        timed = _timed(parts, settings, shape, traced.flops, device, fitting, samples)
    timing: Literal["measured", "extrapolated", "none"] = "none"
    if timed.shape is not None:
        timing = "measured" if timed.shape == shape else "extrapolated"
    return Estimate(
        parameters=traced.parameters,
        flops_a_step=traced.flops * settings.accumulation * processes,
        saved_bytes=traced.saved,
        memory=memory,
        device_name=name,
        device_memory_bytes=available,
        seconds_a_step=timed.seconds,
        timing=timing,
        timed_shape=timed.shape,
        steps=settings.total_steps(volumes, processes),
        # Weights, averages, and Adam's two moments with a step count for each trained tensor.
        checkpoint_bytes=2 * traced.weights + 2 * traced.trained + 4 * traced.tensors,
        batch_size=settings.batch_size,
        accumulation=settings.accumulation,
        processes=processes,
        precision=settings.precision,
        gradient_checkpointing=settings.gradient_checkpointing,
    )


def fits(estimated: Estimate) -> bool:
    """Whether what training adds is within what can be used of the device's memory."""
    return estimated.memory.training <= USABLE * estimated.device_memory_bytes


def alternatives(
    parts: Parts,
    settings: TrainingSettings,
    shape: Shape,
    *,
    processes: int = 1,
    device: torch.device,
    available: int | None = None,
    samples: SampleShapes = whole_volumes,
) -> list[Alternative]:
    """Return the smallest changes with which training fits the device, or `available` bytes.

    Each change alone first, as far as it must go: a smaller batch (with more accumulation, so
    that a step sees as many volumes), gradient checkpointing, bf16, a smaller grid. Where none
    but the last is enough, the first three are taken together, one after the other.
    """
    budget = USABLE * (device_memory(device)[1] if available is None else available)

    def fitting(changes: Mapping[str, Any]) -> Alternative | None:
        own = {key: value for key, value in changes.items() if key != "space.shape"}
        changed = settings.model_copy(update=own)
        traced = _trace(parts, changed, changes.get("space.shape", shape), samples)
        memory = _memory(traced, changed, processes, device)
        return Alternative(changes, memory.total) if memory.training <= budget else None

    batches = _smaller_batches(settings)
    checkpointed = {} if settings.gradient_checkpointing else {"gradient_checkpointing": True}
    narrow = {} if settings.precision == "bf16" else {"precision": "bf16"}
    alone = [batches, [checkpointed] if checkpointed else [], [narrow] if narrow else []]
    found = [_first(fitting, candidates) for candidates in alone]
    base: Mapping[str, Any] = {}
    if not any(found):
        smallest = batches[-1] if batches else {}
        together = [{**smallest, **checkpointed}, {**smallest, **checkpointed, **narrow}]
        found = [_first(fitting, [changes for changes in together if len(changes) > 1])]
        base = {} if any(found) else together[-1]
    grids = [{**base, "space.shape": grid} for grid in _smaller_grids(settings, shape)]
    found.append(_first_halving(fitting, grids))
    return [alternative for alternative in found if alternative is not None]


_Fitting: TypeAlias = Callable[[Mapping[str, Any]], Alternative | None]


def _first(fitting: _Fitting, candidates: Sequence[Mapping[str, Any]]) -> Alternative | None:
    return next(filter(None, map(fitting, candidates)), None)


def _first_halving(
    fitting: _Fitting, candidates: Sequence[Mapping[str, Any]]
) -> Alternative | None:
    """As `_first`, where all candidates after one that fits do too: few of them are tried."""
    found: Alternative | None = None
    low, high = 0, len(candidates)
    while low < high:
        middle = (low + high) // 2
        tried = fitting(candidates[middle])
        if tried is None:
            low = middle + 1
        else:
            found, high = tried, middle
    return found


def _smaller_batches(settings: TrainingSettings) -> list[dict[str, Any]]:
    """Smaller batches of which a whole number makes a step, the largest first."""
    volumes = settings.batch_size * settings.accumulation
    sizes = [n for n in range(settings.batch_size - 1, 0, -1) if volumes % n == 0]
    return [{"batch_size": n, "accumulation": volumes // n} for n in sizes]


def _smaller_grids(settings: TrainingSettings, shape: Shape) -> list[Shape]:
    """Grids of about that shape that the network can take, the largest first."""
    grids: list[Shape] = []
    for percent in range(95, 0, -5):
        d, h, w = (max(1, round(side * percent / 100)) for side in shape)
        grid = settings.nearest_grid((d, h, w))
        smaller = math.prod(grid) < math.prod(grids[-1] if grids else shape)
        if smaller and all(a <= b for a, b in zip(grid, shape, strict=True)):
            grids.append(grid)
    return grids


def _yaml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ",".join(map(str, value)) + "]"
    return str(value)


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


def _trace(
    parts: Parts, settings: TrainingSettings, shape: Shape, samples: SampleShapes = whole_volumes
) -> _Trace:
    """Take one batch forward and backward without data, on as good as a CPU."""
    build, objective = parts(settings)
    aten = torch.ops.aten
    # PyTorch counts attention on GPUs only.
    attention = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
    }
    live, counter = _Live(), FlopCounterMode(display=False, custom_mapping=attention)
    with FakeTensorMode(allow_non_fake_inputs=True), _only_new_garbage():
        network = build()
        values = list(network.parameters())
        trained = freeze(network, settings.freeze)
        clean, *told = (torch.empty(settings.batch_size, *size) for size in samples(shape))
        noise = torch.empty_like(clean)
        t = torch.zeros(settings.batch_size, dtype=torch.int64)
        with counter, live:
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
                loss = objective.losses(network, clean, t, noise, *told).mean()
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


def _memory(
    traced: _Trace, settings: TrainingSettings, processes: int, device: torch.device
) -> Memory:
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


@dataclass(frozen=True)
class _Timing:
    seconds: float | None
    shape: Shape | None


@dataclass
class Rehearsal:
    """Optimizer steps on made-up volumes, with what the training loop does at each.

    Parameters
    ----------
    parts, settings, shape, device, samples
        See `estimate`.
    """

    parts: Parts
    settings: TrainingSettings
    shape: Shape
    device: torch.device
    samples: SampleShapes = whole_volumes
    network: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        build, self.objective = self.parts(self.settings)
        self.network = build().to(self.device)
        self.weights: list[Tensor] = list(self.network.parameters())
        self.averages = [value.detach().clone() for value in self.weights]
        self.trained = freeze(self.network, self.settings.freeze)
        self.optimizer = torch.optim.Adam(
            self.trained, lr=self.settings.learning_rate, foreach=True
        )
        self.draws = torch.Generator().manual_seed(0)

    def step(self) -> float:
        """Take one step and return its loss."""
        loss = self.accumulate()
        self.update()
        return loss

    def accumulate(self) -> float:
        """Add up the gradients of a step and return its loss."""
        total = 0.0
        for _ in range(self.settings.accumulation):
            loss = self._loss() / self.settings.accumulation
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total

    def update(self) -> None:
        """Clip the gradients, then move the weights and their averages."""
        nn.utils.clip_grad_norm_(self.trained, self.settings.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(self.averages, self.weights, 1 - self.settings.ema_decay)

    def _loss(self) -> Tensor:
        batch = self.settings.batch_size
        clean, *told = (
            torch.rand((batch, *size), generator=self.draws).to(self.device)
            for size in self.samples(self.shape)
        )
        noise = torch.randn(clean.shape, generator=self.draws).to(self.device)
        t = torch.randint(self.objective.timesteps, (batch,), generator=self.draws)
        narrow = self.settings.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=narrow):
            given = (clean, t.to(self.device), noise, *told)
            return self.objective.losses(self.network, *given).mean()

    def seconds(self) -> tuple[float, float]:
        """Take one step; return how long its gradients took, and how long its update."""
        began = self._now()
        self.accumulate()
        between = self._now()
        self.update()
        return between - began, self._now() - between

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def _timed(
    parts: Parts,
    settings: TrainingSettings,
    shape: Shape,
    flops: int,
    device: torch.device,
    fitting: bool,
    samples: SampleShapes = whole_volumes,
) -> _Timing:
    """Time steps on ever larger grids, up to this one if it fits, while they stay short.

    The gradients' time is taken to grow with their operations as it grew between the last two
    grids: what it costs to touch every weight is the same on all. The update's does not grow.
    """
    one = settings.model_copy(update={"batch_size": 1, "accumulation": 1})
    wanted = flops * settings.accumulation
    result, seen = _Timing(None, None), [(0, 0.0)]
    for divisor in _SHRUNK:
        d, h, w = (max(1, side // divisor) for side in shape)
        grid = shape if divisor == 1 else settings.nearest_grid((d, h, w))
        whole = grid == shape
        if grid == result.shape or (whole and not fitting):
            continue
        chosen = settings if whole else one
        work = wanted if whole else _trace(parts, chosen, grid, samples).flops
        # From one grid alone the next one's time is far too high: all of it is taken to grow.
        most = 2 * LONG if len(seen) == 2 else LONG / 2
        if result.shape is not None and _extrapolated(seen, work) > most:
            break
        seconds, update = _step_seconds(Rehearsal(parts, chosen, grid, device, samples))
        seen.append((work, seconds))
        result = _Timing(_extrapolated(seen, wanted) + update, grid)
    return result


def _extrapolated(seen: Sequence[tuple[int, float]], work: int) -> float:
    """Return the seconds of that many operations, on the line through the last two grids timed.

    Where noise made the larger grid the quicker one, all of its time is taken to grow.
    """
    (less, sooner), (more, later) = seen[-2:]
    if later <= sooner:
        return later * work / more
    return later + (later - sooner) / (more - less) * (work - more)


def _step_seconds(rehearsal: Rehearsal) -> tuple[float, float]:
    """The mean of a few steps after the first, or the first alone where it took long."""
    first = rehearsal.seconds()
    if TIMED_STEPS * sum(first) > LONG:
        return first
    timed = [rehearsal.seconds() for _ in range(TIMED_STEPS)]
    gradients, update = (sum(part) / TIMED_STEPS for part in zip(*timed, strict=True))
    return gradients, update


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
