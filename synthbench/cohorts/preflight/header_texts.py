"""The texts in the header of an image file: free fields, extensions, and gzip's name field.

The fields are those of NIfTI-1 (nifti1.h), NIfTI-2 (nifti2.h), ANALYZE 7.5 (dbh.h) and gzip
(RFC 1952). Nothing here judges them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import nibabel as nib

from synthbench.errors import CohortError
from synthbench.volumes.file_content import MAX_REST, opened

_NIFTI = ("descrip", "aux_file", "intent_name", "db_name")
_ANALYZE = (
    "descrip", "aux_file", "db_name", "patient_id", "generated", "scannum", "exp_date", "exp_time",
)  # fmt: skip
_EXTENSIONS = {
    2: "DICOM", 4: "AFNI", 6: "comment", 8: "XCEDE", 10: "JIMDIMINFO", 12: "workflow",
    14: "FreeSurfer", 16: "pickle", 18: "MIND", 30: "Caret", 32: "CIFTI", 44: "MRS",
}  # fmt: skip
"""Kinds of header extensions that hold text, by their code in the registry of NIfTI."""
_EXTRA, _NAME, _COMMENT = 4, 8, 16  # flags of a gzip member


def header_texts(file: Path) -> dict[str, str]:
    """Return the texts in a file's header that are not empty, by the name of their field.

    Parameters
    ----------
    file
        An image. Fields of other formats than NIfTI and ANALYZE are not known.

    Returns
    -------
    dict
        Such as `{"descrip": "FSL5.0", "extension 6 (comment)": "..."}`; the name that gzip keeps
        is "gzip file name". Empty where the file cannot be read.
    """
    header = _header_file(file)
    try:
        texts = dict(_gzip_texts(header))
        with opened(header) as content:
            texts |= _image_texts(content.stream, content.head)
    except (CohortError, OSError, EOFError, ValueError):
        # Files that cannot be read are reported as such.
        return {}
    return {field: text for field, text in texts.items() if text}


def _header_file(file: Path) -> Path:
    """Return the file of a pair that has the header."""
    if file.suffix.lower() == ".img":
        for suffix in (".hdr", ".HDR"):
            if file.with_suffix(suffix).is_file():
                return file.with_suffix(suffix)
    return file


def _text(value: bytes) -> str:
    """Return a field as text: up to its first zero, without spaces around it."""
    return value.split(b"\0")[0].decode("latin-1").strip()


def _gzip_texts(file: Path) -> Iterator[tuple[str, str]]:
    with file.open("rb") as stream:
        fixed = stream.read(10)
        if len(fixed) < 10 or fixed[:2] != b"\x1f\x8b":
            return
        rest = stream.read(2**16)
    flags, at = fixed[3], 0
    if flags & _EXTRA:
        at = 2 + int.from_bytes(rest[:2], "little")
    for flag, field in ((_NAME, "gzip file name"), (_COMMENT, "gzip comment")):
        if flags & flag:
            end = rest.find(b"\0", at)
            if end < 0:
                return
            yield field, _text(rest[at:end])
            at = end + 1


def _image_texts(stream: IO[bytes], head: bytes) -> dict[str, str]:
    sizes = {order: struct.unpack(f"{order}i", head[:4])[0] for order in "<>" if len(head) >= 4}
    order = next((o for o, size in sizes.items() if size in (348, 540)), None)
    if order is None:
        return {}
    size = sizes[order]
    if len(head) < size:
        return {}
    nifti = size == 540 or head[344:348] in (b"n+1\0", b"ni1\0")
    kind = nib.Nifti2Header if size == 540 else nib.Nifti1Header if nifti else nib.AnalyzeHeader
    header = kind(head[:size], endianness=order, check=False)
    known = set(header.keys())
    fields = _NIFTI if nifti else _ANALYZE
    texts = {name: _text(bytes(header[name].tobytes())) for name in fields if name in known}
    if nifti and head[size : size + 1] not in (b"", b"\0"):
        stream.seek(size + 4)
        texts |= _extensions(stream, order)
    return texts


def _extensions(stream: IO[bytes], order: str) -> dict[str, str]:
    """Return the extensions that hold text; several of one kind are joined."""
    texts: dict[str, str] = {}
    left = MAX_REST
    while len(start := stream.read(8)) == 8:
        length, code = struct.unpack(f"{order}2i", start)
        if length < 16 or length % 16 or length > left:
            break  # the voxels, or a damaged extension
        left -= length
        content = stream.read(length - 8)
        if code in _EXTENSIONS and content.strip(b"\0 \n"):
            field = f"extension {code} ({_EXTENSIONS[code]})"
            texts[field] = (texts.get(field, "") + " " + content.decode("latin-1")).strip("\0 \n")
    return texts
