"""One volume of a cohort: its place in millimetres, its background, and the checks of its voxels.

`synthbench.volumes.image_file` opens the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy import ndimage

from synthbench.cohorts.inspection import Remark
from synthbench.errors import CohortError
from synthbench.volumes.grid import Space
from synthbench.volumes.image_file import MAX_VALUE, StoredImage, read_stored
from synthbench.volumes.image_header import ImageHeader

MAX_EXTENT_MM = 1000.0
"""The longest field of view: no scanner has one of a metre."""

MIN_EXTENT_MM = 60.0
"""A field of view that is shorter along two axes holds no human head, not even a newborn's."""

MIN_VOXEL_MM, MAX_VOXEL_MM = 0.1, 20.0
"""The sizes of voxels that can be right: no scanner of living heads has finer or coarser ones."""

_MAX_ORIGIN_MM = 1e5  # a hundred metres: beyond it, single voxels are lost in rounding
_SAME_MM = 0.01
_ASSUME = (
    "If its voxels lie as in the real volumes' files, add --assume-grid real; for a real cohort "
    "give the voxel size, for example --assume-grid 2 (mm; axes to the right, front and top). For "
    "other axes or values: synthbench import DIR --like REAL"
)


def name(file: Path, root: Path) -> str:
    """Return a file's path relative to a folder or manifest, if it lies there."""
    base = root if root.is_dir() else root.parent
    return str(file.relative_to(base)) if file.is_relative_to(base) else str(file)


@dataclass(frozen=True)
class Volume:
    """One volume in RAS+, with the intensities of its file.

    Attributes
    ----------
    data
        The voxels; finite.
    grid, stored
        The grid in RAS+, and as the file stores it.
    assumed
        The grid that the user gave to the file; None where its own is used.
    dtype, slope, inter
        The stored data type, and the scaling rule: value = slope * stored + inter.
    remarks
        What was changed while it was read, or is odd about it.
    """

    data: Float32[np.ndarray, "d h w"]
    grid: Space
    stored: Space
    assumed: Space | None
    dtype: str
    slope: float = 1.0
    inter: float = 0.0
    remarks: tuple[Remark, ...] = ()


class NotFiniteError(CohortError):
    """Voxels of a volume are NaN or infinite."""


def read(file: Path, assume: Space | float | None) -> Volume:
    """Return one volume in RAS+, or raise a CohortError that does not name the file.

    Parameters
    ----------
    file
        An image file.
    assume
        The geometry of a file that states none, or a wrong one (`placed`).
    """
    return placed_volume(read_stored(file, lambda header: placed(header, assume)), assume)


def placed_volume(stored: StoredImage, assume: Space | float | None) -> Volume:
    """Return a volume in RAS+ from its voxels and header; otherwise as `read`."""
    affine, assumed, remarks = placed(stored, assume)
    values, outside = finite(stored.values)
    if outside:
        remarks.append(Remark("nan-background", f"{outside:.0%} of the voxels"))
    if stored.conflict:
        remarks.append(Remark("sform-qform", stored.conflict))
    if stored.unscaled:
        remarks.append(Remark("scaling", "scl_slope and scl_inter are NaN"))
    if stored.misnamed:
        remarks.append(Remark("file-name", stored.misnamed))
    space = Space.of(values.shape, affine)
    canonical = nib.as_closest_canonical(nib.Nifti1Image(values, affine))
    data = np.ascontiguousarray(canonical.dataobj, dtype=np.float32)
    return Volume(
        data, Space.of(data.shape, canonical.affine), space, assumed, stored.dtype, stored.slope,
        stored.inter, tuple(remarks),
    )  # fmt: skip


# ---------------------------------------------------------------- geometry


def placed(
    stored: ImageHeader, assume: Space | float | None
) -> tuple[Float64[np.ndarray, "4 4"], Space | None, list[Remark]]:
    """Return an image's affine in mm, the grid that was assumed for it, and remarks.

    An assumed grid is given to a file that states no geometry. It also replaces an affine that
    cannot be right: singular, with a field of view that no head has, or with its origin in the
    first voxel. The grid of other files (not a mere voxel size) also replaces any other affine of
    the same shape and directions.

    Raises
    ------
    CohortError
        There is no usable geometry, or the assumed grid has another shape.
    """
    shape = stored.shape
    if stored.affine is None or _is_identity(stored.affine):
        if assume is None:
            raise CohortError(f"has no geometry (an array, or an identity affine). {_ASSUME}")
        assumed = _assumed(shape, assume, None)
        return assumed.matrix, assumed, []
    affine, fault = in_mm(stored.affine, stored)
    if assume is None and fault:
        raise CohortError(f"{fault} {_ASSUME}")
    if affine is not None and not fault and not _is_overruled(shape, affine, assume):
        unit, factor = stored.unit
        converted = [] if factor == 1 else [Remark("units", f"its header states {unit}")]
        return affine, None, converted
    assert assume is not None
    assumed = _assumed(shape, assume, affine)
    header = "none that can be used" if affine is None else str(Space.of(shape, affine))
    return assumed.matrix, assumed, [Remark("assumed-grid", f"its header states {header}")]


