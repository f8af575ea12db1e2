"""The folder that samples are written into."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from synthbench.cohorts.conditions import MISSING, Row, cell
from synthbench.errors import UsageError
from synthbench.runs.sidecar import read_sidecar, sidecar_file
from synthbench.runtime.files import write_atomic


def write_conditions_table(file: Path, volumes: Sequence[Path]) -> None:
    """Write a TSV of what was asked of each volume, from the sidecars.

    The columns are `file`, `seed`, the conditions in natural units, and `extrapolated`: the names
    of those outside the training range. What there is none of is `n/a`.
    """
    sidecars = [(volume.name, read_sidecar(volume)) for volume in volumes]
    names = list(sidecars[0][1]["conditions"]) if sidecars else []
    lines = [["file", "seed", *names, "extrapolated"]]
    for name, about in sidecars:
        row, beyond = about["conditions"], ",".join(about["extrapolated"])
        lines.append([name, str(about["seed"]), *map(cell, map(row.get, names)), beyond or MISSING])
    write_atomic(file, "".join("\t".join(line) + "\n" for line in lines).encode())


def volumes_in(out: Path) -> list[Path]:
    """The volumes of a folder that were written to the end, with their sidecars."""
    return sorted(f for f in out.glob("synth-*.nii.gz") if sidecar_file(f).is_file())


def count(n: int | None, table: Sequence[Row] | None) -> int:
    if n is not None:
        return n
    if not table:
        raise UsageError("--n: say how many volumes, or name a table with --conditions.")
    return len(table)
