"""The contract between a generator and the training loop: objective, source and monitor.

torch is not imported here, so that code without it can import these contracts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from jaxtyping import Float32, Int64

from synthbench.cohorts.cohort import Volumes
from synthbench.cohorts.conditions import Row

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from synthbench.metrics.similarity.collapse import Diversity


Volume: TypeAlias = Float32[np.ndarray, "d h w"]


class Objective(Protocol):
    """The loss of a network.

    Attributes
    ----------
    timesteps
        T; a sample's timestep is drawn from 0 to T - 1.
    """

    @property
    def timesteps(self) -> int:
        """The number of timesteps, T."""
        ...

    def losses(
        self,
        network: nn.Module,
        clean: Float32[Tensor, "b c d h w"],
        t: Int64[Tensor, " b"],
        noise: Float32[Tensor, "b c d h w"],
        *conditioning: Tensor,
    ) -> Float32[Tensor, " b"]:
        """Return the loss of each sample.

        `conditioning` holds the other tensors of a batch of the source, after the clean samples.
        """
        ...


class Source(Protocol):
    """The training samples of a network."""

    def __len__(self) -> int: ...

    def opened(
        self, progress: Callable[[int, int, str], None] | None
    ) -> AbstractContextManager[object]:
        """Return a context in which `batch` can be called.

        Every process enters it when training begins, and leaves it when training ends.
        """
        ...

    def batch(self, items: Sequence[int], draws: Sequence[torch.Generator]) -> tuple[Tensor, ...]:
        """Return these items: the clean samples, then the other tensors for the objective.

        Parameters
        ----------
        items
            Indices, from 0 to len(self) - 1.
        draws
            One CPU generator per item, for everything random about the item.
        """
        ...


@dataclass(frozen=True)
class Monitor:
    """The parts of synthbench that watch a training: generators import no metrics or trackers.

    Attributes
    ----------
    validation
        Volumes of held-out subjects, in the run's space.
    conditions
        The covariates of the validation volumes, for a conditional generator.
    score
        Returns values of sampled volumes by name; the first value decides, and lower is better.
        Called in every process.
    preview
        Writes a picture of sampled volumes; called in the main process.
    log
        Called in the main process with a step and values by name.
    diversity
        Compares the diversity of sampled volumes with that of training volumes. Called in the main
        process. None is returned where it cannot be measured.
    """

    validation: Volumes | None = None
    conditions: Sequence[Row] | None = None
    score: Callable[[Sequence[Volume]], Mapping[str, float]] | None = None
    preview: Callable[[Sequence[Volume], Path], None] | None = None
    log: Callable[[int, Mapping[str, float]], None] | None = None
    diversity: Callable[[Sequence[Volume]], Diversity | None] | None = None
