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

import pandas as pd

from synthbench.cohorts.cohort import Cohort
from synthbench.errors import UsageError, near_miss
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
        name = f"{option} {file}"
        try:
            with Path(file).open(encoding="utf-8-sig") as opened:
                separator = "," if "," in opened.readline() else "\t"
            table = pd.read_csv(
                file, sep=separator, dtype=str, keep_default_na=False, skipinitialspace=True,
                encoding="utf-8-sig",
            )  # fmt: skip
        except OSError as error:
            raise UsageError(f"{name}: cannot be read: {error.strerror}.") from error
        except ValueError as error:
            raise UsageError(f"{name}: cannot be read as a table: {error}") from error
        table.columns = pd.Index([str(column).strip() for column in table.columns])
        key = next((k for k in KEYS if k in table.columns), table.columns[0])
        others = [column for column in table.columns if column != key]
        if table.empty or not others:
            raise UsageError(
                f"{name}: needs one row per volume, and beside the column '{key}', which names "
                f"volumes, one with values; found {len(table)} rows and the columns "
                f"{', '.join(table.columns)}."
            )
        cells = {column: tuple(table[column].str.strip()) for column in others}
        return cls(name, tuple(table[key].str.strip()), cells)

    def rows(self, cohort: Cohort, role: str) -> list[int] | None:
        """Return the row of each volume; None where the table names none of them.

        A volume is named by its path in the cohort, by its file's name with or without ending, or
        by its subject.

        Raises
        ------
        UsageError
            Some volumes have a row and others have none, or one has two.
        """
        places = {key: place for place, key in enumerate(map(without_suffix, self.keys))}
        repeated = {
            key for key, count in Counter(map(without_suffix, self.keys)).items() if count > 1
        }
        stems = Counter(without_suffix(PurePosixPath(entry.name).name) for entry in cohort.entries)
        found: list[int | None] = []
        for entry in cohort.entries:
            stem = without_suffix(PurePosixPath(entry.name).name)
            names = [
                without_suffix(entry.name),
                *([stem] if stems[stem] == 1 else []),
                entry.subject,
            ]
            key = next((name for name in names if name in places), None)
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
        """Return a column's cells as numbers, or as text where one of them is not a number.

        Raises
        ------
        UsageError
            There is no such column.
        """
        if column not in self.columns:
            raise UsageError(
                f"{self.file}: no column '{column}'; {near_miss(column, self.columns)}"
            )
        return typed([self.columns[column][row] for row in rows])


def typed(cells: Sequence[str]) -> list[float | str | None]:
    """Return cells as numbers, or as text where one is not a number; None where absent."""
    present = [None if cell in ABSENT else cell for cell in cells]
    try:
        numbers = [None if cell is None else float(cell) for cell in present]
    except ValueError:
        return list(present)
    return [None if n is None or not math.isfinite(n) else n for n in numbers]
