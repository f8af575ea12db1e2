"""What the header of an image file states, checked before memory is allocated.

The checks raise a CohortError that does not name the file: the caller does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite, prod
from typing import Any

import numpy as np
from jaxtyping import Float64

from synthbench.errors import CohortError
from synthbench.runtime.memory import beyond_limit
from synthbench.volumes.file_content import MAX_BEFORE, MAX_REST, Content

MAX_VOXELS = 2**28
"""The most voxels of a volume: 645 along each axis; 1 GiB as 32-bit floats."""

BYTES_PER_VOXEL = 48
"""Memory that reading and checking a volume takes at most, as measured: two files are read at a
time, and each takes up to 24 bytes per voxel for copies in other data types."""

_UNITS_MM = {1: ("metres", 1000.0), 3: ("micrometres", 0.001)}
_MIN_SCALE_CONFLICT = 1.5
_LAST_CODE = 5  # NIfTI's codes of the space that an affine leads to: 5 is any other template


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """What a file states of its volume, before the voxels are read.

    Attributes
    ----------
    shape
        Voxels along each axis of the file.
    affine
        Voxel indices to lengths, in the file's unit; None where the header states none.
    zooms
        Voxel size along each axis, in the file's unit; None where the format has none.
    dtype, slope, inter
        The stored data type, and the scaling rule: value = slope * stored + inter.
    unit
        The name of the header's unit of length and its size in mm.
    conflict
        How the header's two affines (sform and qform) contradict each other; None: they do not.
    unscaled
        True where the header's scaling rule is NaN in both numbers, as nibabel marks one that is
        not set: the values are those that are stored.
    misnamed
        How the content differs from what the name says; None: it does not.
    """

    shape: tuple[int, int, int]
    affine: Float64[np.ndarray, "4 4"] | None
    zooms: tuple[float, float, float] | None
    dtype: str
    slope: float = 1.0
    inter: float = 0.0
    unit: tuple[str, float] = field(default=("millimetres", 1.0))
    conflict: str | None = None
    misnamed: str | None = None
    unscaled: bool = False


def stated_header(
    image: Any,
    affine: Float64[np.ndarray, "4 4"] | None,
    raw: Any = None,
    misnamed: str | None = None,
) -> ImageHeader:
    """Return what an image of nibabel's states; `raw` is the header of NIfTI."""
    rule = image.dataobj
    code = 0 if raw is None else int(raw["xyzt_units"]) & 7
    return ImageHeader(
        shape=three_sides(image.shape),
        affine=affine,
        zooms=zooms_of(image.header),
        dtype=image.get_data_dtype().name,
        slope=float(getattr(rule, "slope", 1.0)),
        inter=float(getattr(rule, "inter", 0.0)),
        unit=_UNITS_MM.get(code, ("millimetres", 1.0)),
        conflict=None if raw is None else _conflict(image.header),
        misnamed=misnamed,
        unscaled=raw is not None and _is_unscaled(raw),
    )


def zooms_of(header: Any) -> tuple[float, float, float]:
    """Return the voxel size that a header of nibabel's states, in the file's unit."""
    zooms = tuple(float(size) for size in header.get_zooms()[:3])
    return zooms[0], zooms[1], zooms[2]


def header_of(kind: Any, head: bytes) -> Any:
    """Return a header of nibabel's, with the numbers of the file and none of them repaired.

    Raises
    ------
    CohortError
        The file ends within it.
    """
    length = kind.template_dtype.itemsize
    if len(head) < length:
        raise CohortError(
            f"cannot be read: it is truncated within its header, which has {length} bytes. Copy it "
            "again from the original."
        )
    # nibabel goes by dim[0], which may be what is damaged.
    orders = {length.to_bytes(4, "little"): "<", length.to_bytes(4, "big"): ">"}
    return kind(head[:length], endianness=orders.get(head[:4]), check=False)


def is_analyze(head: bytes) -> bool:
    """Return True where a file begins as a header of 348 bytes: ANALYZE, or NIfTI-1."""
    return head[:4] in ((348).to_bytes(4, "little"), (348).to_bytes(4, "big"))


