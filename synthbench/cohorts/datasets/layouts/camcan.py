"""Cam-CAN: BIDS below cc700/mri/pipeline/release004, and a table of participants beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from synthbench.cohorts.datasets.layouts.bids import anatomical_scans, is_derivative, sessions_table
from synthbench.cohorts.datasets.layouts.layout import SIGNED_AGREEMENT, FolderLayout, Layout
from synthbench.cohorts.datasets.layouts.tables import (
    agreed,
    assemble,
    no_participants,
    read_table,
    sex,
    with_common_names,
)
from synthbench.cohorts.datasets.scans import DataUseTerms, ScanTable
from synthbench.errors import CohortError

# Paths from the folder of the archive to the one with the subjects.
_ROOTS = (
    "",
    "anat",
    "*/anat",
    "pipeline/*/*/anat",
    "mri/pipeline/*/*/anat",
    "cc700/mri/pipeline/*/*/anat",
)
_TABLES = ("participants_data*.csv", "standard_data*.csv", "participants.tsv")
_SUBJECTS = ("CCID", "participant_id", "Observations")
_SOURCES = {"age": ("Age", "age"), "sex": ("Sex", "sex", "gender_text", "gender_code", "Gender")}
_TERMS = DataUseTerms(
    name="Cam-CAN data use agreement",
    url="https://camcan-archive.mrc-cbu.cam.ac.uk/dataaccess/",
    text=(
        "Non-commercial research and teaching of the kind applied for. Do not pass scans or "
        "values of a participant to anyone outside the agreement, nor try to identify one; keep "
        "the data on your institution's servers. Publish open-access, acknowledge Cam-CAN in its "
        "words, and ask its administrators how derived data (a model, pictures) are to be shared. "
        + SIGNED_AGREEMENT
    ),
)


def fits(folder: Path) -> bool:
    """Return True where there are subjects CC<6 digits>, in a dataset that is no derivative."""
    return next(_roots(folder), None) is not None and not is_derivative(folder)


def _roots(folder: Path) -> Iterator[Path]:
    for pattern in _ROOTS:
        roots = sorted(folder.glob(pattern)) if pattern else [folder]
        yield from (root for root in roots if next(root.glob("sub-CC[0-9]*/anat"), None))


def read(folder: Path) -> ScanTable:
    """Return the T1w images, with participants_data.csv, standard_data.csv or participants.tsv.

    Cam-CAN is a sample of the population without dementia or serious illness: the diagnosis of
    all is "CN".
    """
    roots = list(_roots(folder))
    if len(roots) > 1:
        raise CohortError(
            f"{folder}: several folders hold Cam-CAN subjects: {', '.join(map(str, roots))}. "
            "Give one of them."
        )
    root = roots[0] if roots else folder
    scans, notes = anatomical_scans(root)
    participants, table_notes = _participants(folder, root)
    sessions, session_notes = sessions_table(root)
    found = assemble(
        "camcan",
        _TERMS,
        folder,
        scans,
        participants,
        sessions,
        (*notes, *table_notes, *session_notes),
    )
    return replace(found, participants=found.participants.assign(diagnosis="CN"))


def _participants(folder: Path, root: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    beside = [root, *(above for above in root.parents if above.is_relative_to(folder))]
    found = [f for stem in _TABLES for place in beside for f in sorted(place.glob(stem))]
    if not found:
        note = (
            f"no participants_data.csv, standard_data.csv or participants.tsv in {folder}: age "
            "and sex are not known. Put the table of the Cam-CAN archive there"
        )
        return no_participants(), (note,)
    file = found[0]
    table = read_table(file, text=_SUBJECTS)
    name = next((column for column in _SUBJECTS if column in table), None)
    if name is None:
        raise CohortError(
            f"{file}: a column CCID or participant_id is needed; found {', '.join(table.columns)}."
        )
    table["participant_id"] = "sub-" + table.pop(name).str.removeprefix("sub-").str.strip()
    single, contradictions = agreed(table, ["participant_id"])
    chosen = {
        common: next(c for c in columns if c in single)
        for common, columns in _SOURCES.items()
        if any(c in single for c in columns)
    }
    coded = {"sex": partial(sex, codes={1: "M", 2: "F"})} if _is_coded(single, chosen) else {}
    named, conversion_notes = with_common_names(single, chosen, **coded)
    return named, (f"covariates from {file.name}", *contradictions, *conversion_notes)


def _is_coded(table: pd.DataFrame, chosen: dict[str, str]) -> bool:
    return "sex" in chosen and pd.api.types.is_numeric_dtype(table[chosen["sex"]])


def camcan() -> Layout:
    """Return the layout of Cam-CAN."""
    return FolderLayout(
        name="camcan",
        signs="sub-CC<6 digits>/anat, at the top or below cc700/mri/pipeline/release*/BIDS_*/anat",
        fits=fits,
        read=read,
        terms=_TERMS,
        path=r"/sub-CC\d{6}/",
    )
