"""One scan in memory: a volume and its grid."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float32, Float64

from synthbench.cohorts.volume_file import centred, finite, implausible, in_mm
from synthbench.errors import CohortError
from synthbench.volumes.grid import Space, resample
from synthbench.volumes.image_file import read_stored
from synthbench.volumes.image_header import ImageHeader

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

    def coarse(self, spacing_mm: float) -> Image:
        """Return the image on isotropic voxels of this size, or of its own largest if larger."""
        space = self.space.regrid(spacing=max(spacing_mm, *self.space.spacing))
        return Image(self.on(space), space)

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
        An image file with one 3-D volume.
    axes
        Directions of the file's voxel axes, such as "ASL", if its header cannot state them; the
        volume is then centred.

    Raises
    ------
    CohortError
        The file is unreadable, not one volume, not finite, constant or without geometry.
    """
    try:
        stored = read_stored(path, lambda header: _placed(header, axes))
        volume, _ = finite(stored.values)
        if volume.min() == volume.max():
            raise CohortError(
                f"intensities must be not all equal; every voxel is {volume.flat[0]:g}. Copy the "
                "original again, or leave the scan out."
            )
        affine = _placed(stored, axes)
    except CohortError as error:
        raise CohortError(f"{path.name}: {error}") from error
    turned = nib.as_closest_canonical(nib.Nifti1Image(volume, affine))
    # Negative values are no T1-weighted signal: some files have them from interpolation.
    data = np.maximum(np.asarray(turned.dataobj, dtype=np.float32), 0)
    return Image(np.ascontiguousarray(data), Space.of(data.shape, turned.affine))


def _placed(stored: ImageHeader, axes: str | None) -> Float64[np.ndarray, "4 4"]:
    return _affine(stored) if axes is None else _centred(stored, axes)


def _affine(stored: ImageHeader) -> Float64[np.ndarray, "4 4"]:
    if stored.affine is None:
        raise CohortError(
            "its header does not state the directions of its axes, so left and right are not "
            "known. Convert the original DICOM files again, or list it in a manifest with a column "
            "axes (such as RAS)."
        )
    affine, fault = in_mm(stored.affine, stored)
    if affine is None or fault:
        raise CohortError(str(fault))
    return affine


def _centred(stored: ImageHeader, axes: str) -> Float64[np.ndarray, "4 4"]:
    """Return the affine of a volume with these axes and its middle at the origin."""
    if stored.zooms is None:
        raise CohortError("has no voxel sizes, as every npy array. Convert it to NIfTI.")
    x, y, z = (size * stored.unit[1] for size in stored.zooms)
    orientation = nib.orientations.axcodes2ornt(tuple(axes))
    affine = centred(stored.shape, (x, y, z), orientation)
    fault = implausible(stored.shape, affine) if np.isfinite(affine).all() else "is not finite."
    if fault:
        raise CohortError(fault)
    return affine