def check_nifti(raw: Any, content: Content, least: int) -> None:
    """Check a NIfTI or ANALYZE header against the stream that holds the voxels.

    `least` is the first byte there that can be a voxel.

    Raises
    ------
    CohortError
        What it states contradicts itself or the stream, or cannot be read.
    """
    dims = [int(size) for size in raw["dim"]]
    if not 1 <= dims[0] <= 7:
        raise CohortError(
            f"cannot be read: its header states {dims[0]} dimensions (dim[0]). Copy it again from "
            "the original."
        )
    for name in ("qform_code", "sform_code"):
        # A code that is not known is taken for "no affine" by nibabel.
        if name in raw.structarr.dtype.names and not 0 <= int(raw[name]) <= _LAST_CODE:
            raise CohortError(
                f"cannot be read: its header states the {name} {int(raw[name])}, and codes go from "
                f"0 to {_LAST_CODE}. Copy it again from the original."
            )
    code = int(raw["datatype"])
    try:
        dtype = raw.get_data_dtype()
    except Exception:
        dtype = np.dtype("V0")  # as nibabel's type of the codes that it knows and cannot read
    if not dtype.itemsize:
        raise CohortError(
            f"cannot be read: its header states the data type {code}, which is not known"
            f"{' (single bits)' if code == 1 else ''}. Copy it again from the original, or write "
            "it again as uint8 or float32."
        )
    bits = int(raw["bitpix"])
    if bits not in (0, 8 * dtype.itemsize):
        raise CohortError(
            f"cannot be read: its header contradicts itself: the data type {code} ({dtype.name}) "
            f"has {8 * dtype.itemsize} bits, but bitpix is {bits}. Copy it again from the original."
        )
    offset = float(raw["vox_offset"])
    if not (isfinite(offset) and least <= offset <= MAX_BEFORE):
        raise CohortError(
            f"cannot be read: its header places the voxels at byte {offset:g} (vox_offset). Copy "
            "it again from the original."
        )
    check_array(tuple(dims[1 : dims[0] + 1]), dtype, int(offset), content)
    slope, inter = _scaling(raw)
    # A slope of 0 means that values are stored as they are; the intercept is then not used.
    if (not isfinite(slope) or (slope and not isfinite(inter))) and not _is_unscaled(raw):
        raise CohortError(
            f"cannot be read: its scaling rule is not a number (scl_slope {slope:g}, scl_inter "
            f"{inter:g}). Write 1 and 0 there if the values are stored as they are."
        )


def _scaling(raw: Any) -> tuple[float, float]:
    """Return slope and intercept as they stand in a header; 1 and 0 in ANALYZE, without them."""
    if "scl_slope" not in raw.structarr.dtype.names:
        return 1.0, 0.0
    return float(raw["scl_slope"]), float(raw["scl_inter"])


def _is_unscaled(raw: Any) -> bool:
    return bool(np.isnan(_scaling(raw)).all())


