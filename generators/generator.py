"""The contract of a generator: it fits on a cohort, and samples volumes.

A generator is any object with the attributes and methods of `Generator`; no base class is
required. It keeps its state in the run folder: `fit` writes there all that `sample` needs.

A generator may also have capabilities: the methods of `TrainedBySteps`, `HasTrajectory`,
`Conditional`, `Guided` or `TrainedWithPerceptual`; its settings may have those of `GridRule`.
synthbench checks each with `isinstance`. docs/generators.md has a table of them.
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


# Called with (steps done, steps in all, a short text such as the loss).
Progress = Callable[[int, int, str], None]

Shape: TypeAlias = tuple[int, int, int]

# Grid of the volumes -> shapes of one training sample: the clean tensor, then those beside it.
SampleShapes: TypeAlias = Callable[[Shape], tuple[tuple[int, ...], ...]]

# (volumes, their reconstructions), both [b 1 d h w] -> a distance each [b], differentiable.
Perceptual: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"


class Settings(BaseModel):
    """Base of a generator's own settings: unknown keys are an error.

    Attributes
    ----------
    RENAMED
        New names of settings by their old names: configurations of earlier versions can still be
        read.
    OF_NETWORK
        Settings that belong to the weights: which network it is, what its inputs and its output
        mean, and what samples begin with. `train --init` takes them from the other run. A subclass
        names its own; those of its bases count as well.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    RENAMED: ClassVar[Mapping[str, str]] = {}
    OF_NETWORK: ClassVar[frozenset[str]] = frozenset()

    seed: int = Field(default=0, ge=0, description="seed of everything random in training")

    @model_validator(mode="before")
    @classmethod
    def _by_names_of_today(cls, values: Any) -> Any:
        return by_names_of_today(cls, values) if isinstance(values, Mapping) else values


@runtime_checkable
class Generator(Protocol):
    """A plugin that fits on a cohort and samples volumes.

    Attributes
    ----------
    name
        The name on the command line.
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
            The run folder that the state is written to.
        resume
            Continue from the newest complete checkpoint.
        init
            Start from this run's weights.
        progress
            Called after each step.
        """
        ...

    def sampling(
        self, run: Run, sampler: str | None, steps: int | None
    ) -> Mapping[str, str | int | float]:
        """Return how `sample` draws, as fields of the sidecars.

        `sampler` or `steps` None: the run's own choice.

        Raises
        ------
        UsageError
            The generator has no such sampler, or the sampler cannot take so many steps.
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
    """Return the shapes of a training sample that is one volume of that grid: ((1, d, h, w),)."""
    return ((1, *shape),)


@dataclass(frozen=True)
class Stage:
    """One network that a generator trains. Several stages are trained one after the other.

    Attributes
    ----------
    build
        Builds the network; it may be called on the meta device.
    objective
        The loss of the network.
    settings
        A `synthbench.generators.loop.settings.StepSettings`.
    name
        The name that users read; empty where there is only one network.
    prefix
        Prefix of its settings after `--set`: "autoencoder." or nothing.
    samples
        Maps the grid to the shapes of one training sample.
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
    process of `accelerate launch`; the `fit` of any other generator is called in the main process
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
        """Fit like `Generator.fit`, and call `monitor` during training."""
        ...


@dataclass(frozen=True)
class Frame:
    """The state of a sampler at one call of the network.

    Attributes
    ----------
    step
        Index of the call, from 0.
    timestep
        Timestep of the diffusion, from T - 1 (noise) to 0.
    state
        Input of the network, on the volumes' intensity scale, not clipped.
    clean
        The clean volume that the network predicted from the state, in [0, 1].
    """

    step: int
    timestep: int
    state: Float32[np.ndarray, "d h w"]
    clean: Float32[np.ndarray, "d h w"]


