"""Sidecars: the JSON file beside each sampled volume."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from synthbench.cohorts.volume_file import SUFFIXES
from synthbench.errors import UsageError

Sidecar = dict[str, Any]
"""The fields of a sidecar; empty where a volume has none."""


def sidecar_file(volume: Path) -> Path:
    """Return where the sidecar of a volume is: its name, with `.json` for the volume's suffix.

    >>> sidecar_file(Path("out/synth-000001.nii.gz")).as_posix()
    'out/synth-000001.json'
    """
    endings = [suffix for suffix in SUFFIXES if volume.name.endswith(suffix)]
    suffix = max(endings, key=len, default="")
    return volume.with_name(volume.name.removesuffix(suffix) + ".json")


def read_sidecar(volume: Path) -> Sidecar:
    """Return the sidecar of a volume that `synthbench sample` wrote.

    Raises
    ------
    UsageError
        The volume has no sidecar, or it holds no JSON object.
    """
    file = sidecar_file(volume)
    try:
        found = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise UsageError(
            f"{volume}: has no sidecar {file.name}, so nothing is known of it. Leave out what "
            "synthbench sample did not write."
        ) from error
    except ValueError as error:
        raise UsageError(_unreadable(file, str(error))) from error
    if not isinstance(found, dict):
        raise UsageError(_unreadable(file, f"a JSON object is needed; found {found!r:.40}"))
    return found


def _unreadable(file: Path, why: str) -> str:
    return f"{file}: not readable: {why}. Delete it: synthbench sample then draws its volume again."


def found_sidecars(volumes: Iterable[Path]) -> list[Sidecar]:
    """Return the sidecar of each volume, empty for a volume that has none to read.

    For volumes that may be of any program: nothing is raised.
    """
    found = []
    for volume in volumes:
        try:
            held = json.loads(sidecar_file(volume).read_text())
        except (OSError, ValueError):
            held = {}
        found.append(held if isinstance(held, dict) else {})
    return found
