"""Reading one image file: the only place that opens one.

Formats are NIfTI-1 and NIfTI-2 (also as pairs), ANALYZE pairs, MGH and npy. The header is checked
before memory is allocated. Whatever a reader raises becomes a CohortError that says what is wrong
with the file and what to do; it does not name the file: the caller does.
"""

from __future__ import annotations

import gzip
import io
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite, prod
from pathlib import Path
from tokenize import TokenError
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Float64
from nibabel.fileholders import FileHolder

from synthbench.errors import CohortError
from synthbench.runtime.memory import beyond_limit
from synthbench.volumes.file_content import (
    MAX_BEFORE,
    MAX_REST,
    Content,
    check_end,
    foreign,
    opened,
)

SUFFIXES = (".nii", ".nii.gz", ".mgh", ".mgz", ".npy", ".hdr", ".img")
"""Endings of image files, in lower case; an ANALYZE or NIfTI pair is named by its `.hdr`."""

MAX_VOXELS = 2**28
"""The most voxels of a volume: 645 along each axis; 1 GiB as 32-bit floats."""

BYTES_PER_VOXEL = 48
"""Memory that reading and checking a volume takes at most, as measured: two files are read at a
time, and each takes up to 24 bytes per voxel for copies in other data types."""

MAX_VALUE = 1e18
"""The greatest size of an intensity: the square of a larger one overflows 32-bit floats."""

_UNITS_MM = {1: ("metres", 1000.0), 3: ("micrometres", 0.001)}
_PAIR = "An ANALYZE or NIfTI pair needs both files: copy the other one beside it."
_MIN_SCALE_CONFLICT = 1.5
_LAST_CODE = 5  # NIfTI's codes of the space that an affine leads to: 5 is any other template

# nibabel prints what it repairs in a header, without the name of the file.
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module=r"nibabel\.")


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


@dataclass(frozen=True, kw_only=True)
class StoredImage(ImageHeader):
    """One volume as its file stores it.

    Attributes
    ----------
    values
        Real numbers after the file's scaling rule, in the file's axes.
    """

    values: np.ndarray


Accept = Callable[[ImageHeader], object]
"""Raises a CohortError where the voxels need not be read; what it returns is not used."""


def without_suffix(name: str) -> str:
    """Return the name of an image file without the ending of its format.

    >>> without_suffix("a/sub-01_T1w.NII.GZ")
    'a/sub-01_T1w'
    """
    endings = [suffix for suffix in SUFFIXES if name.lower().endswith(suffix)]
    return name[: -len(max(endings, key=len))] if endings else name


def read_stored(file: Path, accept: Accept | None = None) -> StoredImage:
    """Return the one volume of an image file.

    Parameters
    ----------
    accept
        Called with the header before memory is allocated for the voxels.

    Raises
    ------
    CohortError
        The file is not one whole 3-D image of finite scaling with at most `MAX_VOXELS` real
        numbers that fit in memory, or `accept` raised. The message does not name the file.
    """
    try:
        file = _header_of_pair(file)
        # A header may state any number; what cannot be used is refused by the checks.
        with opened(file) as content, np.errstate(all="ignore"):
            return _read(file, content, accept or _as_it_is)
    except CohortError:
        raise
    except MemoryError as error:
        raise CohortError("cannot be read: there is not enough memory for its voxels.") from error
    except Exception as error:  # whatever a reader raises for a file that nobody foresaw
        raise CohortError(
            f"cannot be read ({type(error).__name__}: {error}). Its header may be damaged: copy it "
            "again from the original, or write it again with another program."
        ) from error


def of_array(values: np.ndarray) -> StoredImage:
    """Return an array of voxels as a file would store it that states no geometry.

    Raises
    ------
    CohortError
        It is not one 3-D array of real numbers.
    """
    return StoredImage(
        shape=_three_sides(values.shape), affine=None, zooms=None, dtype=str(values.dtype),
        values=_three_axes(values),
    )  # fmt: skip


def of_nibabel(image: Any) -> StoredImage:
    """Return an image of nibabel's, which a program holds, as a file would store it.

    Raises
    ------
    CohortError
        It is not one 3-D image of real numbers.
    """
    # NIfTI knows headers without a valid affine, for which nibabel makes one up.
    raw = image.header if "sform_code" in image.header else None
    affine = image.affine if raw is None else _affine(image.header, raw)
    stated = _stated(image, None if affine is None else np.asarray(affine, dtype=np.float64), raw)
    return StoredImage(values=_values(image), **vars(stated))


def _as_it_is(header: ImageHeader) -> None:
    pass


