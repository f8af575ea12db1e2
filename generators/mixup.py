"""`mixup`: convex combinations of two training volumes.

Zhang et al. 2018 (arXiv 1710.09412) train classifiers on such images. Here they are a baseline: an
image between two persons has learnt nothing, and is nearer to both than persons are to each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32
from pydantic import BaseModel, Field

from synthbench.cohorts.cohort import Volumes
from synthbench.errors import UsageError
from synthbench.generators.generator import Progress, Settings, one_step, refuse_init
from synthbench.generators.memorizer import in_8_bits
from synthbench.runs.folder import Run


class MixupSettings(Settings):
    """Settings of `mixup`."""

    alpha: float = Field(
        default=1.0,
        gt=0,
        description="the weight is drawn from Beta(alpha, alpha): 1, uniform; less, near 0 or 1",
    )


class Mixup:
    """w a + (1 - w) b: a pair of training volumes, and a weight, drawn by the seed."""

    name = "mixup"
    summary = "convex pairs of training volumes: two brains in one; tests for copies must catch it"
    needs = "2 volumes; its weights ARE the training volumes: do not publish them"
    paper = "Zhang et al. 2018, arXiv 1710.09412"
    licence = "as the training data: the run holds the training volumes"
    random_fit = False
    settings = MixupSettings

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
        """Store the training volumes, 8 bits per voxel.

        Raises
        ------
        UsageError
            There are fewer than two volumes.
        """
        assert isinstance(settings, MixupSettings)
        refuse_init(self.name, init)
        if len(volumes) < 2:
            raise UsageError(
                f"{self.name} needs at least 2 training volumes; found {len(volumes)}."
            )
        run.save_weights(
            {"volumes": in_8_bits(volumes, progress), "alpha": np.array([settings.alpha])}
        )

    def sampling(self, run: Run, sampler: str | None, steps: int | None) -> dict[str, str | int]:
        """Return no fields: there is one way to sample."""
        return one_step(self.name, sampler, steps)

    def sample(
        self,
        run: Run,
        seeds: Sequence[int],
        *,
        sampler: str | None = None,
        steps: int | None = None,
    ) -> Iterator[Float32[np.ndarray, "d h w"]]:
        """Yield one volume per seed: of two different training volumes, each pair equally often."""
        self.sampling(run, sampler, steps)
        weights = run.load_weights()
        stored = weights.array("volumes", None, *run.space.shape, kinds="u")
        (alpha,) = weights.array("alpha", 1)
        for seed in seeds:
            rng = np.random.default_rng(seed)
            first, second = rng.choice(len(stored), size=2, replace=False)
            share = rng.beta(alpha, alpha)
            mixed = share * stored[first] + (1 - share) * stored[second]
            # Rounding may bring a sum of 255 a little above it.
            yield np.clip(mixed / 255, 0, 1).astype(np.float32)
