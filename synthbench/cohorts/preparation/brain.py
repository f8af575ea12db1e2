"""Brain extraction from a head in the template's position.

The template gives a region that is certainly brain, and a larger one that no brain leaves. Between
them, brightness decides. Then morphology cuts off what is connected by a thin bridge only (dura,
vessels, optic nerves) and fills holes (sulci, ventricles).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage

from synthbench.cohorts.preparation.image import Image
from synthbench.cohorts.preparation.settings import BrainExtraction
from synthbench.cohorts.preparation.template import Prior
from synthbench.cohorts.preparation.tissues import Tissues, tissue_intensities
from synthbench.errors import CohortError

_DARK_PERCENTILE = 3.0


def brain_mask(
    head: Float32[np.ndarray, "d h w"], prior: Prior, settings: BrainExtraction
) -> Bool[np.ndarray, "d h w"]:
    """Return the mask of the brain, its ventricles and sulci.

    Parameters
    ----------
    head
        Intensities, not negative, on the prior's grid and in the template's position.
    prior
        From `synthbench.cohorts.preparation.template.prior_on`.

    Raises
    ------
    CohortError
        The contrast is not T1-weighted, or nothing bright lies where the brain should be.
    """
    spacing = settings.spacing_mm
    certain = prior.depth > settings.certain_mm
    low, high = _tissue_range(head, prior, settings)
    possible = (prior.depth > -settings.reach_mm) & (head > low) & (head < high)
    tissue = certain | possible
    core = _largest(_distance(tissue, spacing) > settings.opening_mm)
    # One voxel more than was eroded: a digital ball is rougher than a round one.
    opened = tissue & (_distance(~core, spacing) <= settings.opening_mm + spacing)
    closed = ndimage.binary_fill_holes(_closed(opened, settings.closing_mm, spacing))
    wide = _distance(~closed, spacing) <= settings.margin_mm
    # Closing and rim include arteries and fat at the base, which are brighter than any tissue.
    return np.asarray(ndimage.binary_fill_holes(_largest(wide & (certain | (head < high)))))


def checked_volume_ml(mask: Image, limits: tuple[float, float]) -> float:
    """Return the volume of a mask (0 and 1) in mL.

    Raises
    ------
    CohortError
        It is outside the limits: no brain is so small or large.
    """
    voxel_mm3 = abs(float(np.linalg.det(mask.space.matrix[:3, :3])))
    millilitres = float(mask.volume.sum(dtype=np.float64)) * voxel_mm3 / 1000
    low, high = limits
    if not low <= millilitres <= high:
        raise CohortError(
            f"brain extraction: the mask holds {millilitres:.0f} mL; {low:g} to {high:g} are "
            "possible. Look at the scan, or try another tool: --brain-extraction hd-bet."
        )
    return round(millilitres, 1)


def tissues_in(
    head: Float32[np.ndarray, "d h w"], region: Bool[np.ndarray, "d h w"], prior: Prior
) -> Tissues:
    """Return the intensities of fluid, grey and white matter in a region of the head.

    Raises
    ------
    CohortError
        The contrast is not T1-weighted, or the region is empty.
    """
    inside = region & (head > 0)
    if inside.sum() < 1000:
        raise CohortError(
            f"brain: {int(inside.sum())} voxels of the brain's place hold signal, at least 1000 "
            "are needed. Check that the scan covers the brain."
        )
    return tissue_intensities(head[inside], prior.tissues[:, inside])


def _tissue_range(
    head: Float32[np.ndarray, "d h w"], prior: Prior, settings: BrainExtraction
) -> tuple[float, float]:
    """Return the range of intensities in which a voxel may be grey or white matter.

    The lower bound lies between the dark fluid and bone at the brain's surface and grey matter.
    """
    tissues = tissues_in(head, prior.depth > 2, prior)
    surface = np.abs(prior.depth) < settings.reach_mm
    dark = float(np.percentile(head[surface], _DARK_PERCENTILE))
    low = dark + settings.threshold * (tissues.grey - dark)
    return low, tissues.white + settings.brightest_sd * tissues.white_sd


def _distance(mask: Bool[np.ndarray, "d h w"], spacing_mm: float) -> np.ndarray:
    """Return the distance in mm of each voxel in the mask to the nearest outside; 0 outside."""
    distance: np.ndarray = ndimage.distance_transform_edt(mask, spacing_mm)
    return distance


def _largest(mask: Bool[np.ndarray, "d h w"]) -> Bool[np.ndarray, "d h w"]:
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray((labels == sizes.argmax()) & mask)


def _closed(
    mask: Bool[np.ndarray, "d h w"], radius_mm: float, spacing_mm: float
) -> Bool[np.ndarray, "d h w"]:
    """Return the morphological closing by a ball, as if the mask went on beyond the grid."""
    border = int(np.ceil(radius_mm / spacing_mm)) + 1
    wide = np.pad(mask, border, mode="edge")
    grown = _distance(~wide, spacing_mm) <= radius_mm
    shrunk = _distance(grown, spacing_mm) > radius_mm
    inner = (slice(border, -border),) * 3
    return np.asarray(shrunk[inner])
