"""`local3d`: a generator without training, from the local score of registered volumes.

A sample starts as a random linear combination of the training volumes, with their mean and their
covariance: it has the shape of a new head, and is blurred. Noise is added, and the local denoiser
(`synthbench.generators.local_score`) takes it away level by level. Each step replaces what a patch
shows by the mean of the training patches at that place that agree with it. So the shape is new, and
all detail is training detail: local copying is what this generator does, by design.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float16, Float32, Float64
from numpy.typing import ArrayLike
from pydantic import BaseModel, Field

from synthbench.cohorts.cohort import Volumes
from synthbench.cohorts.conditions import Conditions, Row
from synthbench.errors import UsageError
from synthbench.generators.generator import Progress, Settings, refuse_init
from synthbench.generators.local_score import local_denoiser, noise_levels, patch_side
from synthbench.runs.folder import Run
from synthbench.runtime.processes import processes

SAMPLER = "karras-euler"
"""The one sampler: Euler steps along the noise levels of Karras et al. (2022)."""

IN_HEAD = 0.05
"""Voxels whose mean over the training volumes is above this count as the head."""


class LocalSettings(Settings):
    """Settings of `local3d`."""

    start: Literal["gaussian", "mean"] = Field(
        default="gaussian",
        description="noise is added to a random combination of training volumes, or to their mean",
    )
    sigma_max: float = Field(default=0.25, gt=0, description="first noise level, in intensities")
    sigma_min: float = Field(default=0.03, gt=0, description="last noise level, in intensities")
    steps: int = Field(default=8, ge=1, description="noise levels")
    nats: float = Field(
        default=12.0, gt=0, description="evidence between two volumes that a patch must hold"
    )
    smallest_patch: int = Field(default=5, ge=1, description="least side of a patch, in voxels")
    largest_patch: int = Field(default=31, ge=1, description="greatest side of a patch, in voxels")
    mirror: bool = Field(default=True, description="mirrored volumes are used as well")
    conditions: tuple[str, ...] = Field(default=(), description="covariates to sample by")
    bandwidth: float = Field(
        default=0.25,
        gt=0,
        description="how far covariates of patches may lie from the request, in training ranges",
    )


class Local3D:
    """Random combinations of training volumes, sharpened patch by patch from training volumes."""

    name = "local3d"
    summary = "the local score in closed form: new shapes, patches of training volumes; no training"
    needs = "3 registered volumes; its weights ARE the training volumes: do not publish them"
    paper = "Kamb and Ganguli, ICML 2025; Lukoianov et al. 2025, arXiv 2509.09672"
    licence = "as the training data: the run holds the training volumes"
    random_fit = False
    settings = LocalSettings

    def fit(
        self,
        volumes: Volumes,
        settings: BaseModel,
        run: Run,
        *,
        resume: bool = False,
        init: Run | None = None,
        progress: Progress | None = None,
        conditions: Sequence[Row] | None = None,
    ) -> None:
        """Store the training volumes inside the box that holds all heads, 16 bits per voxel.

        Raises
        ------
        UsageError
            There are fewer than three volumes, or they do not differ.
        """
        assert isinstance(settings, LocalSettings)
        refuse_init(self.name, init)
        if len(volumes) < 3:
            raise UsageError(
                f"{self.name} needs at least 3 training volumes; found {len(volumes)}."
            )
        stored = np.zeros((len(volumes), *volumes.space.shape), np.float16)
        for index, volume in enumerate(volumes):
            stored[index] = volume
            if progress:
                progress(index + 1, len(volumes), "")
        inside = np.any(stored, axis=0, keepdims=True)
        # The box holds the mirror images too.
        box = _box((inside | mirrored(inside, volumes.space.affine))[0])
        stored = stored[(slice(None), *box)]
        weights = {
            "volumes": stored,
            "first": np.array([side.start for side in box]),
            "shape": np.array(volumes.space.shape),
            "difference": np.array([_difference(stored)]),
        }
        if weights["difference"][0] == 0:
            raise UsageError(f"{self.name} needs training volumes that differ; all are the same.")
        if conditions is not None:
            encoded = Conditions.of_run(run.record).encode(conditions)
            if len(volumes) < encoded.values.shape[1] + 3:
                raise UsageError(
                    f"{self.name} needs at least {encoded.values.shape[1] + 3} volumes for these "
                    f"conditions; found {len(volumes)}. Leave some out, or add volumes."
                )
            weights |= {"covariates": encoded.values, "present": encoded.present}
        run.save_weights(weights)

    def sampling(self, run: Run, sampler: str | None, steps: int | None) -> dict[str, str | int]:
        """Return the sampler and the number of noise levels.

        Raises
        ------
        UsageError
            The sampler is another one, or there is no step.
        """
        if sampler not in (None, SAMPLER):
            raise UsageError(
                f"{self.name} has one sampler, {SAMPLER}; found {sampler}: leave out --sampler."
            )
        if steps is not None and steps < 1:
            raise UsageError(f"--steps: at least 1 is needed; found {steps}.")
        return {"sampler": SAMPLER, "steps": steps or _settings(run).steps}

    def sample(
        self,
        run: Run,
        seeds: Sequence[int],
        *,
        sampler: str | None = None,
        steps: int | None = None,
        conditions: Sequence[Row] | None = None,
    ) -> Iterator[Float32[np.ndarray, "d h w"]]:
        """Yield one volume per seed; a row of `conditions` sets the covariates of one volume."""
        chosen = int(self.sampling(run, sampler, steps)["steps"])
        local = _Sampler(run, chosen)
        for place, seed in enumerate(seeds):
            yield local.draw(seed, None if conditions is None else conditions[place])


class _Sampler:
    """What sampling needs of a run: the atoms on the device, and the levels."""

    def __init__(self, run: Run, steps: int) -> None:
        settings, weights = _settings(run), run.load_weights()
        self.settings = settings
        self.device = processes().device if torch.cuda.is_available() else torch.device("cpu")
        self.volumes: Float16[np.ndarray, "n d h w"] = weights["volumes"]
        self.first, self.shape = weights["first"], tuple(weights["shape"].tolist())
        atoms = torch.from_numpy(self.volumes)
        if settings.mirror:
            first = int(self.first[0])
            atoms = torch.cat(
                [atoms, torch.from_numpy(mirrored(self.volumes, run.space.affine, first))]
            )
        self.atoms = atoms.to(self.device)
        difference = float(weights["difference"][0])
        self.levels = noise_levels(settings.sigma_max, settings.sigma_min, steps)
        self.sides = [
            patch_side(level, difference, settings.nats, settings.smallest_patch,
                       settings.largest_patch)
            for level in self.levels
        ]  # fmt: skip
        self.conditions = Conditions.of_run(run.record)
        self.covariates = weights.get("covariates", np.zeros((len(self.volumes), 0), np.float32))
        self.present = weights.get("present", np.zeros(self.covariates.shape, bool))

    def draw(self, seed: int, row: Row | None) -> Float32[np.ndarray, "d h w"]:
        """Return the volume of a seed, with the covariates of a row."""
        rng = np.random.default_rng(seed)
        asked = np.zeros(0), np.zeros(0, bool)
        if row is not None:
            encoded = self.conditions.encode([row])
            asked = encoded.values[0].astype(np.float64), encoded.present[0]
        start = torch.from_numpy(self._start(rng, *asked)).to(self.device)
        # Drawn on the CPU, so that a seed gives the same noise on every device.
        noise = torch.from_numpy(rng.standard_normal(start.shape, np.float32)).to(self.device)
        log_weights = self._log_weights(*asked)
        state = start + float(self.levels[0]) * noise
        for level, lower, side in zip(
            self.levels, [*self.levels[1:], 0.0], self.sides, strict=True
        ):
            clean = local_denoiser(state, self.atoms, log_weights, float(level), side)
            state = clean + (state - clean) * float(lower / level)
        volume = np.zeros(self.shape, np.float32)
        box = tuple(slice(a, a + n) for a, n in zip(self.first, state.shape, strict=True))
        volume[box] = state.clip(0, 1).cpu().numpy()
        return volume

    def _start(
        self, rng: np.random.Generator, asked: Float64[np.ndarray, " k"], named: np.ndarray
    ) -> Float32[np.ndarray, "d h w"]:
        """Return a combination of the training volumes, random or their mean, at the covariates."""
        known = self.present[:, named].all(axis=1)
        mean, spread = combinations(self.covariates[known][:, named], asked[named])
        if self.settings.start == "gaussian":
            mean = mean + spread @ rng.standard_normal(len(mean))
        start: Float32[np.ndarray, "d h w"] = np.zeros(self.volumes.shape[1:], np.float32)
        for coefficient, volume in zip(mean, self.volumes[known], strict=True):
            start += np.float32(coefficient) * volume.astype(np.float32)
        return start

    def _log_weights(
        self, asked: Float64[np.ndarray, " k"], named: np.ndarray
    ) -> Float64[np.ndarray, " n"]:
        """Return a normal kernel around the covariates asked for; unknown ones lie at its edge."""
        weights = np.zeros(len(self.volumes))
        if named.any():
            away = (self.covariates[:, named] - asked[named]) / self.settings.bandwidth
            away = np.where(self.present[:, named], away, 2.0)
            weights = -0.5 * (away**2).sum(axis=1)
        return np.tile(weights, len(self.atoms) // len(weights))


def combinations(
    covariates: Float32[np.ndarray, "n k"], asked: Float64[np.ndarray, " k"]
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, "n n"]]:
    """Return coefficients of n images: those of the mean, and those of random deviations from it.

    The mean is that of a least-squares fit on the covariates, at the values that are asked for;
    without covariates it is the plain mean. The deviations are `spread @ e` with e standard normal.
    Their covariance over images is that of the residuals, with n - 1 - k in the denominator.
    """
    design = np.hstack([np.ones((len(covariates), 1)), covariates.astype(np.float64)])
    inverse = np.linalg.pinv(design)
    mean = np.concatenate([[1.0], asked]) @ inverse
    freedom = len(design) - np.linalg.matrix_rank(design)
    if freedom < 1:
        raise UsageError(
            f"local3d: {len(design)} training volumes have a value of what is asked for, which is "
            "too few. Ask for fewer covariates, or give n/a for one."
        )
    return mean, (np.eye(len(design)) - design @ inverse) / np.sqrt(freedom)


def mirrored(volumes: np.ndarray, affine: ArrayLike, first: int = 0) -> np.ndarray:
    """Return volumes `[n d h w]` mirrored at the plane x = 0 mm, to the nearest half voxel.

    `first` is the index of their first voxel on the grid of `affine`. Voxel i of that grid lies
    at x = origin + i step, so that its mirror image is voxel -2 origin / step - i. What comes from
    outside the volumes is 0.
    """
    step, origin = float(np.ravel(affine)[0]), float(np.ravel(affine)[3])
    places = np.arange(volumes.shape[1])
    images = round(-2 * origin / step) - 2 * first - places
    inside = (images >= 0) & (images < volumes.shape[1])
    turned = np.zeros_like(volumes)
    turned[:, places[inside]] = volumes[:, images[inside]]
    return turned


def _settings(run: Run) -> LocalSettings:
    return run.settings(LocalSettings)


def _box(inside: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds all voxels that are True."""
    sides = []
    for axis in range(inside.ndim):
        others = tuple(a for a in range(inside.ndim) if a != axis)
        places = np.flatnonzero(inside.any(axis=others))
        sides.append(slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 1))
    return tuple(sides)


def _difference(volumes: Float16[np.ndarray, "n d h w"]) -> float:
    """The mean squared difference of two volumes in the head, over neighbours in the list."""
    head = volumes.mean(axis=0, dtype=np.float64) > IN_HEAD
    rows = [volume[head].astype(np.float64) for volume in volumes]
    return float(np.mean([((a - b) ** 2).mean() for a, b in pairwise(rows)]))
