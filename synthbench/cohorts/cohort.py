"""Cohorts: ordered sets of volumes with a participants table and a content fingerprint.

`synthbench.cohorts.reading` reads them, from a folder, a BIDS folder or a manifest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32
from scipy import ndimage

from synthbench.cohorts.failures import Failure, Reason
from synthbench.cohorts.inspection import Inspection
from synthbench.cohorts.remarks import CohortRemark
from synthbench.cohorts.tables.persons import person_key
from synthbench.cohorts.volume_file import placed_volume, read
from synthbench.errors import CohortError
from synthbench.runtime.parallel import read_ahead
from synthbench.volumes.grid import Space, resample
from synthbench.volumes.image_file import StoredImage
from synthbench.volumes.intensity import (
    Intensity,
    intensity_words,
    quantity,
    range_refusal,
    scale_refusal,
    to_unit,
)

MASK_RULE = "above 0.05 in at least half of the real volumes, holes filled"


MASK_LEVEL = 0.05
"""The share of the scale above which a voxel is tissue, in `MASK_RULE`."""

BACKGROUND_MARGIN_MM = 12.0
"""The margin around the mask of the real volumes in mm within which brains may still lie.

Brains of other persons reach beyond the mask of the majority (docs/numbers.md has by how much).
"""


@dataclass(frozen=True)
class Entry:
    """One volume of a cohort: its file, its name, its subject and the hash of its content.

    `inspection` holds the measurements that were made when it was read. Two entries that differ
    in them alone are equal. `held` are the voxels of a volume that a program holds; its path leads
    nowhere.
    """

    path: Path
    name: str
    subject: str
    digest: str
    inspection: Inspection | None = field(default=None, compare=False, repr=False)
    held: StoredImage | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Cohort:
    """An ordered set of volumes on one grid.

    Attributes
    ----------
    entries
        The volumes, ordered by the hash of their content, so that nothing computed from a
        cohort depends on file names or on the order of a listing.
    grid
        The grid that all volumes share, in RAS+.
    stored_grid
        The same grid as the files store it, before reorientation to RAS+:
        `--assume-grid real` gives it to arrays without geometry.
    participants
        One row per subject, indexed by participant; empty where no table was found.
    notes
        Notes for the reader of a scorecard: skipped files, an assumed grid.
    failed
        Volumes that failed, in the order of their hashes; None: not counted, any would be an
        error.
    scans
        Covariates of each volume, indexed by its name, where a manifest has them; else empty.
    remarks
        What decided which files are its volumes and how its table was read. They may name files
        and persons; `notes` does not.
    """

    entries: tuple[Entry, ...]
    grid: Space
    stored_grid: Space
    participants: pd.DataFrame
    notes: tuple[str, ...] = ()
    failed: tuple[Failure, ...] | None = field(default=None, repr=False)
    scans: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    remarks: tuple[CohortRemark, ...] = ()

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        """The cohort in one line, without names of files and persons."""
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return (
            f"<Cohort: {len(self)} volumes of {len(set(self.subjects))} subjects, "
            f"{self.grid}{failed}>"
        )

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 over the sorted content hashes of all volumes (grid and voxels)."""
        joined = "\n".join(entry.digest for entry in self.entries)
        return hashlib.sha256(joined.encode()).hexdigest()

    @property
    def subjects(self) -> np.ndarray:
        """The index of each volume's subject, 0 to the number of subjects - 1."""
        names = [entry.subject for entry in self.entries]
        return np.unique(names, return_inverse=True)[1].astype(np.int64)

    @property
    def covariates(self) -> pd.DataFrame:
        """One row per volume: what its manifest says of it, else what is known of its person."""
        if len(self.scans):
            return self.scans.reindex([entry.name for entry in self.entries])
        return self.participants.reindex([entry.subject for entry in self.entries])

    def load(self, index: int) -> Float32[np.ndarray, "d h w"]:
        """Return one volume in RAS+, with the intensities of its file."""
        return read_volume(self.entries[index])

    @property
    def available(self) -> int:
        """The number of volumes, failed ones included."""
        return len(self) + len(self.failed or ())

    def drawn(self, numbers: Sequence[int]) -> Cohort:
        """Return the cohort of some of its volumes, numbered by their hashes, failed ones too."""
        if not self.failed:
            return self.subset(numbers)
        everything = sorted(
            [(e.digest, e.name, i, None) for i, e in enumerate(self.entries)]
            + [(f.digest, f.name, -1, f) for f in self.failed],
            key=lambda one: one[:2],
        )
        chosen = [everything[number] for number in numbers]
        scored = self.subset(i for _, _, i, failure in chosen if failure is None)
        return replace(scored, failed=tuple(f for *_, f in chosen if f is not None))

    def with_failed(self, indices: Collection[int], reason: Reason) -> Cohort:
        """Return the cohort in which these volumes have failed, beside those that had before."""
        lost = set(indices)
        rest = self.subset(i for i in range(len(self)) if i not in lost)
        now = [Failure(e.name, reason, e.digest) for e in (self.entries[i] for i in lost)]
        failed = sorted([*(self.failed or ()), *now], key=lambda one: (one.digest, one.name))
        return replace(rest, failed=tuple(failed))

    def subset(self, indices: Iterable[int]) -> Cohort:
        """Return the cohort of these volumes, in this order."""
        return replace(self, entries=tuple(self.entries[i] for i in indices))

    def volumes(
        self,
        space: Space | None = None,
        intensity: Intensity = "percentile",
        workers: int = 2,
        *,
        role: str = "",
    ) -> Volumes:
        """Return the volumes in a space: a grid (None: their own) and an intensity rule.

        `role` is the cohort's name in messages.
        """
        return Volumes(self, space or self.grid, intensity, workers, role)

    def brain_centre(self) -> tuple[float, float, float]:
        """Return the middle, in mm, of the box around voxels above zero in half of the volumes.

        Raises
        ------
        CohortError
            There is no such voxel.
        """
        hits = np.zeros(self.grid.shape)
        for index in range(len(self)):
            hits += self.load(index) > 0
        inside = np.argwhere(hits >= len(self) / 2)
        if len(inside) == 0:
            raise CohortError(
                "no voxel is above zero in half of the volumes, so the cohort has no common "
                "centre to crop around: register the volumes, or leave space.shape unset."
            )
        middle = (inside.min(axis=0) + inside.max(axis=0)) / 2
        x, y, z = self.grid.matrix[:3, :3] @ middle + self.grid.matrix[:3, 3]
        return float(x), float(y), float(z)


