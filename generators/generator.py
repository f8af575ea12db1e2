"""The contract of a generator: it fits on a cohort, and samples volumes.

A generator is any object with the attributes and methods of `Generator`; no base class is
required. It keeps its state in the run folder: `fit` writes there all that `sample` needs.

What a generator can do beyond that is a capability: it has the methods of `TrainedBySteps`,
`HasTrajectory`, `Conditional`, `Guided` or `TrainedWithPerceptual`, and its settings those of
`GridRule`. synthbench asks for each with `isinstance`. docs/generators.md has a table of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float32
from pydantic import BaseModel, ConfigDict, Field, model_validator

from synthbench.cohorts.cohort import Volumes
from synthbench.cohorts.conditions import Row
from synthbench.errors import UsageError
from synthbench.generators.contracts import Monitor, Objective
from synthbench.runs.folder import Run
from synthbench.runs.validation import by_names_of_today

if TYPE_CHECKING:
    from torch import Tensor, nn


# Called with (steps done, steps in all, a few words such as the loss).
Progress = Callable[[int, int, str], None]

Shape: TypeAlias = tuple[int, int, int]

# Grid of the volumes -> shapes of one training sample: the clean one, then all that goes with it.
SampleShapes: TypeAlias = Callable[[Shape], tuple[tuple[int, ...], ...]]

# (volumes, their reconstructions), both [b 1 d h w] -> a distance each [b], differentiable.
Perceptual: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"


class Settings(BaseModel):
    """Base of a generator's own settings: unknown keys are an error.

    Attributes
    ----------
    RENAMED
        Names of settings in earlier versions, and what they are called now. Configurations of
        runs from then can still be read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    RENAMED: ClassVar[Mapping[str, str]] = {}

    seed: int = Field(default=0, ge=0, description="seed of everything random in training")

    @model_validator(mode="before")
    @classmethod
    def _by_names_of_today(cls, given: Any) -> Any:
        return by_names_of_today(cls, given) if isinstance(given, Mapping) else given


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
        """Yield one volume per seed, in [0, 1]; volume i depends on `seeds[i]` alone."""
        ...


# ---------------------------------------------------------------- capabilities


def whole_volumes(shape: Shape) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of a training sample that is a volume and nothing else."""
    return ((1, *shape),)


@dataclass(frozen=True)
class Stage:
    """One of the networks that a generator trains, one after the other.

    Attributes
    ----------
    build
        Builds the network; it may be called on the meta device.
    objective
        What the network is trained for.
    settings
        A `synthbench.generators.loop.settings.StepSettings`.
    name
        For the reader; empty where there is one network alone.
    prefix
        Of its settings, as `--set` takes them: "autoencoder." or nothing.
    samples
        Shapes of what it is trained on.
    """

    build: Callable[[], nn.Module]
    objective: Objective
    settings: Settings
    name: str = ""
    prefix: str = ""
    samples: SampleShapes = whole_volumes


@runtime_checkable
class TrainedBySteps(Protocol):
    """A generator that trains networks by optimizer steps, with `synthbench.generators.loop.train`.

    Its settings are a `synthbench.generators.loop.settings.LoopSettings`. `fit` is called in every
    process of `accelerate launch`, where that of any other generator is called in the main process
    only.
    """

    def stages(self, settings: Any) -> Sequence[Stage]:
        """Return the networks to train, in order; for `--dry-run` and for `freeze`."""
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
        monitor: Monitor | None = None,
    ) -> None:
        """Fit as `Generator.fit`; `monitor` is given what happens on the way."""
        ...


@dataclass(frozen=True)
class Frame:
    """What a sampler held at one call of the network.

    Attributes
    ----------
    step
        Index of the call, from 0.
    timestep
        Of the diffusion, T - 1 (noise) to 0.
    state
        What the network saw, on the volumes' intensity scale, not clipped.
    clean
        The clean volume that it predicted from it, in [0, 1].
    """

    step: int
    timestep: int
    state: Float32[np.ndarray, "d h w"]
    clean: Float32[np.ndarray, "d h w"]


@runtime_checkable
class HasTrajectory(Protocol):
    """A generator that can return how a volume came out of the noise."""

    def trajectory(
        self, run: Run, seed: int, *, sampler: str | None, steps: int | None, frames: int
    ) -> Iterator[Frame]:
        """Yield what the sampler held at about `frames` of its network calls, in order.

        The last frame's clean volume is the one that `sample` yields for the seed. A `Conditional`
        generator may also take `conditions`, one row, and a `Guided` one `guidance`.
        """
        ...


@runtime_checkable
class GridRule(Protocol):
    """Settings of a generator that cannot train on every grid."""

    def check_grid(self, shape: Shape) -> None:
        """Raise a UsageError that names the nearest grid, where this one cannot be."""
        ...

    def nearest_grid(self, shape: Shape) -> Shape:
        """Return the grid nearest to that shape that can be."""
        ...


# The capabilities below add a keyword to methods that every generator has. A runtime-checkable
# Protocol would find the methods and not look at their keywords, so these look themselves, as the
# classes of collections.abc do.


def takes(method: Callable[..., object], keyword: str) -> bool:
    """Whether a method names that keyword; `**options` does not count."""
    return keyword in signature(method).parameters


def _methods_take(plugin: type, keyword: str, *methods: str) -> bool:
    found = [getattr(plugin, method, None) for method in methods]
    return all(callable(method) and takes(method, keyword) for method in found)


class Conditional(ABC):
    """A generator whose `fit` and `sample` take `conditions`.

    Its settings have a field `conditions`, the names of covariates; see `NamesConditions`.
    """

    @classmethod
    def __subclasshook__(cls, plugin: type) -> Any:
        return _methods_take(plugin, "conditions", "fit", "sample")

    @abstractmethod
    def fit(
        self,
        volumes: Volumes,
        settings: BaseModel,
        run: Run,
        *,
        conditions: Sequence[Row] | None = None,
        **options: Any,
    ) -> None:
        """Fit as `Generator.fit`, with one row of covariates per volume, in natural units.

        The run's record holds ranges and levels by then: `Conditions.of_run(run.record)`.
        """

    @abstractmethod
    def sample(
        self,
        run: Run,
        seeds: Sequence[int],
        *,
        conditions: Sequence[Row] | None = None,
        **options: Any,
    ) -> Iterator[Float32[np.ndarray, "d h w"]]:
        """Yield one volume per seed, each under its own row of conditions.

        None: the generator draws a row from the seed, or uses none.
        """


class Guided(ABC):
    """A generator whose `sampling` and `sample` take `guidance`."""

    @classmethod
    def __subclasshook__(cls, plugin: type) -> Any:
        return _methods_take(plugin, "guidance", "sampling", "sample")

    @abstractmethod
    def sampling(
        self, run: Run, sampler: str | None, steps: int | None, *, guidance: float | None = None
    ) -> Mapping[str, str | int | float]:
        """Return how `sample` will draw, with the guidance; None: the run's own."""

    @abstractmethod
    def sample(
        self,
        run: Run,
        seeds: Sequence[int],
        *,
        guidance: float | None = None,
        **options: Any,
    ) -> Iterator[Float32[np.ndarray, "d h w"]]:
        """Yield one volume per seed; above 1, guidance exaggerates what conditions do."""


