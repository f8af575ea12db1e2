"""The folder of samples: its volumes, and its table of conditions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from synthbench.cohorts.conditions import MISSING, Row, cell
from synthbench.errors import UsageError
from synthbench.render import delimited
from synthbench.runs.sidecar import read_sidecar, sidecar_file
from synthbench.runtime.files import write_atomic
from synthbench.sampling.shards import sharded_volumes
from synthbench.volumes.image_file import is_volume


def write_conditions_table(file: Path, volumes: Sequence[Path]) -> None:
    """Write a TSV file with the conditions of each volume, from the sidecars.

    The columns are `file`, `seed`, the conditions in natural units, and `extrapolated`: the names
    of the conditions outside the training range. An empty cell is `n/a`.
    """
    needs = ("seed", "conditions")
    sidecars = [(volume.name, read_sidecar(volume, needs)) for volume in volumes]
    names = list(sidecars[0][1]["conditions"]) if sidecars else []
    lines = [["file", "seed", *names, "extrapolated"]]
    for name, about in sidecars:
        row, beyond = about["conditions"], ",".join(about.get("extrapolated", ()))
        lines.append([name, str(about["seed"]), *map(cell, map(row.get, names)), beyond or MISSING])
    write_atomic(file, delimited.lines(lines).encode())


def volumes_in(out: Path) -> list[Path]:
    """Return the volumes of a folder that have a sidecar: those that were written completely.

    Those of finished shards are among them (`synthbench.sampling.shards`).

    Raises
    ------
    UsageError
        A shard cannot be read.
    """
    single = sorted(f for f in out.glob("synth-*.nii.gz") if sidecar_file(f).is_file())
    return [*single, *sharded_volumes(out)]


def check_is_for_samples(out: Path) -> None:
    """Check that a folder holds nothing that samples would be mixed with.

    Raises
    ------
    UsageError
        It is a run folder, or a cohort: it has a participants.tsv or volumes of another origin.
    """
    if not out.is_dir():
        return
    names = sorted(file.name for file in out.iterdir() if is_volume(file))
    others = [name for name in names if not name.startswith(("synth-", "sweep-"))]
    others += [name for name in ("run.json", "participants.tsv") if (out / name).exists()]
    if others:
        raise UsageError(
            f"--out {out}: it holds {others[0]}, which is no sample, and samples would be mixed "
            "with it. Name a new folder."
        )


def count(n: int | None, table: Sequence[Row] | None) -> int:
    """Return the number of volumes: `n`, or one per row of the table.

    Raises
    ------
    UsageError
        There is neither.
    """
    if n is not None:
        return n
    if not table:
        raise UsageError("--n: give the number of volumes, or a table with --conditions.")
    return len(table)