def own_affine(stored: ImageHeader) -> Float64[np.ndarray, "4 4"] | None:
    """Return the affine in mm that an image states; None where it states none that can be used."""
    if stored.affine is None or _is_identity(stored.affine):
        return None
    affine, fault = in_mm(stored.affine, stored)
    return None if fault else affine


def in_mm(
    affine: Float64[np.ndarray, "4 4"], stored: ImageHeader
) -> tuple[Float64[np.ndarray, "4 4"] | None, str | None]:
    """Return a file's affine in mm (None where it is singular), and why it cannot be used."""
    shape = stored.shape
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        return None, "its affine is singular or not finite. Copy the header of the original."
    unit, factor = stored.unit
    metric = affine if factor == 1 else np.diag([factor, factor, factor, 1.0]) @ affine
    longest = float(_extent(shape, metric).max())
    if factor != 1 and not _holds_a_head(shape, metric):
        return metric, (
            f"its header states lengths in {unit}, which makes a field of view of {longest:.3g} "
            "mm. If they are in mm, correct the header (nibabel: "
            "image.header.set_xyzt_units('mm'))."
        )
    return metric, implausible(shape, metric)


def implausible(shape: tuple[int, ...], affine: Float64[np.ndarray, "4 4"]) -> str | None:
    """Return why a grid in mm can be that of no scan of a head; None where it can be.

    Resampling to voxels of a wrong size would need memory without bound.
    """
    longest = float(_extent(shape, affine).max())
    fix = "Correct the voxel size or the unit in its header."
    if longest > MAX_EXTENT_MM:
        return (
            f"its field of view is {longest:.6g} mm long ({Space.of(shape, affine)}); no head "
            f"needs more than {MAX_EXTENT_MM:g} mm. {fix}"
        )
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if sizes.min() < MIN_VOXEL_MM * (1 - 1e-6) or sizes.max() > MAX_VOXEL_MM * (1 + 1e-6):
        return (
            f"its voxels are {' x '.join(f'{size:.3g}' for size in sizes)} mm; those of a head are "
            f"between {MIN_VOXEL_MM:g} and {MAX_VOXEL_MM:g} mm. {fix}"
        )
    origin = float(np.abs(affine[:3, 3]).max())
    if origin > _MAX_ORIGIN_MM:
        return f"its first voxel lies {origin:.3g} mm away from the origin. Correct its header."
    return None


def _extent(
    shape: tuple[int, ...], affine: Float64[np.ndarray, "4 4"]
) -> Float64[np.ndarray, " 3"]:
    with np.errstate(over="ignore"):  # a header may state any number
        return np.asarray(np.array(shape) * np.linalg.norm(affine[:3, :3], axis=0))


def _holds_a_head(shape: tuple[int, ...], affine: Float64[np.ndarray, "4 4"]) -> bool:
    extent = _extent(shape, affine)
    return bool(np.sort(extent)[1] >= MIN_EXTENT_MM and extent.max() <= MAX_EXTENT_MM)


def _is_identity(affine: Float64[np.ndarray, "4 4"]) -> bool:
    """Return True for an identity, up to the signs of ITK's LPS convention.

    It means that an array was written without geometry: no scanner and no template has exactly
    1 mm voxels with the origin in the centre of the first one.
    """
    return bool(np.abs(np.abs(affine) - np.eye(4)).max() <= 1e-6)


def is_without_origin(affine: Float64[np.ndarray, "4 4"] | None) -> bool:
    """Return True for an affine of voxel sizes alone: its origin is the first voxel."""
    if affine is None:
        return False
    diagonal = np.allclose(affine, np.diag(np.diag(affine)), atol=1e-6)
    return diagonal and bool(np.abs(affine[:3, 3]).max() < _SAME_MM)


def _is_overruled(
    shape: tuple[int, ...], affine: Float64[np.ndarray, "4 4"], assume: Space | float | None
) -> bool:
    """Return True where an assumed grid replaces a usable affine."""
    if assume is None or (isinstance(assume, Space) and tuple(shape) != assume.shape):
        return False
    if is_without_origin(affine) or not _holds_a_head(shape, affine):
        return True
    if not isinstance(assume, Space):
        return False
    # Files with other directions of the axes may be right: then another grid would mirror them.
    directions = [nib.aff2axcodes(matrix) for matrix in (affine, assume.matrix)]
    return directions[0] == directions[1] and not Space.of(shape, affine).same_grid(assume)


