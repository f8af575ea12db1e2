"""Cohorts: ordered sets of volumes with a participants table and a content fingerprint.

A cohort is read from a directory (any depth) of `.nii`, `.nii.gz`, `.mgz` or `.npy` files, from
a BIDS or BIDS-derivative folder, or from a CSV/TSV manifest. Every file is read and checked
once, one at a time; all that is wrong is reported together, and nothing is dropped silently.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import nibabel as nib
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32
from nibabel.filebasedimages import ImageFileError
from scipy import ndimage

from synthbench.errors import CohortError, near_miss
from synthbench.inspection import Inspection, inspect
from synthbench.listing import dicom_advice, files_below
from synthbench.space import (
    Intensity,
    Space,
    intensity_words,
    quantity,
    range_refusal,
    resample,
    scale_refusal,
    to_unit,
)
from synthbench.split import verify

SUFFIXES = (".nii", ".nii.gz", ".mgz", ".npy")
PREPARE = "synthbench data prepare DIR --out PREPARED"
"""What messages on scans that were not prepared tell the user to type."""

MASK_RULE = "above 0.05 in at least half of the real volumes, holes filled"
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_UNREADABLE = (OSError, EOFError, ValueError, zlib.error, ImageFileError)


@dataclass(frozen=True)
class Entry:
    """One volume of a cohort: where it is, whose it is, and the hash of its content.

    `inspection` is what was measured of it as it was read; it is no part of its identity.
    """

    path: Path
    name: str
    subject: str
    digest: str
    inspection: Inspection | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Cohort:
    """An ordered set of volumes of one grid.

    Attributes
    ----------
    entries
        The volumes, ordered by the hash of their content, so that nothing computed from a
        cohort depends on file names or on the order of a listing.
    grid
        The grid that all volumes share, in RAS+.
    stored_grid
        The same grid as the files store it, before reorientation to RAS+; what
        `--assume-grid real` gives to arrays without geometry.
    participants
        One row a subject, indexed by participant; empty where no table was found.
    notes
        What a reader of the scorecard must know: files passed over, a grid assumed.
    """

    entries: tuple[Entry, ...]
    grid: Space
    stored_grid: Space
    participants: pd.DataFrame
    notes: tuple[str, ...] = ()
    assumed: Space | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the sorted content hashes of all volumes (grid and voxels)."""
        joined = "\n".join(entry.digest for entry in self.entries)
        return hashlib.sha256(joined.encode()).hexdigest()

    @property
    def subjects(self) -> np.ndarray:
        """The index of each volume's subject, 0 to the number of subjects - 1."""
        names = [entry.subject for entry in self.entries]
        return np.unique(names, return_inverse=True)[1].astype(np.int64)

    def load(self, index: int) -> Float32[np.ndarray, "d h w"]:
        """Read one volume in RAS+ with the intensities that its file holds."""
        return _read(self.entries[index].path, self.assumed).data

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

        `role` is what messages call the cohort.
        """
        return Volumes(self, space or self.grid, intensity, workers, role)

    def brain_centre(self) -> tuple[float, float, float]:
        """Return the middle, in mm, of the box around voxels non-zero in half of the volumes."""
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
        # Scaled on the common grid: antialiasing lowers peaks, so a scale that was taken on a
        # finer grid would leave the resampled side darker than the other.
        moved = resample(self.cohort.load(index), self.cohort.grid, self.space)
        return to_unit(moved, self.intensity, name)

    def __iter__(self) -> Iterator[Float32[np.ndarray, "d h w"]]:
        return read_ahead(self.__getitem__, range(len(self)), self.workers)

    def name(self, index: int) -> str:
        """The volume's name in the cohort."""
        return self.cohort.entries[index].name

    def identity(self, index: int) -> str:
        """All that the voxels depend on: content, grid, space and intensity rule."""
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
    """Check by what was measured as they were read that volumes keep to an intensity rule.

    Of volumes that are to be resampled it says nothing certain: their values change.

    Parameters
    ----------
    rule
        See `synthbench.space.INTENSITY_RULES`.
    role
        What the message calls the cohort.

    Raises
    ------
    CohortError
        Volumes break the rule; the brightest is named with what was found, and all are counted.
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
    # On a background that is not zero the inspection measures another percentile.
    if declared is None or found.background[1] != 0:
        return None
    return scale_refusal(found.scale, declared)


def majority_mask(volumes: Volumes) -> Bool[np.ndarray, "d h w"]:
    """Return the voxels above 0.05 in at least half of the volumes, with holes filled.

    Raises
    ------
    CohortError
        No voxel is.
    """
    hits = np.zeros(volumes.space.shape)
    for volume in volumes:
        hits += volume > 0.05
    mask = ndimage.binary_fill_holes(hits >= len(volumes) / 2)
    if not mask.any():
        raise CohortError(
            "the mask is empty: no voxel is above 0.05 in at least half of the volumes. "
            "Are they registered to one grid?"
        )
    return np.asarray(mask, dtype=bool)


def overlap(one: Cohort, other: Cohort) -> list[str]:
    """Names of the volumes of `one` whose content or person is in `other` too."""
    digests = {entry.digest for entry in other.entries}
    persons = {entry.name for entry in of_shared_persons(one.entries, other.entries)}
    return [entry.name for entry in one.entries if entry.digest in digests or entry.name in persons]


def of_shared_persons(one: Iterable[Entry], other: Iterable[Entry]) -> list[Entry]:
    """The volumes of `one` whose person is in `other` too.

    A person is a named subject (from a table, or a `sub-` label) of one dataset: two BIDS
    datasets may number theirs alike. Names of files may agree by accident, and do not count.
    """
    persons = {_person(entry) for entry in other} - {None}
    return [entry for entry in one if _person(entry) in persons]


def _person(entry: Entry) -> tuple[Path | None, str] | None:
    if entry.subject == entry.name:
        return None
    folders = entry.path.resolve().parents
    dataset = next((f for f in folders if (f / "dataset_description.json").is_file()), None)
    return dataset, entry.subject


def read_cohort(
    path: Path | str,
    *,
    role: str = "cohort",
    assume_grid: Space | float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Cohort:
    """Read and check a cohort.

    Parameters
    ----------
    path
        A directory, a BIDS folder, or a CSV/TSV manifest with a column `path` (relative to the
        manifest), and optionally `participant_id` and covariates.
    role
        What the messages call this cohort ("real", "synth").
    assume_grid
        The geometry of arrays that carry none: a stored grid, or an isotropic spacing in mm
        (centred, axes to the right, front and top). Files that carry a geometry keep it.
    progress
        Called with the number of files checked so far.

    Raises
    ------
    CohortError
        The path holds no volumes, or any volume is unreadable, truncated, not 3-D, not finite,
        constant, without geometry or on another grid than the rest. All of them are named.
    """
    path = Path(path)
    found = examine(path, role=role, assume_grid=assume_grid, progress=progress)
    if found.problems:
        problems = [f"{name}: {problem}" for name, problem in found.problems.items()]
        shown = "\n  ".join(problems[:20])
        more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise CohortError(
            f"{role}: {len(problems)} of {found.listed} volumes cannot be used:\n  {shown}{more}\n"
            "Nothing is left out silently: mend or remove them, or list the volumes to use in a "
            "manifest (a CSV with a column 'path')." + _advice_on_grids(found)
        )
    assert found.cohort is not None
    if path.is_file():
        verify(path, found.cohort.entries)
    return found.cohort


@dataclass(frozen=True)
class Examined:
    """What was found at a path: the cohort, and the files that cannot be part of it.

    Attributes
    ----------
    listed
        How many files were looked at.
    cohort
        The usable volumes of the commonest grid; None where there are none.
    elsewhere
        Volumes that are usable but for their grid.
    problems
        For each file that is not in `cohort`, by name, what is wrong and what to do.
    """

    listed: int
    cohort: Cohort | None
    elsewhere: tuple[Entry, ...]
    problems: dict[str, str]


def examine(
    path: Path | str,
    *,
    role: str = "cohort",
    assume_grid: Space | float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Examined:
    """Read and check every file of a cohort, whatever is wrong with some of them.

    The parameters are those of `read_cohort`, which takes nothing less than all files.

    Raises
    ------
    CohortError
        The path holds no volumes, or the manifest cannot be used.
    """
    path = Path(path)
    listed, participants, notes = _listing(path, role)
    problems: dict[str, str] = {}
    good: list[tuple[Path, str, _Checked]] = []
    checks = read_ahead(lambda item: _check(item[0], assume_grid), listed, workers=2)
    for done, ((file, subject), check) in enumerate(zip(listed, checks, strict=True), 1):
        if isinstance(check, str):
            problems[_name(file, path)] = check
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
        entry = Entry(file, _name(file, path), subject, check.digest, check.inspection)
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
        participants=participants,
        notes=tuple(notes),
        assumed=next((check.assumed for check in usable if check.assumed), None),
    )
    return Examined(len(listed), cohort, tuple(elsewhere), problems)


def _advice_on_grids(found: Examined) -> str:
    """What to do with scans that have grids of their own, as they left the scanner."""
    if found.cohort is None or len(found.elsewhere) < len(found.cohort):
        return ""
    return f"\nWhole heads are brought to one grid with: {PREPARE}"


def read_volume(entry: Entry) -> Float32[np.ndarray, "d h w"]:
    """Read an examined volume in RAS+ with the intensities that its file holds."""
    found = entry.inspection
    return _read(entry.path, found.stored if found and found.assumed else None).data


def read_ahead(
    function: Callable[[_Item], _Result], items: Sequence[_Item], workers: int
) -> Iterator[_Result]:
    """Map with threads, in order, never more than two results a worker ahead of the reader.

    (joblib's generators do not wait for their reader: all volumes would pile up in memory.)
    """
    waiting: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


# ---------------------------------------------------------------- which files, and whose


def _name(file: Path, root: Path) -> str:
    base = root if root.is_dir() else root.parent
    return str(file.relative_to(base)) if file.is_relative_to(base) else str(file)


def is_volume(file: Path) -> bool:
    """Whether a file's name is that of a volume, and not of a hidden file."""
    return file.name.endswith(SUFFIXES) and not file.name.startswith(".")


def _subject(file: Path, root: Path) -> str:
    found = re.search(r"sub-[A-Za-z0-9]+", _name(file, root))
    return found.group() if found else _name(file, root)


def _listing(path: Path, role: str) -> tuple[list[tuple[Path, str]], pd.DataFrame, list[str]]:
    """Return [(file, subject)], the participants table, and notes on what was passed over."""
    if path.is_file() and path.suffix.lower() in (".csv", ".tsv"):
        return _manifest(path, role)
    if not path.is_dir():
        what = "it is a file that is no .csv or .tsv manifest" if path.exists() else "no such path"
        raise CohortError(
            f"{role}: {path}: {what}. Give a directory of volumes ({', '.join(SUFFIXES)}) "
            "or a CSV/TSV manifest with a column 'path'."
        )
    below = files_below(path)
    files = [file for file in below if is_volume(file)]
    notes = []
    if (path / "dataset_description.json").is_file():
        t1w = [file for file in files if re.search(r"_T1w\.", file.name)]
        if t1w and len(t1w) < len(files):
            notes.append(f"BIDS folder: {len(t1w)} T1w volumes used, "
                         f"{len(files) - len(t1w)} other images passed over")  # fmt: skip
            files = t1w
    if not files:
        advice = dicom_advice(path, below)
        raise CohortError(
            f"{role}: {path} holds no volumes. Looked at any depth for {', '.join(SUFFIXES)}."
            + (f" {advice}" if advice else "")
        )
    table = path / "participants.tsv"
    participants = _participants(table) if table.is_file() else pd.DataFrame()
    return [(file, _subject(file, path)) for file in files], participants, notes


def _table(file: Path) -> pd.DataFrame:
    separator = "\t" if file.suffix.lower() == ".tsv" else ","
    try:
        return pd.read_csv(file, sep=separator, na_values=["n/a"], dtype={"participant_id": str})
    except (ValueError, OSError) as error:
        raise CohortError(f"{file}: cannot be read as a table: {error}") from error


def _participants(file: Path) -> pd.DataFrame:
    table = _table(file)
    if "participant_id" not in table:
        raise CohortError(
            f"{file}: a column 'participant_id' is needed; found {', '.join(table.columns)}."
        )
    return table.drop_duplicates("participant_id").set_index("participant_id")


def _manifest(file: Path, role: str) -> tuple[list[tuple[Path, str]], pd.DataFrame, list[str]]:
    table = _table(file)
    if "path" not in table:
        raise CohortError(
            f"{role}: {file}: a column 'path' is needed; {near_miss('path', table.columns)}"
        )
    paths = [file.parent / str(p) for p in table["path"]]
    missing = [p for p in paths if not p.is_file()]
    if missing or not paths:
        raise CohortError(
            f"{role}: {file}: {len(missing)} of {len(paths)} listed files do not exist"
            + (f" (first: {missing[0]})" if missing else "")
            + ". Paths are relative to the manifest's folder."
        )
    repeated = [str(p) for p, count in Counter(p.resolve() for p in paths).items() if count > 1]
    if repeated:
        raise CohortError(f"{role}: {file}: listed more than once: {', '.join(repeated[:5])}.")
    if "participant_id" in table:
        subjects = [str(s) for s in table["participant_id"]]
        participants = table.drop(columns="path").drop_duplicates("participant_id")
        return list(zip(paths, subjects, strict=True)), participants.set_index("participant_id"), []
    return [(p, _subject(p, file.parent)) for p in paths], pd.DataFrame(), []


# ---------------------------------------------------------------- one file


@dataclass(frozen=True)
class _Volume:
    data: Float32[np.ndarray, "d h w"]
    grid: Space
    stored: Space
    assumed: Space | None
    dtype: str
    slope: float = 1.0
    inter: float = 0.0


@dataclass(frozen=True)
class _Checked:
    digest: str
    grid: Space
    stored: Space
    assumed: Space | None
    inspection: Inspection


def _check(file: Path, assume: Space | float | None) -> _Checked | str:
    """Read a file; return its content hash, its grids and what was measured, or what is wrong."""
    try:
        volume = _read(file, assume)
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


def _read(file: Path, assume: Space | float | None) -> _Volume:
    """Read one volume in RAS+, or raise a CohortError that does not name the file."""
    if file.is_symlink() and not file.exists():
        raise CohortError(
            f"is a link to {os.readlink(file)}, which is not there. Fetch it (datalad get, git "
            "annex get), or mend the link."
        )
    try:
        if file.suffix == ".npy":
            array, affine = np.load(file, allow_pickle=False), None
            stored_as: tuple[str, float, float] = (str(array.dtype), 1.0, 0.0)
        else:
            image = nib.load(file)
            array, affine = np.asanyarray(image.dataobj), _geometry(image)
            stored_as = _stored_as(image)
    except _UNREADABLE as error:
        raise CohortError(
            f"cannot be read ({type(error).__name__}: {error}). It may be truncated: "
            "compare its size with the original and copy it again."
        ) from error
    if array.dtype.kind not in "biuf":
        raise CohortError(f"holds {array.dtype} values; real numbers are needed.")
    shape = array.shape
    spare = [axis for axis in range(array.ndim) if shape[axis] == 1][: max(0, array.ndim - 3)]
    array = array.squeeze(tuple(spare))
    if array.ndim != 3:
        raise CohortError(
            f"is {len(shape)}-D, of shape {shape}; one 3-D volume a file is needed. "
            "Split it, one file a volume."
        )
    assumed = None
    if affine is None:
        assumed = _assumed(array.shape, assume)
        affine = assumed.matrix
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise CohortError("its affine is singular or not finite. Copy the header of the original.")
    stored = Space.of(array.shape, affine)
    canonical = nib.as_closest_canonical(nib.Nifti1Image(array.astype(np.float32), affine))
    data = np.ascontiguousarray(canonical.dataobj, dtype=np.float32)
    return _Volume(data, Space.of(data.shape, canonical.affine), stored, assumed, *stored_as)


def _stored_as(image: Any) -> tuple[str, float, float]:
    """Return an image file's data type, slope and intercept; formats without scaling have 1, 0."""
    rule = image.dataobj
    slope, inter = getattr(rule, "slope", 1.0), getattr(rule, "inter", 0.0)
    return image.get_data_dtype().name, float(slope), float(inter)


def _geometry(image: Any) -> np.ndarray | None:
    """Return the image's affine, or None where the header holds none worth the name.

    An identity (up to the signs that ITK's LPS convention adds) is what an array written
    without geometry gets: no scanner and no template puts its origin in a voxel centre at
    exactly 1 mm with corner (0, 0, 0).
    """
    header = image.header
    if isinstance(header, nib.Nifti1Header) and not (header["sform_code"] or header["qform_code"]):
        return None
    affine = np.asarray(image.affine, dtype=np.float64)
    return None if np.allclose(np.abs(affine), np.eye(4), atol=1e-6) else affine


def _assumed(shape: tuple[int, ...], assume: Space | float | None) -> Space:
    if assume is None:
        raise CohortError(
            "has no geometry (an array, or an identity affine). If its voxels lie as in the real "
            "volumes' files, add --assume-grid real; for a real cohort give the voxel size, for "
            "example --assume-grid 2 (mm; axes to the right, front and top)."
        )
    if isinstance(assume, Space):
        if tuple(shape) != assume.shape:
            raise CohortError(
                f"--assume-grid real: its shape is {tuple(shape)}, the real volumes' files are "
                f"{assume.shape}. Write it with its own affine instead."
            )
        return assume
    affine = np.diag([assume, assume, assume, 1.0])
    affine[:3, 3] = -assume * (np.array(shape) - 1) / 2
    return Space.of(shape, affine)
