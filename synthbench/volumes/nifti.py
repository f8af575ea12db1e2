"""NIfTI files of volumes, as bytes."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
from jaxtyping import Float32

from synthbench.volumes.grid import Space


def nifti_bytes(
    volume: Float32[np.ndarray, "d h w *t"], space: Space, description: str, scale: float = 1.0
) -> bytes:
    """Return a volume in [0, 1] as the bytes of a `.nii.gz`: 16-bit, the same bytes each time.

    Values are rounded to steps of 1/65535, a hundredth of the noise of a good scan. `scale` is the
    value that the file gives for 1: for a quantitative map, in its unit.
    """
    stored = np.round(np.clip(volume, 0, 1) * 65535).astype(np.uint16)
    image = nib.Nifti1Image(stored, space.matrix)
    image.set_sform(space.matrix, code="mni")
    image.set_qform(space.matrix, code="mni")
    image.header.set_slope_inter(scale / 65535, 0)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = description.encode()[:79]
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)