@dataclass(frozen=True)
class Volumes:
    """The volumes of a cohort in one space, read one at a time.

    Indexing gives `Float32[d h w]`, RAS+, intensities in [0, 1]; iterating reads ahead with
    `workers` threads.
    """

    cohort: Cohort
    space: Space
    intensity: Intensity
    workers: int = 2
    role: str = ""

    def __len__(self) -> int:
        return len(self.cohort)

    def __getitem__(self, index: int) -> Float32[np.ndarray, "d h w"]:
        name = self.cohort.entries[index].name
        if self.role:
            name = f"{self.role}: {name}"
        # Scaled on the common grid: antialiasing lowers peaks. With a scale from a finer grid, the
        # set that is resampled would be darker than the other.
        moved = resample(self.cohort.load(index), self.cohort.grid, self.space)
        return to_unit(moved, self.intensity, name)

    def __iter__(self) -> Iterator[Float32[np.ndarray, "d h w"]]:
        return read_ahead(self.__getitem__, range(len(self)), self.workers)

    def name(self, index: int) -> str:
        """Return the volume's name in the cohort."""
        return self.cohort.entries[index].name

    def identity(self, index: int) -> str:
        """Return all that the voxels depend on: content, grid, space and intensity rule."""
        grid, space = self.cohort.grid, self.space
        return json.dumps(
            {
                "content": self.cohort.entries[index].digest,
                "grid": [grid.shape, grid.affine],
                "space": [space.shape, space.affine],
                "intensity": [self.intensity, intensity_words(self.intensity)],
            }
        )


