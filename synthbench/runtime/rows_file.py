"""Rows of numbers in one file on disk, which a memory map then reads."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np

from synthbench.runtime.files import OWNER_ONLY


class RowsFile:
    """Context manager: a `.npy` file of float32 rows, written one after the other.

    The disk space is taken first, and rows are written as ordinary files are: a full disk is then
    an error with the file's name. (In a memory map of a file with holes, a full disk ends the
    process with SIGBUS.) Without a clean exit the file is removed. Only its owner may read it.

    Parameters
    ----------
    path
        The file; one that is there is replaced.
    shape
        Number of rows, then the shape of a row.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path, self.shape = path, shape
        self.left = shape[0]

    def __enter__(self) -> RowsFile:
        header = io.BytesIO()
        fields = {"descr": "<f4", "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(header, fields)
        with self._removed_on_error():
            self.path.unlink(missing_ok=True)
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
            self.descriptor = os.open(self.path, flags, OWNER_ONLY)
            try:
                self._append(header.getvalue())
                size = 4 * int(np.prod(self.shape, dtype=np.int64))
                _take(self.descriptor, len(header.getvalue()), size)
            except BaseException:
                os.close(self.descriptor)
                raise
        return self

    def write(self, row: np.ndarray) -> None:
        """Append a row."""
        if row.shape != self.shape[1:] or not self.left:
            raise ValueError(f"{self.path}: row of shape {row.shape} into {self.shape}")
        with self._removed_on_error():
            self._append(np.ascontiguousarray(row, dtype="<f4").tobytes())
        self.left -= 1

    def _append(self, content: bytes) -> None:
        left = memoryview(content)
        while left:
            left = left[os.write(self.descriptor, left) :]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                with self._removed_on_error():
                    os.fsync(self.descriptor)
            else:
                self.path.unlink(missing_ok=True)
        finally:
            os.close(self.descriptor)

    @contextmanager
    def _removed_on_error(self) -> Iterator[None]:
        """Remove the file on an error of the system, and give the error the file's name."""
        try:
            yield
        except OSError as error:
            self.path.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(self.path)) from error


def _take(descriptor: int, begin: int, size: int) -> None:
    """Take disk space for a file, where the system and the file system can."""
    if not (size and hasattr(os, "posix_fallocate")):
        return
    try:
        os.posix_fallocate(descriptor, begin, size)
    except OSError as error:
        # A file system without it: the write of a row is then what fails.
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
