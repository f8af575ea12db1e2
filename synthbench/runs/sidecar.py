"""Sidecars: the JSON file beside each sampled volume."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from synthbench.errors import SynthbenchError, UsageError
from synthbench.runtime import tar
from synthbench.runtime.documents import check_fields, json_fields
from synthbench.volumes.grid import Space
from synthbench.volumes.image_file import without_suffix

Sidecar = dict[str, Any]
"""The fields of a sidecar; empty for a volume without one."""


class GridFields(BaseModel):
    """The grid that a run drew a volume on; the affine is 4 x 4, row by row."""

    model_config = ConfigDict(strict=True)

    shape: list[int] = Field(min_length=3, max_length=3)
    affine: list[float] = Field(min_length=16, max_length=16)

    @classmethod
    def of(cls, space: Space) -> dict[str, Any]:
        """Return the fields of a grid."""
        return cls(shape=list(space.shape), affine=list(space.affine)).model_dump()

    @property
    def space(self) -> Space:
        """The grid."""
        return Space.of(tuple(self.shape), np.array(self.affine))


class WatermarkFields(BaseModel):
    """The watermark of a volume (`synthbench.sampling.watermark`)."""

    model_config = ConfigDict(extra="allow", strict=True)

    version: int = Field(ge=1, lt=2**31)
    key_id: str = Field(pattern=r"^[0-9a-f]{12}$")


class SidecarFields(BaseModel):
    """The fields of a sidecar that are read; the others are kept as they are.

    Attributes
    ----------
    grid
        The grid that the run drew the volume on; None in sidecars of earlier versions.
    conditions
        The requested value of each condition; None where none was requested.
    watermark
        The version of the mark in the voxels, and which key it is of (never the key); None: none.
    extrapolated, drawn
        Names of the conditions beyond the training range, and of those that nobody chose.
    """

    model_config = ConfigDict(extra="allow", strict=True)

    synthetic: bool = False
    generator: str | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    weights_sha256: str | None = None
    grid: GridFields | None = None
    conditions: dict[str, float | str | None] | None = None
    extrapolated: list[str] = []
    drawn: list[str] = []
    seconds: float | None = None
    training_seconds: float | None = None
    training_energy_kwh: float | None = None
    parameters: int | None = Field(default=None, ge=0, lt=2**63)
    method: str | None = None
    training_seed: int | None = None
    random_fit: bool | None = None
    training_cohort: str | None = None
    licence: str | None = None
    software: str | None = None
    intensity: str | None = None
    unit: str | None = None
    watermark: WatermarkFields | None = None


_FIX = "Delete it: synthbench sample then draws its volume again."


def sidecar_file(volume: Path) -> Path:
    """Return the path of a volume's sidecar: its name with the suffix `.json`.

    >>> sidecar_file(Path("out/synth-000001.nii.gz")).as_posix()
    'out/synth-000001.json'
    """
    return volume.with_name(without_suffix(volume.name) + ".json")


def read_sidecar(volume: Path, needs: Iterable[str] = ()) -> Sidecar:
    """Return the sidecar of a volume that `synthbench sample` wrote.

    Parameters
    ----------
    needs
        Fields that must be there.

    Raises
    ------
    UsageError
        The volume has no sidecar, or the sidecar is not a JSON object, lacks a field, or has a
        wrong value in one.
    """
    file = sidecar_file(volume)
    if not _exists(file):
        raise UsageError(
            f"{volume}: has no sidecar {file.name}, so its origin is unknown. Use only volumes "
            "that synthbench sample wrote."
        )
    fields = json_fields(file, error=UsageError, fix=_FIX)
    check_fields(SidecarFields, fields, file, error=UsageError, fix=_FIX)
    for name in needs:
        if fields.get(name) is None:
            raise UsageError(f"{file}: {name} is missing. {_FIX}")
    return fields


def found_sidecars(volumes: Iterable[Path]) -> list[Sidecar]:
    """Return the sidecar of each volume, empty for a volume without a readable one.

    Any program may have written a JSON file beside a volume: one that cannot be read tells nothing.

    Raises
    ------
    UsageError
        A file says that it is a sidecar of synthbench (`synthetic`), and a field has a wrong value.
    """
    return [_found(sidecar_file(volume)) for volume in volumes]


def _exists(file: Path) -> bool:
    return file.exists() or tar.is_file(file)


def _found(file: Path) -> Sidecar:
    if not _exists(file):
        return {}
    try:
        fields = json_fields(file, error=UsageError, fix=_FIX)
    except SynthbenchError:
        return {}
    try:
        check_fields(SidecarFields, fields, file, error=UsageError, fix=_FIX)
    except SynthbenchError:
        if fields.get("synthetic"):
            raise
        return {}
    return fields


def drawn_by_synthbench(sidecars: Sequence[Sidecar], grid: Space) -> bool:
    """Return True where a run of synthbench drew all volumes, and `grid` is the run's.

    Then no header and no preparation can be at fault: what is odd about them, the generator did.
    False for volumes that were imported, and for sidecars of versions that did not state the grid.
    """
    return bool(sidecars) and all(_on_its_grid(sidecar, grid) for sidecar in sidecars)


def _on_its_grid(sidecar: Sidecar, grid: Space) -> bool:
    if not sidecar.get("synthetic") or "imported" in sidecar or sidecar.get("grid") is None:
        return False
    return GridFields(**sidecar["grid"]).space.same_grid(grid)