def _read(file: Path, content: Content, accept: Accept) -> StoredImage:
    head = content.head
    if head.startswith(b"\x93NUMPY"):
        return _read_npy(file, content, accept)
    if head[:4] == b"\x00\x00\x00\x01" and len(head) >= 284:
        return _read_mgh(file, content, accept)
    pair = file.suffix.lower() == ".hdr"
    if head[344:347] == b"n+1" or head[4:7] == b"n+2":
        return _read_nifti(file, content, accept)
    if pair and (head[344:347] == b"ni1" or head[4:7] == b"ni2" or _is_analyze(head)):
        return _read_pair(file, content, accept)
    if head[344:347] == b"ni1" or head[4:7] == b"ni2":
        raise CohortError(f"cannot be read: it is the header of a pair, without voxels. {_PAIR}")
    check_end(content)
    raise CohortError(f"cannot be read: it {foreign(head)}")


# ---------------------------------------------------------------- formats


def _read_npy(file: Path, content: Content, accept: Accept) -> StoredImage:
    stream = content.stream
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else (
            np.lib.format.read_array_header_2_0)  # fmt: skip
        shape, _, dtype = read(stream)
    except (ValueError, SyntaxError, TokenError) as error:
        raise CohortError(
            f"cannot be read: its npy header is broken ({error}). Write it again with np.save."
        ) from error
    if dtype.hasobject:
        raise CohortError(
            "cannot be read: it holds Python objects as a pickle, and pickles are never loaded. "
            "Write numbers: np.save(FILE, np.asarray(volume, dtype=np.float32))"
        )
    _check_array(shape, dtype, stream.tell(), content)
    header = ImageHeader(
        shape=_three_sides(shape), affine=None, zooms=None, dtype=str(dtype),
        misnamed=_misnamed(file, content, "npy"),
    )  # fmt: skip
    accept(header)
    stream.seek(0)
    values = _three_axes(np.lib.format.read_array(stream, allow_pickle=False))
    check_end(content)
    return StoredImage(values=values, **vars(header))


