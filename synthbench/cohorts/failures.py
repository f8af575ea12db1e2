"""Synthetic volumes that failed: counted, and not scored.

A generator that gives a black volume, or NaN, has failed. To leave such a volume out would hide
it, and to score it is not possible.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from synthbench.cohorts.volume_file import NotFiniteError, read
from synthbench.errors import CohortError
from synthbench.runtime.files import sha256_file
from synthbench.volumes.grid import Space

Reason = Literal["not-a-volume", "not-finite", "constant", "not-positive", "other-grid", "refused"]

REASONS: dict[Reason, str] = {
    "not-a-volume": "cannot be read as one 3-D volume",
    "not-finite": "has voxels that are NaN or infinite",
    "constant": "every voxel has the same value",
    "not-positive": "has no voxel above zero",
    "other-grid": "has another grid than most volumes of its set",
    "refused": "an extractor cannot measure it",
}
"""The meaning of each reason."""


@dataclass(frozen=True)
class Failure:
    """A volume that failed.

    Attributes
    ----------
    name
        Its name in the cohort.
    reason
        A key of `REASONS`.
    digest
        The sha256 of the file; of a volume that was refused, the hash of its content. A benchmark
        draws its volumes by the hashes of their content, those of failed ones included.
    """

    name: str
    reason: Reason
    digest: str


def failures(
    root: Path, names: Iterable[str], assume_grid: Space | float | None
) -> tuple[Failure, ...]:
    """Return the failures of files that cannot be part of a cohort, in the order of their hashes.

    Parameters
    ----------
    root
        The folder or the manifest of the cohort.
    names
        Names of the files, relative to it.
    assume_grid
        As for `synthbench.cohorts.reading.read_cohort`.

    Raises
    ------
    CohortError
        A file is not there: nothing is known of the volume.
    """
    base = root if root.is_dir() else root.parent
    found = [_failure(base / name, name, assume_grid) for name in names]
    return tuple(sorted(found, key=lambda failure: (failure.digest, failure.name)))


def _failure(file: Path, name: str, assume_grid: Space | float | None) -> Failure:
    try:
        digest = sha256_file(file)
    except OSError as error:
        raise CohortError(
            f"{name}: cannot be opened ({error.strerror}), so it cannot be counted as a failure of "
            "the generator. Fetch the file or fix the link."
        ) from error
    return Failure(name, _reason(file, assume_grid), digest)


def _reason(file: Path, assume_grid: Space | float | None) -> Reason:
    try:
        volume = read(file, assume_grid).data
    except NotFiniteError:
        return "not-finite"
    except CohortError:
        return "not-a-volume"
    if volume.min() == volume.max():
        return "constant"
    return "not-positive" if volume.max() <= 0 else "other-grid"
