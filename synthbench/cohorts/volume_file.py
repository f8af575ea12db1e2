"""One volume file: reading, geometry and the checks of its voxels."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Float32
from nibabel.filebasedimages import ImageFileError

from synthbench.errors import CohortError
from synthbench.volumes.grid import Space

SUFFIXES = (".nii", ".nii.gz", ".mgz", ".npy")
_UNREADABLE = (OSError, EOFError, ValueError, zlib.error, ImageFileError)


def name(file: Path, root: Path) -> str:
    """Return a file's path relative to a folder or manifest, if it lies there."""
    base = root if root.is_dir() else root.parent
    return str(file.relative_to(base)) if file.is_relative_to(base) else str(file)


def is_volume(file: Path) -> bool:
    """Return True where the name is that of a volume, and not of a hidden file."""
    return file.name.endswith(SUFFIXES) and not file.name.startswith(".")


@dataclass(frozen=True)
class _Volume:
    data: Float32[np.ndarray, "d h w"]
    grid: Space
    stored: Space
    assumed: Space | None
    dtype: str
    slope: float = 1.0
    inter: float = 0.0


def read(file: Path, assume: Space | float | None) -> _Volume:
    """Return one volume in RAS+, or raise a CohortError that does not name the file."""
    if file.is_symlink() and not file.exists():
        raise CohortError(
            f"is a link to {os.readlink(file)}, which is not there. Fetch it (datalad get, git "
            "annex get), or fix the link."
        )
    try:
        if file.suffix == ".npy":
            array, affine = np.load(file, allow_pickle=False), None
            stored_as: tuple[str, float, float] = (str(array.dtype), 1.0, 0.0)
        else:
            image = nib.load(file)
            array, affine = np.asanyarray(image.dataobj), _geometry(image)
            stored_as = _stored_as(image)
    except _UNREADABLE as error:
        raise CohortError(
            f"cannot be read ({type(error).__name__}: {error}). It may be truncated: "
            "compare its size with the original and copy it again."
        ) from error
    if array.dtype.kind not in "biuf":
        raise CohortError(f"holds {array.dtype} values; real numbers are needed.")
    shape = array.shape
    spare = [axis for axis in range(array.ndim) if shape[axis] == 1][: max(0, array.ndim - 3)]
    array = array.squeeze(tuple(spare))
    if array.ndim != 3:
        raise CohortError(
            f"is {len(shape)}-D, of shape {shape}; one 3-D volume per file is needed. "
            "Split it into one file per volume."
        )
    assumed = None
    if affine is None:
        assumed = _assumed(array.shape, assume)
        affine = assumed.matrix
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise CohortError("its affine is singular or not finite. Copy the header of the original.")
    stored = Space.of(array.shape, affine)
    canonical = nib.as_closest_canonical(nib.Nifti1Image(array.astype(np.float32), affine))
    data = np.ascontiguousarray(canonical.dataobj, dtype=np.float32)
    return _Volume(data, Space.of(data.shape, canonical.affine), stored, assumed, *stored_as)


def _stored_as(image: Any) -> tuple[str, float, float]:
    """Return an image file's data type, slope and intercept; formats without scaling have 1, 0."""
    rule = image.dataobj
    slope, inter = getattr(rule, "slope", 1.0), getattr(rule, "inter", 0.0)
    return image.get_data_dtype().name, float(slope), float(inter)


def _geometry(image: Any) -> np.ndarray | None:
    """Return the image's affine, or None where the header has no usable one.

    An identity (up to the signs of ITK's LPS convention) means that an array was written without
    geometry: no scanner and no template has exactly 1 mm voxels with the origin in the centre of
    the first one.
    """
    header = image.header
    if isinstance(header, nib.Nifti1Header) and not (header["sform_code"] or header["qform_code"]):
        return None
    affine = np.asarray(image.affine, dtype=np.float64)
    return None if np.allclose(np.abs(affine), np.eye(4), atol=1e-6) else affine


def _assumed(shape: tuple[int, ...], assume: Space | float | None) -> Space:
    if assume is None:
        raise CohortError(
            "has no geometry (an array, or an identity affine). If its voxels lie as in the real "
            "volumes' files, add --assume-grid real; for a real cohort give the voxel size, for "
            "example --assume-grid 2 (mm; axes to the right, front and top)."
        )
    if isinstance(assume, Space):
        if tuple(shape) != assume.shape:
            raise CohortError(
                f"--assume-grid real: its shape is {tuple(shape)}, the real volumes' files are "
                f"{assume.shape}. Write it with its own affine instead."
            )
        return assume
    affine = np.diag([assume, assume, assume, 1.0])
    affine[:3, 3] = -assume * (np.array(shape) - 1) / 2
    return Space.of(shape, affine)
