"""Covariates from a cohort's own tables, under common names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from synthbench.cohorts.datasets.scans import COVARIATES, DataUseTerms, Scan, ScanTable, visit_order
from synthbench.cohorts.tables.cells import as_number
from synthbench.cohorts.tables.participants import typed
from synthbench.cohorts.tables.text_table import header_of, read_text_table
from synthbench.errors import CohortError

_RESERVED = (*COVARIATES, "path", "participant_id", "session", "run", "axes")
_MALE = ("m", "male", "man")
_FEMALE = ("f", "female", "woman")
_CONTROLS = (
    "cn",
    "nc",
    "hc",
    "con",
    "control",
    "controls",
    "healthy",
    "healthy control",
    "normal",
    "normal control",
    "cognitively normal",
)
Convert = Callable[[pd.Series], pd.Series]


# ---------------------------------------------------------------- reading


def read_table(file: Path, needs: Iterable[str] = (), text: Iterable[str] = ()) -> pd.DataFrame:
    """Return the rows of a CSV or TSV file, as `synthbench.cohorts.tables.text_table` reads it.

    Parameters
    ----------
    file
        The table.
    needs
        Columns that must exist.
    text
        Columns that are kept as text, leading zeros included.

    Raises
    ------
    CohortError
        The file cannot be read as a table, or lacks a column.
    """
    needs = list(needs)
    table = read_text_table(file, needs)
    table.require(*needs)
    return typed(table, text=text)[0]


def tables_with(files: Iterable[Path], *columns: str) -> list[Path]:
    """Return the CSV files whose header has all the columns."""
    found = []
    for file in files:
        if header_of(file).issuperset(columns):
            found.append(file)
    return found


def the_table(folder: Path, stem: str) -> Path | None:
    """Return the CSV whose name begins with `stem`; None where there is none.

    Raises
    ------
    CohortError
        There are several, or there is only an Excel file.
    """
    found = sorted(folder.glob(f"{stem}*.csv"))
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise CohortError(f"{folder}: one {stem}*.csv is needed; found {names}. Move the others.")
    if not found:
        excel = sorted(folder.glob(f"{stem}*.xls*"))
        if excel:
            raise CohortError(
                f"{excel[0]}: Excel files are not read. Save it in the same folder as {stem}.csv: "
                "in Excel or LibreOffice 'Save as', CSV (comma separated, UTF-8), or type\n"
                f"  soffice --headless --convert-to csv --outdir '{folder}' '{excel[0]}'"
            )
    return found[0] if found else None


def no_participants() -> pd.DataFrame:
    """Return an empty table of participants."""
    return pd.DataFrame(index=pd.Index([], name="participant_id", dtype=object))


def no_sessions() -> pd.DataFrame:
    """Return an empty table of sessions."""
    keys = ["participant_id", "session"]
    return pd.DataFrame(columns=keys, dtype=object).set_index(keys)


# ---------------------------------------------------------------- values


def number(values: pd.Series) -> pd.Series:
    """Return values as numbers, missing where a value is not one."""
    if pd.api.types.is_numeric_dtype(values):
        return values.astype("float64")
    cells = ["n/a" if pd.isna(value) else str(value) for value in values]
    found = [as_number(cell) for cell in cells]
    return pd.Series(found, index=values.index, dtype="float64")


def sex(values: pd.Series, codes: Mapping[int, str] | None = None) -> pd.Series:
    """Return values as "M" or "F", else missing; `codes` gives the meaning of numbers."""
    if codes is not None:
        return number(values).map(dict(codes)).astype(object)
    meaning = dict.fromkeys(_MALE, "M") | dict.fromkeys(_FEMALE, "F")
    return values.astype(str).str.strip().str.lower().map(meaning).astype(object)


def diagnosis(values: pd.Series) -> pd.Series:
    """Return "CN" for any label of cognitively normal people or controls, else the label."""
    labels = values.astype(object)
    return labels.map(lambda w: "CN" if str(w).strip().lower() in _CONTROLS else w)


def iso_date(values: pd.Series) -> pd.Series:
    """Return dates as YYYY-MM-DD, missing where a value is not one."""
    dates = pd.to_datetime(values, errors="coerce", format="mixed")
    return dates.dt.strftime("%Y-%m-%d").astype(object)


def as_it_is(values: pd.Series) -> pd.Series:
    """Return the values as text."""
    return values.astype(object).map(lambda v: v if pd.isna(v) else str(v))


CONVERSIONS: dict[str, Convert] = {
    "age": number,
    "sex": sex,
    "diagnosis": diagnosis,
    "site": as_it_is,
    "date": iso_date,
    "days": number,
}


def with_common_names(
    table: pd.DataFrame, sources: Mapping[str, str], **conversions: Convert
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return a table with the common covariates added; its own columns are kept.

    Parameters
    ----------
    table
        Indexed by the identifier of a row.
    sources
        For a common name, the table's column; a missing column is skipped.
    conversions
        For a common name, a function that converts its values in place of the usual one.

    Returns
    -------
    DataFrame, tuple of str
        The table, and a note on each column with values that could not be converted. A column
        of the table with a common name is kept as `orig_<name>`, unless its values are the same.
    """
    known = {name: column for name, column in sources.items() if column in table}
    common = {
        name: (conversions.get(name) or CONVERSIONS[name])(table[column])
        for name, column in known.items()
    }
    same = [n for n, column in known.items() if n == column and _same(common[n], table[n])]
    own = table.drop(columns=same).rename(columns={c: f"orig_{c}" for c in table if c in _RESERVED})
    notes = []
    for name, column in known.items():
        lost = table[column].notna() & common[name].isna()
        if lost.any():
            first = table.loc[lost, column].iloc[0]
            notes.append(
                f"{name}: {int(lost.sum())} values of the column '{column}' are not understood "
                f"and left missing (first: '{first}')"
            )
    return pd.concat([pd.DataFrame(common, index=table.index), own], axis="columns"), tuple(notes)


