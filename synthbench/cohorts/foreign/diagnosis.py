"""What is wrong with volumes that were made elsewhere, with the command that fixes it all."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from synthbench.cohorts.choice import CohortFiles
from synthbench.cohorts.cohort import Cohort
from synthbench.cohorts.foreign.rules import Position, Statement, below_zero, position
from synthbench.cohorts.foreign.survey import (
    ForeignFile,
    compared,
    likely_orientation,
    likely_range,
    likely_spacing,
    measured,
    out_of_range,
)
from synthbench.cohorts.listing import Listing, list_cohort
from synthbench.cohorts.reading import few_of, grouped
from synthbench.cohorts.volume_file import is_without_origin, name
from synthbench.errors import CohortError
from synthbench.volumes.grid import Space

SAME_VIEW = 1.1
"""Ratio of fields of view above which arrays of one shape have lost a voxel size."""


@dataclass(frozen=True)
class Diagnosis:
    """Volumes made elsewhere, with what is wrong with them under a statement.

    Attributes
    ----------
    source
        The folder.
    listing
        Its files, with their persons and covariates.
    files
        The readable ones.
    positions
        The place of each readable file; empty where one has none.
    faults
        What is wrong, one text per kind; empty where all can be brought in.
    stated, proposal
        What was stated, and what to state, as far as the voxels show it.
    remarks
        What to check about the proposal.
    like
        The path of the real volumes; None: they were not named.
    manifest
        The table of the files, where there is one.
    damaged
        True where some files cannot be read at all, whatever is stated.
    """

    source: CohortFiles
    listing: Listing
    files: tuple[ForeignFile, ...]
    positions: tuple[Position, ...]
    faults: tuple[str, ...]
    stated: Statement
    proposal: Statement
    remarks: tuple[str, ...]
    like: Path | None
    manifest: Path | None
    damaged: bool

    @property
    def is_foreign(self) -> bool:
        """True where something has to be stated; False where files are only damaged."""
        return self.proposal != self.stated

    @property
    def command(self) -> str:
        """The command that brings the volumes in."""
        words = ["synthbench", "import", str(self.source)]
        if self.manifest is not None:
            words += ["--manifest", str(self.manifest)]
        choice = str(self.source.choice)
        like = "REAL" if self.like is None else str(self.like)
        options = (
            [] if self.like is None and self.proposal.spacing is not None else ["--like", like]
        )
        return " ".join(
            [shlex.join([*words, *options, *self.proposal.options]), *([choice] if choice else [])]
        )

    @property
    def message(self) -> str:
        """All faults, the command, and what to check."""
        listed = "".join(f"\n  {fault}" for fault in self.faults)
        way = (
            "\n".join([f"Bring them in, as copies:\n  {self.command}", " ".join(self.remarks)])
            if self.is_foreign
            else "Fix these files, or list the others in a table with a column path (--manifest)."
        )
        return (
            f"{self.source}: volumes that were made elsewhere, {len(self.listing.files)} files. "
            f"They cannot be used as they are:{listed}\n{way}".rstrip()
        )


def diagnose(
    source: Path | str | CohortFiles,
    stated: Statement | None = None,
    real: Cohort | None = None,
    like: Path | None = None,
    manifest: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Diagnosis:
    """Read all files, and return what is wrong with them under a statement.

    Parameters
    ----------
    source
        A folder.
    stated
        What the user states; None: nothing.
    real, like
        The real volumes, and their path.
    manifest
        A table of the files to take; None: all.
    progress
        Called with the number of files read so far.

    Raises
    ------
    CohortError
        The source holds no volumes, or its table cannot be used.
    """
    source = source if isinstance(source, CohortFiles) else CohortFiles(Path(source))
    stated = stated or Statement()
    listed = source if manifest is None else replace(source, path=manifest)
    listing = list_cohort(listed, "synth")
    files: list[ForeignFile] = []
    unreadable: dict[str, str] = {}
    for done, (file, _) in enumerate(listing.files, 1):
        shown = name(file, Path(listed.path))
        try:
            files.append(measured(file, shown, stated, head=compared(len(files))))
        except CohortError as error:
            unreadable[shown] = str(error)
        if progress is not None:
            progress(done)
    faults = [f"{names}: {fault}" for names, fault in grouped(unreadable)]
    grid = None if real is None else real.grid
    if not files:
        return Diagnosis(
            source, listing, (), (), tuple(faults), stated, stated, (), like, manifest, True
        )
    values = _values(files, stated)
    places, positions = _places(files, stated, grid)
    faults += [*values, *places]
    proposal, remarks = _proposed(files, stated, real, values=bool(values), places=bool(places))
    return Diagnosis(
        source, listing, tuple(files), tuple(positions), tuple(faults), stated, proposal,
        tuple(remarks), like, manifest, bool(unreadable),
    )  # fmt: skip


def _named(wrong: Sequence[ForeignFile], files: Sequence[ForeignFile]) -> str:
    if len(wrong) == len(files) > 1:
        return f"all {len(files)} files"
    return few_of([file.name for file in wrong])


def _reach(files: Sequence[ForeignFile]) -> str:
    return f"{min(f.low for f in files):.3g} to {max(f.high for f in files):.3g}"


def _values(files: Sequence[ForeignFile], stated: Statement) -> list[str]:
    """Return what is wrong with the values."""
    if stated.value_range is not None:
        wrong = out_of_range(files, stated)
        if not wrong:
            return []
        low, high = stated.value_range
        found = f"values from {_reach(wrong)}, not {low:g} to {high:g} as stated"
        return [f"{_named(wrong, files)}: {found}"]
    wrong = [file for file in files if below_zero(file.low, file.scale - file.floor)]
    if not wrong:
        return []
    found = f"values below zero, from {_reach(wrong)}; intensities begin at 0"
    return [f"{_named(wrong, files)}: {found}"]


def _places(
    files: Sequence[ForeignFile], stated: Statement, like: Space | None
) -> tuple[list[str], list[Position]]:
    """Return what is wrong with the geometry, and the place of each file where nothing is."""
    problems: dict[str, list[ForeignFile]] = {}
    positions = []
    for file in files:
        try:
            found = position(file.shape, file.affine, stated, like)
        except CohortError as error:
            problems.setdefault(str(error), []).append(file)
            continue
        positions.append(found)
        if like is not None and stated.orientation is None and _lost_size(found.grid, like):
            text = (
                f"voxels of {found.grid.spacing[0]:.3g} mm, with the number of voxels of the real "
                f"volumes, whose voxels are {like.spacing[0]:.3g} mm: the voxel size was lost"
            )
            problems.setdefault(text, []).append(file)
        if like is not None and stated.orientation is None and is_without_origin(file.affine):
            text = "no place: the header's origin is the first voxel"
            problems.setdefault(text, []).append(file)
    faults = [f"{_named(wrong, files)}: {text}" for text, wrong in problems.items()]
    unplaced = [file for file in files if file.affine is None]
    if like is not None and unplaced and stated.orientation is None:
        shapes = Counter(tuple(sorted(file.shape)) for file in unplaced)
        if set(shapes) != {tuple(sorted(like.shape))}:
            shape = f"another shape ({_by(unplaced[0].shape)}) than the real volumes"
            faults.append(f"{_named(unplaced, files)}: {shape} ({_by(like.shape)})")
    if not faults:
        grids = Counter(found.grid for found in positions)
        if any(not grid.same_grid(positions[0].grid) for grid in grids):
            listed = ", ".join(f"{n} of {grid}" for grid, n in grids.most_common(5))
            faults.append(
                f"they have several grids ({listed}); one cohort has one. Bring each in by itself, "
                "from a folder or a manifest of its own"
            )
    return faults, [] if faults else positions


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _lost_size(grid: Space, like: Space) -> bool:
    if sorted(grid.shape) != sorted(like.shape):
        return False
    ratio = 1.0
    for own, other in zip(sorted(grid.spacing), sorted(like.spacing), strict=True):
        ratio *= own / other
    return not 1 / SAME_VIEW < ratio < SAME_VIEW


def _proposed(
    files: Sequence[ForeignFile],
    stated: Statement,
    real: Cohort | None,
    *,
    values: bool,
    places: bool,
) -> tuple[Statement, list[str]]:
    """Return the statement to propose, and what to check about it."""
    proposal = stated
    remarks: list[str] = []
    if values:
        proposal = replace(proposal, value_range=likely_range(files, stated))
    if not places:
        return proposal, remarks
    if real is None:
        orientation, spacing = stated.orientation or "RAS", stated.spacing
        remarks.append(
            "RAS (to the right, front and top) is a guess: look at a volume. REAL is the cohort "
            "that they should be like; without one, state --spacing MM."
        )
        return replace(proposal, orientation=orientation, spacing=spacing), remarks
    orientation, seen = stated.orientation or "", True
    if not orientation:
        orientation, seen = likely_orientation(files, real)
        remarks.append(
            "Left and right look alike, so that axis has the direction of the real files: check it."
            if seen
            else "The voxels do not show the orientation: it is that of the real files. Check it."
        )
    if not values and all(file.shape == real.stored_grid.shape for file in files):
        remarks.append(
            "If their voxels lie as in the real files, score can also read them as they are: "
            "--assume-grid real."
        )
    proposal = replace(proposal, orientation=orientation)
    try:
        for file in files:
            position(file.shape, file.affine, proposal, real.grid)
    except CohortError:
        spacing = likely_spacing(files, orientation, real)
        if spacing is not None:
            proposal = replace(proposal, spacing=spacing)
            size = "The real volumes' voxel size" if spacing == "real" else f"{spacing:g} mm"
            remarks.append(
                f"{size} gives their brains about the size of the real ones"
                f"{_round_size_beside(spacing)}: compare it with the settings of the program that "
                "made them."
            )
    return proposal, remarks


def _round_size_beside(spacing: float | Literal["real"]) -> str:
    """Return words for the half or whole millimetre that may be meant; empty where it is one."""
    if spacing == "real" or 2 * spacing == round(2 * spacing) or spacing < 0.75:
        return ""
    return f"; it is an estimate, and {round(2 * spacing) / 2:g} mm may be meant"
