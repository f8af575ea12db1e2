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
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.fileholders import FileHolder

from synthbench.errors import CohortError
from synthbench.volumes.file_content import (
    MAX_REST,
    Content,
    check_end,
    foreign,
    opened,
)
from synthbench.volumes.image_header import (
    ImageHeader,
    affine_of,
    check_array,
    check_nifti,
    header_of,
    is_analyze,
    stated_header,
    three_axes,
    three_sides,
    zooms_of,
)

SUFFIXES = (".nii", ".nii.gz", ".mgh", ".mgz", ".npy", ".hdr", ".img")
"""Endings of image files, in lower case; an ANALYZE or NIfTI pair is named by its `.hdr`."""

MAX_VALUE = 1e18
"""The greatest size of an intensity: the square of a larger one overflows 32-bit floats."""

_PAIR = "An ANALYZE or NIfTI pair needs both files: copy the other one beside it."
# nibabel prints what it repairs in a header, without the name of the file.
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module=r"nibabel\.")


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
        shape=three_sides(values.shape), affine=None, zooms=None, dtype=str(values.dtype),
        values=three_axes(values),
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
    affine = image.affine if raw is None else affine_of(image.header, raw)
    stated = stated_header(
        image, None if affine is None else np.asarray(affine, dtype=np.float64), raw
    )
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
    if pair and (head[344:347] == b"ni1" or head[4:7] == b"ni2" or is_analyze(head)):
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
    check_array(shape, dtype, stream.tell(), content)
    header = ImageHeader(
        shape=three_sides(shape), affine=None, zooms=None, dtype=str(dtype),
        misnamed=_misnamed(file, content, "npy"),
    )  # fmt: skip
    accept(header)
    stream.seek(0)
    values = three_axes(np.lib.format.read_array(stream, allow_pickle=False))
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
    check_array(tuple(shape), dtype, 284, content)
    stated = nib.freesurfer.mghformat.MGHHeader(content.head[:284], check=False)
    # Without the flag, FreeSurfer takes coronal slices of 1 mm: a guess, not what the file says.
    known = content.head[28:30] != bytes(2)
    header = ImageHeader(
        shape=three_sides(tuple(shape)),
        affine=np.asarray(stated.get_affine(), dtype=np.float64) if known else None,
        zooms=zooms_of(stated),
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
    raw = header_of(nib.Nifti2Header if second else nib.Nifti1Header, content.head)
    check_nifti(raw, content, least=len(raw.binaryblock))
    kind = nib.Nifti2Image if second else nib.Nifti1Image
    image = kind.from_file_map({"image": FileHolder(fileobj=content.stream)})
    header = stated_header(
        image, affine_of(image.header, raw), raw, _misnamed(file, content, "NIfTI")
    )
    accept(header)
    stored = StoredImage(values=_values(image), **vars(header))
    check_end(content)
    return stored


def _read_pair(file: Path, content: Content, accept: Accept) -> StoredImage:
    second, nifti = content.head[4:7] == b"ni2", content.head[344:347] == b"ni1"
    kind, of_header = (nib.Nifti2Pair, nib.Nifti2Header) if second else (
        (nib.Nifti1Pair, nib.Nifti1Header) if nifti else (nib.Spm2AnalyzeImage, nib.AnalyzeHeader)
    )  # fmt: skip
    raw = header_of(of_header, content.head)
    voxels = _partner(file, ".img")
    assert voxels is not None
    with opened(voxels) as beside:
        check_nifti(raw, beside, least=0)
        parts = {"header": FileHolder(fileobj=content.stream)}
        parts["image"] = FileHolder(fileobj=beside.stream)
        # SPM's matrix is not looked for: the directions of an ANALYZE file are not known.
        parts |= {} if second or nifti else {"mat": FileHolder(fileobj=io.BytesIO())}
        image = kind.from_file_map(parts)
        if second or nifti:
            header = stated_header(image, affine_of(image.header, raw), raw)
        else:
            header = stated_header(image, None)
        accept(header)
        stored = StoredImage(values=_values(image), **vars(header))
        check_end(beside)
    check_end(content)
    return stored


def _values(image: Any) -> np.ndarray:
    """Return the voxels of an image of nibabel's."""
    try:
        return three_axes(np.asanyarray(image.dataobj))
    except gzip.BadGzipFile:
        raise
    except OSError as error:
        raise CohortError(
            "cannot be read: it is truncated, or its header is damaged: it ends before the last of "
            f"the {' x '.join(map(str, image.shape))} voxels that its header states. Compare its "
            "size with the original and copy it again."
        ) from error


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
