"""Training volumes as rows of one memory-mapped file: each is prepared once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Float32

from synthbench.cohorts.cohort import Volumes
from synthbench.errors import RunError
from synthbench.generators.generator import Progress
from synthbench.runtime.arrays import read_npy
from synthbench.runtime.documents import read_json
from synthbench.runtime.files import write_atomic
from synthbench.runtime.rows_file import RowsFile

REMOVE = "Delete it: it is then written again."


def holds(file: Path, key: Mapping[str, Any]) -> bool:
    """Return True where a file says that the one beside it is complete, and of this key."""
    if not file.is_file():
        return False
    return bool(read_json(file, error=RunError, fix=REMOVE) == key)


class VolumeCache:
    """Context manager: the volumes of a cohort as `Float32[n voxels]`, on disk.

    The file is in the run folder, and is removed on a clean exit. A complete file that a killed
    process left is used again for the same cohort and space. Memory does not grow with the number
    of volumes, and all processes of a machine share it.

    Parameters
    ----------
    volumes
        The volumes to store.
    folder
        Folder of the file.
    progress
        Called after each volume while the file is filled.
    fill
        True: this process fills the file. With several processes, one of them does.
    """

    def __init__(
        self, volumes: Volumes, folder: Path, progress: Progress | None = None, fill: bool = True
    ) -> None:
        self.file = folder / "volumes.npy"
        self.ready = folder / "volumes.json"
        self.key = {
            "cohort": volumes.cohort.fingerprint,
            "space": volumes.space.digest,
            "intensity": volumes.intensity,
        }
        self.fill = fill
        if fill and not holds(self.ready, self.key):
            self.ready.unlink(missing_ok=True)
            shape = (len(volumes), int(np.prod(volumes.space.shape)))
            with RowsFile(self.file, shape) as rows:
                for index, volume in enumerate(volumes):
                    rows.write(volume.ravel())
                    if progress:
                        progress(index + 1, len(volumes), "reading")
            write_atomic(self.ready, json.dumps(self.key).encode())

    def __enter__(self) -> Float32[np.ndarray, "n voxels"]:
        return read_npy(self.file, error=RunError, fix=REMOVE, mapped=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.fill and kind is None:
            self.ready.unlink(missing_ok=True)
            self.file.unlink(missing_ok=True)
