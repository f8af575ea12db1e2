"""Registration of the template's brain to a whole head.

The template has no skull, but the head has one. So the correlation is computed over the template's
brain and a rim around it. In the rim the template is dark, as are fluid and skull around a brain in
a T1-weighted image. Scalp and neck lie outside the rim and are never compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import SimpleITK as sitk
from jaxtyping import Float64
from scipy import ndimage

from synthbench.cohorts.preparation.image import Image
from synthbench.cohorts.preparation.itk import one_thread, to_itk
from synthbench.cohorts.preparation.placement import CENTRE_MM, candidates, placements
from synthbench.cohorts.preparation.settings import Registration
from synthbench.cohorts.preparation.template import template_t1
from synthbench.errors import CohortError


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
    differ are optimised, and the best result is refined.

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
    found = placements(*_template(settings.placement_spacing_mm, settings.rim_mm),
                       head.coarse(settings.placement_spacing_mm), settings)  # fmt: skip
    level = _Level.of(head, settings.search_spacing_mm, settings.rim_mm)
    optimised = []
    for placement in candidates(found, settings):
        start = _transform(placement.linear, placement.middle_mm)
        if level.value(start) is not None:
            optimised.append(level.optimise(start, settings))
    if not optimised:
        raise CohortError(
            "registration: no position of the template is inside the scan. "
            "Check the scan's voxel size and that it shows a head."
        )
    _, transform = min(optimised, key=lambda item: item[0])
    return _refined(head, transform, settings.head_spacing_mm, settings)


def refine(brain: Image, start: Affine, settings: Registration) -> Affine:
    """Return the affine from the template to a scan without skull (set to 0), from a near start.

    Raises
    ------
    CohortError
        The correlation is below `settings.least_correlation`.
    """
    linear = start.matrix[:3, :3]
    middle = linear @ np.array(CENTRE_MM) + start.matrix[:3, 3]
    return _refined(brain, _transform(linear, middle), settings.brain_spacing_mm, settings)


def _transform(linear: Float64[np.ndarray, "3 3"], middle_mm: Float64[np.ndarray, " 3"]) -> Any:
    """Return ITK's transform with this matrix that takes the brain's middle to a point."""
    transform = sitk.AffineTransform(3)
    transform.SetCenter(CENTRE_MM)
    transform.SetMatrix(linear.ravel().tolist())
    transform.SetTranslation((middle_mm - CENTRE_MM).tolist())
    return transform


def _refined(head: Image, start: Any, spacing_mm: float, settings: Registration) -> Affine:
    level = _Level.of(head, spacing_mm, settings.rim_mm)
    value, transform = level.optimise(start, settings)
    if -value < settings.least_correlation:
        raise CohortError(
            f"registration: the scan's correlation with the MNI152 template is {-value:.2f}; at "
            f"least {settings.least_correlation:g} is needed. Check that it is a T1-weighted scan "
            "of a whole brain and that its header's axes are right."
        )
    return Affine(_matrix(transform), -value)


def _matrix(transform: Any) -> Float64[np.ndarray, "4 4"]:
    """Return the 4 x 4 matrix of ITK's x -> A (x - c) + c + t."""
    linear = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = centre + np.array(transform.GetTranslation()) - linear @ centre
    return matrix


# ---------------------------------------------------------------- one resolution


@dataclass(frozen=True)
class _Level:
    """Template, mask of the comparison, and head, on voxels of one size, as images of ITK."""

    template: Any
    mask: Any
    head: Any
    spacing_mm: float

    @classmethod
    def of(cls, head: Image, spacing_mm: float, rim_mm: float) -> _Level:
        template, mask = _fixed(spacing_mm, rim_mm)
        return cls(template, mask, to_itk(head.coarse(spacing_mm)), spacing_mm)

    def value(self, transform: Any) -> float | None:
        """Return the negative correlation; None without overlap."""
        with one_thread():
            method = self._method()
            method.SetInitialTransform(transform)
            try:
                return float(method.MetricEvaluate(self.template, self.head))
            except RuntimeError:
                return None

    def optimise(self, transform: Any, settings: Registration) -> tuple[float, Any]:
        """Return the best value from a start, and its transform; the start is not changed."""
        found = sitk.AffineTransform(transform)
        with one_thread():
            method = self._method()
            method.SetInitialTransform(found, True)
            method.SetOptimizerAsRegularStepGradientDescent(
                learningRate=self.spacing_mm / 4,
                minStep=1e-3,
                numberOfIterations=settings.iterations,
            )
            method.SetOptimizerScalesFromPhysicalShift()
            method.Execute(self.template, self.head)
            return float(method.GetMetricValue()), found

    def _method(self) -> Any:
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsCorrelation()
        method.SetMetricFixedMask(self.mask)
        method.SetInterpolator(sitk.sitkLinear)
        return method


@lru_cache(maxsize=8)
def _fixed(spacing_mm: float, rim_mm: float) -> tuple[Any, Any]:
    """Return the template, and its brain with a rim around it, as images of ITK."""
    template, mask = _template(spacing_mm, rim_mm)
    return to_itk(template), to_itk(mask, sitk.sitkUInt8)


@lru_cache(maxsize=8)
def _template(spacing_mm: float, rim_mm: float) -> tuple[Image, Image]:
    """Return the template, and its brain with a rim around it, on voxels of one size."""
    template = template_t1()
    outside = ndimage.distance_transform_edt(template.volume <= 0, template.space.spacing)
    compared = Image((outside <= rim_mm).astype(np.float32), template.space)
    grid = template.space.regrid(spacing=spacing_mm)
    mask = Image(compared.mask_on(grid).astype(np.float32), grid)
    return Image(template.on(grid), grid), mask
