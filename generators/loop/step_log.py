"""CSV tables that grow while a run trains: one row per step, or per event."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from synthbench.errors import RunError
from synthbench.runtime.documents import read_text
from synthbench.runtime.files import write_atomic


class StepLog:
    """A CSV file whose first column is the step.

    Parameters
    ----------
    file
        Path of the file.
    columns
        Names of the columns after `step`.
    root
        The run folder that `--resume` continues; None: the folder of the file.
    """

    def __init__(self, file: Path, columns: Sequence[str], root: Path | None = None) -> None:
        self.file = file
        self.root = root or file.parent
        self.columns = ("step", *columns)

    def keep(self, steps: int) -> None:
        """Keep only the rows of the first `steps` steps: a resumed run does later steps again.

        Rows are on disk before the checkpoint of their steps is. So a row that was cut short
        belongs to a later step.
        """
        rows = []
        if steps and self.file.is_file():
            text = read_text(self.file, error=RunError, fix="Delete it to go on without it.")
            for row in (line.split(",") for line in text.splitlines()[1:]):
                if len(row) == len(self.columns) and row[0].isdigit() and int(row[0]) <= steps:
                    rows.append(",".join(row))
        write_atomic(self.file, ("\n".join([",".join(self.columns), *rows]) + "\n").encode())

    def append(self, rows: Iterable[Sequence[float]]) -> None:
        """Append rows, each with its step first, and wait until they are on disk.

        Raises
        ------
        RunError
            The rows could not be written (a full disk).
        """
        lines = [f"{int(row[0])}," + ",".join(f"{value:.8g}" for value in row[1:]) for row in rows]
        try:
            with self.file.open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunError(
                f"{self.file}: could not be written ({error.strerror}). Make room on that disk, "
                f"then continue: synthbench train --resume --out {self.root}"
            ) from error
