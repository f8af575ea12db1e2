"""Registration of the template's brain to a whole head.

The template has no skull, but the head has one. So the correlation is computed over the template's
brain and a rim around it. In the rim the template is dark, as are fluid and skull around a brain in
a T1-weighted image. Scalp and neck lie outside the rim and are never compared.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import SimpleITK as sitk
from jaxtyping import Float64
from scipy import ndimage

from synthbench.cohorts.preparation.image import Image
from synthbench.cohorts.preparation.itk import one_thread, to_itk
from synthbench.cohorts.preparation.settings import Registration
from synthbench.cohorts.preparation.template import template_t1
from synthbench.errors import CohortError

_CENTRE_MM = (0.0, -18.0, 8.0)  # of the template's brain
_CROWN_AREA_MM2 = 1500.0
_CROWN_TO_BASE_MM = 150.0


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
    """Return the affine from the template's brain to a whole head, found from many starts.

    Starts differ in pitch, scale and shift, around the centre of the top 150 mm of the head. The
    correlation of all is computed on coarse voxels, the best starts are optimised there, and the
    best result is refined.

    Parameters
    ----------
    head
        The scan, intensities not negative, in any position that is possible in a scanner.

    Raises
    ------
    CohortError
        No start overlaps with the template, or the best correlation is below
        `settings.least_correlation`.
    """
    level = _Level.of(head, settings.search_spacing_mm, settings.rim_mm)
    evaluated = []
    for start in _starts(head, settings):
        value = level.value(start)
        if value is not None:
            evaluated.append((value, start.GetParameters(), start))
    if not evaluated:
        raise CohortError(
            "registration: no position of the template is inside the scan. "
            "Check the scan's voxel size and that it shows a head."
        )
    best = sorted(evaluated, key=lambda item: item[:2])[: settings.candidates]
    optimised = [level.optimise(start, settings) for _, _, start in best]
    _, transform = min(optimised, key=lambda item: item[0])
    return _refined(head, transform, settings.head_spacing_mm, settings)


def refine(brain: Image, start: Affine, settings: Registration) -> Affine:
    """Return the affine from the template to a scan without skull (set to 0), from a near start.

    Raises
    ------
    CohortError
        The correlation is below `settings.least_correlation`.
    """
    transform = sitk.AffineTransform(3)
    transform.SetCenter(_CENTRE_MM)
    linear = start.matrix[:3, :3]
    transform.SetMatrix(linear.ravel().tolist())
    centre = np.array(_CENTRE_MM)
    transform.SetTranslation((linear @ centre + start.matrix[:3, 3] - centre).tolist())
    return _refined(brain, transform, settings.brain_spacing_mm, settings)


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


# ---------------------------------------------------------------- starts


def _starts(head: Image, settings: Registration) -> Iterator[Any]:
    middle = brain_centre(head)
    shifts = settings.shifts_mm
    for pitch, scale, front, top in itertools.product(
        settings.pitches_deg, settings.scales, shifts, shifts
    ):
        transform = sitk.AffineTransform(3)
        transform.SetCenter(_CENTRE_MM)
        transform.Rotate(1, 2, float(np.deg2rad(pitch)))
        transform.Scale(scale)
        transform.SetTranslation((middle + np.array((0, front, top)) - _CENTRE_MM).tolist())
        yield transform


def brain_centre(head: Image) -> Float64[np.ndarray, " 3"]:
    """Return a guess of the brain's middle in mm: that of the top 150 mm of the head.

    So it does not depend on how much of neck and body was scanned.
    """
    present = head.head()
    right, front, up = head.space.spacing
    area = present.sum(axis=(0, 1)) * right * front
    # A small area above the head, such as a finger, is not the crown. The limit is lower for small
    # heads.
    tall = np.flatnonzero(area > min(_CROWN_AREA_MM2, area.max() / 2))
    top = int(tall.max()) + 1
    bottom = max(0, top - round(_CROWN_TO_BASE_MM / up))
    middle = np.array(ndimage.center_of_mass(present[:, :, bottom:top]))
    middle[2] += bottom
    matrix = head.space.matrix
    centre: Float64[np.ndarray, " 3"] = matrix[:3, :3] @ middle + matrix[:3, 3]
    return centre


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
        coarse = head.space.regrid(spacing=max(spacing_mm, *head.space.spacing))
        return cls(template, mask, to_itk(Image(head.on(coarse), coarse)), spacing_mm)

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
    """Return the template, and its brain with a rim around it, on voxels of one size."""
    template = template_t1()
    outside = ndimage.distance_transform_edt(template.volume <= 0, template.space.spacing)
    compared = Image((outside <= rim_mm).astype(np.float32), template.space)
    grid = template.space.regrid(spacing=spacing_mm)
    mask = Image(compared.mask_on(grid).astype(np.float32), grid)
    return to_itk(Image(template.on(grid), grid)), to_itk(mask, sitk.sitkUInt8)
