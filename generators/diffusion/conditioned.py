"""Sampling of diffusion generators that are told conditions: rows, guidance, trajectories."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float32
from torch import Tensor, nn

from synthbench.cohorts.conditions import Row
from synthbench.errors import UsageError
from synthbench.generators.diffusion.process import Diffusion, Watch
from synthbench.generators.diffusion.schedule import DiffusionSettings
from synthbench.generators.generator import Frame
from synthbench.generators.networks.precision import in_precision, precision_fields
from synthbench.runs.folder import Run


class Drawer(Protocol):
    """Draws the volume of a seed and a row of conditions."""

    @property
    def conditional(self) -> bool:
        """True where the run was trained with conditions."""
        ...

    def drawn_row(self, seed: int) -> Row:
        """Return conditions, drawn from their training marginals by the seed alone."""
        ...

    def draw(
        self,
        network: nn.Module,
        seed: int,
        row: Row,
        chosen: Mapping[str, str | int | float],
        watch: Watch | None = None,
    ) -> Float32[np.ndarray, "d h w"]:
        """Return the volume of a seed, in [0, 1]."""
        ...

    def decoded(self, state: Tensor, row: Row) -> Float32[np.ndarray, "d h w"]:
        """Return the volume of a state with these conditions, not clipped."""
        ...


class Guidance(Protocol):
    """What of the settings decides on guidance, beside those of the diffusion."""

    @property
    def conditions(self) -> Sequence[str]: ...

    @property
    def guidance(self) -> float: ...

    @property
    def null_embedding(self) -> bool:
        """True where the network also learned to predict without conditions."""
        ...


class ConditionedSampling(ABC):
    """The methods of a generator that draws volumes by conditions and guidance."""

    @abstractmethod
    def run_settings(self, run: Run) -> tuple[DiffusionSettings, Guidance]:
        """Return the settings of a run: of its diffusion and of its guidance, often one object."""

    @abstractmethod
    def trained(self, run: Run) -> tuple[nn.Module, Drawer]:
        """Return a run's network and what draws with it, on this process's device."""

    def sampling(
        self,
        run: Run,
        sampler: str | None,
        steps: int | None,
        *,
        guidance: float | None = None,
        precision: str = "fp32",
    ) -> dict[str, str | int | float]:
        """Return the sampler, its number of steps and, for a conditional run, the guidance.

        A precision other than fp32 is returned too.

        Raises
        ------
        UsageError
            The sampler is unknown or cannot take so many steps, guidance is named for a run
            without conditions, or the precision is unknown.
        """
        found = chosen(*self.run_settings(run), sampler, steps, guidance)
        return {**found, **precision_fields(precision)}

    def sample(
        self,
        run: Run,
        seeds: Sequence[int],
        *,
        sampler: str | None = None,
        steps: int | None = None,
        conditions: Sequence[Row] | None = None,
        guidance: float | None = None,
        precision: str = "fp32",
    ) -> Iterator[Float32[np.ndarray, "d h w"]]:
        """Yield one volume per seed. Each is drawn alone, so no volume depends on a batch.

        Parameters
        ----------
        run, seeds, sampler, steps
            As for every generator.
        conditions
            One row per seed, in natural units; None: each row is drawn from the training
            marginals, by the seed alone.
        guidance
            w in u + w (c - u); None: the run's own.
        precision
            That of the diffusion's network: "fp32" or "bf16". What decodes stays in float32.

        Raises
        ------
        UsageError
            The number of rows is not the number of seeds, or the run has no conditions.
        """
        choice = self.sampling(run, sampler, steps, guidance=guidance)
        network, drawer = self.trained(run)
        network = in_precision(network, precision)
        conditional = drawer.conditional
        if conditions is not None and (not conditional or len(conditions) != len(seeds)):
            raise UsageError(
                f"{run.folder}: {len(conditions)} rows of conditions for {len(seeds)} seeds"
                + (", and the run was trained without any." if not conditional else ".")
            )
        for place, seed in enumerate(seeds):
            row = drawer.drawn_row(seed) if conditions is None else conditions[place]
            yield drawer.draw(network, seed, row, choice)

    def trajectory(
        self,
        run: Run,
        seed: int,
        *,
        sampler: str | None,
        steps: int | None,
        frames: int,
        conditions: Row | None = None,
        guidance: float | None = None,
        precision: str = "fp32",
    ) -> Iterator[Frame]:
        """Yield the states, as volumes, at about `frames` calls of the network, the last included.

        `conditions` None: the row that `sample` draws from this seed. `guidance` and `precision`
        as in `sample`.
        """
        choice = self.sampling(run, sampler, steps, guidance=guidance)
        network, drawer = self.trained(run)
        network = in_precision(network, precision)
        calls = Diffusion.network_calls(str(choice["sampler"]), int(choice["steps"]))
        kept = set(np.linspace(0, calls - 1, min(frames, calls)).round().astype(int).tolist())
        row = drawer.drawn_row(seed) if conditions is None else conditions
        shown: list[Frame] = []

        def watch(call: int, timestep: int, state: Tensor, clean: Tensor) -> None:
            if call in kept:
                predicted = drawer.decoded(clean, row).clip(0, 1)
                shown.append(Frame(call, timestep, drawer.decoded(state, row), predicted))

        drawer.draw(network, seed, row, choice, watch)
        yield from shown


def chosen(
    diffusion: DiffusionSettings,
    settings: Guidance,
    sampler: str | None,
    steps: int | None,
    guidance: float | None,
) -> dict[str, str | int | float]:
    """Return the sampler, its number of steps and, with conditions, the guidance; None: the run's.

    Raises
    ------
    UsageError
        The sampler is unknown or cannot take so many steps, or guidance is not possible here.
    """
    found = Diffusion(diffusion).sampling(sampler, steps)
    if not settings.conditions:
        if guidance is not None:
            raise UsageError("--guidance: the run was trained without conditions. Leave it out.")
        return {**found}
    used = settings.guidance if guidance is None else guidance
    if used < 0 or (used != 1 and not settings.null_embedding):
        raise UsageError(
            "--guidance: must be at least 0, and exactly 1 without a null embedding; "
            f"found {used:g}."
        )
    return {**found, "guidance": used}
