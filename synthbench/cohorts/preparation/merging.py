"""Parts of a preparation that several jobs made: their record, and joining them.

A part holds the scans' rows in `scans.json`: their covariates, and what became of them. The tables
of the whole are written from the rows of all parts, by what writes those of an undivided run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict

from synthbench.cohorts.datasets.scans import Scan
from synthbench.cohorts.datasets.selection import Selection
from synthbench.cohorts.preparation.derivative import (
    Destination,
    check_no_volumes_but,
    json_bytes,
    table_bytes,
    write_covariates,
)
from synthbench.cohorts.preparation.settings import Settings
from synthbench.errors import CheckFailed, UsageError
from synthbench.runtime.callbacks import Progress, no_progress
from synthbench.runtime.documents import check_fields, json_fields
from synthbench.runtime.files import link_or_copy, write_atomic
from synthbench.runtime.lock import only_writer
from synthbench.runtime.part import Part, PartRecord, all_parts, check_own

FILE = "scans.json"

_FIX = "Repeat the command that writes this part."
_DESCRIBING = ("dataset_description.json", "DATA_USE_TERMS.txt")

Row = dict[str, Any]


def part_record(part: Part, source: str, found: Selection, settings: Settings) -> PartRecord:
    """Return the record of a part; all parts of a call have the same `call`.

    Parameters
    ----------
    source
        Name of the source, as the description of the derivative has it.
    found
        All scans of the call.
    """
    rows = found.rows.assign(path=[Path(path).name for path in found.rows["path"]])
    whole = [source, settings.digest, found.terms.as_text(), _columns(rows)]
    call = hashlib.sha256(json.dumps(whole).encode()).hexdigest()
    return PartRecord(
        verb="data prepare", part=part.number, of=part.of, call=call, run=None, options={}
    )


def scans_of(rows: pd.DataFrame) -> list[Scan]:
    """Return the scans that rows name."""
    texts = rows.reindex(columns=["path", "participant_id", "session", "run", "axes"])
    return [
        Scan(Path(path), person, *(v if isinstance(v, str) else None for v in (visit, run, axes)))
        for path, person, visit, run, axes in texts.itertuples(index=False)
    ]


# ---------------------------------------------------------------- the rows of a part


class _Column(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Literal["float64", "int64", "bool", "str", "object"]
    values: list[str | int | float | bool | None]


class _SummaryRow(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    scan: str
    status: Literal["ok", "failed"]
    reason: str | None
    brain_ml: float | None
    correlation_head: float | None
    correlation_brain: float | None
    noise_sd: float | None
    seconds: float | None
    kept: bool


class _Content(BaseModel):
    """What `scans.json` holds: the columns of the scans' rows, and the rows of the summary."""

    model_config = ConfigDict(extra="forbid", strict=True)

    columns: dict[str, _Column]
    summary: list[_SummaryRow]


@dataclass(frozen=True)
class PartTables:
    """The rows of the scans of a part.

    Attributes
    ----------
    rows
        As in `Selection`.
    summary
        The rows of `summary.tsv`, in the same order.
    """

    rows: pd.DataFrame
    summary: Sequence[Row]

    def write(self, folder: Path) -> None:
        """Write the rows into the folder of the part."""
        content = {"columns": _columns(self.rows), "summary": list(self.summary)}
        write_atomic(folder / FILE, json_bytes(content))

    @classmethod
    def read(cls, folder: Path) -> PartTables:
        """Return the rows that the folder of a part holds.

        Raises
        ------
        UsageError
            They cannot be read.
        """
        file = folder / FILE
        fields = json_fields(file, error=UsageError, fix=_FIX)
        found = check_fields(_Content, fields, file, error=UsageError, fix=_FIX)
        if any(len(one.values) != len(found.summary) for one in found.columns.values()):
            raise UsageError(f"{file}: its columns are not equally long. {_FIX}")
        try:
            columns = {n: pd.Series(c.values, dtype=c.kind) for n, c in found.columns.items()}
        except (ValueError, TypeError) as error:
            raise UsageError(f"{file}: values of a column are of another kind. {_FIX}") from error
        return cls(pd.DataFrame(columns), fields["summary"])


