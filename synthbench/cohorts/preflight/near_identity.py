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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy import ndimage, stats

from synthbench.cohorts.cohort import Entry
from synthbench.cohorts.inspection import FOREGROUND, Inspection
from synthbench.cohorts.preflight.findings import Finding, Severity, if_any
from synthbench.cohorts.preflight.survey import Survey
from synthbench.volumes.grid import Space, resample

SMOOTHING_CELLS = 1.0
"""Sigma of the Gaussian on the ranks: noise and edges fade, a second scan's bias field stays."""

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

_FEWEST_CELLS = 200
_BLOCK = 512

LARGE = 2000
"""Sets of more volumes are compared in a projection first: the same pairs in less time."""

_DIMENSIONS = 32
_ROUNDING = 1e-3  # of squared distances of projected rows, in 32-bit floats


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


def alike(inspections: Sequence[Inspection], least: float = MIN_CORRELATION) -> list[Alike]:
    """Return all pairs of volumes that are nearly the same image, in order.

    Volumes of one size and voxel size are compared cell by cell, without their place in
    millimetres: a moved origin makes no other image. Registered volumes on different grids are
    compared in the space of MNI152.

    Parameters
    ----------
    inspections
        The measurements of n volumes. Time: n² correlations of some thousand cells, in blocks of
        512; above `LARGE` volumes, n² distances in 32 dimensions.
    least
        The least correlation of volumes of one size.
    """
    found = {(pair.first, pair.second): pair for pair in _across_grids(inspections)}
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, inspection in enumerate(inspections):
        spacing = tuple(round(size, 2) for size in inspection.grid.spacing)
        groups.setdefault((inspection.coarse.shape, spacing), []).append(index)
    for members in groups.values():
        if len(members) >= FEWEST:
            stack = np.stack([inspections[i].coarse for i in members], dtype=np.float32)
            for i, j, value, mirrored in _pairs(*differences(stack), least):
                pair = Alike(members[i], members[j], value, mirrored)
                found[pair.first, pair.second] = pair
    return [found[places] for places in sorted(found)]


def _across_grids(inspections: Sequence[Inspection]) -> list[Alike]:
    """Return the pairs of registered volumes on different grids that are nearly the same image."""
    grids: dict[tuple[object, ...], list[int]] = {}
    for index, inspection in enumerate(inspections):
        if inspection.placement.registered:
            affine = tuple(np.round(inspection.grid.affine, 2).tolist())
            grids.setdefault((inspection.grid.shape, affine), []).append(index)
    members = [index for group in grids.values() for index in group]
    if len(grids) < 2 or len(members) < FEWEST:
        return []
    found = common_differences([inspections[i] for i in members])
    of_grid = np.repeat(np.arange(len(grids)), [len(group) for group in grids.values()])
    return [
        Alike(min(members[i], members[j]), max(members[i], members[j]), value, turned)
        for i, j, value, turned in _pairs(*found, MIN_CORRELATION_ACROSS_GRIDS)
        if of_grid[i] != of_grid[j]
    ]


def common_differences(
    inspections: Sequence[Inspection],
) -> tuple[Float32[np.ndarray, "n p"], Float32[np.ndarray, "n p"]]:
    """Return the `differences` of registered volumes on any grids, in the space of MNI152."""
    # A mirrored copy is mirrored within its own field of view.
    stack, mirrored = (
        np.stack([
            resample(one.coarse[::step].astype(np.float32), one.coarse_grid, _COMMON)
            for one in inspections
        ])
        for step in (1, -1)
    )  # fmt: skip
    return differences(stack, mirrored, SMOOTHING_ACROSS_GRIDS)


def differences(
    stack: Float32[np.ndarray, "n a b c"],
    mirrored: Float32[np.ndarray, "n a b c"] | None = None,
    smoothing: float = SMOOTHING_CELLS,
) -> tuple[Float32[np.ndarray, "n p"], Float32[np.ndarray, "n p"]]:
    """Return each volume's difference from the mean in ranks, as it is and mirrored; of norm 1.

    The cells are those of the mean brain and of its mirror image; none, where it is too small.

    Parameters
    ----------
    stack
        Coarse copies of n volumes.
    mirrored
        The same of the mirrored volumes; None: `stack` with its first axis turned.
    smoothing
        Sigma of the Gaussian on the ranks, in cells.
    """
    if mirrored is None:
        mirrored = stack[:, ::-1]
    brain = stack.mean(axis=0) > FOREGROUND
    brain &= brain[::-1]
    if brain.sum() < _FEWEST_CELLS:
        empty = np.zeros((len(stack), 0), np.float32)
        return empty, empty
    # Ranks are computed again, because those of all volumes take twice the memory of the result.
    mean = np.zeros(int(brain.sum()))
    for volume in stack:
        mean += _ranks(volume, brain, smoothing)
    mean /= len(stack)
    plain, turned = (np.empty((len(stack), len(mean)), np.float32) for _ in range(2))
    for rows, volumes in ((plain, stack), (turned, mirrored)):
        for row, volume in zip(rows, volumes, strict=True):
            row[:] = _unit(_ranks(volume, brain, smoothing) - mean)
    return plain, turned


