"""What the training loop and a generator agree on: objectives, sources, and who watches.

No torch is imported here, so that contracts can be read where it is not needed.
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


Volume: TypeAlias = Float32[np.ndarray, "d h w"]


class Objective(Protocol):
    """What a network is trained for.

    Attributes
    ----------
    timesteps
        T; a sample's timestep is drawn from 0 to T - 1.
    """

    @property
    def timesteps(self) -> int:
        """T."""
        ...

    def losses(
        self,
        network: nn.Module,
        clean: Float32[Tensor, "b c d h w"],
        t: Int64[Tensor, " b"],
        noise: Float32[Tensor, "b c d h w"],
        *conditioning: Tensor,
    ) -> Float32[Tensor, " b"]:
        """Return each sample's loss.

        `conditioning` is what the source gives beside the clean sample.
        """
        ...


class Source(Protocol):
    """What a network is trained on."""

    def __len__(self) -> int: ...

    def opened(
        self, progress: Callable[[int, int, str], None] | None
    ) -> AbstractContextManager[object]:
        """Prepare what `batch` reads; entered in every process, for as long as training lasts."""
        ...

    def batch(self, items: Sequence[int], draws: Sequence[torch.Generator]) -> tuple[Tensor, ...]:
        """Return these items as clean samples, and what else the objective is given of them.

        Parameters
        ----------
        items
            Their places.
        draws
            One CPU generator per item, for all that is random in it.
        """
        ...


@dataclass(frozen=True)
class Monitor:
    """What `fit` is given to watch a training: generators import no metrics and no trackers.

    Attributes
    ----------
    validation
        Volumes of held-out subjects, in the run's space.
    conditions
        Their covariates, for a conditional generator.
    score
        Values of some drawn volumes by name; the first decides, and lower is better. Called in
        every process.
    preview
        Writes a picture of drawn volumes; called in the main process.
    log
        Called in the main process with a step and values by name.
    """

    validation: Volumes | None = None
    conditions: Sequence[Row] | None = None
    score: Callable[[Sequence[Volume]], Mapping[str, float]] | None = None
    preview: Callable[[Sequence[Volume], Path], None] | None = None
    log: Callable[[int, Mapping[str, float]], None] | None = None
