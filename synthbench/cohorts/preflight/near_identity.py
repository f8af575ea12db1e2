"""Volumes that are nearly the same image: saved again, rescaled, resampled, noisy or mirrored.

Two brains in one space are alike; what tells persons apart is how each differs from the mean brain.
So the coarse copies (`synthbench.cohorts.inspection`) become ranks within the brain, which neither
a factor, an offset nor a gamma changes, and the mean of all volumes is subtracted. Pearson's
correlation of what is left is high between two copies of one image alone. docs/preflight.md has the
figures, and studies/near_identity.py prints them.

Volumes on one grid are compared cell by cell, volumes on different grids in the space of MNI152.
Interpolation changes the coarse copies, so the second comparison has a lower limit, and is of
registered volumes only: others differ in their position most of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from synthbench.cohorts.cohort import Entry
from synthbench.cohorts.inspection import Inspection
from synthbench.cohorts.preflight.alignment import Volumes
from synthbench.cohorts.preflight.copies import Copies
from synthbench.cohorts.preflight.findings import Finding, Severity, if_any
from synthbench.cohorts.preflight.pair_search import (
    SMOOTHING_CELLS,
    Differences,
    Wanted,
    search,
)
from synthbench.cohorts.preflight.survey import Survey
from synthbench.volumes.grid import Space, resample

MIN_CORRELATION = 0.995
"""Two volumes whose differences from the mean correlate by more are one image."""

MIN_CORRELATION_ACROSS_GRIDS = 0.9
"""The same for two registered volumes on different grids."""

SMOOTHING_ACROSS_GRIDS = 1.5
"""The same as `SMOOTHING_CELLS` for them: interpolation has smoothed one of the two already."""

FEWEST = 4
"""The mean of fewer volumes is no mean brain."""

_COMMON = Space.of(
    (32, 38, 32), np.array([[6, 0, 0, -93], [0, 6, 0, -129], [0, 0, 6, -81], [0, 0, 0, 1]])
)
"""Cells of 6 mm around the MNI152 brain, symmetric about the plane x = 0."""


@dataclass(frozen=True)
class Alike:
    """Two volumes that are nearly the same image.

    Attributes
    ----------
    first, second
        Their indices; `first` is less.
    correlation
        Of their differences from the mean, in [-1, 1].
    mirrored
        True where one has to be mirrored left-right.
    """

    first: int
    second: int
    correlation: float
    mirrored: bool


def alike(
    inspections: Sequence[Inspection],
    least: float = MIN_CORRELATION,
    wanted: Wanted | None = None,
) -> list[Alike]:
    """Return the pairs of volumes that are nearly the same image, in order.

    Volumes of one size and voxel size are compared cell by cell, without their place in
    millimetres: a moved origin makes no other image. Registered volumes on different grids are
    compared in the space of MNI152.

    Parameters
    ----------
    inspections
        The measurements of n volumes.
    least
        The least correlation of volumes of one size.
    wanted
        The pairs that are looked for; None: all.
    """
    wanted = wanted or Wanted(len(inspections))
    found = {(pair.first, pair.second): pair for pair in _across_grids(inspections, wanted)}
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, inspection in enumerate(inspections):
        # The copy's shape is that of its grid; the copy itself may lie on the disk.
        spacing = tuple(round(size, 2) for size in inspection.grid.spacing)
        groups.setdefault((inspection.coarse_grid.shape, spacing), []).append(index)
    for members in groups.values():
        if len(members) >= FEWEST:
            differences = Differences(Copies([inspections[i] for i in members]))
            part = wanted.part(np.array(members))
            for i, j, value, mirrored in search(differences, least, part):
                pair = Alike(members[i], members[j], value, mirrored)
                found[pair.first, pair.second] = pair
    return [found[places] for places in sorted(found)]


def _across_grids(inspections: Sequence[Inspection], wanted: Wanted) -> list[Alike]:
    """Return the pairs of registered volumes on different grids that are nearly the same image."""
    grids: dict[tuple[object, ...], int] = {}
    members, of_grid = [], []
    for index, inspection in enumerate(inspections):
        if inspection.placement.registered:
            affine = tuple(np.round(inspection.grid.affine, 2).tolist())
            members.append(index)
            of_grid.append(grids.setdefault((inspection.grid.shape, affine), len(grids)))
    if len(grids) < 2 or len(members) < FEWEST:
        return []
    found = Differences(*_common([inspections[i] for i in members]), SMOOTHING_ACROSS_GRIDS)
    part = wanted.part(np.array(members))
    part.grids = np.array(of_grid)
    return [
        Alike(members[i], members[j], value, turned)
        for i, j, value, turned in search(found, MIN_CORRELATION_ACROSS_GRIDS, part)
    ]


class _OnCommon(Copies):
    """Coarse copies in the space of MNI152, as they are or (step -1) mirrored.

    A mirrored copy is mirrored within its own field of view.
    """

    def __init__(self, inspections: Sequence[Inspection], step: int) -> None:
        super().__init__(inspections)
        self._step = step

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one copy."""
        grid = self.inspections[index].coarse_grid
        return resample(super().__getitem__(index)[:: self._step], grid, _COMMON)