class TrainedWithPerceptual(ABC):
    """A generator whose `fit` takes `perceptual`, a distance of volumes.

    Its settings have a field `perceptual`, the name of an extractor or None.
    """

    @classmethod
    def __subclasshook__(cls, plugin: type) -> Any:
        return _methods_take(plugin, "perceptual", "fit")

    @abstractmethod
    def fit(
        self,
        volumes: Volumes,
        settings: BaseModel,
        run: Run,
        *,
        perceptual: Perceptual | None = None,
        **options: Any,
    ) -> None:
        """Fit as `Generator.fit`, with the distance that the settings name."""


@runtime_checkable
class NamesConditions(Protocol):
    """Settings that name covariates."""

    conditions: tuple[str, ...]


@runtime_checkable
class NamesPerceptual(Protocol):
    """Settings that name the extractor of a perceptual distance."""

    perceptual: str | None


def conditions_named(settings: BaseModel) -> tuple[str, ...]:
    """Return the covariates that settings name; none where they have no such field."""
    return tuple(settings.conditions) if isinstance(settings, NamesConditions) else ()


def perceptual_named(settings: BaseModel) -> str | None:
    """Return the extractor that settings name for a perceptual distance, or None."""
    return settings.perceptual if isinstance(settings, NamesPerceptual) else None


def check_settings_used(name: str, plugin: object, settings: BaseModel) -> None:
    """Raise where settings ask for what the generator's methods do not take.

    Raises
    ------
    UsageError
        The settings name conditions and the generator is not `Conditional`, or an extractor and
        it is not `TrainedWithPerceptual`.
    """
    wanted = conditions_named(settings)
    if wanted and not isinstance(plugin, Conditional):
        raise UsageError(
            f"conditions: {name} cannot be trained on {', '.join(wanted)}: its fit and sample do "
            "not both take `conditions`. Set conditions=[], or choose another generator "
            "(synthbench list generators)."
        )
    extractor = perceptual_named(settings)
    if extractor is not None and not isinstance(plugin, TrainedWithPerceptual):
        raise UsageError(
            f"perceptual: {name} cannot be trained with {extractor}: its fit does not take "
            "`perceptual`. Set perceptual=null."
        )


# ---------------------------------------------------------------- for plugins


def one_step(name: str, sampler: str | None, steps: int | None) -> dict[str, str | int]:
    """Return the sampling of a generator that has no sampler to choose; raise if one is named."""
    if sampler is not None or steps is not None:
        raise UsageError(f"{name} samples in one step: leave out --sampler and --steps.")
    return {}


def refuse_init(name: str, init: Run | None) -> None:
    """Raise for a generator that cannot start from another run."""
    if init is not None:
        raise UsageError(f"{name} has a closed-form fit: --init has nothing to start from.")
