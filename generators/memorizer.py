"""`memorizer`: training volumes with noise and warps that nobody can see.

Its volumes look perfect, and it has learnt nothing. Distances to the training set must find that;
the Frechet distance to a reference set does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32, UInt8
from pydantic import BaseModel, Field
from scipy import ndimage

from synthbench.cohorts.cohort import Volumes
from synthbench.generators.generator import Progress, Settings, one_step, refuse_init
from synthbench.runs.folder import Run


class MemorizerSettings(Settings):
    """Settings of `memorizer`."""

    warp: float = Field(default=0.3, ge=0, description="sd of the displacement, in voxels")
    noise: float = Field(default=0.01, ge=0, description="sd of the noise inside the brain")


class Memorizer:
    """Training volumes, slightly warped and with a little noise."""

    name = "memorizer"
    summary = "training volumes with imperceptible noise and warps: metrics must catch it"
    needs = "nothing; its weights ARE the training volumes: do not publish them"
    paper = "none: a control for the tests of copies"
    licence = "as the training data: the run holds the training volumes"
    random_fit = False
    settings = MemorizerSettings

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
        """Store the training volumes, 8 bits per voxel."""
        assert isinstance(settings, MemorizerSettings)
        refuse_init(self.name, init)
        run.save_weights({
            "volumes": in_8_bits(volumes, progress),
            "warp_noise": np.array([settings.warp, settings.noise]),
        })  # fmt: skip

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
        """Yield one volume per seed: a random training volume with a warp and noise."""
        self.sampling(run, sampler, steps)
        weights = run.load_weights()
        stored = weights.array("volumes", None, *run.space.shape, kinds="u")
        warp, noise = weights.array("warp_noise", 2)
        for seed in seeds:
            rng = np.random.default_rng(seed)
            volume = stored[rng.integers(len(stored))].astype(np.float32) / 255
            yield _disturbed(volume, warp, noise, rng)


def in_8_bits(volumes: Volumes, progress: Progress | None) -> UInt8[np.ndarray, "n d h w"]:
    """Return all volumes, their intensities times 255 and rounded."""
    stored = np.zeros((len(volumes), *volumes.space.shape), np.uint8)
    for index, volume in enumerate(volumes):
        stored[index] = np.round(volume * 255)
        if progress:
            progress(index + 1, len(volumes), "")
    return stored


def _disturbed(
    volume: Float32[np.ndarray, "d h w"], warp: float, noise: float, rng: np.random.Generator
) -> Float32[np.ndarray, "d h w"]:
    """Return the volume, moved by a smooth displacement of sd `warp` voxels, plus noise.

    Noise of sd `noise` is added inside the brain only; the result is clipped to [0, 1].
    """
    smoothness = 4.0  # voxels: smooth enough that no eye sees it
    where = np.indices(volume.shape, dtype=np.float64)
    for axis in range(3):
        field = ndimage.gaussian_filter(rng.standard_normal(volume.shape), smoothness, mode="wrap")
        where[axis] += warp * field / field.std()
    moved = ndimage.map_coordinates(volume, where, order=1, mode="nearest")
    noisy = moved + noise * rng.standard_normal(volume.shape) * (moved > 0)
    return np.asarray(np.clip(noisy, 0, 1), dtype=np.float32)