def check_array(
    shape: tuple[int, ...], dtype: np.dtype[Any], offset: int, content: Content
) -> None:
    """Check shape, data type and length of an array before it is read.

    Raises
    ------
    CohortError
        It is no volume of real numbers, too large, or not as long as it must be.
    """
    words = " x ".join(map(str, shape))
    if not shape or min(shape) < 1:
        raise CohortError(
            f"cannot be read: its header states the shape {words or 'of a single number'}, but "
            "every axis needs at least one voxel. Copy it again from the original."
        )
    if dtype.kind not in "biuf":
        values = "colour (RGB)" if dtype.fields else dtype
        raise CohortError(
            f"holds {values} values; real numbers are needed. Write one real number per "
            "voxel: for colours one of the channels, for complex numbers the magnitude."
        )
    if len([size for size in shape if size > 1]) > 3:
        raise CohortError(
            f"is {len(shape)}-D, of shape {tuple(shape)}; one 3-D volume per file is needed. "
            "Split it into one file per volume."
        )
    if prod(shape) > MAX_VOXELS:
        raise CohortError(
            f"is {words}: {prod(shape):.3g} voxels; at most {MAX_VOXELS:.3g} are read "
            "(645 along each axis). Resample it, or correct its header."
        )
    too_large = beyond_limit(prod(shape) * (BYTES_PER_VOXEL + dtype.itemsize))
    if too_large:
        raise CohortError(f"is {words} voxels: reading it {too_large}.")
    needed = offset + prod(shape) * dtype.itemsize
    if needed > content.most:
        limit = "at most " if content.compressed else ""
        raise CohortError(
            f"cannot be read: it is truncated, or its header is damaged: {words} voxels of "
            f"{dtype.itemsize} bytes need {needed} bytes, and it holds {limit}{content.most}. "
            "Compare its size with the original and copy it again."
        )
    if not content.compressed and content.most - needed > MAX_REST:
        raise CohortError(
            f"holds {content.most - needed} bytes after the {words} voxels that its header states. "
            "Its header and its content do not belong together: copy it again from the original."
        )


def _spare(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes of length 1 that a volume does not need."""
    ones = [axis for axis, size in enumerate(shape) if size == 1]
    return tuple(ones[: max(0, len(shape) - 3)])


def three_sides(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the shape of a volume: further axes of length 1 are left out.

    Raises
    ------
    CohortError
        It has not three axes, or is a single slice.
    """
    spare = _spare(shape)
    sides = [int(size) for axis, size in enumerate(shape) if axis not in spare]
    if len(sides) != 3:
        raise CohortError(
            f"is {len(shape)}-D, of shape {tuple(shape)}; one 3-D volume per file is needed. "
            "Stack the slices into one volume."
        )
    if min(sides) == 1:
        raise CohortError(
            f"is a single slice, of shape {tuple(shape)}; one 3-D volume per file is needed. Stack "
            "the slices of a person into one volume."
        )
    return sides[0], sides[1], sides[2]


def three_axes(values: np.ndarray) -> np.ndarray:
    """Return the voxels of a volume, without further axes of length 1.

    Raises
    ------
    CohortError
        They are not real numbers.
    """
    if values.dtype.kind not in "biuf":
        raise CohortError(f"holds {values.dtype} values; real numbers are needed.")
    return values.squeeze(_spare(values.shape))


def affine_of(header: Any, raw: Any) -> Float64[np.ndarray, "4 4"] | None:
    """Return the affine of a NIfTI header; None where it states none that can be used."""
    sizes = np.asarray(raw["pixdim"][1:4], dtype=np.float64)
    by_qform = bool(header["qform_code"]) and np.isfinite(sizes).all() and bool(sizes.all())
    if not (header["sform_code"] or by_qform):
        return None
    return np.asarray(header.get_best_affine(), dtype=np.float64)


def _conflict(header: Any) -> str | None:
    """Return how sform and qform contradict each other: mirrored, or in voxel size.

    They may differ otherwise: the one may lead to the scanner, the other to a template. But no
    registration mirrors a head, or scales it by `_MIN_SCALE_CONFLICT`.
    """
    sform = header.get_sform(coded=True)[0]
    if sform is None or not np.isfinite(sform).all():
        return None
    try:
        qform = header.get_qform(coded=True)[0]
    except Exception:
        return "the qform is no rotation"
    if qform is not None and np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0:
        return "one is the mirror image of the other"
    sizes = np.linalg.norm(sform[:3, :3], axis=0)
    stated = np.array([float(size) for size in header.get_zooms()[:3]])
    if not (len(stated) == 3 and sizes.min() > 0 and stated.min() > 0):
        return None
    if np.abs(np.log(sizes / stated)).max() <= np.log(_MIN_SCALE_CONFLICT):
        return None
    words = [" x ".join(f"{size:.3g}" for size in voxel) for voxel in (sizes, stated)]
    return f"voxels of {words[0]} in the sform, of {words[1]} in the qform (pixdim)"