@runtime_checkable
class HasTrajectory(Protocol):
    """A generator that can return the steps from the noise to a volume."""

    def trajectory(
        self, run: Run, seed: int, *, sampler: str | None, steps: int | None, frames: int
    ) -> Iterator[Frame]:
        """Yield the states at about `frames` calls of the network, in order.

        The clean volume of the last frame is the one that `sample` yields for the seed. A
        `Conditional` generator may also take `conditions`, one row; a `Guided` one `guidance`.
        """
        ...


@runtime_checkable
class GridRule(Protocol):
    """Settings of a generator that cannot train on every grid."""

    def check_grid(self, shape: Shape) -> None:
        """Raise a UsageError that names the nearest possible grid, where this one is impossible."""
        ...

    def nearest_grid(self, shape: Shape) -> Shape:
        """Return the possible grid that is nearest to that shape."""
        ...


# The capabilities below add a keyword to methods that every generator has. A runtime-checkable
# Protocol compares names of methods only, so these classes look at the keywords in a
# __subclasshook__, as the classes of collections.abc do.


def has_random_fit(plugin: object) -> bool:
    """Return False where the generator says that its fit gives the same weights for every seed."""
    return bool(getattr(plugin, "random_fit", True))


def takes(method: Callable[..., object], keyword: str) -> bool:
    """Return True where a method names that keyword; `**options` does not count."""
    return keyword in signature(method).parameters


def _methods_take(plugin: type, keyword: str, *methods: str) -> bool:
    attributes = [getattr(plugin, method, None) for method in methods]
    return all(callable(one) and takes(one, keyword) for one in attributes)


class Conditional(ABC):
    """A generator whose `fit` and `sample` take `conditions`.

    Its settings have a field `conditions`, the names of covariates (`NamesConditions`).
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
        """Fit like `Generator.fit`, with one row of covariates per volume, in natural units.

        The run's record already holds ranges and levels: `Conditions.of_run(run.record)`.
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

        None: the generator draws a row from the seed, or uses no conditions.
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
        """Return how `sample` draws, with the guidance; None: the run's own."""

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


class SampledInPrecision(ABC):
    """A generator whose `sampling` and `sample` take `precision`: that of its networks."""

    @classmethod
    def __subclasshook__(cls, plugin: type) -> Any:
        return _methods_take(plugin, "precision", "sampling", "sample")

    @abstractmethod
    def sampling(
        self, run: Run, sampler: str | None, steps: int | None, *, precision: str = "fp32"
    ) -> Mapping[str, str | int | float]:
        """Return how `sample` draws, with the precision where it is not fp32."""

    @abstractmethod
    def sample(
        self,
        run: Run,
        seeds: Sequence[int],
        *,
        precision: str = "fp32",
        **options: Any,
    ) -> Iterator[Float32[np.ndarray, "d h w"]]:
        """Yield one volume per seed; bf16: the same volumes but for rounding, in less time."""


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
        """Fit like `Generator.fit`, with the distance that the settings name."""


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
    """Raise where settings name something that the generator's methods do not take.

    Raises
    ------
    UsageError
        The settings name conditions and the generator is not `Conditional`, or an extractor and
        it is not `TrainedWithPerceptual`.
    """
    names = conditions_named(settings)
    if names and not isinstance(plugin, Conditional):
        raise UsageError(
            f"conditions: {name} cannot be trained on {', '.join(names)}: its fit and sample do "
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
    """Return the sampling of a generator without samplers: no fields.

    Raises
    ------
    UsageError
        A sampler or a number of steps is named.
    """
    if sampler is not None or steps is not None:
        raise UsageError(f"{name} samples in one step: leave out --sampler and --steps.")
    return {}


def refuse_init(name: str, init: Run | None) -> None:
    """Raise where a run is named to start from: for generators that cannot do that.

    Raises
    ------
    UsageError
        `init` is not None.
    """
    if init is not None:
        raise UsageError(
            f"--init: {name} has a closed-form fit, which starts from no weights. Leave it out."
        )
