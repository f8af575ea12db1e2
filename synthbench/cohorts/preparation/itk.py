"""Images as SimpleITK has them, and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

import numpy as np
import SimpleITK as sitk
from jaxtyping import Float32

from synthbench.cohorts.preparation.image import Image

_PINNED = RLock()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let ITK compute on one thread: sums over several differ in their last digits.

    Filters take the number from a setting of the whole process, those inside other filters
    whatever these were told. It is put back, and meanwhile other threads wait their turn.
    """
    with _PINNED:
        before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
        try:
            yield
        finally:
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def to_itk(image: Image, pixel: int = sitk.sitkFloat32) -> Any:
    """Return an image as SimpleITK's.

    Its millimetres stay RAS+ (ITK's own files are LPS+): nothing in ITK depends on which.
    """
    converted = sitk.GetImageFromArray(np.ascontiguousarray(image.volume.T))
    matrix, spacing = image.space.matrix, np.array(image.space.spacing)
    converted.SetSpacing([float(s) for s in spacing])
    converted.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    converted.SetOrigin(matrix[:3, 3].tolist())
    return sitk.Cast(converted, pixel)


def from_itk(image: Any) -> Float32[np.ndarray, "d h w"]:
    """Return the voxels of SimpleITK's image."""
    return np.ascontiguousarray(sitk.GetArrayFromImage(image).T, dtype=np.float32)
