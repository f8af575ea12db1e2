"""Conversion to SimpleITK's images and back, and its threads."""

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
    """Let ITK compute on one thread: sums over several threads differ in their last digits.

    The number is a setting of the whole process, because filters inside other filters ignore a
    setting of the outer one. It is restored at the end; until then other threads wait.
    """
    with _PINNED:
        before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
        try:
            yield
        finally:
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def to_itk(image: Image, pixel: int = sitk.sitkFloat32) -> Any:
    """Return an image as one of SimpleITK.

    Its millimetres stay RAS+ (ITK's own files are LPS+): no result of ITK depends on this.
    """
    converted = sitk.GetImageFromArray(np.ascontiguousarray(image.volume.T))
    matrix, spacing = image.space.matrix, np.array(image.space.spacing)
    converted.SetSpacing([float(s) for s in spacing])
    converted.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    converted.SetOrigin(matrix[:3, 3].tolist())
    return sitk.Cast(converted, pixel)


def from_itk(image: Any) -> Float32[np.ndarray, "d h w"]:
    """Return the voxels of an image of SimpleITK."""
    return np.ascontiguousarray(sitk.GetArrayFromImage(image).T, dtype=np.float32)
