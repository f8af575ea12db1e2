"""OASIS-3: OAS30001_MR_d0129/anat2/*_T1w.nii.gz, or BIDS, and the tables of its data files.

Days in session labels count from the participant's entry into the study.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pandas as pd

from synthbench.cohorts.datasets.layouts.bids import is_derivative
from synthbench.cohorts.datasets.layouts.layout import FolderLayout, Layout
from synthbench.cohorts.datasets.layouts.oasis import TERMS
from synthbench.cohorts.datasets.layouts.tables import (
    agreed,
    assemble,
    diagnosis,
    no_participants,
    no_sessions,
    number,
    read_table,
    sex,
    tables_with,
    with_common_names,
)
from synthbench.cohorts.datasets.layouts.tree import counted, folders, is_nifti
from synthbench.cohorts.datasets.scans import Scan, ScanTable, natural_order
from synthbench.errors import CohortError
from synthbench.runtime.walk import files_below

_SESSION = r"OAS3\d{4}_MR_d\d+"
_SUBJECT = r"sub-OAS3\d{4}"
_IMAGE = re.compile(
    r"sub-(?P<subject>OAS3\d{4})_sess?-(?P<session>d\d+)"
    r"(?P<entities>(?:_[a-zA-Z]+-[A-Za-z0-9]+)*)_(?P<suffix>[A-Za-z0-9]+)\.nii(?:\.gz)?"
)
CLINICAL_WINDOW_DAYS = 365
_DAYS_PER_YEAR = 365.25


def fits(folder: Path) -> bool:
    """Return True where there are sessions of OASIS-3, in a dataset that is no derivative."""
    session = next(folders(folder, _SESSION, depth=3), None)
    subject = next(folders(folder, _SUBJECT, depth=2), None)
    return bool(session or subject) and not is_derivative(folder)


def read(folder: Path) -> ScanTable:
    """Return the T1w images, with the tables of demographics and of clinical visits.

    Age is the age at entry plus the days since then. The diagnosis is that of the nearest clinical
    visit (`dx1`) within a year of the scan; `clinical_gap_days` is the time between them. The
    images of a session are ordered by run, then by the number of entities, then by path.
    """
    named = _images(folder)
    others = [found["suffix"] for _, found in named if found["suffix"] != "T1w"]
    chosen = [(file, found) for file, found in named if found["suffix"] == "T1w"]
    chosen.sort(key=lambda item: _preference(*item))
    scans = [
        Scan(file, f"sub-{found['subject']}", f"ses-{found['session']}", _run(found))
        for file, found in chosen
    ]
    demographics = _the_table(folder, "demographics", _DEMOGRAPHICS)
    clinical = _the_table(folder, "clinical", _CLINICAL)
    participants, person_notes = _participants(demographics)
    sessions, visit_notes = _sessions(scans, participants, clinical)
    notes = (
        f"skipped, because they are no T1w images: {counted(others)}" if others else "",
        *_absent(folder, demographics, clinical),
        *person_notes,
        *visit_notes,
    )
    return assemble("oasis3", TERMS, folder, scans, participants, sessions, notes)


def _images(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    places = [*folders(folder, _SESSION, depth=3), *folders(folder, _SUBJECT, depth=2)]
    files = (file for place in places for file in files_below(place))
    named = ((file, _IMAGE.fullmatch(file.name)) for file in files if is_nifti(file.name))
    return [(file, found) for file, found in named if found]


def _run(found: re.Match[str]) -> str | None:
    run = re.search(r"_run-(\w+?)(?:_|$)", found["entities"])
    return run[1] if run else None


def _preference(
    file: Path, found: re.Match[str]
) -> tuple[tuple[tuple[int, str], ...], int, tuple[tuple[int, str], ...]]:
    return natural_order(_run(found)), found["entities"].count("-"), natural_order(str(file))


# ---------------------------------------------------------------- tables

# Columns of each table: first in the release of 2022, then in the older XNAT Central.
_DEMOGRAPHICS = (("OASISID", "AgeatEntry"), ("Subject", "M/F"))
_CLINICAL = (("OASISID", "days_to_visit", "dx1"), ("ADRC_ADRCCLINICALDATA ID", "Subject", "dx1"))
_EARLIER = {"Subject": "OASISID", "ageAtEntry": "AgeatEntry", "cdr": "CDRTOT", "mmse": "MMSE"}


def _the_table(
    folder: Path, what: str, headers: tuple[tuple[str, ...], ...]
) -> pd.DataFrame | None:
    below = [file for file in files_below(folder) if file.suffix == ".csv"]
    files = [file for columns in headers for file in tables_with(below, *columns)]
    if len(files) > 1:
        raise CohortError(
            f"{folder}: one table of {what} is needed (columns {', '.join(headers[0])}); found "
            f"{', '.join(str(file.relative_to(folder)) for file in files)}. Move the others away."
        )
    if not files:
        return None
    return read_table(files[0], text=["OASISID", "Subject"])


def _absent(
    folder: Path, demographics: pd.DataFrame | None, clinical: pd.DataFrame | None
) -> list[str]:
    notes = []
    if demographics is None:
        notes.append(f"no OASIS3_demographics.csv below {folder}: age and sex are not known")
    if clinical is None:
        notes.append(f"no OASIS3_UDSb4_cdr.csv below {folder}: the diagnosis is not known")
    return notes


def _participants(table: pd.DataFrame | None) -> tuple[pd.DataFrame, tuple[str, ...]]:
    if table is None:
        return no_participants(), ()
    table = table.rename(columns=_EARLIER).dropna(subset="OASISID")
    table["participant_id"] = "sub-" + table.pop("OASISID")
    single, contradictions = agreed(table, ["participant_id"])
    if "GENDER" in single:
        codes = partial(sex, codes={1: "M", 2: "F"})
        named, lost = with_common_names(single, {"sex": "GENDER"}, sex=codes)
    else:
        named, lost = with_common_names(single, {"sex": "M/F"})
    return named, (*contradictions, *lost)


def _sessions(
    scans: list[Scan], participants: pd.DataFrame, clinical: pd.DataFrame | None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    keys = ["participant_id", "session"]
    visits = pd.DataFrame(
        sorted({(scan.participant_id, str(scan.session)) for scan in scans}), columns=keys
    )
    if visits.empty:
        return no_sessions(), ()
    visits["days"] = visits["session"].str.removeprefix("ses-d").astype("float64")
    notes: list[str] = []
    if clinical is not None:
        visits = _nearest_visit(visits, _clinical_visits(clinical))
        far = int(visits["clinical_gap_days"].isna().sum())
        if far:
            notes.append(
                f"diagnosis: {far} of {len(visits)} sessions have no clinical visit within "
                f"{CLINICAL_WINDOW_DAYS} days, and it is missing for them"
            )
    entry = _age_at_entry(participants, visits)
    if entry is not None:
        visits["age"] = (entry + visits["days"] / _DAYS_PER_YEAR).round(2)
    return visits.set_index(keys), tuple(notes)


def _age_at_entry(participants: pd.DataFrame, visits: pd.DataFrame) -> pd.Series | None:
    if "AgeatEntry" in participants:
        return visits["participant_id"].map(number(participants["AgeatEntry"]))
    # In XNAT Central it is in the clinical table.
    return number(visits["AgeatEntry"]) if "AgeatEntry" in visits else None


def _clinical_visits(table: pd.DataFrame) -> pd.DataFrame:
    """Return clinical visits by participant and day, with the diagnosis's common name."""
    table = table.rename(columns=_EARLIER)
    if "ADRC_ADRCCLINICALDATA ID" in table:
        label = table.pop("ADRC_ADRCCLINICALDATA ID")
        table["days_to_visit"] = label.str.extract(r"_d(\d+)$", expand=False)
    table = table.assign(
        participant_id="sub-" + table.pop("OASISID"),
        clinical_day=number(table.pop("days_to_visit")),
        diagnosis=diagnosis(table["dx1"]),
    )
    return table.dropna(subset=["participant_id", "clinical_day", "dx1"]).drop(
        columns=["Date", "Age", "age at visit", "OASIS_session_label"], errors="ignore"
    )


def _nearest_visit(visits: pd.DataFrame, clinical: pd.DataFrame) -> pd.DataFrame:
    """Return each session with the nearest clinical visit; of two as near, the earlier."""
    left = visits.sort_values("days", kind="stable").assign(clinical_day=lambda v: v["days"])
    right = clinical.sort_values("clinical_day", kind="stable").assign(
        examined=lambda c: c["clinical_day"]
    )
    joined = pd.merge_asof(
        left,
        right,
        on="clinical_day",
        by="participant_id",
        direction="nearest",
        tolerance=CLINICAL_WINDOW_DAYS,
    )
    joined["clinical_gap_days"] = joined.pop("examined") - joined["days"]
    return joined.drop(columns="clinical_day").sort_values(
        ["participant_id", "days"], ignore_index=True
    )


def oasis3() -> Layout:
    """Return the layout of OASIS-3."""
    return FolderLayout(
        name="oasis3",
        signs="OAS3<4 digits>_MR_d<day>/anat*/*_T1w.nii.gz, or sub-OAS3<4 digits>/ses-d<day>/anat",
        fits=fits,
        read=read,
        terms=TERMS,
        path=rf"/({_SESSION}|{_SUBJECT})/",
    )
