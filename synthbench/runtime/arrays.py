"""Files of arrays (npz, safetensors) and other archives, read within the limit of memory.

An archive states how large its members are. So a small one that unpacks to many gigabytes is
refused before anything is unpacked.
"""

from __future__ import annotations

import io
import zipfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file

from synthbench.errors import SynthbenchError
from synthbench.runtime.files import check_is_file
from synthbench.runtime.memory import amount, beyond_limit

MAX_MEMBERS = 10_000
"""The most files in an archive: as arrays they take about five seconds."""


def read_safetensors(
    file: Path, *, error: type[SynthbenchError], fix: str
) -> dict[str, np.ndarray]:
    """Return the arrays of a safetensors file by name.

    Parameters
    ----------
    error
        The kind of error that is raised.
    fix
        The last sentence of its message: what to do.

    Raises
    ------
    SynthbenchError
        The file cannot be opened, needs too much memory, or is not such a file. It is of kind
        `error`.
    """
    try:
        check_is_file(Path(file))
        needed = Path(file).stat().st_size
        too_large = beyond_limit(needed)
        if too_large:
            raise error(f"{file}: {too_large}.")
        return dict(load_file(file))
    except SynthbenchError:
        raise
    except Exception as found:  # SafetensorError, KeyError for a data type, MemoryError and others
        raise error(f"{file}: cannot be read as safetensors: {_why(found)}. {fix}") from found


def read_npy(
    file: Path, *, error: type[SynthbenchError], fix: str, mapped: bool = False
) -> np.ndarray:
    """Return the array of an npy file that synthbench wrote; pickles are never loaded.

    Parameters
    ----------
    mapped
        True: the file is mapped into memory, not read.
    error, fix
        As in `read_safetensors`, which also has the errors.
    """
    try:
        check_is_file(Path(file))
        if not mapped:
            too_large = beyond_limit(Path(file).stat().st_size)
            if too_large:
                raise error(f"{file}: {too_large}.")
        found: np.ndarray = np.load(file, mmap_mode="r" if mapped else None, allow_pickle=False)
        if not isinstance(found, np.ndarray):
            raise TypeError("it is an archive of several arrays")
        return found
    except SynthbenchError:
        raise
    except Exception as found_error:
        raise error(f"{file}: cannot be read as npy: {_why(found_error)}. {fix}") from found_error


def unpack_npz(content: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of an npz by name; pickles are never loaded.

    Raises
    ------
    ValueError
        It is not an npz, is damaged, holds Python objects, or unpacks to more than the limit of
        memory or than its members state.
    """
    try:
        check_archive(content)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                with archive.open(member) as stream:
                    _check_npy(stream, member.file_size)
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # zlib, zipfile, EOFError, NotImplementedError, MemoryError ...
        raise ValueError(_why(error)) from error


def check_archive(archive: bytes | Path) -> None:
    """Check that a zip archive, or the file of one, unpacks to no more than the limit of memory.

    Nothing is unpacked: the sizes are those that its directory states, and zipfile reads no more
    of a member.

    Raises
    ------
    ValueError
        It is no zip archive, or its members are too many or too large.
    """
    packed = len(archive) if isinstance(archive, bytes) else archive.stat().st_size
    try:
        source = io.BytesIO(archive) if isinstance(archive, bytes) else archive
        with zipfile.ZipFile(source) as opened:
            members = opened.infolist()
    except Exception as error:
        raise ValueError(f"it is no zip archive ({_why(error)})") from error
    if len(members) > MAX_MEMBERS:
        raise ValueError(f"it holds {len(members)} files; at most {MAX_MEMBERS} are read")
    whole = sum(member.file_size for member in members)
    too_large = beyond_limit(whole)
    if too_large:
        raise ValueError(f"it has {amount(packed)} and unpacks to {amount(whole)}: {too_large}")


def load_tensors(file: Path) -> Any:
    """Return what a PyTorch file holds; nothing but tensors and plain values is unpickled.

    Raises
    ------
    Exception
        Whatever `torch.load` raises; ValueError where it unpacks to more than the limit of memory.
    """
    import torch

    check_is_file(file)
    if zipfile.is_zipfile(file):
        check_archive(file)
    return torch.load(file, map_location="cpu", weights_only=True)


def _check_npy(stream: Any, size: int) -> None:
    """Check the header of an array against the bytes that follow, before it is allocated."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else (
        np.lib.format.read_array_header_2_0)  # fmt: skip
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never loaded")
    needed = prod(shape) * dtype.itemsize
    left = size - stream.tell()
    if min(shape, default=0) < 0 or needed != left:
        raise ValueError(f"an array of {shape} needs {needed} bytes, and {left} are there")


def metadata_of(file: Path, *, error: type[SynthbenchError], fix: str) -> dict[str, str]:
    """Return the metadata of a safetensors file; the errors are those of `read_safetensors`."""
    try:
        check_is_file(Path(file))
        with safe_open(file, "np") as opened:
            return dict(opened.metadata() or {})
    except Exception as found:
        raise error(f"{file}: cannot be read as safetensors: {_why(found)}. {fix}") from found


def _why(error: Exception) -> str:
    words = " ".join(str(error).split()).rstrip(".")
    if "allow_pickle" in words:  # numpy's words advise to load it all the same
        return "it is no file of numbers, or holds Python objects, which are never loaded"
    return words or type(error).__name__
