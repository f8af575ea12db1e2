"""Reading a cohort from a folder, a BIDS folder or a manifest.

A folder may hold files of the formats of `synthbench.volumes.image_file` at any depth. Every file
is read and checked once, one at a time. All faults are reported together, and nothing is dropped
silently.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from synthbench.cohorts.choice import CohortFiles
from synthbench.cohorts.cohort import Cohort, Entry
from synthbench.cohorts.failures import REASONS, failures
from synthbench.cohorts.inspection import Inspection, inspect
from synthbench.cohorts.listing import is_path, list_cohort
from synthbench.cohorts.split_record import verify
from synthbench.cohorts.volume_file import placed_volume, read
from synthbench.errors import CohortError, UsageError
from synthbench.runtime.files import sha256_file
from synthbench.runtime.memory import memory_limit
from synthbench.runtime.parallel import read_ahead
from synthbench.runtime.spool import Spool
from synthbench.volumes.grid import Space
from synthbench.volumes.image_file import StoredImage
from synthbench.volumes.in_memory import Held

COPIES_SHARE = 32
"""The coarse copies of a cohort stay in memory up to this part of the limit of memory."""

_SHOWN = 5  # names of files with one fault

_OF_SCANS = (
    "Nothing is left out silently: fix or remove them, or list the volumes to use in a manifest (a "
    "CSV with a column 'path')."
)
_OF_A_GENERATOR = (
    "A sample that failed is a result too: with --count-failures, synthbench score and utility use "
    "the others, and print the share that failed. If it was the copying that failed, write "
    "the files again."
)

_ALL_FAILED = (
    "Every volume failed, so there is nothing to measure, and no count of failures either: look at "
    "the generator, or at how its volumes were written."
)

_WITHOUT_GRID = (
    "an array has no geometry. Give its voxel size in mm (assume_grid=2.0; axes to the right, "
    "front and top), assume_grid='real' for the grid of the real volumes, or images of nibabel's."
)

PREPARE = "synthbench data prepare DIR --out PREPARED"
"""The command that messages about unprepared scans name."""


def read_cohort(
    path: Path | str | CohortFiles | Held,
    *,
    role: str = "cohort",
    assume_grid: Space | float | None = None,
    progress: Callable[[int], None] | None = None,
    count_failures: bool = False,
) -> Cohort:
    """Return a cohort, after reading and checking every file.

    Parameters
    ----------
    path
        A directory, a BIDS folder, or a CSV/TSV manifest with a column `path` (relative to the
        manifest), and optionally `participant_id` and covariates. A `CohortFiles` also says which
        of its files to take; `synthbench.cohorts.choice` gives the rules. Or what a program holds:
        a list of paths, arrays, tensors or images of nibabel's, or one array of several volumes
        (`synthbench.volumes.in_memory`). These must not change while the cohort is used.
    role
        The cohort's name in messages ("real", "synth").
    assume_grid
        The geometry of arrays that have none: a stored grid, or an isotropic spacing in mm
        (centred, axes to the right, front and top). Files that have a geometry keep it.
    progress
        Called with the number of files checked so far.
    count_failures
        True: volumes that cannot be used are listed in `Cohort.failed`, and raise no error.

    Raises
    ------
    CohortError
        The path holds no volumes, or any volume is unreadable, truncated, not 3-D, not finite,
        constant, without geometry or on another grid than the rest. The message names up to 20.
        Where failures are counted: no volume can be used.
    """
    if count_failures and not is_path(path):
        raise UsageError("count_failures: name a folder or a manifest, so that files can fail.")
    found = examine(path, role=role, assume_grid=assume_grid, progress=progress)
    if count_failures:
        return _without_failures(Path(str(path)), found, role, assume_grid)
    if found.problems:
        raise CohortError(
            f"{_cannot_be_used(role, found.problems, found.listed)}\n"
            + (_OF_A_GENERATOR if role == "synth" else _OF_SCANS)
            + _advice_on_grids(found)
        )
    assert found.cohort is not None
    verify_split(path, found.cohort)
    return found.cohort


def _without_failures(
    path: Path, found: Examined, role: str, assume_grid: Space | float | None
) -> Cohort:
    entries = () if found.cohort is None else found.cohort.entries
    good = tuple(e for e in entries if e.inspection is None or e.inspection.high > 0)
    empty = {e.name for e in entries} - {e.name for e in good}
    problems = found.problems | dict.fromkeys(sorted(empty), f"{REASONS['not-positive']}.")
    if found.cohort is None or not good:
        raise CohortError(f"{_cannot_be_used(role, problems, found.listed)}\n{_ALL_FAILED}")
    failed = failures(path, problems, assume_grid)
    return replace(found.cohort, entries=good, failed=failed)


def _cannot_be_used(role: str, problems: Mapping[str, str], listed: int) -> str:
    faults = [f"{names}: {problem}" for names, problem in grouped(problems)]
    shown = "\n  ".join(faults[:20])
    more = f"\n  and {len(faults) - 20} more faults" if len(faults) > 20 else ""
    return f"{role}: {len(problems)} of {listed} volumes cannot be used:\n  {shown}{more}"


def grouped(problems: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return pairs of files and their fault: files with the same fault are in one pair.

    Parameters
    ----------
    problems
        The fault of each file, by its name.

    >>> grouped({"a.nii": "is empty.", "b.nii": "is a text.", "c.nii": "is empty."})
    [('2 files (a.nii, c.nii)', 'is empty.'), ('b.nii', 'is a text.')]
    """
    names: dict[str, list[str]] = {}
    for name_, problem in problems.items():
        names.setdefault(problem, []).append(name_)
    return [(few_of(files), problem) for problem, files in names.items()]