def _read_mgh(file: Path, content: Content, accept: Accept) -> StoredImage:
    *shape, code = (int(n) for n in np.frombuffer(content.head[4:24], dtype=">i4"))
    dtypes = {0: "u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}
    if code not in dtypes:
        raise CohortError(
            f"cannot be read: its MGH header states the data type {code}, which is not known. "
            "Copy it again from the original."
        )
    dtype = np.dtype(dtypes[code])
    _check_array(tuple(shape), dtype, 284, content)
    stated = nib.freesurfer.mghformat.MGHHeader(content.head[:284], check=False)
    # Without the flag, FreeSurfer takes coronal slices of 1 mm: a guess, not what the file says.
    known = content.head[28:30] != bytes(2)
    header = ImageHeader(
        shape=_three_sides(tuple(shape)),
        affine=np.asarray(stated.get_affine(), dtype=np.float64) if known else None,
        zooms=_zooms(stated),
        dtype=dtype.name,
        misnamed=_misnamed(file, content, "MGH"),
    )
    accept(header)
    # The header goes on after the voxels, so a compressed stream would be read twice.
    whole = io.BytesIO(content.stream.read(284 + prod(shape) * dtype.itemsize + MAX_REST))
    check_end(content)
    image = nib.MGHImage.from_file_map({"image": FileHolder(fileobj=whole)})
    return StoredImage(values=_values(image), **vars(header))


def _read_nifti(file: Path, content: Content, accept: Accept) -> StoredImage:
    second = content.head[4:7] == b"n+2"
    raw = _header(nib.Nifti2Header if second else nib.Nifti1Header, content.head)
    _check_nifti(raw, content, least=len(raw.binaryblock))
    kind = nib.Nifti2Image if second else nib.Nifti1Image
    image = kind.from_file_map({"image": FileHolder(fileobj=content.stream)})
    header = _stated(image, _affine(image.header, raw), raw, _misnamed(file, content, "NIfTI"))
    accept(header)
    stored = StoredImage(values=_values(image), **vars(header))
    check_end(content)
    return stored


def _read_pair(file: Path, content: Content, accept: Accept) -> StoredImage:
    second, nifti = content.head[4:7] == b"ni2", content.head[344:347] == b"ni1"
    kind, of_header = (nib.Nifti2Pair, nib.Nifti2Header) if second else (
        (nib.Nifti1Pair, nib.Nifti1Header) if nifti else (nib.Spm2AnalyzeImage, nib.AnalyzeHeader)
    )  # fmt: skip
    raw = _header(of_header, content.head)
    voxels = _partner(file, ".img")
    assert voxels is not None
    with opened(voxels) as beside:
        _check_nifti(raw, beside, least=0)
        parts = {"header": FileHolder(fileobj=content.stream)}
        parts["image"] = FileHolder(fileobj=beside.stream)
        # SPM's matrix is not looked for: the directions of an ANALYZE file are not known.
        parts |= {} if second or nifti else {"mat": FileHolder(fileobj=io.BytesIO())}
        image = kind.from_file_map(parts)
        if second or nifti:
            header = _stated(image, _affine(image.header, raw), raw)
        else:
            header = _stated(image, None)
        accept(header)
        stored = StoredImage(values=_values(image), **vars(header))
        check_end(beside)
    check_end(content)
    return stored


def _stated(
    image: Any,
    affine: Float64[np.ndarray, "4 4"] | None,
    raw: Any = None,
    misnamed: str | None = None,
) -> ImageHeader:
    """Return what an image of nibabel's states; `raw` is the header of NIfTI."""
    rule = image.dataobj
    code = 0 if raw is None else int(raw["xyzt_units"]) & 7
    return ImageHeader(
        shape=_three_sides(image.shape),
        affine=affine,
        zooms=_zooms(image.header),
        dtype=image.get_data_dtype().name,
        slope=float(getattr(rule, "slope", 1.0)),
        inter=float(getattr(rule, "inter", 0.0)),
        unit=_UNITS_MM.get(code, ("millimetres", 1.0)),
        conflict=None if raw is None else _conflict(image.header),
        misnamed=misnamed,
        unscaled=raw is not None and _is_unscaled(raw),
    )


def _zooms(header: Any) -> tuple[float, float, float]:
    zooms = tuple(float(size) for size in header.get_zooms()[:3])
    return zooms[0], zooms[1], zooms[2]


def _values(image: Any) -> np.ndarray:
    """Return the voxels of an image of nibabel's."""
    try:
        return _three_axes(np.asanyarray(image.dataobj))
    except gzip.BadGzipFile:
        raise
    except OSError as error:
        raise CohortError(
            "cannot be read: it is truncated, or its header is damaged: it ends before the last of "
            f"the {' x '.join(map(str, image.shape))} voxels that its header states. Compare its "
            "size with the original and copy it again."
        ) from error


# ---------------------------------------------------------------- headers


def _header(kind: Any, head: bytes) -> Any:
    """Return a header of nibabel's, with the numbers of the file and none of them repaired."""
    length = kind.template_dtype.itemsize
    if len(head) < length:
        raise CohortError(
            f"cannot be read: it is truncated within its header, which has {length} bytes. Copy it "
            "again from the original."
        )
    # nibabel goes by dim[0], which may be what is damaged.
    orders = {length.to_bytes(4, "little"): "<", length.to_bytes(4, "big"): ">"}
    return kind(head[:length], endianness=orders.get(head[:4]), check=False)


def _is_analyze(head: bytes) -> bool:
    return head[:4] in ((348).to_bytes(4, "little"), (348).to_bytes(4, "big"))


def _check_nifti(raw: Any, content: Content, least: int) -> None:
    """Check a NIfTI or ANALYZE header against the stream that holds the voxels.

    `least` is the first byte there that can be a voxel.
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
    _check_array(tuple(dims[1 : dims[0] + 1]), dtype, int(offset), content)
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


def _check_array(
    shape: tuple[int, ...], dtype: np.dtype[Any], offset: int, content: Content
) -> None:
    """Check shape, data type and length of an array before it is read."""
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


def _three_sides(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the shape of a volume: further axes of length 1 are left out."""
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


def _three_axes(values: np.ndarray) -> np.ndarray:
    """Return the voxels of a volume, without further axes of length 1."""
    if values.dtype.kind not in "biuf":
        raise CohortError(f"holds {values.dtype} values; real numbers are needed.")
    return values.squeeze(_spare(values.shape))


def _affine(header: Any, raw: Any) -> Float64[np.ndarray, "4 4"] | None:
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


# ---------------------------------------------------------------- names


_ENDINGS = {"NIfTI": (".nii", ".nii.gz"), "MGH": (".mgh", ".mgz"), "npy": (".npy",)}


def _misnamed(file: Path, content: Content, form: str) -> str | None:
    name = file.name.lower()
    if not name.endswith(_ENDINGS[form]):
        return f"it is {form} by its content"
    if content.compressed == name.endswith(("gz", "mgz")):
        return None
    return "it is compressed" if content.compressed else "it is not compressed"


def is_volume(file: Path) -> bool:
    """Return True where the name is that of an image file, and not of a hidden one.

    An `.img` beside its `.hdr` is no file of its own.
    """
    name = file.name.lower()
    if name.startswith(".") or not name.endswith(SUFFIXES):
        return False
    return not (name.endswith(".img") and _partner(file, ".hdr"))


def _header_of_pair(file: Path) -> Path:
    """Return the header of a pair, for any of its two files; other files as they are."""
    suffix = file.suffix.lower()
    if suffix not in (".hdr", ".img") or not file.exists():
        return file
    other = _partner(file, ".hdr" if suffix == ".img" else ".img")
    if other is None:
        lacking = "header (.hdr)" if suffix == ".img" else "voxels (.img)"
        raise CohortError(f"cannot be read: its {lacking} is not beside it. {_PAIR}")
    return other if suffix == ".img" else file


def _partner(file: Path, suffix: str) -> Path | None:
    """Return the other file of a pair, in the same letter case; None where there is none."""
    names = (file.with_suffix(suffix), file.with_suffix(suffix.upper()))
    return next((other for other in names if other.is_file()), None)
