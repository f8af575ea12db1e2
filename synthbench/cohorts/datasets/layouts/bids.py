"""BIDS datasets and derivatives: sub-*/[ses-*/]anat/*_T1w.nii[.gz]."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from synthbench.cohorts.datasets.description import read_description
from synthbench.cohorts.datasets.layouts.layout import SIGNED_AGREEMENT, FolderLayout, Layout
from synthbench.cohorts.datasets.layouts.tables import (
    assemble,
    no_participants,
    no_sessions,
    with_common_names,
)
from synthbench.cohorts.datasets.layouts.tree import counted, is_nifti, label
from synthbench.cohorts.datasets.scans import (
    NOT_KNOWN,
    DataUseTerms,
    Scan,
    ScanTable,
    natural_order,
)
from synthbench.cohorts.tables.participants import ids_of, read_participants, typed
from synthbench.cohorts.tables.text_table import read_text_table
from synthbench.errors import CohortError
from synthbench.runtime.documents import check_own, is_there, read_text

_ALIASES: dict[str, tuple[str, ...]] = {
    "age": ("age", "age_at_scan", "age_at_session", "age_years"),
    "sex": ("sex", "gender"),
    "diagnosis": ("diagnosis", "dx", "diag", "group"),
    "site": ("site", "site_id", "center", "centre"),
    "date": ("date", "acq_time"),
    "days": ("days", "days_since_entry", "days_since_baseline"),
}


def fits(folder: Path) -> bool:
    """Return True where there is a T1w image in a BIDS place."""
    patterns = ("sub-*/anat/*_T1w.nii*", "sub-*/ses-*/anat/*_T1w.nii*")
    return any(next(folder.glob(pattern), None) for pattern in patterns)


def is_derivative(folder: Path) -> bool:
    """Return True where the folder's description says that it is a derivative."""
    return read_description(folder).DatasetType == "derivative"


def read(folder: Path) -> ScanTable:
    """Return the T1w images of a BIDS folder, with participants.tsv and the sessions tables.

    The images of a session are ordered by run, then by the number of entities (`acq-`, `rec-`;
    fewest first), then by name.
    """
    scans, notes = anatomical_scans(folder)
    participants, participant_notes = participants_table(
        folder / "participants.tsv", dict.fromkeys(scan.participant_id for scan in scans)
    )
    sessions, session_notes = sessions_table(folder)
    return assemble(
        "bids",
        dataset_terms(folder),
        folder,
        scans,
        participants,
        sessions,
        (*notes, *participant_notes, *session_notes),
    )


def anatomical_scans(root: Path) -> tuple[list[Scan], list[str]]:
    """Return the T1w images of a BIDS root in order of preference, and notes on others."""
    images = [
        file
        for pattern in ("sub-*/anat/*", "sub-*/ses-*/anat/*")
        for file in sorted(root.glob(pattern))
        if is_nifti(file.name)
    ]
    scans, others = [], []
    for file in images:
        entities, suffix = _entities(file)
        if suffix != "T1w":
            others.append(suffix)
            continue
        subject, session = entities.get("sub"), entities.get("ses")
        if subject is None:
            raise CohortError(
                f"{file}: the name of a BIDS image begins with sub-<label>, but this one does not. "
                "Rename it, or list the scans in a CSV with the columns path and participant_id."
            )
        scans.append(
            Scan(
                path=file,
                participant_id=f"sub-{label(subject)}",
                session=f"ses-{label(session)}" if session else None,
                run=entities.get("run"),
            )
        )
    scans.sort(key=lambda scan: (natural_order(scan.run), len(_entities(scan.path)[0]), scan.path))
    passed = f"skipped in anat folders, because they are no T1w images: {counted(others)}"
    return scans, [passed] if others else []


def _entities(file: Path) -> tuple[dict[str, str], str]:
    """Return the entities of a BIDS file name (sub, ses, acq, run ...), and its suffix (T1w)."""
    *pairs, suffix = file.name.split(".")[0].split("_")
    named = (re.fullmatch(r"([a-zA-Z0-9]+)-(.+)", pair) for pair in pairs)
    return {found[1]: found[2] for found in named if found}, suffix


