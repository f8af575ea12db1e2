"""`pca-gaussian`: a Gaussian in the training volumes' principal subspace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np
from jaxtyping import Float32
from pydantic import BaseModel, Field

from synthbench.cohorts.cohort import Volumes
from synthbench.errors import UsageError
from synthbench.generators.components import principal_components
from synthbench.generators.generator import Progress, Settings, one_step, refuse_init
from synthbench.generators.loop.volume_cache import VolumeCache
from synthbench.runs.folder import Run


class PCASettings(Settings):
    """Settings of `pca-gaussian`."""

    variance: float = Field(
        default=0.99, gt=0, le=1, description="share of the training variance that is kept"
    )


class PCAGaussian:
    """Mean volume plus independent Gaussian scores on the principal components."""

    name = "pca-gaussian"
    summary = "a Gaussian in the training volumes' PCA subspace: right on average, blurred"
    needs = "two volumes at least; fits in seconds"
    paper = "none: principal components, a Gaussian"
    licence = "as the training data"
    random_fit = False
    settings = PCASettings

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
        """Find the components from the Gram matrix of the centred volumes.

        Raises
        ------
        UsageError
            There are fewer than two volumes.
        """
        assert isinstance(settings, PCASettings)
        refuse_init(self.name, init)
        n = len(volumes)
        if n < 2:
            raise UsageError(f"{self.name} needs at least 2 training volumes; found {n}.")
        with VolumeCache(volumes, run.folder, progress) as rows:
            mean = rows.mean(axis=0, dtype=np.float64)
            components = principal_components(rows, mean, share=settings.variance)
        run.save_weights(
            {"mean": mean.astype(np.float32), "components": components,
             "shape": np.array(volumes.space.shape)}
        )  # fmt: skip

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
        """Yield one volume per seed."""
        self.sampling(run, sampler, steps)
        weights = run.load_weights()
        shape = run.space.shape
        mean = weights.array("mean", prod(shape))
        components = weights.array("components", None, prod(shape))
        for seed in seeds:
            scores = np.random.default_rng(seed).standard_normal(len(components))
            volume = mean + scores.astype(np.float32) @ components
            yield np.clip(volume, 0, 1).reshape(shape)
