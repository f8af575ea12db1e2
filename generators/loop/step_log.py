"""Tables that grow while a run trains: one CSV row a step, or an event."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from synthbench.errors import RunError
from synthbench.runtime.files import write_atomic


class StepLog:
    """A CSV file whose first column is the step.

    Parameters
    ----------
    file
        Where it is.
    columns
        Their names, after `step`.
    root
        The folder of the run that `--resume` continues; None: that of the file.
    """

    def __init__(self, file: Path, columns: Sequence[str], root: Path | None = None) -> None:
        self.file = file
        self.root = root or file.parent
        self.columns = ("step", *columns)

    def keep(self, steps: int) -> None:
        """Keep the rows of the first `steps` steps: what a killed run wrote beyond is done again.

        A row that was cut short lies beyond them: rows are flushed before a checkpoint counts them.
        """
        rows = []
        if steps and self.file.is_file():
            for row in list(csv.reader(self.file.read_text().splitlines()))[1:]:
                if len(row) == len(self.columns) and row[0].isdigit() and int(row[0]) <= steps:
                    rows.append(",".join(row))
        write_atomic(self.file, ("\n".join([",".join(self.columns), *rows]) + "\n").encode())

    def append(self, rows: Iterable[Sequence[float]]) -> None:
        """Append rows (step first), down to the disk.

        Raises
        ------
        RunError
            They could not be written (a full disk).
        """
        lines = [f"{int(row[0])}," + ",".join(f"{value:.8g}" for value in row[1:]) for row in rows]
        try:
            with self.file.open("a") as file:
                file.writelines(f"{line}\n" for line in lines)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunError(
                f"{self.file}: could not be written ({error.strerror}). Make room on that disk, "
                f"then continue: synthbench train --resume --out {self.root}"
            ) from error