def _assumed(
    shape: tuple[int, ...], assume: Space | float, affine: Float64[np.ndarray, "4 4"] | None
) -> Space:
    """Return the grid that the user gives to a file; `affine` states its directions."""
    if isinstance(assume, Space):
        if tuple(shape) != assume.shape:
            raise CohortError(
                f"--assume-grid real: its shape is {tuple(shape)}, the real volumes' files are "
                f"{assume.shape}. Write it with its own affine instead."
            )
        return assume
    if not MIN_VOXEL_MM <= assume <= MAX_VOXEL_MM:
        raise CohortError(
            f"--assume-grid {assume:g}: a voxel size in mm is needed, from {MIN_VOXEL_MM:g} to "
            f"{MAX_VOXEL_MM:g}."
        )
    directions = np.eye(4) if affine is None else affine
    grid = centred(shape, (assume, assume, assume), nib.io_orientation(directions))
    longest = float(_extent(shape, grid).max())
    if longest > MAX_EXTENT_MM:
        raise CohortError(
            f"--assume-grid {assume:g}: its field of view would be {longest:.6g} mm long; no head "
            f"needs more than {MAX_EXTENT_MM:g} mm. Give the voxel size in mm."
        )
    return Space.of(shape, grid)


def centred(
    shape: tuple[int, ...],
    spacing: tuple[float, float, float],
    orientation: Float64[np.ndarray, "3 2"],
) -> Float64[np.ndarray, "4 4"]:
    """Return the affine of a volume with these directions and its middle at the origin.

    Parameters
    ----------
    spacing
        Voxel size in mm along each axis of the volume.
    orientation
        For each axis of the volume, the axis of space and the sign (nibabel's orientations).
    """
    affine = np.zeros((4, 4))
    affine[3, 3] = 1.0
    for voxel_axis, (axis, sign) in enumerate(orientation):
        affine[int(axis), voxel_axis] = sign * spacing[voxel_axis]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


# ---------------------------------------------------------------- voxels


def finite(values: np.ndarray) -> tuple[Float32[np.ndarray, "d h w"], float]:
    """Return a volume's values as 32-bit floats, and the share of NaN that were set to 0.

    SPM, AFNI and others write NaN outside the brain. This is a background, and set to 0, where it
    covers at least half of the faces of the field of view, and every NaN is connected with one.

    Raises
    ------
    NotFiniteError
        Other voxels are not finite.
    CohortError
        Values are too large or too small for 32-bit floats.
    """
    with np.errstate(over="ignore"):
        small = values.astype(np.float32)
    # NaN where a value is NaN: one pass for what is asked of every volume.
    greatest = max(-float(small.min()), float(small.max()))
    if np.finfo(np.float32).tiny <= greatest <= MAX_VALUE:
        return small, 0.0
    outside = None
    if not np.isfinite(greatest) and not np.isfinite(values).all():
        outside = _nan_background(values)
        values = np.where(outside, 0, values)
        small = values.astype(np.float32)
    greatest = float(np.abs(values).max())
    if greatest > MAX_VALUE:
        raise CohortError(
            f"its values reach {greatest:.3g}, but at most {MAX_VALUE:g} can be computed with. "
            "Correct its scaling rule, or find the step that made them."
        )
    if 0 < greatest < np.finfo(np.float32).tiny:
        raise CohortError(
            f"its values reach only {greatest:.3g}, too small for 32-bit floats. Multiply them, "
            "or correct its scaling rule."
        )
    return small, 0.0 if outside is None else float(outside.mean())


def _nan_background(values: np.ndarray) -> Bool[np.ndarray, "d h w"]:
    """Return the mask of a background of NaN.

    Raises
    ------
    NotFiniteError
        Other voxels are not finite.
    """
    bad = ~np.isfinite(values)
    if bad.all():
        raise NotFiniteError(
            f"is empty: {bad.size} of {bad.size} voxels of NaN or infinity. Find the step that "
            "made them."
        )
    missing = np.isnan(values)
    face = np.ones(values.shape, dtype=bool)
    face[1:-1, 1:-1, 1:-1] = False
    outside = ndimage.binary_propagation(face & missing, mask=missing)
    inside = int((bad & ~outside).sum())
    is_background = 2 * int(missing[face].sum()) >= int(face.sum())
    if is_background and not inside:
        return np.asarray(outside)
    if is_background:
        raise NotFiniteError(
            f"{inside} voxels are NaN or infinite inside the volume. NaN is read as 0 where it is "
            "a background that reaches the faces of the volume, not inside. Find the step that "
            "made them."
        )
    raise NotFiniteError(
        f"{int(bad.sum())} voxels are NaN or infinite. Find the step that made them."
    )
