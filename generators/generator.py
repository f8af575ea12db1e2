"""The contract of a generator: it fits on a cohort, and samples volumes.

A generator is any object with these attributes and methods; no base class is required. It
keeps its state in the run folder: `fit` writes there all that `sample` needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float32
from pydantic import BaseModel, ConfigDict, Field

from synthbench.cohort import Volumes
from synthbench.errors import UsageError
from synthbench.run import Run

if TYPE_CHECKING:
    from torch import Tensor

# Called with (steps done, steps in all, a few words such as the loss).
Progress = Callable[[int, int, str], None]

# (volumes, their reconstructions), both [b 1 d h w] -> a distance each [b], differentiable.
Perceptual: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"


class Settings(BaseModel):
    """Base of a generator's own settings: unknown keys are an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    seed: int = Field(default=0, ge=0, description="seed of everything random in training")


@runtime_checkable
class Generator(Protocol):
    """A plugin that fits on a cohort and samples volumes.

    Attributes
    ----------
    name
        As on the command line.
    summary, needs
        One line each, for `synthbench list generators`.
    settings
        A pydantic model of everything that can be set.
    """

    name: str
    summary: str
    needs: str

    @property
    def settings(self) -> type[BaseModel]:
        """The model of everything that can be set."""
        ...

    def fit(
        self,
        volumes: Volumes,
        settings: BaseModel,
        run: Run,
        *,
        resume: bool = False,
        init: Run | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Fit on the volumes and write the run's weights.

        Parameters
        ----------
        volumes
            The training volumes, in the run's space, `Float32[d h w]` in [0, 1].
        settings
            An instance of `settings`.
        run
            Where the state goes.
        resume
            Continue from the newest whole checkpoint.
        init
            Start from this run's weights.
        progress
            Called after each step.
        """
        ...

    def sampling(
        self, run: Run, sampler: str | None, steps: int | None
    ) -> Mapping[str, str | int | float]:
        """Return how `sample` will draw, for the sidecars: the run's own choice where None.

        Raises
        ------
        UsageError
            The generator has no such sampler, or the steps do not fit it.
        """
        ...

    def sample(
        self,
        run: Run,
        seeds: Sequence[int],
        *,
        sampler: str | None = None,
        steps: int | None = None,
    ) -> Iterator[Float32[np.ndarray, "d h w"]]:
        """Yield one volume a seed, in [0, 1]; volume i depends on `seeds[i]` alone."""
        ...


def one_step(name: str, sampler: str | None, steps: int | None) -> dict[str, str | int]:
    """Return the sampling of a generator that has no sampler to choose; raise if one is named."""
    if sampler is not None or steps is not None:
        raise UsageError(f"{name} samples in one step: leave out --sampler and --steps.")
    return {}


def refuse_init(name: str, init: Run | None) -> None:
    """Raise for a generator that cannot start from another run."""
    if init is not None:
        raise UsageError(f"{name} has a closed-form fit: --init has nothing to start from.")
