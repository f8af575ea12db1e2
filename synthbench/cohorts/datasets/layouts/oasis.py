"""OASIS-1 and OASIS-2: ANALYZE pairs with one folder per session, and one table."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pandas as pd

from synthbench.cohorts.datasets.layouts.layout import SIGNED_AGREEMENT, FolderLayout, Layout
from synthbench.cohorts.datasets.layouts.tables import (
    agreed,
    assemble,
    no_participants,
    no_sessions,
    read_table,
    the_table,
    with_common_names,
)
from synthbench.cohorts.datasets.layouts.tree import complete_pairs, counted, folders
from synthbench.cohorts.datasets.scans import DataUseTerms, Scan, ScanTable
from synthbench.cohorts.tables.text_table import decoded

# The scans are sagittal: voxel axes run to the front, to the top and to the left.
NATIVE_AXES = "ASL"
_AXES_NOTE = (
    "ANALYZE headers do not state the directions of the axes: here they run to the front, the top "
    f"and the left (axes {NATIVE_AXES}). A program that reads the headers alone turns the heads"
)
TERMS = DataUseTerms(
    name="OASIS data use agreement",
    url="https://www.oasis-brains.org/#access",
    text=(
        "Scientific use; do not try to identify a participant, pass the data on only as the "
        "agreement says and under the same terms. Acknowledge OASIS and its grants in its words, "
        "and cite the paper of the release, wherever the data, or what was derived from them (a "
        "model, pictures), is shown. " + SIGNED_AGREEMENT
    ),
)
# In a session's text file, some columns of the table have names in capitals.
_TEXT_NAMES = {"AGE": "Age", "HAND": "Hand", "EDUC": "Educ"} | {
    name: name for name in ("M/F", "SES", "CDR", "MMSE", "eTIV", "ASF", "nWBV")
}
_SESSION = {1: r"OAS1_\d{4}_MR\d+", 2: r"OAS2_\d{4}_MR\d+"}


def _fits(release: int, folder: Path) -> bool:
    return next(folders(folder, _SESSION[release], depth=3), None) is not None


def _sessions(release: int, folder: Path) -> list[Path]:
    return list(folders(folder, _SESSION[release], depth=3))


def _whose(session: Path) -> tuple[str, str]:
    """Return the participant and the session of a folder such as OAS1_0001_MR1."""
    release, number, visit = session.name.split("_")
    return f"sub-{release}{number}", f"ses-{visit}"


# ---------------------------------------------------------------- OASIS-1


def _read_first(folder: Path) -> ScanTable:
    """Return one image per session: the average of its repeats in native space, 1 mm (SUBJ_111).

    Where a session has no average, its acquired repeats (RAW) are taken, by their number. The
    atlas-registered and masked images (T88_111) are skipped: they were prepared in another way
    than the other cohorts.
    """
    scans: list[Scan] = []
    passed: list[str] = []
    averages = 0
    sessions = _sessions(1, folder)
    for session in sessions:
        average = complete_pairs(sorted(session.glob("PROCESSED/MPRAGE/SUBJ_111/*_sbj_111.hdr")))
        repeats = complete_pairs(sorted(session.glob("RAW/*_mpr-*_anon.hdr")))
        atlas = list(session.glob("PROCESSED/MPRAGE/T88_111/*.hdr"))
        averages += bool(average)
        passed += ["T88_111"] * len(atlas) + ["RAW"] * (len(repeats) if average else 0)
        who, visit = _whose(session)
        if average:
            scans += [Scan(file, who, visit, None, NATIVE_AXES) for file in average]
        else:
            scans += [Scan(file, who, visit, _repeat(file), NATIVE_AXES) for file in repeats]
    rows, table_notes = _first_table(folder, sessions)
    participants, covariates, value_notes = _covariates(rows)
    notes = (
        f"{averages} of {len(sessions)} sessions: the average of the repeats (SUBJ_111); the "
        "others: the acquired repeats (RAW)",
        f"images skipped: {counted(passed)}" if passed else "",
        _AXES_NOTE,
        *table_notes,
        *value_notes,
    )
    return assemble("oasis1", TERMS, folder, scans, participants, covariates, notes)


def _repeat(file: Path) -> str | None:
    found = re.search(r"mpr-(\d+)", file.name)
    return found[1] if found else None


def _first_table(folder: Path, sessions: list[Path]) -> tuple[pd.DataFrame | None, list[str]]:
    texts = {s.name: s / f"{s.name}.txt" for s in sessions}
    described = {name: file for name, file in texts.items() if file.is_file()}
    if described and not list(folder.glob("oasis_cross-sectional*.csv")):
        rows = [{"ID": name, **_first_text(file)} for name, file in described.items()]
        return pd.DataFrame(rows), [f"covariates from {len(rows)} OAS1_*_MR*.txt files"]
    file = the_table(folder, "oasis_cross-sectional")
    if file is None:
        return None, [f"no oasis_cross-sectional.csv in {folder}: covariates are not known"]
    return read_table(file, needs=["ID", "Age"]), [f"covariates from {file.name}"]


def _first_text(file: Path) -> dict[str, object]:
    """Return the lines `NAME: value` of a session's text file, under the names of the table."""
    lines = (line.partition(":") for line in decoded(file)[0].splitlines())
    values = {name.strip(): value.strip() for name, colon, value in lines if colon}
    found: dict[str, object] = {}
    for name, column in _TEXT_NAMES.items():
        text = values.get(name, "")
        found[column] = float(text) if re.fullmatch(r"-?[\d.]+", text) else (text or None)
    return found


