"""The conditions that were requested of each synthetic volume, from sidecars or a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthbench.cohorts.cohort import Cohort
from synthbench.cohorts.volume_table import VolumeTable
from synthbench.errors import UsageError
from synthbench.runtime.tar import folder_of

TABLE = "conditions.tsv"
"""The table that `synthbench sample` writes beside its volumes."""

NOT_CONDITIONS = ("seed", "extrapolated")
"""Columns of that table that are no conditions."""


@dataclass(frozen=True)
class Requested:
    """The conditions that were requested of each synthetic volume.

    Attributes
    ----------
    source
        The table or the sidecars that say it.
    columns
        By condition, one value per volume; None where nothing was requested.
    extrapolated
        For each volume, the conditions that lie beyond the training range; None where the source
        does not say.
    """

    source: str
    columns: Mapping[str, list[float | str | None]]
    extrapolated: tuple[frozenset[str], ...] | None = None


def requested_of(
    synth: Cohort, sidecars: Sequence[Mapping[str, Any]], file: Path | None = None
) -> Requested | None:
    """Return what was requested of each synthetic volume.

    Parameters
    ----------
    synth
        The volumes.
    sidecars
        Of all volumes, in their order; empty where there are none.
    file
        The user's table, which takes precedence: one column per condition, and one that names
        the volume (`synthbench.cohorts.volume_table`).

    Returns
    -------
    What the table says, else the sidecars, else a `conditions.tsv` beside the volumes; None where
    none of them says it.

    Raises
    ------
    UsageError
        The table does not name every volume, or only some sidecars hold conditions.
    """
    if file is not None:
        return _from_table(VolumeTable.read(Path(file), "--conditions"), synth, Path(file).name)
    given = [sidecar.get("conditions") for sidecar in sidecars]
    having = sum(bool(conditions) for conditions in given)
    if having:
        if having < len(given):
            raise UsageError(
                f"synth: {having} of {len(given)} sidecars hold the requested conditions. Score "
                "volumes of one origin, or name the conditions: --conditions FILE"
            )
        return _from_sidecars(sidecars)
    tables = sorted({folder_of(entry.path) / TABLE for entry in synth.entries})
    if len(tables) == 1 and tables[0].is_file():
        return _from_table(VolumeTable.read(tables[0], "conditions"), synth, TABLE)
    return None


def _from_sidecars(sidecars: Sequence[Mapping[str, Any]]) -> Requested:
    names = dict.fromkeys(name for sidecar in sidecars for name in sidecar["conditions"])
    columns: dict[str, list[float | str | None]] = {name: [] for name in names}
    for sidecar in sidecars:
        for name, column in columns.items():
            value = sidecar["conditions"].get(name)
            column.append(value if value is None or isinstance(value, str) else float(value))
    beyond = tuple(frozenset(sidecar.get("extrapolated") or ()) for sidecar in sidecars)
    return Requested("sidecars", columns, beyond)


def _from_table(table: VolumeTable, synth: Cohort, source: str) -> Requested:
    rows = table.rows(synth, "synth")
    if rows is None:
        raise UsageError(
            f"{table.file}: names none of the synthetic volumes (its first row is "
            f"'{table.keys[0]}', the first volume '{synth.entries[0].name}'). Name them by file "
            "or by participant_id."
        )
    columns = {
        name: table.values(name, rows) for name in table.columns if name not in NOT_CONDITIONS
    }
    columns = {n: column for n, column in columns.items() if any(v is not None for v in column)}
    beyond = None
    if "extrapolated" in table.columns:
        cells = table.columns["extrapolated"]
        beyond = tuple(
            frozenset(word for word in cells[row].replace(";", ",").replace(",", " ").split()
                      if word in columns)
            for row in rows
        )  # fmt: skip
    return Requested(source, columns, beyond)
