"""The checkpoints of a run as files: which are complete, and the averaged weights in them.

`synthbench.generators.loop.checkpoints` writes them. Here they are read without torch, so that a
run that has not finished can be sampled from and started from.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from synthbench.runs.folder import Run
from synthbench.runtime.files import sha256_file

log = logging.getLogger("synthbench")


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
        return dict(load_file(self.folder / "ema.safetensors"))


def complete(run: Run) -> Iterator[Checkpoint]:
    """Yield the complete checkpoints of a run, the newest first; a damaged one gives a warning."""
    for folder in sorted(run.checkpoints.glob("step-*"), reverse=True):
        try:
            fields: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            for part, expected in fields.pop("sha256").items():
                if not part.isidentifier():
                    raise ValueError(f"{part!r} is not the name of a part")
                if sha256_file(folder / f"{part}.safetensors") != expected:
                    raise ValueError(f"{part}.safetensors has changed since it was written")
            found = Checkpoint(folder, fields)
            _ = found.step, found.seconds
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
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
