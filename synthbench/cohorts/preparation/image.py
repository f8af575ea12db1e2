"""One scan in memory: a volume and its grid."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float32, Float64
from nibabel.filebasedimages import ImageFileError

from synthbench.errors import CohortError
from synthbench.volumes.grid import Space, resample

_UNREADABLE = (OSError, EOFError, ValueError, zlib.error, ImageFileError)
_HEAD = 0.1  # of the 99th percentile: air is darker, and so is most of the skull


@dataclass(frozen=True)
class Image:
    """A volume with its geometry.

    Attributes
    ----------
    volume
        Axes to the right, the front and the top, for any axes of the file.
    space
        Its grid, in millimetres of the scanner or of MNI152.
    """

    volume: Float32[np.ndarray, "d h w"]
    space: Space

    @property
    def digest(self) -> str:
        """The sha256 of the grid and the voxels."""
        content = hashlib.sha256(repr(self.space).encode())
        content.update(np.ascontiguousarray(self.volume).tobytes())
        return content.hexdigest()

    def head(self) -> Bool[np.ndarray, "d h w"]:
        """Return the mask of voxels above a tenth of the 99th percentile."""
        return np.asarray(self.volume > _HEAD * np.percentile(self.volume, 99))

    def on(
        self, space: Space, to_here: Float64[np.ndarray, "4 4"] | None = None
    ) -> Float32[np.ndarray, "a b c"]:
        """Return the volume on another grid: antialiased, linear, 0 outside.

        Parameters
        ----------
        space
            The grid.
        to_here
            Matrix from the grid's millimetres to this image's; None: they are the same.
        """
        here = space if to_here is None else Space.of(space.shape, to_here @ space.matrix)
        return resample(self.volume, self.space, here)

    def mask_on(
        self, space: Space, to_here: Float64[np.ndarray, "4 4"] | None = None
    ) -> Bool[np.ndarray, "a b c"]:
        """Return this mask (0 and 1) on another grid; the parameters are those of `on`."""
        return self.on(space, to_here) >= 0.5


def read_image(path: Path, axes: str | None = None) -> Image:
    """Return one scan, with its axes turned to RAS+.

    Parameters
    ----------
    path
        A file that nibabel reads, with one 3-D volume.
    axes
        Directions of the file's voxel axes, such as "ASL", if its header cannot state them; the
        volume is then centred.

    Raises
    ------
    CohortError
        The file is unreadable, not one volume, not finite, constant or without geometry.
    """
    try:
        image = nib.load(path)
        volume = np.asanyarray(image.dataobj).astype(np.float32)
    except _UNREADABLE as error:
        raise CohortError(
            f"{path.name}: cannot be read ({type(error).__name__}: {error}). It may be truncated: "
            "copy it again."
        ) from error
    while volume.ndim > 3 and volume.shape[-1] == 1:
        volume = volume[..., 0]
    if volume.ndim != 3:
        raise CohortError(
            f"{path.name}: one 3-D volume is needed; found shape {volume.shape}. "
            "Split it into one file per volume."
        )
    if not np.isfinite(volume).all() or volume.min() == volume.max():
        raise CohortError(
            f"{path.name}: intensities must be finite and not all equal; found "
            f"{int((~np.isfinite(volume)).sum())} of {volume.size} voxels of NaN or infinity, and "
            f"{volume.flat[0]:g} in the first. Copy the original again, or leave the scan out."
        )
    affine = _affine(image, path.name) if axes is None else _centred(image, axes)
    turned = nib.as_closest_canonical(nib.Nifti1Image(volume, affine))
    # Negative values are no T1-weighted signal: some files have them from interpolation.
    data = np.maximum(np.asarray(turned.dataobj, dtype=np.float32), 0)
    return Image(np.ascontiguousarray(data), Space.of(data.shape, turned.affine))


def _affine(image: Any, name: str) -> Float64[np.ndarray, "4 4"]:
    header = image.header
    affine = np.asarray(image.affine, dtype=np.float64)
    nifti = isinstance(header, nib.Nifti1Header)
    silent = isinstance(header, nib.AnalyzeHeader) and not nifti
    if silent or (nifti and not (header["sform_code"] or header["qform_code"])):
        raise CohortError(
            f"{name}: its header does not state the directions of its axes, so left and right are "
            "not known. Convert the original DICOM files again, or list it in a manifest with a "
            "column axes (such as RAS)."
        )
    if np.linalg.matrix_rank(affine[:3, :3]) < 3 or not np.isfinite(affine).all():
        raise CohortError(
            f"{name}: its affine is singular or not finite. Copy the original's header."
        )
    return affine


def _centred(image: Any, axes: str) -> Float64[np.ndarray, "4 4"]:
    """Return the affine of a volume with these axes and its middle at the origin."""
    orientation = nib.orientations.axcodes2ornt(tuple(axes))
    sizes = np.array(image.header.get_zooms()[:3], dtype=np.float64)
    affine = np.zeros((4, 4))
    affine[3, 3] = 1.0
    for voxel_axis, (axis, sign) in enumerate(orientation):
        affine[int(axis), voxel_axis] = sign * sizes[voxel_axis]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(image.shape[:3]) - 1) / 2)
    return affine