def _ranks(
    volume: Float32[np.ndarray, "a b c"], brain: Bool[np.ndarray, "a b c"], smoothing: float
) -> Float64[np.ndarray, " p"]:
    """Return the smoothed ranks of a volume's cells within the brain, of mean 0."""
    ranks = np.zeros(brain.shape)
    ranks[brain] = stats.rankdata(volume[brain]) / brain.sum() - 0.5
    inside = ndimage.gaussian_filter(ranks, smoothing)[brain]
    return np.asarray(inside - inside.mean())


def _unit(row: Float64[np.ndarray, " p"]) -> Float64[np.ndarray, " p"]:
    size = float(np.linalg.norm(row))
    return row / size if size > 0 else row


def _pairs(
    as_it_is: Float32[np.ndarray, "n p"], mirrored: Float32[np.ndarray, "n p"], least: float
) -> Iterator[tuple[int, int, float, bool]]:
    if not as_it_is.shape[1]:
        return
    if len(as_it_is) > LARGE:
        yield from _pairs_of_many(as_it_is, mirrored, least)
        return
    for start in range(0, len(as_it_is), _BLOCK):
        block = as_it_is[start : start + _BLOCK]
        plain, turned = block @ as_it_is[start:].T, block @ mirrored[start:].T
        # On different grids it matters which of the two is mirrored: each in its own field of view.
        turned = np.maximum(turned, mirrored[start : start + _BLOCK] @ as_it_is[start:].T)
        best = np.maximum(plain, turned)
        for i, j in np.argwhere(best > least):
            if j > i:
                flipped = bool(turned[i, j] > plain[i, j])
                yield start + int(i), start + int(j), float(best[i, j]), flipped


def _pairs_of_many(
    as_it_is: Float32[np.ndarray, "n p"], mirrored: Float32[np.ndarray, "n p"], least: float
) -> Iterator[tuple[int, int, float, bool]]:
    """Yield what `_pairs` yields, after a search that loses no pair.

    The rows have norm 1, so two that correlate by r lie sqrt(2 - 2 r) apart, and no orthogonal
    projection moves them further apart. Pairs that lie further apart in the projection are left
    out; the others are compared as they are.
    """
    some = as_it_is[:: -(-len(as_it_is) // LARGE)]
    _, axes = np.linalg.eigh(some @ some.T)
    basis, _ = np.linalg.qr(some.T @ axes[:, -_DIMENSIONS:])
    near, turned = as_it_is @ basis, mirrored @ basis
    most = 2 - 2 * least + _ROUNDING
    for start in range(0, len(near), _BLOCK):
        block, mirror = near[start : start + _BLOCK], turned[start : start + _BLOCK]
        close = _squared(block, near[start:]) <= most
        close |= _squared(block, turned[start:]) <= most
        close |= _squared(mirror, near[start:]) <= most
        for i, j in np.argwhere(close) + start:
            if j <= i:
                continue
            plain = float(as_it_is[i] @ as_it_is[j])
            flipped = float(max(as_it_is[i] @ mirrored[j], mirrored[i] @ as_it_is[j]))
            if max(plain, flipped) > least:
                yield int(i), int(j), max(plain, flipped), flipped > plain


def _squared(
    x: Float32[np.ndarray, "b k"], y: Float32[np.ndarray, "m k"]
) -> Float32[np.ndarray, "b m"]:
    """Return the squared distances of rows."""
    sizes = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1)
    return np.asarray(sizes - 2 * (x @ y.T))


def near_copies(one: Sequence[Entry], other: Sequence[Entry]) -> list[str]:
    """Return the names of the volumes of `one` that are nearly the same image as one of `other`.

    None where volumes were not measured: they were not read from files.
    """
    inspections = [entry.inspection for entry in (*one, *other) if entry.inspection is not None]
    if len(inspections) < len(one) + len(other):
        return []
    found = {p.first for p in alike(inspections) if p.first < len(one) <= p.second}
    return [one[i].name for i in sorted(found)]


# ---------------------------------------------------------------- the rules


def near_identical(survey: Survey, role: str) -> list[Finding]:
    """Return the finding on volumes of one set that are nearly the same image."""
    entries = survey.entries
    details: dict[int, str] = {}
    for pair in alike(survey.inspections):
        one, other = entries[pair.first], entries[pair.second]
        if one.digest != other.digest:
            details.setdefault(pair.second, _detail(pair, one.name))
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
    for pair in alike(inspections):
        (role, one), (with_role, other) = owners[pair.first], owners[pair.second]
        if role != with_role and one.digest != other.digest:
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


def _detail(pair: Alike, name: str) -> str:
    return f"{name}{', mirrored' if pair.mirrored else ''}, r = {pair.correlation:.4f}"
