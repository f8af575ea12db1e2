"""The MNI152 template and its tissue maps, for registration and brain extraction."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage

from synthbench.cohorts.preparation.image import Image
from synthbench.volumes import mni152
from synthbench.volumes.grid import PAPER_GRID, Space
from synthbench.volumes.mni152 import TemplateMap

NAME = "ICBM 152 2009 symmetric, 1 mm, skull-stripped, as distributed with nilearn"
_BRAIN = 0.05
_BORDER_MM = 9.0
_PRIOR_BLUR_MM = 2.0
_PRIOR_FLOOR = 0.02


@dataclass(frozen=True)
class Prior:
    """The template's information on each voxel of a grid.

    Attributes
    ----------
    space
        The grid, in MNI152 millimetres.
    depth
        Distance in mm to the template brain's surface, positive inside.
    tissues
        Relative odds of cerebrospinal fluid, grey and white matter, all above 0. They are
        blurred by as much as people differ after an affine registration.
    """

    space: Space
    depth: Float32[np.ndarray, "d h w"]
    tissues: Float32[np.ndarray, "3 d h w"]


@lru_cache(maxsize=1)
def template_t1() -> Image:
    """Return the T1-weighted template, 0 outside the brain."""
    return _image(mni152.t1())


@lru_cache(maxsize=4)
def template_on(space: Space) -> Float32[np.ndarray, "d h w"]:
    """Return the T1-weighted template on a grid."""
    return template_t1().on(space)


@lru_cache(maxsize=2)
def prior_on(spacing_mm: float) -> Prior:
    """Return the prior on an isotropic grid around the classic MNI box."""
    space = working_grid(spacing_mm)
    brain = template_on(space) > _BRAIN
    grey = _image(mni152.grey_matter()).on(space) * brain
    white = _image(mni152.white_matter()).on(space) * brain
    fluid = np.clip(brain - grey - white, 0, 1)
    sigma = _PRIOR_BLUR_MM / spacing_mm
    tissues = [ndimage.gaussian_filter(m, sigma) + _PRIOR_FLOOR for m in (fluid, grey, white)]
    return Prior(space, signed_distance(brain, spacing_mm), np.stack(tissues).astype(np.float32))


def working_grid(spacing_mm: float) -> Space:
    """Return the isotropic grid around the classic MNI box, with a border of 9 mm."""
    extent = np.array(PAPER_GRID.shape) * np.array(PAPER_GRID.spacing) + 2 * _BORDER_MM
    x, y, z = np.ceil(extent / spacing_mm - 1e-6).astype(int)
    return PAPER_GRID.regrid((int(x), int(y), int(z)), spacing_mm)


def signed_distance(
    mask: Bool[np.ndarray, "d h w"], spacing_mm: float
) -> Float32[np.ndarray, "d h w"]:
    """Return the distance in mm to the nearest voxel on the other side, positive inside."""
    inside = ndimage.distance_transform_edt(mask, spacing_mm)
    outside = ndimage.distance_transform_edt(~mask, spacing_mm)
    return np.asarray(inside - outside, dtype=np.float32)


def _image(template: TemplateMap) -> Image:
    return Image(template.values, template.space)
