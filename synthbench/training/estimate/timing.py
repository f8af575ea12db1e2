"""The time of a training step, measured on a few steps of the training loop itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from synthbench.generators.contracts import Monitor
from synthbench.generators.generator import Progress, Shape, Stage
from synthbench.generators.loop import sources, train
from synthbench.runs.folder import Run
from synthbench.training.stages import step_settings

TIMED_STEPS = 3
"""Steps that are timed, after a first one that is not."""


class MadeUp:
    """A source of random samples in place of training samples: reading is not timed."""

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
    """Return the seconds of an optimizer step of the training loop, in every process.

    It is the mean of three steps after a first one, on made-up samples, with the run's settings.
    It leaves out reading and augmenting volumes, which other threads do at the same time, and the
    work of some steps only: checkpoints, validation, previews, scores. Nothing stays on disk.
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
