"""`noise`: Gaussian noise with the brain's mean and spread, inside the brain's outline.

The far end of every leaderboard, and the generator that tests use: it takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32
from pydantic import BaseModel

from synthbench.cohorts.cohort import Volumes, majority_mask
from synthbench.generators.generator import Progress, Settings, one_step, refuse_init
from synthbench.runs.folder import Run


class Noise:
    """Independent Gaussian voxels inside the training volumes' mask."""

    name = "noise"
    summary = "Gaussian noise inside the brain's outline: the far end of every leaderboard"
    needs = "nothing; fits in seconds"
    paper = "none: the far end of a leaderboard"
    licence = "as the training data"
    random_fit = False
    settings = Settings

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
        """Measure the mask, and the mean and standard deviation inside it."""
        refuse_init(self.name, init)
        mask = majority_mask(volumes)
        total = squares = 0.0
        for done, volume in enumerate(volumes, 1):
            inside = volume[mask].astype(np.float64)
            total += inside.sum()
            squares += (inside**2).sum()
            if progress:
                progress(done, len(volumes), "")
        count = len(volumes) * int(mask.sum())
        mean = total / count
        spread = np.sqrt(squares / count - mean**2)
        run.save_weights({"mask": mask, "moments": np.array([mean, spread])})

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
        mask = weights.array("mask", *run.space.shape, kinds="b")
        mean, spread = weights.array("moments", 2)
        for seed in seeds:
            volume = np.zeros(mask.shape, np.float32)
            draws = np.random.default_rng(seed).normal(mean, spread, int(mask.sum()))
            volume[mask] = np.clip(draws, 0, 1)
            yield volume