def _same(ours: pd.Series, theirs: pd.Series) -> bool:
    equal = ours.astype(object) == theirs.astype(object)
    return bool((equal | (ours.isna() & theirs.isna())).all())


def agreed(table: pd.DataFrame, keys: list[str]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return one row per key, and notes on values that differ between its rows, which are missing.

    Parameters
    ----------
    table
        Any number of rows per key.
    keys
        The columns that identify a row; they become the index.
    """
    groups = table.groupby(keys, sort=True)
    contradicted = groups.nunique() > 1
    notes = tuple(
        f"{column}: contradictory in the table, and left missing, for "
        f"{int(contradicted[column].sum())} of {len(contradicted)} "
        f"(first: {_key(contradicted.index[contradicted[column]][0])})"
        for column in contradicted
        if contradicted[column].any()
    )
    first = groups.first()
    return first.astype(object).mask(contradicted).infer_objects() if notes else first, notes


def _key(index: Any) -> str:
    return " ".join(map(str, index)) if isinstance(index, tuple) else str(index)


# ---------------------------------------------------------------- putting together


def assemble(
    layout: str,
    terms: DataUseTerms,
    folder: Path,
    scans: Iterable[Scan],
    participants: pd.DataFrame,
    sessions: pd.DataFrame,
    notes: Iterable[str],
) -> ScanTable:
    """Return scans and tables together, with notes on people who are in only one of them.

    Parameters
    ----------
    folder
        Named in the error.
    scans
        In the order of preference among the scans of a session.
    participants
        Indexed by `participant_id`, one row each.
    sessions
        Indexed by `participant_id` and `session`, one row each.

    Raises
    ------
    CohortError
        There are no scans.
    """
    listed = list(scans)
    remarks = [note for note in notes if note]
    if not listed:
        listed_notes = "".join(f"\n  {note}" for note in remarks)
        raise CohortError(
            f"{folder}: holds no T1-weighted scan in the layout '{layout}'.{listed_notes}\n"
            "docs/cohorts.md shows the expected tree; name another layout with --layout."
        )
    persons = pd.Index(sorted({scan.participant_id for scan in listed}), name="participant_id")
    if len(participants.columns):
        unknown = persons.difference(participants.index)
        unscanned = len(participants.index.difference(persons))
        if len(unknown):
            remarks.append(
                f"{len(unknown)} of {len(persons)} participants are in no table (first: "
                f"{unknown[0]}): their covariates are missing"
            )
        if unscanned:
            remarks.append(f"{unscanned} participants of the tables have no scan here")
    visits = pd.DataFrame(
        sorted({(scan.participant_id, scan.session) for scan in listed}, key=str),
        columns=["participant_id", "session"],
        dtype=object,
    )
    covariates = (
        visits.merge(sessions.reset_index(), how="left", on=["participant_id", "session"])
        if len(sessions.columns)
        else visits
    )
    order = _order(covariates)
    return ScanTable(
        scans=tuple(sorted(listed, key=lambda s: order[s.participant_id, s.session])),
        participants=participants.reindex(persons),
        sessions=covariates,
        layout=layout,
        terms=terms,
        notes=tuple(remarks),
    )


def _order(sessions: pd.DataFrame) -> dict[tuple[str, str | None], Any]:
    """Return the sort key of each session: its participant, then its time."""
    missing: list[None] = [None] * len(sessions)
    days = sessions.get("days", missing)
    dates = sessions.get("date", missing)
    keys = zip(sessions["participant_id"], sessions["session"], days, dates, strict=True)
    return {
        (person, session): (person, *visit_order(session, day, date))
        for person, session, day, date in keys
    }