def _columns(rows: pd.DataFrame) -> dict[str, Row]:
    """Return columns with their kinds, so that they are read again as they were."""
    return {
        str(name): {
            "kind": str(column.dtype),
            "values": [None if pd.isna(value) else value for value in column.tolist()],
        }
        for name, column in rows.items()
    }


# ---------------------------------------------------------------- joining


def merge(parts: Sequence[Path], out: Path, *, progress: Progress = no_progress) -> pd.DataFrame:
    """Join the folders of all parts of a preparation, and return the summary.

    Files are linked where the file system can link them, and copied where not; the parts stay. The
    folder is that of the undivided run, to the byte but for seconds.

    Parameters
    ----------
    parts
        The folders of all parts, in any order.
    out
        A new folder, or one of an earlier call with the same parts.
    progress
        Called with (name, done, total) after each scan.

    Raises
    ------
    CheckFailed
        Scans had failed in the parts; the message names them. All others are merged.
    UsageError
        A part is missing, doubled, not finished, or of another call; a file of a scan is missing;
        or `out` holds something else. The message names it.
    """
    out = Path(out)
    found = all_parts([Path(part) for part in parts], out)
    tables = {folder: PartTables.read(folder) for folder, _ in found}
    moves = [move for folder, one in tables.items() for move in _moves(folder, one, out)]
    whole = PartTables(
        pd.concat([one.rows for one in tables.values()], ignore_index=True),
        [row for one in tables.values() for row in one.summary],
    )
    with only_writer(out):
        check_own(out, None)
        check_no_volumes_but(out, {target.volume for _, target in moves})
        for name in _DESCRIBING:
            link_or_copy(found[0][0] / name, out / name)
        for done, (made, target) in enumerate(moves, 1):
            target.folder.mkdir(parents=True, exist_ok=True)
            for file, place in zip(made.files, target.files, strict=True):
                link_or_copy(file, place)
            progress(target.name, done, len(moves))
        return write_tables(out, whole)


def _moves(
    folder: Path, tables: PartTables, out: Path
) -> Iterator[tuple[Destination, Destination]]:
    """Yield, for each prepared scan of a part, its places in the part and in the whole."""
    for scan, row in zip(scans_of(tables.rows), tables.summary, strict=True):
        if row["status"] != "ok":
            continue
        made = Destination.of(scan, folder)
        if made.name != row["scan"] or made.record() is None:
            raise UsageError(
                f"{folder}: files of the scan {row['scan']} are missing since this part was "
                f"written. {_FIX}"
            )
        yield made, Destination.of(scan, out)


def write_tables(out: Path, tables: PartTables) -> pd.DataFrame:
    """Write `summary.tsv` and the tables of the participants, and return the summary.

    Raises
    ------
    CheckFailed
        Scans failed; the message names them.
    """
    summary = pd.DataFrame(list(tables.summary))
    write_atomic(out / "summary.tsv", table_bytes(summary))
    good = (summary["status"] == "ok").to_numpy()
    if good.any():
        write_covariates(out, tables.rows[good])
    if not good.all():
        raise CheckFailed(_failures(summary[~good], len(summary), out))
    return summary


def _failures(failed: pd.DataFrame, total: int, out: Path) -> str:
    named = zip(failed["scan"][:20], failed["reason"][:20], strict=True)
    lines = "\n  ".join(f"{scan}: {reason}" for scan, reason in named)
    more = f"\n  and {len(failed) - 20} more" if len(failed) > 20 else ""
    return (
        f"{len(failed)} of {total} scans could not be prepared:\n  {lines}{more}\n"
        f"The others are in {out}; see {out / 'summary.tsv'}. Repeat the command to try again."
    )
