"""N4: the smooth bias field, by which receive coils multiply an image."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from jaxtyping import Bool, Float32

from synthbench.cohorts.preparation.image import Image
from synthbench.cohorts.preparation.itk import from_itk, one_thread, to_itk
from synthbench.cohorts.preparation.settings import BiasCorrection


def bias_field(
    image: Image, mask: Bool[np.ndarray, "d h w"], spacing_mm: float, settings: BiasCorrection
) -> Float32[np.ndarray, "d h w"]:
    """Return the bias field of an image, estimated in a mask (Tustison et al. 2010).

    The field's mean over the mask is 1, so that division by it keeps the overall intensity.
    It is computed on one thread: the same image gives the same field, bit for bit.

    Parameters
    ----------
    image
        Intensities, not negative.
    mask
        Voxels that the field is fitted to; it is extrapolated to the others.
    spacing_mm
        Size of the voxels for the fit.
    """
    coarse = image.space.regrid(spacing=max(spacing_mm, *image.space.spacing))
    shrunk = to_itk(Image(image.on(coarse), coarse))
    inside = Image(mask.astype(np.float32), image.space).mask_on(coarse)
    with one_thread():
        n4 = sitk.N4BiasFieldCorrectionImageFilter()
        n4.SetMaximumNumberOfIterations(list(settings.iterations))
        n4.SetConvergenceThreshold(settings.convergence)
        n4.SetNumberOfControlPoints([settings.control_points] * 3)
        n4.Execute(shrunk, to_itk(Image(inside.astype(np.float32), coarse), sitk.sitkUInt8))
        logarithm = from_itk(n4.GetLogBiasFieldAsImage(to_itk(image)))
    centred = logarithm - logarithm[mask].mean(dtype=np.float64)
    field: Float32[np.ndarray, "d h w"] = np.exp(centred).astype(np.float32)
    return field
