"""Preparing one scan: all steps in order."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32

from synthbench.cohorts.preparation.bias import bias_field
from synthbench.cohorts.preparation.brain import brain_mask, checked_volume_ml, tissues_in
from synthbench.cohorts.preparation.denoising import denoised, noise_sd
from synthbench.cohorts.preparation.external import external_mask
from synthbench.cohorts.preparation.image import Image
from synthbench.cohorts.preparation.registration import Affine, refine, search
from synthbench.cohorts.preparation.settings import Settings
from synthbench.cohorts.preparation.template import prior_on
from synthbench.cohorts.preparation.tissues import scaled
from synthbench.volumes.grid import Space


@dataclass(frozen=True)
class PreparedScan:
    """A prepared volume and the results of the steps.

    Attributes
    ----------
    volume
        Intensities in [0, 1] on `space`, 0 outside the brain.
    mask
        The brain, on the same grid.
    head
        The denoised, bias-corrected head on the same grid, in the scan's own units.
    space
        The grid, in MNI152 millimetres.
    affine
        From MNI152 to the scanner's millimetres.
    facts
        `noise_sd` (None where noise was left in), `correlation_head` and `correlation_brain`
        with the template, `brain_ml` in the scanner's space, the tissues' mean intensities, and
        `seconds` for each step.
    """

    volume: Float32[np.ndarray, "d h w"]
    mask: Bool[np.ndarray, "d h w"]
    head: Float32[np.ndarray, "d h w"]
    space: Space
    affine: Affine
    facts: dict[str, Any]


def _digits(value: float) -> float:
    """Return a number rounded to four digits."""
    return float(f"{value:.4g}")


class _Watch:
    """A stop watch: seconds of each step, by its name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        now = time.perf_counter()
        self.seconds[step] = round(now - self._last, 2)
        self._last = now


def prepare_scan(scan: Image, settings: Settings | None = None) -> PreparedScan:
    """Return one whole-head T1-weighted scan on the grid and with the intensities of `settings`.

    The steps: denoise; correct the bias field in the head; register the template; extract the
    brain; correct the bias field in the brain; extract again from the corrected head; register the
    template to the brain; map the tissues' intensities; resample once, from the scanner's voxels
    to the grid.

    Parameters
    ----------
    scan
        From `read_image`, or another one in RAS+ with intensities that are not negative.
    settings
        None: the defaults, which are the paper's grid and the built-in brain extraction.

    Raises
    ------
    CohortError
        The scan agrees too little with the template, has no T1 contrast, or a brain of an
        impossible size; or an external tool failed on it.
    UsageError
        The external tool that `settings` names is not installed.
    """
    settings = settings or Settings()
    watch = _Watch()
    sd = noise_sd(scan.volume, scan.head()) if settings.denoise else None
    volume = scan.volume if sd is None else denoised(scan.volume, sd, settings.denoising)
    watch.lap("denoise")
    head = _even(Image(volume, scan.space), scan.head(), settings.bias.head_spacing_mm, settings)
    watch.lap("bias_head")
    found = search(head, settings.registration)
    watch.lap("register_head")
    brain = _extract(head, found, settings)
    watch.lap("extract")
    inside = brain.mask_on(head.space)
    head = _even(head, inside, settings.bias.brain_spacing_mm, settings)
    watch.lap("bias_brain")
    if settings.brain_extraction == "builtin":
        brain = _extract(head, found, settings)
        inside = brain.mask_on(head.space)
        watch.lap("extract_again")
    brain_ml = checked_volume_ml(brain, settings.extraction.volume_ml)
    affine = refine(Image(head.volume * inside, head.space), found, settings.registration)
    watch.lap("register_brain")
    tissues = _tissues(head, brain, found, settings)
    grid = settings.grid
    mask = brain.mask_on(grid, affine.matrix)
    moved = head.on(grid, affine.matrix)
    prepared = np.where(mask, scaled(moved, tissues, settings.tissues), np.float32(0))
    watch.lap("resample")
    facts = {
        "noise_sd": None if sd is None else _digits(sd),
        "correlation_head": _digits(found.correlation),
        "correlation_brain": _digits(affine.correlation),
        "brain_ml": brain_ml,
        "fluid_mean": _digits(tissues.fluid),
        "grey_mean": _digits(tissues.grey),
        "white_mean": _digits(tissues.white),
        "seconds": watch.seconds,
    }
    return PreparedScan(prepared, mask, moved, grid, affine, facts)


def _even(
    image: Image, mask: Bool[np.ndarray, "d h w"], spacing_mm: float, settings: Settings
) -> Image:
    """Return the image without its bias field, which is estimated in the mask."""
    field = bias_field(image, mask, spacing_mm, settings.bias)
    return Image(image.volume / field, image.space)


def _extract(head: Image, affine: Affine, settings: Settings) -> Image:
    """Return the brain mask as an image in scanner millimetres: 0 and 1."""
    if settings.brain_extraction != "builtin":
        return external_mask(head, settings.brain_extraction)
    prior = prior_on(settings.extraction.spacing_mm)
    placed = head.on(prior.space, affine.matrix)
    mask = brain_mask(placed, prior, settings.extraction)
    in_scanner = Space.of(prior.space.shape, affine.matrix @ prior.space.matrix)
    return Image(mask.astype(np.float32), in_scanner)


def _tissues(head: Image, brain: Image, affine: Affine, settings: Settings) -> Any:
    """Return the tissues' intensities in the brain, by the template's priors."""
    prior = prior_on(settings.extraction.spacing_mm)
    placed = head.on(prior.space, affine.matrix)
    return tissues_in(placed, brain.mask_on(prior.space, affine.matrix), prior)
