"""Tables with one row per volume, matched to the volumes of a cohort.

Such a table names its volumes as other programs do: by path, by file name with or without its
ending, or by participant. Nothing is guessed: a volume without a row, or with two, is an error.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from synthbench.cohorts.cohort import Cohort
from synthbench.cohorts.tables.cells import column_of
from synthbench.cohorts.tables.persons import matched
from synthbench.cohorts.tables.text_table import read_text_table
from synthbench.errors import CohortError, UsageError, near_miss
from synthbench.volumes.image_file import without_suffix

KEYS = ("file", "path", "participant_id", "subject", "Measure:volume")
"""Columns that may name a row's volume; the first that is there is taken, else the first column.

`subject` is what SynthSeg writes, `Measure:volume` what FreeSurfer's asegstats2table does.
"""

ABSENT = ("", "n/a", "NA", "nan", "NaN")


@dataclass(frozen=True)
class VolumeTable:
    """A table with one row per volume.

    Attributes
    ----------
    file
        Its name in messages.
    keys
        The name of the volume of each row.
    columns
        By name, the cells as text.
    """

    file: str
    keys: tuple[str, ...]
    columns: dict[str, tuple[str, ...]]

    @classmethod
    def read(cls, file: Path, option: str) -> VolumeTable:
        """Return the table of a CSV file, or of one with tabs.

        Raises
        ------
        UsageError
            The file cannot be read, has no rows, or has no column beside the names of volumes.
        """
        try:
            table = read_text_table(file, KEYS)
        except CohortError as error:
            raise UsageError(f"{option} {error}") from error
        name, cells = f"{option} {file}", table.cells
        key = next((k for k in KEYS if k in cells.columns), cells.columns[0])
        others = [column for column in cells.columns if column != key]
        if cells.empty or not others:
            raise UsageError(
                f"{name}: needs one row per volume, and beside the column '{key}', which names "
                f"volumes, one with values; found {len(cells)} rows and the columns "
                f"{', '.join(cells.columns)}."
            )
        columns = {column: tuple(cells[column]) for column in others}
        return cls(name, tuple(cells[key]), columns)

    def rows(self, cohort: Cohort, role: str) -> list[int] | None:
        """Return the row of each volume; None where the table names none of them.

        A volume is named by its path in the cohort, by its file's name with or without ending, or
        by its subject, in any spelling of it (`synthbench.cohorts.tables.persons`).

        Raises
        ------
        UsageError
            Some volumes have a row and others have none, one has two, or a spelling is not certain.
        """
        places = {key: place for place, key in enumerate(map(without_suffix, self.keys))}
        repeated = {
            key for key, count in Counter(map(without_suffix, self.keys)).items() if count > 1
        }
        stems = Counter(without_suffix(PurePosixPath(entry.name).name) for entry in cohort.entries)
        try:
            persons = matched((e.subject for e in cohort.entries), places, self.file)
        except CohortError as error:
            raise UsageError(str(error)) from error
        found: list[int | None] = []
        for entry in cohort.entries:
            stem = without_suffix(PurePosixPath(entry.name).name)
            names = [
                without_suffix(entry.name),
                *([stem] if stems[stem] == 1 else []),
                entry.subject,
            ]
            key = next((name for name in names if name in places), persons.get(entry.subject))
            if key in repeated:
                raise UsageError(
                    f"{self.file}: names {key} in more than one row. Keep one row per volume."
                )
            found.append(None if key is None else places[key])
        lacking = [e.name for e, row in zip(cohort.entries, found, strict=True) if row is None]
        if len(lacking) == len(cohort):
            return None
        if lacking:
            raise UsageError(
                f"{self.file}: has no row for {len(lacking)} of the {len(cohort)} {role} volumes "
                f"(first: {lacking[0]}). Name volumes by file or by participant_id, and leave "
                "none out."
            )
        return [row for row in found if row is not None]

    def values(self, column: str, rows: Sequence[int]) -> list[float | str | None]:
        """Return a column's cells as numbers, or as words.

        Raises
        ------
        UsageError
            There is no such column, or a cell among numbers is not a plain number.
        """
        if column not in self.columns:
            raise UsageError(
                f"{self.file}: no column '{column}'; {near_miss(column, self.columns)}"
            )
        places = [f"row of {self.keys[row]}" for row in rows]
        found = column_of(column, [self.columns[column][row] for row in rows], places)
        if found.numeric and found.notes:
            raise UsageError(
                f"{self.file}: {'; '.join(found.notes)}. Write plain numbers with a point, and n/a "
                "where a value is not known."
            )
        return found.values


def typed(cells: Sequence[str]) -> list[float | str | None]:
    """Return cells as numbers, or as text where one is not a number; None where absent."""
    present = [None if cell in ABSENT else cell for cell in cells]
    try:
        numbers = [None if cell is None else float(cell) for cell in present]
    except ValueError:
        return list(present)
    return [None if n is None or not math.isfinite(n) else n for n in numbers]
