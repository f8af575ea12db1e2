"""Volumes that are nearly the same image: saved again, rescaled, with faint noise, or mirrored.

Two brains in one space are alike; what tells persons apart is how each differs from the mean brain.
So the coarse copies (`synthbench.cohorts.inspection`) become ranks within the brain, which neither
a factor, an offset nor a gamma changes, and the mean of all volumes is subtracted. Pearson's
correlation of what is left is high between two copies of one image alone. docs/preflight.md has the
figures, and studies/near_identity.py prints them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from scipy import ndimage, stats

from synthbench.cohorts.cohort import Entry
from synthbench.cohorts.inspection import FOREGROUND, Inspection
from synthbench.cohorts.preflight.findings import Finding, Severity, if_any
from synthbench.cohorts.preflight.survey import Survey

SMOOTHING_CELLS = 1.0
"""Sigma of the Gaussian on the ranks: noise and edges fade, a second scan's bias field stays."""

MIN_CORRELATION = 0.995
"""Two volumes whose differences from the mean correlate by more are one image."""

FEWEST = 4
"""The mean of fewer volumes is no mean brain."""

_FEWEST_CELLS = 200
_BLOCK = 512


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

    Volumes are compared cell by cell, without their place in millimetres: a moved origin makes no
    other image. Volumes of other sizes or voxel sizes are not compared with each other.

    Parameters
    ----------
    inspections
        The measurements of n volumes. Time and memory: n² correlations of some thousand cells, in
        blocks of 512.
    least
        The least correlation.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, inspection in enumerate(inspections):
        spacing = tuple(round(size, 2) for size in inspection.grid.spacing)
        groups.setdefault((inspection.coarse.shape, spacing), []).append(index)
    found = []
    for members in groups.values():
        if len(members) >= FEWEST:
            stack = np.stack([inspections[i].coarse for i in members]).astype(np.float32)
            places = np.array(members)
            found += [
                Alike(int(places[i]), int(places[j]), value, mirrored)
                for i, j, value, mirrored in _pairs(stack, least)
            ]
    return sorted(found, key=lambda pair: (pair.first, pair.second))


def differences(
    stack: Float32[np.ndarray, "n a b c"],
) -> tuple[Float32[np.ndarray, "n p"], Float32[np.ndarray, "n p"]]:
    """Return each volume's difference from the mean in ranks, as it is and mirrored; of norm 1.

    The cells are those of the mean brain and of its mirror image; none, where it is too small.
    """
    brain = stack.mean(axis=0) > FOREGROUND
    brain &= brain[::-1]
    if brain.sum() < _FEWEST_CELLS:
        empty = np.zeros((len(stack), 0), np.float32)
        return empty, empty
    ranks = np.stack([_ranks(volume, brain) for volume in stack])
    mean = ranks.mean(axis=0)
    as_it_is = _unit(ranks - mean)
    return as_it_is, _unit(ranks[:, _mirror(brain)] - mean)


def _ranks(
    volume: Float32[np.ndarray, "a b c"], brain: Bool[np.ndarray, "a b c"]
) -> Float64[np.ndarray, " p"]:
    """Return the smoothed ranks of a volume's cells within the brain, of mean 0."""
    ranks = np.zeros(brain.shape)
    ranks[brain] = stats.rankdata(volume[brain]) / brain.sum() - 0.5
    inside = ndimage.gaussian_filter(ranks, SMOOTHING_CELLS)[brain]
    return np.asarray(inside - inside.mean())


def _mirror(brain: np.ndarray) -> Int64[np.ndarray, " p"]:
    """Return, for each cell of a symmetric brain, the place of its mirror image."""
    places = np.full(brain.shape, -1, np.int64)
    places[brain] = np.arange(int(brain.sum()))
    return np.asarray(places[::-1][brain])


def _unit(rows: np.ndarray) -> Float32[np.ndarray, "n p"]:
    size = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(size > 0, size, 1.0), dtype=np.float32)


def _pairs(
    stack: Float32[np.ndarray, "n a b c"], least: float
) -> Iterator[tuple[int, int, float, bool]]:
    as_it_is, mirrored = differences(stack)
    if not as_it_is.shape[1]:
        return
    for start in range(0, len(stack), _BLOCK):
        block = as_it_is[start : start + _BLOCK]
        plain, turned = block @ as_it_is[start:].T, block @ mirrored[start:].T
        best = np.maximum(plain, turned)
        for i, j in np.argwhere(best > least):
            if j > i:
                flipped = bool(turned[i, j] > plain[i, j])
                yield start + int(i), start + int(j), float(best[i, j]), flipped


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
        "set: saved again, rescaled, with faint noise, or mirrored", fix,
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
            f"{with_role}: saved again, rescaled, with faint noise, or mirrored", fixes[role],
        )  # fmt: skip
    return found


def _detail(pair: Alike, name: str) -> str:
    return f"{name}{', mirrored' if pair.mirrored else ''}, r = {pair.correlation:.4f}"
