"""Sidecars: the JSON file beside each sampled volume."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from synthbench.errors import UsageError
from synthbench.volumes.image_file import without_suffix

Sidecar = dict[str, Any]
"""The fields of a sidecar; empty for a volume without one."""


def sidecar_file(volume: Path) -> Path:
    """Return the path of a volume's sidecar: its name with the suffix `.json`.

    >>> sidecar_file(Path("out/synth-000001.nii.gz")).as_posix()
    'out/synth-000001.json'
    """
    return volume.with_name(without_suffix(volume.name) + ".json")


def read_sidecar(volume: Path) -> Sidecar:
    """Return the sidecar of a volume that `synthbench sample` wrote.

    Raises
    ------
    UsageError
        The volume has no sidecar, or the sidecar is not a JSON object.
    """
    file = sidecar_file(volume)
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(
            f"{volume}: has no sidecar {file.name}, so its origin is unknown. Use only volumes "
            "that synthbench sample wrote."
        ) from error
    except ValueError as error:
        raise UsageError(_unreadable(file, str(error))) from error
    if not isinstance(fields, dict):
        raise UsageError(_unreadable(file, f"a JSON object is needed; found {fields!r:.40}"))
    return fields


def _unreadable(file: Path, reason: str) -> str:
    return (
        f"{file}: not readable: {reason}. Delete it: synthbench sample then draws its volume again."
    )


def found_sidecars(volumes: Iterable[Path]) -> list[Sidecar]:
    """Return the sidecar of each volume, empty for a volume without a readable one.

    Any program may have written the volumes, so nothing is raised.
    """
    sidecars = []
    for volume in volumes:
        try:
            fields = json.loads(sidecar_file(volume).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            fields = {}
        sidecars.append(fields if isinstance(fields, dict) else {})
    return sidecars
