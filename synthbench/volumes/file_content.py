"""The bytes of an image file: recognised by their content, and checked to be whole.

A name says little: downloads leave web pages, pointers and archives under the names of images.
Nothing here is unpickled, and no message names the file: the caller does.
"""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from synthbench.errors import CohortError
from synthbench.runtime import tar

HEAD_BYTES = 1024
"""Bytes that are looked at to recognise a format; the longest header has 540."""

MAX_BEFORE = 64 * 2**20
"""The most bytes before the voxels: header extensions."""

MAX_REST = 2**20
"""The most bytes after the voxels: FreeSurfer's tags, padding."""

_MOST_DEFLATED = 1032  # deflate cannot compress better than 1032 to 1 (zlib's documentation)
_GZIP = b"\x1f\x8b"
_DECOMPRESS = "is compressed with {0}, which is not read here. Decompress it: {1}"
_DOWNLOAD = "Open it in an editor to see why, and download the image again."
_KINDS: tuple[tuple[bytes, str], ...] = (
    (b"BZh", _DECOMPRESS.format("bzip2", "bunzip2 FILE")),
    (b"\xfd7zXZ\x00", _DECOMPRESS.format("xz", "xz -d FILE")),
    (b"\x28\xb5\x2f\xfd", _DECOMPRESS.format("zstd", "zstd -d FILE")),
    (b"\x04\x22\x4d\x18", _DECOMPRESS.format("lz4", "lz4 -d FILE")),
    (b"7z\xbc\xaf\x27\x1c", _DECOMPRESS.format("7-Zip", "7z x FILE")),
    (b"Rar!", _DECOMPRESS.format("RAR", "unrar x FILE")),
    (_GZIP, "is compressed twice with gzip. Decompress it once: gunzip FILE"),
    (b"PK\x03\x04", "is a zip archive, as np.savez (.npz), torch.save and zip write. Unpack it, or "
                    "write the one array with np.save."),
    (b"NRRD", "is an NRRD image. Convert it to NIfTI, for example with SimpleITK."),
    (b"ObjectType", "is a MetaImage (.mha, .mhd). Convert it to NIfTI, for example with "
                    "SimpleITK."),
    (b"mrtrix image", "is an MRtrix image. Convert it: mrconvert FILE OUT.nii.gz"),
    (b"\x89HDF", "is an HDF5 file (MINC 2 and MATLAB 7.3 write such files). Convert it to NIfTI."),
    (b"CDF\x01", "is a NetCDF file (MINC 1). Convert it: mnc2nii FILE OUT.nii"),
    (b"MATLAB 5.0", "is a MATLAB file. Write its array as NIfTI."),
    (b"\x89PNG", "is a PNG picture. A volume is needed."),
    (b"\xff\xd8\xff", "is a JPEG picture. A volume is needed."),
    (b"%PDF", "is a PDF document. A volume is needed."),
    (b"II*\x00", "is a TIFF picture. Write it as NIfTI."),
    (b"MM\x00*", "is a TIFF picture. Write it as NIfTI."),
    (b"version https://git-lfs", "is a Git LFS pointer: the content was not fetched. Type: git "
                                 "lfs pull"),
    *((bytes([0x80, protocol]), "begins as a pickle, and pickles are never loaded: they can run "
       "any code. Write the array with np.save, or as NIfTI.") for protocol in range(2, 6)),
)  # fmt: skip


@dataclass(frozen=True)
class Content:
    """The uncompressed bytes of an open file.

    Attributes
    ----------
    stream
        At the first byte; it can be sought.
    head
        The first `HEAD_BYTES` bytes, fewer where the file is shorter.
    compressed
        True where the file is compressed with gzip.
    most
        The most bytes that the stream can hold; exact where it is not compressed.
    """

    stream: IO[bytes]
    head: bytes
    compressed: bool
    most: int


