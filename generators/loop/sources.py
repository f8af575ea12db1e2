"""The data of a training: sources of samples, the task, and batches drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float32
from torch import Tensor, nn

from synthbench.cohorts.cohort import Volumes
from synthbench.generators.contracts import Objective, Source, Volume
from synthbench.generators.generator import Progress
from synthbench.generators.loop.augmentation import AugmentationSettings, augment
from synthbench.generators.loop.settings import StepSettings
from synthbench.generators.loop.volume_cache import VolumeCache
from synthbench.runs.folder import Run
from synthbench.runtime.parallel import read_ahead
from synthbench.runtime.processes import processes

_ORDER, _DRAWS, VALIDATION = 0, 1, 2  # independent random streams of one seed

Batch: TypeAlias = tuple[Tensor, ...]

# (the network with averaged weights, a seed) -> a volume in [0, 1]
Draw = Callable[[nn.Module, int], Volume]


class TrainingVolumes:
    """A source of whole volumes. Each is prepared once, and augmented each time it is used.

    Parameters
    ----------
    volumes
        The training volumes.
    settings
        Settings of the augmentation.
    run
        The run folder; the prepared volumes are stored there while training lasts.
    """

    def __init__(self, volumes: Volumes, settings: AugmentationSettings, run: Run) -> None:
        self.volumes, self.settings, self.run = volumes, settings, run

    def __len__(self) -> int:
        return len(self.volumes)

    @contextmanager
    def opened(self, progress: Progress | None) -> Iterator[None]:
        """Prepare the volumes as rows of one file; the main process fills it."""
        state = processes()
        main = state.is_main_process
        cache = VolumeCache(self.volumes, self.run.folder, progress, fill=True) if main else None
        state.wait_for_everyone()
        with cache or VolumeCache(self.volumes, self.run.folder, fill=False) as rows:
            self.rows = rows
            yield

    def batch(
        self, items: Sequence[int], draws: Sequence[torch.Generator]
    ) -> tuple[Float32[Tensor, "b 1 d h w"]]:
        """Return these volumes, augmented."""
        space = self.volumes.space
        picked = torch.from_numpy(np.stack([self.rows[item] for item in items]))
        shaped = picked.reshape(len(items), 1, *space.shape)
        return (augment(shaped, self.settings, draws, space.spacing),)


class HeldOutVolumes:
    """A source of whole volumes without augmentation.

    Parameters
    ----------
    volumes
        Volumes of subjects that are not trained on.
    """

    def __init__(self, volumes: Volumes) -> None:
        self.volumes = volumes

    def __len__(self) -> int:
        return len(self.volumes)

    def opened(self, progress: Progress | None) -> AbstractContextManager[None]:
        """Prepare nothing: `batch` reads the volumes."""
        return nullcontext()

    def batch(
        self, items: Sequence[int], draws: Sequence[torch.Generator]
    ) -> tuple[Float32[Tensor, "b 1 d h w"]]:
        """Return these volumes."""
        return (torch.from_numpy(np.stack([self.volumes[item] for item in items]))[:, None],)


@dataclass(frozen=True)
class OptimizerGroup:
    """Parameters with an optimizer of their own.

    Adam keeps its moments per parameter. So groups of one Adam, each with its own learning rate,
    betas and limit of the gradient's norm, are as many optimizers that step together.

    Attributes
    ----------
    start
        Beginning of the parameters' names.
    rate
        Learning rate, relative to that of the settings.
    betas
        Decay of Adam's two moments.
    """

    start: str
    rate: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)


@dataclass(frozen=True)
class Task:
    """A network to train, with its loss and its data.

    Attributes
    ----------
    model
        The network, in its initial state.
    objective
        The loss.
    source
        The training samples.
    settings
        Settings of the loop. Only with `LoopSettings` there are validation, previews and scores.
    draw
        Samples a volume with the averaged weights, for previews and scores; None: neither.
    held_out
        The samples of the validation losses; None: no validation.
    optimizers
        One group of parameters for each optimizer; together they hold each parameter once. Empty:
        one Adam for all parameters.
    """

    model: nn.Module
    objective: Objective
    source: Source
    settings: StepSettings
    draw: Draw | None = None
    held_out: Source | None = None
    optimizers: Sequence[OptimizerGroup] = ()


def _seed(*key: int) -> int:
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def draws_of(*key: int) -> torch.Generator:
    """Return a CPU generator whose seed is a hash of these numbers."""
    return torch.Generator().manual_seed(_seed(*key))


def batches(task: Task, accelerator: Accelerator, start: int, total: int) -> Generator[Batch]:
    """Yield this process's batches; each is prepared while the network computes the one before.

    A batch is (clean, timesteps, noise, *conditioning).
    """
    source, objective, settings = task.source, task.objective, task.settings
    size, accumulation = settings.batch_size, settings.accumulation
    rank, processes = accelerator.process_index, accelerator.num_processes
    on_gpu = accelerator.device.type == "cuda"

    def batch(index: int) -> Batch:
        first = (index * processes + rank) * size
        samples = range(first, first + size)
        draws = [draws_of(settings.seed, _DRAWS, sample) for sample in samples]
        clean, *conditioning = source.batch(_items_at(len(source), settings.seed, samples), draws)
        t = torch.cat([torch.randint(objective.timesteps, (1,), generator=g) for g in draws])
        # Filled in place: torch.stack of whole volumes would start threads beside the step's own.
        noise = torch.empty(clean.shape)
        for row, g in zip(noise, draws, strict=True):
            torch.randn(row.shape, generator=g, out=row)
        tensors = (clean, t, noise, *conditioning)
        return tuple(x.pin_memory() for x in tensors) if on_gpu else tensors

    yield from read_ahead(batch, range(start * accumulation, total * accumulation), workers=1)


def _items_at(n: int, seed: int, samples: range) -> list[int]:
    """Return the items of these training samples: all items, shuffled anew in each epoch."""
    items = []
    for sample in samples:
        epoch, place = divmod(sample, n)
        order = np.random.default_rng([seed, _ORDER, epoch]).permutation(n)
        items.append(int(order[place]))
    return items