def check_intensities(cohort: Cohort, rule: Intensity, role: str) -> None:
    """Check that volumes follow an intensity rule, by the measurements made when they were read.

    This is not certain for volumes that will be resampled: their values change.

    Parameters
    ----------
    rule
        One of `synthbench.volumes.intensity.INTENSITY_RULES`.
    role
        The cohort's name in the message.

    Raises
    ------
    CohortError
        Volumes break the rule. The message names the brightest, and says how many there are.
    UsageError
        There is no such rule.
    """
    refused = [
        (entry.inspection.scale, f"{entry.name}: {why}")
        for entry in cohort.entries
        if entry.inspection and (why := _refused(entry.inspection, rule))
    ]
    if refused:
        _, brightest = max(refused)
        raise CohortError(
            f"{role}: {len(refused)} of {len(cohort)} volumes break the intensity rule "
            f"'{rule}'. {brightest}"
        )


def _refused(found: Inspection, rule: Intensity) -> str | None:
    declared = quantity(rule)
    if rule == "unit":
        return range_refusal(found.low, found.high)
    # Where the background is not zero, the inspection measures another percentile.
    if declared is None or found.background[1] != 0:
        return None
    return scale_refusal(found.scale, declared)


def majority_mask(volumes: Volumes) -> Bool[np.ndarray, "d h w"]:
    """Return the voxels above 0.05 in at least half of the volumes, with holes filled.

    Raises
    ------
    CohortError
        There is no such voxel.
    """
    hits = np.zeros(volumes.space.shape)
    for volume in volumes:
        hits += volume > MASK_LEVEL
    mask = ndimage.binary_fill_holes(hits >= len(volumes) / 2)
    if not mask.any():
        raise CohortError(
            "the mask is empty: no voxel is above 0.05 in at least half of the volumes. "
            "Are they registered to one grid?"
        )
    return np.asarray(mask, dtype=bool)


def within_margin(
    mask: Bool[np.ndarray, "d h w"], space: Space, millimetres: float
) -> Bool[np.ndarray, "d h w"]:
    """Return the voxels in a mask, and those whose centre is at most this far from one in it.

    >>> line = Space((5, 1, 1), (2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1))
    >>> mask = np.array([True, False, False, False, False]).reshape(5, 1, 1)
    >>> within_margin(mask, line, 4.0).ravel().tolist()
    [True, True, True, False, False]
    """
    far = ndimage.distance_transform_edt(~mask, sampling=space.spacing)
    return np.asarray(far <= millimetres, dtype=bool)


def overlap(one: Cohort, other: Cohort) -> list[str]:
    """Return the names of the volumes of `one` whose content or person is in `other` too."""
    digests = {entry.digest for entry in other.entries}
    persons = {entry.name for entry in of_shared_persons(one.entries, other.entries)}
    return [entry.name for entry in one.entries if entry.digest in digests or entry.name in persons]


def of_shared_persons(one: Iterable[Entry], other: Iterable[Entry]) -> list[Entry]:
    """Return the volumes of `one` whose person is in `other` too.

    A person is a named subject (from a table, or a `sub-` label) of one dataset: two BIDS
    datasets may use the same numbers. Spellings are compared by
    `synthbench.cohorts.tables.persons`. File names may be equal by accident, and do not count.
    """
    persons = {_person(entry) for entry in other} - {None}
    return [entry for entry in one if _person(entry) in persons]


def _person(entry: Entry) -> tuple[Path | None, str] | None:
    if entry.subject == entry.name:
        return None
    folders = entry.path.resolve().parents
    # The outermost: derivatives have a description too, and the persons of their dataset.
    described = [f for f in folders if (f / "dataset_description.json").is_file()]
    return (described[-1] if described else None), person_key(entry.subject)


def read_volume(entry: Entry) -> Float32[np.ndarray, "d h w"]:
    """Return an examined volume in RAS+, with the intensities of its file.

    Raises
    ------
    CohortError
        It cannot be read any more.
    """
    try:
        grid = assumed_grid(entry)
        if entry.held is not None:
            return placed_volume(entry.held, grid).data
        return read(entry.path, grid).data
    except CohortError as error:
        raise CohortError(f"{entry.name}: {error}") from error


def assumed_grid(entry: Entry) -> Space | None:
    """Return the grid, as stored, that the user gave to a volume; None where it has its own."""
    found = entry.inspection
    return found.stored if found and found.assumed else None