@contextmanager
def opened(file: Path) -> Iterator[Content]:
    """Open a file, decompressing it where its content is gzip, whatever its name is.

    The file may be a member of a tar file (`synthbench.runtime.tar`).

    Raises
    ------
    CohortError
        It is missing, a folder, empty, not readable, or damaged gzip; also for damage that is
        found when the body reads on.
    """
    size = _size(file)
    try:
        with tar.open_binary(file) as raw:
            compressed = raw.read(2) == _GZIP
            raw.seek(0)
            stream = cast(IO[bytes], gzip.GzipFile(fileobj=raw) if compressed else raw)
            head = stream.read(HEAD_BYTES)
            stream.seek(0)
            most = size * _MOST_DEFLATED if compressed else size
            yield Content(stream, head, compressed, most)
    except PermissionError as error:
        raise CohortError(
            f"cannot be opened ({error.strerror}). Give yourself the right to read it: "
            "chmod u+r FILE"
        ) from error
    except EOFError as error:
        raise CohortError(
            "cannot be read: it is truncated, because its gzip stream ends too early. Compare its "
            "size with the original and copy it again."
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise CohortError(
            f"cannot be read: its gzip stream is damaged ({error}), so its voxels cannot be "
            "trusted. Copy it again from the original; gzip -t FILE tests it."
        ) from error


def check_end(content: Content) -> None:
    """Read a compressed stream to its end, where gzip keeps the checksum and the length.

    Nothing is kept, so a stream that holds gigabytes of zeros takes no memory. It is stopped after
    `MAX_REST` bytes.

    Raises
    ------
    CohortError
        More than `MAX_REST` bytes are left.
    gzip.BadGzipFile, EOFError
        Checksum or length are wrong or missing, or other bytes follow; `opened` explains them.
    """
    if not content.compressed:
        return
    left = MAX_REST
    while chunk := content.stream.read(2**18):
        left -= len(chunk)
        if left < 0:
            raise CohortError(
                f"holds more than {MAX_REST // 2**20} MiB after its voxels. Its header and its "
                "content do not belong together: copy it again from the original."
            )


def _size(file: Path) -> int:
    """Return the size of a file that can be opened."""
    if file.is_symlink() and not file.exists():
        raise CohortError(
            f"is a link to {os.readlink(file)}, which is not there. Fetch it (datalad get, git "
            "annex get), or fix the link."
        )
    try:
        inside = tar.span(file)
        if inside is not None:
            return _not_empty(inside[1].length)
        found = file.stat()
    except tar.TruncatedError as error:
        raise CohortError(
            f"lost: {error.strerror}. Copy the shard again from the original, or delete it and "
            "repeat the command that made it."
        ) from error
    except OSError as error:
        raise CohortError(
            f"cannot be opened ({error.strerror}). Correct its path, or copy it again."
        ) from error
    if stat.S_ISDIR(found.st_mode):
        raise CohortError("is a folder with the name of an image. Name the image inside it.")
    if not stat.S_ISREG(found.st_mode):
        raise CohortError("is a pipe or a device, not a file. Write the image to a file.")
    return _not_empty(found.st_size)


def _not_empty(size: int) -> int:
    if size == 0:
        raise CohortError("is empty (0 bytes). Copy or download it again.")
    return size


def foreign(head: bytes) -> str:
    """Return what bytes that are no known image are, and what to do.

    Parameters
    ----------
    head
        The first `HEAD_BYTES` of a file, uncompressed.
    """
    if not head:
        return "holds 0 bytes after decompression. Copy or download it again."
    for magic, words in _KINDS:
        if head.startswith(magic):
            return words
    if head[128:132] == b"DICM":
        return "is a DICOM file. Convert its series: dcm2niix -z y -o OUT FOLDER"
    if head[257:262] == b"ustar":
        return "is a tar archive. Unpack it: tar -xf FILE"
    text = _as_text(head)
    if text is None:
        return (
            f"is no image that is read here (NIfTI, ANALYZE, MGH, npy): it begins with the bytes "
            f"{head[:8].hex(' ')}. Copy it again from the original."
        )
    return _foreign_text(text.strip())


def _foreign_text(text: str) -> str:
    if "annex/objects/" in text:
        return (
            "is a git-annex pointer: the content was not fetched. Type: datalad get FILE (or git "
            "annex get FILE)"
        )
    lower = text.lower()
    if (lower.startswith("<") and "<html" in lower) or lower.startswith("<!doctype html"):
        return f"is a web page (HTML), probably of a download that failed. {_DOWNLOAD}"
    if lower.startswith("<"):
        return f"is an XML text, not an image. {_DOWNLOAD}"
    if lower.startswith(("{", "[")):
        return f"is a JSON text, not an image. {_DOWNLOAD}"
    return f"is a text, not an image; it begins with '{' '.join(text.split())[:40]}'. {_DOWNLOAD}"


def _as_text(head: bytes) -> str | None:
    """Return bytes as text; None where they are not."""
    try:
        # The last character may be cut in two.
        text = head.decode("utf-8-sig", errors="strict" if len(head) < HEAD_BYTES else "ignore")
    except UnicodeDecodeError:
        return None
    whole = len(text.encode()) >= len(head) - 6
    return text if whole and all(c.isprintable() or c.isspace() for c in text) else None
