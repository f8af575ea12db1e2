"""The participants of a cohort: one reader for participants.tsv, sessions tables and manifests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from synthbench.cohorts.tables.cells import ABSENT, column_of
from synthbench.cohorts.tables.persons import RULE, check_spellings, matched
from synthbench.cohorts.tables.text_table import TextTable, read_text_table
from synthbench.errors import CohortError

LASTING = ("sex", "gender")
"""Columns that do not change between the visits of a person."""

SESSIONS = ("session", "session_id", "ses", "visit")
"""Columns that name the visit of a row in a manifest."""


@dataclass(frozen=True)
class Participants:
    """Covariates of persons.

    Attributes
    ----------
    table
        One row per person, indexed by `participant_id`: numbers, words, or missing.
    notes
        What was read by a rule, or left out; they may name persons.
    """

    table: pd.DataFrame
    notes: tuple[str, ...] = ()

    def of(self, people: Iterable[str], where: str) -> Participants:
        """Return the table with the ids that a cohort has, matched by `persons.matched`.

        Rows of other persons keep their ids.

        Raises
        ------
        CohortError
            No person of the cohort has a row, or a match is not certain.
        """
        people = list(dict.fromkeys(people))
        found = matched(people, [str(name) for name in self.table.index], where)
        if not found and people and len(self.table):
            raise CohortError(
                f"{where}: 0 of {len(people)} subjects are matched: the table has "
                f"'{self.table.index[0]}', the files have '{people[0]}'. Ids may differ in 'sub-', "
                "capitals, signs and leading zeros. Write them as the files have them, or move the "
                "table elsewhere."
            )
        ids = {row: person for person, row in found.items()}
        table = self.table.rename(index=ids)
        changed = [person for person, row in found.items() if person != row]
        notes = self.notes
        if changed:
            notes = (
                *notes,
                f"{len(found)} of {len(people)} subjects were matched, {len(changed)} of them "
                f"{RULE} (first: '{found[changed[0]]}' is {changed[0]})",
            )
        return replace(self, table=table, notes=notes)


def read_participants(file: Path) -> Participants:
    """Return a table with a column `participant_id` and one row per person: participants.tsv.

    Raises
    ------
    CohortError
        The file cannot be read, has no column `participant_id` or an empty cell in it, two rows of
        one person differ, or a person is spelt in two ways.
    """
    table = read_text_table(file, ["participant_id"])
    table.require("participant_id")
    ids = ids_of(table)
    columns, notes = typed(table, drop=("participant_id",))
    columns.index = pd.Index(ids, name="participant_id")
    columns, repeated = _one_row_each(columns, table)
    return Participants(columns, (*table.notes, *notes, *repeated))


def ids_of(table: TextTable, column: str = "participant_id") -> list[str]:
    """Return a column of ids, after checking that each cell is filled and each id spelt in one way.

    Raises
    ------
    CohortError
        A cell is empty, or two different ids are equal by the rule of `persons`.
    """
    ids = [str(name) for name in table.cells[column]]
    for row, name in enumerate(ids):
        if name in ABSENT:
            raise CohortError(
                f"{table.file}: {table.place(row, column)} is '{name}': every row needs an id. "
                "Write one, or remove the row."
            )
    check_spellings(ids, table.file)
    return ids


def typed(
    table: TextTable, drop: Iterable[str] = (), text: Iterable[str] = ()
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return a table's columns as numbers and words, and notes on what was read by a rule.

    Parameters
    ----------
    drop
        Columns to leave out.
    text
        Columns that stay text, leading zeros included; missing cells are None.
    """
    columns: dict[str, pd.Series] = {}
    notes: list[str] = []
    kept, dropped = set(text), set(drop)
    for name in table.cells.columns:
        cells = [str(cell) for cell in table.cells[name]]
        if name in dropped:
            continue
        if name in kept:
            words = [None if cell in ABSENT else cell for cell in cells]
            columns[name] = pd.Series(words, dtype="str")
            continue
        found = column_of(name, cells, [f"line {line}" for line in table.lines])
        notes += found.notes
        numbers = found.numeric or all(value is None for value in found.values)
        column = pd.Series(found.values, dtype="float64" if numbers else "str")
        whole = bool(cells) and all(re.fullmatch(r"[+-]?\d{1,15}", cell) for cell in cells)
        # Whole numbers are written without a decimal point again.
        columns[name] = column.astype("int64") if whole and column.notna().all() else column
    return pd.DataFrame(columns, index=range(len(table.cells))), tuple(notes)


def _one_row_each(columns: pd.DataFrame, table: TextTable) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return one row per person; rows that say the same are one, others are refused."""
    twice = columns.index[columns.index.duplicated()]
    repeated = columns[columns.index.duplicated(keep=False)]
    values_of = repeated.groupby(level=0, sort=False).nunique(dropna=False)
    for name in values_of.index[(values_of > 1).any(axis=1)][:1]:
        places = [i for i, other in enumerate(columns.index) if other == name]
        for column in values_of.columns[values_of.loc[name] > 1][:1]:
            values = [table.cells[column].iloc[i] or "n/a" for i in places]
            lines = ", ".join(str(table.lines[i]) for i in places[:5])
            raise CohortError(
                f"{table.file}: {name} has more than one row (lines {lines}), and they contradict "
                f"each other: column '{column}' is {' and '.join(dict.fromkeys(values))}. Keep one "
                "row per participant. What changes between visits belongs into "
                "sub-<label>_sessions.tsv, or into a manifest with one row per scan."
            )
    if not len(twice):
        return columns, ()
    note = f"{len(twice)} rows repeat another row of the same participant and were left out"
    return columns[~columns.index.duplicated()], (note,)


def manifest_rows(
    table: TextTable, ids: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame, tuple[str, ...]]:
    """Return the covariates of a manifest: one row per person, one row per scan, and notes.

    Scans of one person may differ in what changes between visits, such as age. The row of a person
    then has the value of the first scan.

    Raises
    ------
    CohortError
        Rows of one person contradict each other in sex, or rows of one visit in anything else
        than the path and the run.
    """
    scans, notes = typed(table, drop=("path", "participant_id"), text=("session", "run"))
    scans.index = pd.Index(ids, name="participant_id")
    visit = next((name for name in SESSIONS if name in scans), None)
    if len(set(ids)) < len(ids):
        for column in scans:
            lasting = str(column).lower() in LASTING
            if lasting or (visit is not None and str(column).lower() in ("age", "diagnosis")):
                keys = (
                    [scans.index]
                    if lasting
                    else [scans.index, scans[visit].fillna("").to_numpy(dtype=object)]
                )
                _check_agreement(scans, str(column), keys, table)
    return scans[~scans.index.duplicated()], scans, notes


def _check_agreement(scans: pd.DataFrame, column: str, keys: list[Any], table: TextTable) -> None:
    """Raise where the present values of a column differ within a group of rows."""
    groups = scans[column].groupby(keys)
    apart = groups.nunique()
    for group in apart.index[apart > 1]:
        person, *visit = group if isinstance(group, tuple) else (group,)
        places = [
            i for i, name in enumerate(scans.index)
            if name == person and (not visit or str(keys[1][i]) == str(visit[0]))
        ]  # fmt: skip
        values = dict.fromkeys(table.cells[column].iloc[i] for i in places)
        lines = ", ".join(str(table.lines[i]) for i in places[:5])
        raise CohortError(
            f"{table.file}: rows of {person} contradict each other (lines {lines}): column "
            f"'{column}' is {' and '.join(map(str, values))}. Correct the wrong one, or give two "
            "persons different ids."
        )