def few_of(files: Sequence[str]) -> str:
    """Return the names of files for a message: a single one, or how many, and the first."""
    if len(files) == 1:
        return files[0]
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return f"{len(files)} files ({', '.join(files[:_SHOWN])}{more})"


def verify_split(path: Path | str | CohortFiles | Held, cohort: Cohort) -> None:
    """Compare the volumes of a manifest with the split that it belongs to, where there is one.

    A choice among its files is no other split, and is not compared.

    Raises
    ------
    CohortError
        They are not those that were drawn.
    """
    if not is_path(path):
        return
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
    path: Path | str | CohortFiles | Held,
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
    listed = listing.files
    notes = [remark.summary for remark in listing.remarks if remark.severity == "note"]
    problems: dict[str, str] = {}
    good: list[tuple[Path, str, _Checked]] = []
    spool = Spool(memory_limit() // COPIES_SHARE)
    spaces: dict[Space, Space] = {}
    checks = read_ahead(
        lambda item: _check(
            listing.held.get(item[0], item[0]), spool, assume_grid, listing.hashes.get(item[0])
        ),
        listed,
        workers=2,
    )
    for done, ((file, subject), check) in enumerate(zip(listed, checks, strict=True), 1):
        if isinstance(check, str):
            problems[listing.name_of(file)] = check
        else:
            good.append((file, subject, check.with_shared(spaces)))
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
        held = listing.held.get(file)
        entry = Entry(file, listing.name_of(file), subject, check.digest, check.inspection, held)
        if check.grid.same_grid(common):
            usable.append(check)
            entries.append(entry)
            continue
        elsewhere.append(entry)
        problems[entry.name] = (
            f"its grid is {check.grid}, but {grids[common]} of {len(listed)} volumes are {common}"
            + (" (another origin or rotation)" if str(check.grid) == str(common) else "")
            + ". Resample it to the others' grid."
        )
    without = sum(check.without_geometry for check in usable)
    if without:
        notes.append(f"grid assumed for {without} of {len(usable)} volumes without geometry")
    cohort = Cohort(
        entries=tuple(sorted(entries, key=lambda entry: (entry.digest, entry.name))),
        grid=common,
        stored_grid=usable[0].inspection.stored,
        participants=listing.participants,
        scans=listing.scans,
        notes=tuple(notes),
        remarks=listing.remarks,
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
    inspection: Inspection

    def with_shared(self, spaces: dict[Space, Space]) -> _Checked:
        """Return the same with grids that equal volumes share: they are a third of its memory."""
        found = self.inspection
        grid, stored = (spaces.setdefault(one, one) for one in (found.grid, found.stored))
        return _Checked(self.digest, grid, replace(found, grid=grid, stored=stored))

    @property
    def without_geometry(self) -> bool:
        """True where the file states no affine, not even a wrong one."""
        replaced = any(remark.rule == "assumed-grid" for remark in self.inspection.remarks)
        return self.inspection.assumed and not replaced


def _check(
    source: Path | StoredImage,
    spool: Spool,
    assume: Space | float | None,
    stated: str | None = None,
) -> _Checked | str:
    """Return a volume's content hash, grids and measurements; or a text that says its fault.

    The coarse copies go to `spool`. `stated` is the sha256 that the table beside a shard states of
    the file.
    """
    try:
        if isinstance(source, Path):
            volume = read(source, assume)
            if stated and sha256_file(source) != stated:
                return (
                    "its bytes are not those that the table beside its shard states (sha256), so "
                    "it was changed or damaged. Copy the shard again from the original."
                )
        elif source.affine is None and assume is None:
            return _WITHOUT_GRID
        else:
            volume = placed_volume(source, assume)
    except CohortError as error:
        return str(error)
    if volume.data.min() == volume.data.max():
        return f"every voxel is {volume.data.flat[0]:g}. The volume is empty."
    content = hashlib.sha256(repr(volume.grid).encode())
    content.update(np.ascontiguousarray(volume.data).tobytes())
    inspection = inspect(
        volume.data, volume.grid, volume.stored, dtype=volume.dtype, slope=volume.slope,
        inter=volume.inter, assumed=volume.assumed is not None,
    )  # fmt: skip
    cells = inspection.cells.kept(spool)
    inspection = replace(inspection, remarks=volume.remarks, cells=cells)
    return _Checked(content.hexdigest(), volume.grid, inspection)
