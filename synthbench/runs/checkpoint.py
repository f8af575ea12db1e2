"""The checkpoints of a run as files: which are complete, and the averaged weights in them.

`synthbench.generators.loop.checkpoints` writes them. Here they are read without torch, so that a
run that has not finished can be sampled from and started from.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from synthbench.errors import RunError
from synthbench.runs.folder import FIX, Run
from synthbench.runtime.arrays import read_safetensors
from synthbench.runtime.documents import check_fields, json_fields
from synthbench.runtime.files import sha256_file

log = logging.getLogger("synthbench")


class StateFields(BaseModel):
    """The fields of `state.json`; a newer version may write more."""

    model_config = ConfigDict(extra="allow", strict=True)

    step: int = Field(ge=0, lt=2**53)
    seconds: float
    volumes_a_step: int = Field(default=1, ge=1, lt=2**53)
    best_step: int | None = None
    best_score: float | None = None
    best_of: str | None = None
    looked: int | None = None
    smoothed: float | None = None
    sha256: dict[str, str]


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    Attributes
    ----------
    folder
        Its folder.
    fields
        The fields of its `state.json`, without the hashes.
    """

    folder: Path
    fields: Mapping[str, Any]

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(self.fields["step"])

    @property
    def seconds(self) -> float:
        """Time spent in training so far."""
        return float(self.fields["seconds"])

    def averaged(self) -> dict[str, np.ndarray]:
        """Return the averaged weights by name."""
        return read_safetensors(self.folder / "ema.safetensors", error=RunError, fix=FIX)


def complete(run: Run) -> Iterator[Checkpoint]:
    """Yield the complete checkpoints of a run, the newest first; a damaged one gives a warning."""
    for folder in sorted(run.checkpoints.glob("step-*"), reverse=True):
        try:
            file = folder / "state.json"
            fields: dict[str, Any] = json_fields(file, error=RunError, fix="")
            check_fields(StateFields, fields, file, error=RunError, fix="")
            for part, expected in fields.pop("sha256").items():
                if not part.isidentifier():
                    raise RunError(f"{part!r} is not the name of a part")
                if sha256_file(folder / f"{part}.safetensors") != expected:
                    raise RunError(f"{part}.safetensors has changed since it was written")
            found = Checkpoint(folder, fields)
        except (OSError, RunError) as error:
            log.warning("%s is damaged (%s): using the checkpoint before it", folder, error)
            continue
        yield found


def newest(run: Run) -> Checkpoint | None:
    """Return the newest complete checkpoint of a run; None where there is none."""
    return next(complete(run), None)


def last_good(run: Run) -> tuple[Checkpoint, dict[str, np.ndarray]] | None:
    """Return the newest complete checkpoint whose averaged weights are finite, and these weights.

    None where there is none.
    """
    for found in complete(run):
        averaged = found.averaged()
        if all(np.isfinite(values).all() for values in averaged.values()):
            return found, averaged
        log.warning("%s: its weights are not finite: using the checkpoint before it", found.folder)
    return None
