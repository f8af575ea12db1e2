"""Loose files: NIfTI images beside each other in one folder, one per person, in no known layout."""

from __future__ import annotations

from pathlib import Path

from synthbench.cohorts.datasets.layouts.layout import FolderLayout, Layout
from synthbench.cohorts.datasets.layouts.tables import assemble, no_participants, no_sessions
from synthbench.cohorts.datasets.layouts.tree import is_nifti, label
from synthbench.cohorts.datasets.scans import NOT_KNOWN, DataUseTerms, Scan, ScanTable
from synthbench.cohorts.listing import list_cohort
from synthbench.errors import CohortError

_TERMS = DataUseTerms(
    NOT_KNOWN, "", "Loose files state no terms of use. They bind you all the same."
)
NAME = "files"
"""The layout's name. It fits every folder of images, so any other layout that fits goes first."""


def fits(folder: Path) -> bool:
    """Return True where a NIfTI image lies in the folder itself."""
    return any(is_nifti(file.name) for file in folder.iterdir())


def read(folder: Path) -> ScanTable:
    """Return each image of the folder as a T1-weighted scan of the person that its name gives.

    Masks and label maps are left out, and `participants.tsv` is read where it is there.
    """
    scans: dict[str, Scan] = {}
    people: dict[str, str] = {}
    below = 0
    if not fits(folder):
        return assemble(NAME, _TERMS, folder, (), no_participants(), no_sessions(), ())
    listing = list_cohort(folder, "cohort")
    for file, person in listing.files:
        if file.parent != folder or not is_nifti(file.name):
            below += 1
            continue
        stem = person.removesuffix(".gz").removesuffix(".nii")
        participant = f"sub-{label(stem.removeprefix('sub-'))}"
        if participant in scans:
            raise CohortError(
                f"{folder}: {scans[participant].path.name} and {file.name} would both be "
                f"{participant}. List the scans in a CSV with the columns path and participant_id."
            )
        scans[participant] = Scan(file, participant, None, None)
        people[person] = participant
    known = listing.participants
    table = no_participants()
    if len(known):
        table = known[known.index.isin(people)].rename(index=people)
    notes = [
        "the layout is not known: each image is taken as a T1-weighted scan of one person, whom "
        "its name gives",
        *(remark.summary for remark in listing.remarks),
        f"{below} files in folders below, or of another format, are left out" if below else "",
    ]
    return assemble(
        NAME, _TERMS, folder, scans.values(), table.rename_axis("participant_id"),
        no_sessions(), notes,
    )  # fmt: skip


def files() -> Layout:
    """Return the layout of loose files."""
    return FolderLayout(NAME, "NIfTI images (.nii, .nii.gz) in the folder itself", fits, read)
