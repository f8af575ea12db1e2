"""Registration of the template's brain to a whole head.

The template has no skull, but the head has one. So the correlation is computed over the template's
brain and a rim around it. In the rim the template is dark, as are fluid and skull around a brain in
a T1-weighted image. Scalp and neck lie outside the rim and are never compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float64
from scipy import ndimage

from synthbench.cohorts.preparation.alignment import Alignment
from synthbench.cohorts.preparation.image import Image
from synthbench.cohorts.preparation.placement import (
    CENTRE_MM,
    Placement,
    candidates,
    placements,
    poses,
)
from synthbench.cohorts.preparation.settings import Registration
from synthbench.cohorts.preparation.template import template_t1
from synthbench.errors import CohortError

_SEARCH_MM, _REFINED_MM = 0.2, 0.02  # steps shorter than this end an optimisation


@dataclass(frozen=True)
class Affine:
    """An affine from MNI152 to a scan.

    Attributes
    ----------
    matrix
        From MNI152 millimetres to the scanner's, both RAS+.
    correlation
        Pearson correlation of template and scan over the template's brain and its rim.
    """

    matrix: Float64[np.ndarray, "4 4"]
    correlation: float


def search(head: Image, settings: Registration) -> Affine:
    """Return the affine from the template's brain to a whole head, in any likely position.

    For many turns and sizes, the best shift is found on coarse voxels. The best placements that
    differ are optimised. Coarse voxels tell turn and middle, but not the size: the scalp around the
    dark skull looks like the outline of a larger brain. So the best poses are optimised on finer
    voxels once from each size, and the best result is refined.

    Parameters
    ----------
    head
        The scan, intensities not negative, in any position that is possible in a scanner.

    Raises
    ------
    CohortError
        No placement overlaps with the template, or the best correlation is below
        `settings.least_correlation`.
    """
    spacing_mm = settings.placement_spacing_mm
    found = placements(*_template(spacing_mm, settings.rim_mm), head.coarse(spacing_mm), settings)
    level = _level(head, settings.search_spacing_mm, settings)
    turned = _optimised(level, candidates(found, settings), settings)
    starts = [
        Placement(np.nan, size / pose.size * pose.linear, pose.middle_mm)
        for pose in poses(turned, settings)
        for size in settings.scales
    ]
    sized = _optimised(_level(head, settings.head_spacing_mm, settings), starts, settings)
    if not sized:
        raise CohortError(
            "registration: no position of the template is inside the scan. "
            "Check the scan's voxel size and that it shows a head."
        )
    return _refined(head, sized[0], settings.head_spacing_mm, settings)


def refine(brain: Image, start: Affine, settings: Registration) -> Affine:
    """Return the affine from the template to a scan without skull (set to 0), from a near start.

    Raises
    ------
    CohortError
        The correlation is below `settings.least_correlation`.
    """
    linear = start.matrix[:3, :3]
    middle = linear @ np.array(CENTRE_MM) + start.matrix[:3, 3]
    near = Placement(start.correlation, linear, middle)
    return _refined(brain, near, settings.brain_spacing_mm, settings)


def _optimised(
    level: Alignment, starts: list[Placement], settings: Registration
) -> list[Placement]:
    """Return the best turn, size and shift near each start, the best first."""
    results = (
        level.optimise(start, settings.search_iterations, _SEARCH_MM, affine=False)
        for start in starts
    )
    return sorted((r for r in results if r is not None), key=lambda r: -r.correlation)


def _refined(head: Image, start: Placement, spacing_mm: float, settings: Registration) -> Affine:
    level = _level(head, spacing_mm, settings)
    found = level.optimise(start, settings.iterations, _REFINED_MM, affine=True)
    correlation = 0.0 if found is None else found.correlation
    if found is None or correlation < settings.least_correlation:
        raise CohortError(
            f"registration: the scan's correlation with the MNI152 template is {correlation:.2f}; "
            f"at least {settings.least_correlation:g} is needed. Check that it is a T1-weighted "
            "scan of a whole brain and that its header's axes are right."
        )
    matrix = np.eye(4)
    matrix[:3, :3] = found.linear
    matrix[:3, 3] = found.middle_mm - found.linear @ np.array(CENTRE_MM)
    return Affine(matrix, correlation)


def _level(head: Image, spacing_mm: float, settings: Registration) -> Alignment:
    """Return template and head on voxels of one size."""
    return Alignment.of(*_template(spacing_mm, settings.rim_mm), head.coarse(spacing_mm))


@lru_cache(maxsize=8)
def _template(spacing_mm: float, rim_mm: float) -> tuple[Image, Image]:
    """Return the template, and its brain with a rim around it, on voxels of one size."""
    template = template_t1()
    grid = template.space.regrid(spacing=spacing_mm)
    mask = _rimmed(rim_mm).mask_on(grid)
    return Image(template.on(grid), grid), Image(mask.astype(np.float32), grid)


@lru_cache(maxsize=2)
def _rimmed(rim_mm: float) -> Image:
    """Return the mask of the template's brain with a rim around it."""
    template = template_t1()
    outside = ndimage.distance_transform_edt(template.volume <= 0, template.space.spacing)
    return Image((outside <= rim_mm).astype(np.float32), template.space)
