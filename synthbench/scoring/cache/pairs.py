"""Sums over the pairs of large sets, kept in a folder: to go on after a stop, and to divide them.

A file holds the sums of one section of a pass (`synthbench.metrics.inference.sections`). Its name
hashes all that they depend on. Where jobs compute a part each, a record names how many there are,
and a scoring that uses their sums computes none itself.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthbench.errors import UsageError
from synthbench.metrics.inference.sections import Sums
from synthbench.runtime.arrays import unpack_npz
from synthbench.runtime.documents import is_there
from synthbench.runtime.files import write_atomic
from synthbench.runtime.part import Part

RECORD = "parts.txt"
"""The number of jobs that compute a part each; without this file there is one."""


@dataclass(frozen=True)
class PairSums:
    """A folder of sums over pairs: participant-level data.

    Attributes
    ----------
    folder
        Where they are.
    part
        The sections that this process computes; None: all of them, unless jobs compute a part each.
    """

    folder: Path
    part: Part | None = None

    @classmethod
    def opened(cls, folder: Path, part: Part | None = None) -> PairSums:
        """Return the sums of a folder, which is made where it is missing.

        Raises
        ------
        UsageError
            It cannot be used, or its jobs are another number.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UsageError(
                f"--pairs {folder}: it is no folder that can be used: {error}."
            ) from error
        record = folder / RECORD
        if part is not None:
            told = _text(record).strip() if is_there(record, UsageError) else str(part.of)
            if told != str(part.of):
                raise UsageError(
                    f"--shard {part}: the sums in {folder} are divided among {told} jobs. Use the "
                    "same number, or another folder."
                )
            write_atomic(record, f"{part.of}\n".encode())
        return cls(folder, part)

    def has(self, key: str, section: int) -> bool:
        """Return whether a section's sums are kept."""
        return self._file(key, section).exists()

    def find(self, key: str, section: int) -> Sums:
        """Return a section's sums.

        Raises
        ------
        UsageError
            The file cannot be read.
        """
        file = self._file(key, section)
        try:
            return unpack_npz(file.read_bytes())
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{file}: it cannot be read ({error}). Delete it: it is computed again."
            ) from error

    def computes(self, section: int) -> bool:
        """Return whether this process computes a section that is not kept."""
        if self.part is None:
            return not (self.folder / RECORD).exists()
        return section % self.part.of == self.part.number - 1

    def keep(self, key: str, section: int, sums: Sums) -> None:
        """Keep a section's sums; only their owner may read them."""
        content = io.BytesIO()
        np.savez(content, **sums)  # type: ignore[arg-type]
        write_atomic(self._file(key, section), content.getvalue(), private=True)

    def note(self, waiting: Sequence[str]) -> None:
        """Note what has to wait for other jobs after this job's part was computed."""
        assert self.part is not None
        file = self.folder / f"waiting-{self.part.number}.txt"
        write_atomic(file, "".join(f"{what}\n" for what in waiting).encode())

    def waiting(self, jobs: int) -> int | None:
        """Return how many passes had to wait, in the last round of all jobs.

        None where a job noted nothing yet.
        """
        files = [self.folder / f"waiting-{number}.txt" for number in range(1, jobs + 1)]
        if not all(file.exists() for file in files):
            return None
        return sum(len(_text(file).splitlines()) for file in files)

    def _file(self, key: str, section: int) -> Path:
        return self.folder / f"{key.replace(' ', '-')}-{section + 1:02}.npz"


def _text(file: Path) -> str:
    """Return the text of a small file; bytes that are no text are shown as such."""
    return file.read_text(encoding="utf-8", errors="backslashreplace")