# ---------------------------------------------------------------- OASIS-2


def _read_second(folder: Path) -> ScanTable:
    """Return all repeats of a session (RAW/mpr-1.nifti.hdr ...), by their number."""
    scans: list[Scan] = []
    others: list[str] = []
    for session in _sessions(2, folder):
        headers = sorted(session.glob("RAW/*.hdr"))
        named = [file for file in headers if re.match(r"mpr-\d+\.", file.name)]
        others += [file.name for file in headers if file not in named]
        who, visit = _whose(session)
        scans += [
            Scan(file, who, visit, _repeat(file), NATIVE_AXES) for file in complete_pairs(named)
        ]
    file = the_table(folder, "oasis_longitudinal")
    rows = None if file is None else _second_table(file)
    participants, covariates, value_notes = _covariates(rows)
    notes = (
        f"covariates from {file.name}"
        if file
        else f"no oasis_longitudinal*.csv in {folder}: covariates are not known",
        f"skipped, because their names are not mpr-<n>: {counted(others)}" if others else "",
        _AXES_NOTE,
        *value_notes,
    )
    return assemble("oasis2", TERMS, folder, scans, participants, covariates, notes)


def _second_table(file: Path) -> pd.DataFrame:
    rows = read_table(file, needs=["MRI ID", "Age"])
    return rows.rename(columns={"MRI ID": "ID", "MR Delay": "Delay"})


# ---------------------------------------------------------------- covariates of both


def _covariates(
    rows: pd.DataFrame | None,
) -> tuple[pd.DataFrame, pd.DataFrame, tuple[str, ...]]:
    """Return sex by participant; age, diagnosis and days by session; and notes.

    The diagnosis is that of the visit, by the clinical dementia rating: "CN" at 0. Above 0 it is
    "AD" in OASIS-1, where all rated patients have that diagnosis, and "demented" in OASIS-2. It is
    missing where there was no rating, as for the young adults of OASIS-1.
    """
    if rows is None:
        return no_participants(), no_sessions(), ()
    rows = rows[rows["ID"].astype(str).str.fullmatch(r"OAS[12]_\d{4}_MR\d+")]
    parts = rows["ID"].str.split("_")
    ill = "AD" if rows["ID"].str.startswith("OAS1").any() else "demented"
    rows = rows.assign(
        participant_id="sub-" + parts.str[0] + parts.str[1], session="ses-" + parts.str[2]
    )
    if "CDR" in rows:
        rating = pd.to_numeric(rows["CDR"], errors="coerce")
        rows["rated"] = rating.map(lambda r: None if pd.isna(r) else ill if r > 0 else "CN")
    if "Delay" in rows:
        delay = pd.to_numeric(rows["Delay"], errors="coerce")
        # The first session of OASIS-1 has no delay: delays are counted from it.
        rows["Delay"] = delay.where(delay.notna() | (rows["session"] != "ses-MR1"), 0.0)
    persons, person_notes = agreed(
        rows[["participant_id", *(c for c in ("M/F", "Hand") if c in rows)]], ["participant_id"]
    )
    participants, sex_notes = with_common_names(persons, {"sex": "M/F"})
    visits, visit_notes = agreed(
        rows.drop(columns=["M/F", "Hand", "ID"], errors="ignore"), ["participant_id", "session"]
    )
    sessions, value_notes = with_common_names(
        visits, {"age": "Age", "diagnosis": "rated", "days": "Delay"}
    )
    notes = (*person_notes, *sex_notes, *visit_notes, *value_notes)
    return participants, sessions.drop(columns="rated", errors="ignore"), notes


def oasis1() -> Layout:
    """Return the layout of OASIS-1."""
    return FolderLayout(
        name="oasis1",
        signs="OAS1_<4 digits>_MR<n>/PROCESSED or RAW, in disc folders or not",
        fits=partial(_fits, 1),
        read=_read_first,
        terms=TERMS,
        path=rf"/{_SESSION[1]}/",
    )


def oasis2() -> Layout:
    """Return the layout of OASIS-2."""
    return FolderLayout(
        name="oasis2",
        signs="OAS2_<4 digits>_MR<n>/RAW/mpr-<n>.nifti.hdr",
        fits=partial(_fits, 2),
        read=_read_second,
        terms=TERMS,
        path=rf"/{_SESSION[2]}/",
    )