def _common(inspections: Sequence[Inspection]) -> tuple[Volumes, Volumes]:
    return _OnCommon(inspections, 1), _OnCommon(inspections, -1)


def common_differences(
    inspections: Sequence[Inspection],
) -> tuple[Float32[np.ndarray, "n p"], Float32[np.ndarray, "n p"]]:
    """Return the `differences` of registered volumes on any grids, in the space of MNI152."""
    return differences(*_common(inspections), SMOOTHING_ACROSS_GRIDS)


def differences(
    stack: Volumes, mirrored: Volumes | None = None, smoothing: float = SMOOTHING_CELLS
) -> tuple[Float32[np.ndarray, "n p"], Float32[np.ndarray, "n p"]]:
    """Return all rows of `Differences`, as the volumes are and mirrored; p is 0 without cells."""
    found = Differences(stack, mirrored, smoothing)
    plain, turned = (np.empty((len(stack), found.cells), np.float32) for _ in range(2))
    if found.cells:
        for i in range(len(stack)):
            plain[i], turned[i] = found.rows(i)
    return plain, turned


def near_copies(one: Sequence[Entry], other: Sequence[Entry]) -> list[str]:
    """Return the names of the volumes of `one` that are nearly the same image as one of `other`.

    None where volumes were not measured: they were not read from files.
    """
    inspections = [entry.inspection for entry in (*one, *other) if entry.inspection is not None]
    if len(inspections) < len(one) + len(other):
        return []
    sides = np.repeat([0, 1], [len(one), len(other)])
    wanted = Wanted(len(inspections), sides=sides, keep="sides")
    found = {pair.first for pair in alike(inspections, wanted=wanted)}
    return [one[i].name for i in sorted(found)]


# ---------------------------------------------------------------- the rules


def near_identical(survey: Survey, role: str) -> list[Finding]:
    """Return the finding on volumes of one set that are nearly the same image."""
    entries = survey.entries
    details: dict[int, str] = {}
    wanted = Wanted(len(entries), _contents(entries), keep="seconds")
    for pair in alike(survey.inspections, wanted=wanted):
        details.setdefault(pair.second, _detail(pair, entries[pair.first].name))
    severity: Severity = "warning" if role == "synth" else "error"
    fix = (
        "The generator repeats itself."
        if role == "synth"
        else "One image counts twice: keep one of each."
    )
    return if_any(
        "near-identical", severity, role,
        [(entries[i].name, detail) for i, detail in details.items()],
        f"{len(details)} of {len(entries)} {role} volumes are nearly identical to others of the "
        "set: saved again, rescaled, resampled, with faint noise, or mirrored", fix,
    )  # fmt: skip


def near_identical_across(
    surveys: Mapping[str, Survey], roles: Sequence[str], fixes: Mapping[str, str]
) -> list[Finding]:
    """Return the findings on volumes of one set that are nearly the same image as one of another.

    Parameters
    ----------
    surveys
        By role.
    roles
        The roles in order: of two sets, the first is the one to fix.
    fixes
        By the first role, how to fix it.
    """
    owners = [(role, entry) for role in roles for entry in surveys[role].entries]
    inspections = [i for role in roles for i in surveys[role].inspections]
    near: dict[tuple[str, str], dict[str, str]] = {}
    sides = np.repeat(np.arange(len(roles)), [len(surveys[role].entries) for role in roles])
    contents = _contents([entry for _, entry in owners])
    wanted = Wanted(len(owners), contents, sides, keep="sides")
    for pair in alike(inspections, wanted=wanted):
        (role, one), (with_role, other) = owners[pair.first], owners[pair.second]
        near.setdefault((role, with_role), {}).setdefault(one.name, _detail(pair, other.name))
    found = []
    for (role, with_role), details in near.items():
        digests = {entry.digest for entry in surveys[with_role].entries}
        identical = {entry.name for entry in surveys[role].entries if entry.digest in digests}
        named = [(name, detail) for name, detail in details.items() if name not in identical]
        total = len(surveys[role].entries)
        # Copies of training volumes are a generator's result, however many. Where half of a
        # synthetic set are volumes that it never saw, the folder is the wrong one.
        copies = with_role == "train" or 2 * (len(named) + len(identical)) < total
        severity: Severity = "warning" if role == "synth" and copies else "error"
        found += if_any(
            "near-identical-across", severity, role, named,
            f"{len(named)} of {total} {role} volumes are nearly identical to volumes of "
            f"{with_role}: saved again, rescaled, resampled, with faint noise, or mirrored",
            fixes[role],
        )  # fmt: skip
    return found


def _contents(entries: Sequence[Entry]) -> Int64[np.ndarray, " n"]:
    """Return a number for the content of each volume."""
    found = np.unique([entry.digest for entry in entries], return_inverse=True)[1]
    return found.astype(np.int64)


def _detail(pair: Alike, name: str) -> str:
    return f"{name}{', mirrored' if pair.mirrored else ''}, r = {pair.correlation:.4f}"