def participants_table(
    file: Path, people: Iterable[str] = ()
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return participants.tsv with common names, by participant; empty where there is none.

    Parameters
    ----------
    people
        The ids of the participants with scans: "sub-" and letters and digits. Ids of the table are
        matched with them in any spelling.

    Raises
    ------
    CohortError
        The table is unreadable or has no column participant_id, rows of a participant contradict
        each other, or no id is that of a scan.
    """
    if not is_there(file, CohortError):
        note = "no participants.tsv: age, sex and other covariates are not known"
        return no_participants(), (note,)
    found = read_participants(file).of(people, str(file))
    table = found.table.set_axis(
        "sub-" + _labels(pd.Series(found.table.index.astype(str)), "sub-"), axis="index"
    ).rename_axis("participant_id")
    named, notes = with_common_names(table, aliases(table.columns))
    return named, (*found.notes, *notes)


def sessions_table(root: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return all sub-*_sessions.tsv with common names, by participant and session."""
    parts, remarks = [], []
    for file in sorted(root.glob("sub-*/sub-*_sessions.tsv")):
        rows = read_text_table(file, ["session_id"])
        rows.require("session_id")
        ids_of(rows, "session_id")
        part, notes = typed(rows, text=["session_id"])
        remarks += [f"{file.name}: {note}" for note in (*rows.notes, *notes)]
        part["participant_id"] = f"sub-{label(file.parent.name.removeprefix('sub-'))}"
        part["session"] = "ses-" + _labels(part.pop("session_id"), "ses-")
        if part["session"].duplicated().any():
            raise CohortError(f"{file}: names a session twice. Keep one row per session.")
        parts.append(part)
    if not parts:
        return no_sessions(), ()
    table = pd.concat(parts).set_index(["participant_id", "session"])
    named, notes = with_common_names(table, aliases(table.columns))
    return named, (*remarks, *notes)


def aliases(columns: Iterable[str]) -> dict[str, str]:
    """Return, for each common name, the first column with one of its names, in any case."""
    lower = {column.lower(): column for column in columns}
    found = {
        name: next((lower[alias] for alias in known if alias in lower), None)
        for name, known in _ALIASES.items()
    }
    return {name: column for name, column in found.items() if column}


def _labels(names: pd.Series, prefix: str) -> pd.Series:
    return names.astype(str).str.removeprefix(prefix).map(label)


_FIX = "Save it as UTF-8."


def dataset_terms(root: Path) -> DataUseTerms:
    """Return a dataset's terms of use, from its description or from `DATA_USE_TERMS.txt`.

    `synthbench data prepare` copies the terms of the scans into that file.

    Raises
    ------
    CohortError
        `dataset_description.json` or `DATA_USE_TERMS.txt` cannot be read.
    """
    described = read_description(root)
    licence, thanks = described.licence, described.HowToAcknowledge
    carried = root / "DATA_USE_TERMS.txt"
    if licence and is_there(carried, CohortError):
        check_own(carried, root, CohortError)
        return DataUseTerms.of_text(licence, read_text(carried, error=CohortError, fix=_FIX))
    if not licence:
        text = (
            "dataset_description.json names no licence: find out the terms of use of these data "
            "before you pass on anything that is made from them."
        )
    else:
        text = f"dataset_description.json names the licence {licence}."
    if thanks:
        text += f" It asks for this acknowledgement: {thanks}"
    return DataUseTerms(
        name=licence or NOT_KNOWN,
        url=described.link,
        text=f"{text} {SIGNED_AGREEMENT}",
    )


def bids() -> Layout:
    """Return the layout of BIDS datasets and derivatives."""
    return FolderLayout(
        name="bids",
        signs="sub-*/anat/*_T1w.nii[.gz] or sub-*/ses-*/anat/*_T1w.nii[.gz]",
        fits=fits,
        read=read,
    )
