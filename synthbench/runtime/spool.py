"""Many small arrays: in main memory while they are few, in a temporary file beyond that.

The file has no name where the system allows that, so that nothing is left of it after a crash. It
lies in the folder for temporary files (`TMPDIR`), and is not mapped into memory: what was read
does not count as memory of the process.
"""

from __future__ import annotations

import tempfile
import weakref
import zlib
from dataclasses import dataclass
from threading import Lock

import numpy as np

_LEVEL = 1  # most bytes are background: stronger compression takes longer and gains little


class Spool:
    """A place for arrays, which gives a handle for each; safe for threads.

    Parameters
    ----------
    most
        Bytes after compression that stay in main memory; with more, all go to the file.
    """

    def __init__(self, most: int) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=max(1, most))  # noqa: SIM115
        # With the last handle: volumes are read long after the cohort was.
        weakref.finalize(self, self._file.close)
        self._lock = Lock()
        self._end = 0

    def keep(self, array: np.ndarray) -> Kept:
        """Return a handle of an array of numbers, which is written."""
        content = zlib.compress(np.ascontiguousarray(array).tobytes(), _LEVEL)
        with self._lock:
            start = self._end
            self._file.seek(start)
            self._file.write(content)
            self._end += len(content)
        return Kept(self, start, len(content), array.shape, array.dtype)

    def read(self, start: int, size: int) -> bytes:
        """Return the bytes of one array, unpacked."""
        with self._lock:
            self._file.seek(start)
            content = self._file.read(size)
        return zlib.decompress(content)


@dataclass(frozen=True, slots=True)
class Kept:
    """An array in a spool."""

    spool: Spool
    start: int
    size: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def array(self) -> np.ndarray:
        """The array, read again at each call; it must not be written to."""
        found = self.spool.read(self.start, self.size)
        return np.frombuffer(found, self.dtype).reshape(self.shape)
