"""Reading a cohort from a folder, a BIDS folder or a manifest.

A folder may hold `.nii`, `.nii.gz`, `.mgz` or `.npy` files at any depth. Every file is read and
checked once, one at a time. All faults are reported together, and nothing is dropped silently.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthbench.cohorts.choice import CohortFiles
from synthbench.cohorts.cohort import Cohort, Entry
from synthbench.cohorts.inspection import Inspection, inspect
from synthbench.cohorts.listing import list_cohort
from synthbench.cohorts.split_record import verify
from synthbench.cohorts.volume_file import name, read
from synthbench.errors import CohortError
from synthbench.runtime.parallel import read_ahead
from synthbench.volumes.grid import Space

PREPARE = "synthbench data prepare DIR --out PREPARED"
"""The command that messages about unprepared scans name."""


def read_cohort(
    path: Path | str | CohortFiles,
    *,
    role: str = "cohort",
    assume_grid: Space | float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Cohort:
    """Return a cohort, after reading and checking every file.

    Parameters
    ----------
    path
        A directory, a BIDS folder, or a CSV/TSV manifest with a column `path` (relative to the
        manifest), and optionally `participant_id` and covariates. A `CohortFiles` also says which
        of its files to take; `synthbench.cohorts.choice` gives the rules.
    role
        The cohort's name in messages ("real", "synth").
    assume_grid
        The geometry of arrays that have none: a stored grid, or an isotropic spacing in mm
        (centred, axes to the right, front and top). Files that have a geometry keep it.
    progress
        Called with the number of files checked so far.

    Raises
    ------
    CohortError
        The path holds no volumes, or any volume is unreadable, truncated, not 3-D, not finite,
        constant, without geometry or on another grid than the rest. The message names up to 20.
    """
    found = examine(path, role=role, assume_grid=assume_grid, progress=progress)
    if found.problems:
        problems = [f"{name}: {problem}" for name, problem in found.problems.items()]
        shown = "\n  ".join(problems[:20])
        more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise CohortError(
            f"{role}: {len(problems)} of {found.listed} volumes cannot be used:\n  {shown}{more}\n"
            "Nothing is left out silently: fix or remove them, or list the volumes to use in a "
            "manifest (a CSV with a column 'path')." + _advice_on_grids(found)
        )
    assert found.cohort is not None
    verify_split(path, found.cohort)
    return found.cohort


def verify_split(path: Path | str | CohortFiles, cohort: Cohort) -> None:
    """Compare the volumes of a manifest with the split that it belongs to, where there is one.

    A choice among its files is no other split, and is not compared.

    Raises
    ------
    CohortError
        They are not those that were drawn.
    """
    chosen = isinstance(path, CohortFiles) and bool(path.choice)
    file = Path(str(path))
    if file.is_file() and not chosen:
        verify(file, cohort.entries)


@dataclass(frozen=True)
class Examined:
    """The result of examining a path: the cohort, and the files that cannot be part of it.

    Attributes
    ----------
    listed
        Number of examined files.
    cohort
        The usable volumes on the most frequent grid; None where there are none.
    elsewhere
        Volumes that are usable, but have another grid.
    problems
        For each file that is not in `cohort`, by name, the fault and how to fix it.
    """

    listed: int
    cohort: Cohort | None
    elsewhere: tuple[Entry, ...]
    problems: dict[str, str]


def examine(
    path: Path | str | CohortFiles,
    *,
    role: str = "cohort",
    assume_grid: Space | float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Examined:
    """Return the cohort and the faults of its files, after reading and checking every file.

    The parameters are those of `read_cohort`, which raises an error for any fault.

    Raises
    ------
    CohortError
        The path holds no volumes, or the manifest cannot be used.
    """
    listing = list_cohort(path, role)
    path, listed = Path(str(path)), listing.files
    notes = [remark.summary for remark in listing.remarks if remark.severity == "note"]
    problems: dict[str, str] = {}
    good: list[tuple[Path, str, _Checked]] = []
    checks = read_ahead(lambda item: _check(item[0], assume_grid), listed, workers=2)
    for done, ((file, subject), check) in enumerate(zip(listed, checks, strict=True), 1):
        if isinstance(check, str):
            problems[name(file, path)] = check
        else:
            good.append((file, subject, check))
        if progress:
            progress(done)
    grids = Counter(check.grid for _, _, check in good)
    common = min(grids, key=lambda g: (-grids[g], g.digest)) if grids else None
    if common is None:
        return Examined(len(listed), None, (), problems)
    usable: list[_Checked] = []
    entries: list[Entry] = []
    elsewhere: list[Entry] = []
    for file, subject, check in good:
        entry = Entry(file, name(file, path), subject, check.digest, check.inspection)
        if check.grid.same_grid(common):
            usable.append(check)
            entries.append(entry)
            continue
        elsewhere.append(entry)
        problems[entry.name] = (
            f"its grid is {check.grid}, but {grids[common]} of {len(listed)} volumes are {common}"
            + (" (another origin or rotation)" if str(check.grid) == str(common) else "")
            + ". Resample it to the others' grid, or leave it out of the manifest."
        )
    without = sum(check.assumed is not None for check in usable)
    if without:
        notes.append(f"grid assumed for {without} of {len(usable)} volumes without geometry")
    cohort = Cohort(
        entries=tuple(sorted(entries, key=lambda entry: (entry.digest, entry.name))),
        grid=common,
        stored_grid=usable[0].stored,
        participants=listing.participants,
        scans=listing.scans,
        notes=tuple(notes),
        remarks=listing.remarks,
        assumed=next((check.assumed for check in usable if check.assumed), None),
    )
    return Examined(len(listed), cohort, tuple(elsewhere), problems)


def _advice_on_grids(found: Examined) -> str:
    """Return advice where most scans have a grid of their own, as from a scanner; else nothing."""
    if found.cohort is None or len(found.elsewhere) < len(found.cohort):
        return ""
    return f"\nWhole heads are brought to one grid with: {PREPARE}"


@dataclass(frozen=True)
class _Checked:
    digest: str
    grid: Space
    stored: Space
    assumed: Space | None
    inspection: Inspection


def _check(file: Path, assume: Space | float | None) -> _Checked | str:
    """Return a file's content hash, grids and measurements; or a text that says its fault."""
    try:
        volume = read(file, assume)
    except CohortError as error:
        return str(error)
    bad = int((~np.isfinite(volume.data)).sum())
    if bad:
        return f"{bad} voxels are NaN or infinite. Find the step that made them, or leave it out."
    if volume.data.min() == volume.data.max():
        return f"every voxel is {volume.data.flat[0]:g}. The volume is empty: leave it out."
    content = hashlib.sha256(repr(volume.grid).encode())
    content.update(np.ascontiguousarray(volume.data).tobytes())
    inspection = inspect(
        volume.data, volume.grid, volume.stored, dtype=volume.dtype, slope=volume.slope,
        inter=volume.inter, assumed=volume.assumed is not None,
    )  # fmt: skip
    return _Checked(content.hexdigest(), volume.grid, volume.stored, volume.assumed, inspection)
