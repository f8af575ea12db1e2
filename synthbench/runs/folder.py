"""The run folder: the files of a training run.

RUN/config.yaml          the resolved configuration
RUN/run.json             the record: cohort, environment, cost, state
RUN/loss.csv             one row per step (generators that train by steps)
RUN/weights.safetensors  the weights, for sampling
RUN/checkpoints/         checkpoints, for --resume
RUN/preview.png          a montage of samples from fixed seeds
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors import SafetensorError
from safetensors.numpy import load_file, save, save_file

from synthbench.errors import RunError
from synthbench.runtime.files import replacing, sha256_file, write_atomic
from synthbench.runtime.lock import content_of
from synthbench.volumes.grid import Space

SHIPPED = ("atlas",)
"""Runs that are part of the package, in generators/shipped: a user names them like a folder."""


def is_shipped(folder: Path | str) -> bool:
    """Return True for the name of a run of the package, unless there is such a file or folder.

    >>> is_shipped("atlas"), is_shipped("runs/atlas")
    (True, False)
    """
    return str(folder) in SHIPPED and not Path(folder).exists()


@dataclass(frozen=True)
class CheckpointWeights:
    """The weights of a run that has not finished, from its newest checkpoint.

    Attributes
    ----------
    arrays
        The weights by name, as the generator's `fit` would write them.
    step, seconds
        Optimizer steps of the last network, and the time that all of them took.
    stage
        The network that these steps trained; empty where there is only one.
    lacking
        The network that is not trained yet; empty where the run can be sampled from.
    """

    arrays: Mapping[str, np.ndarray]
    step: int
    seconds: float
    stage: str = ""
    lacking: str = ""

    @cached_property
    def sha256(self) -> str:
        """The sha256 that `weights.safetensors` with these weights would have."""
        return hashlib.sha256(save(_contiguous(self.arrays))).hexdigest()


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes
    ----------
    folder
        Path of the folder.
    part_of
        For a stage of a run, the folder of that run; None for a whole run.
    unfinished
        The weights to use in place of `weights.safetensors`, for a run that has not finished
        (`synthbench.generators.unfinished`); None: the file's.
    """

    folder: Path
    part_of: Path | None = None
    unfinished: CheckpointWeights | None = field(default=None, compare=False, repr=False)

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """Return an existing run folder, or a run of the package by its name (`SHIPPED`).

        Raises
        ------
        RunError
            The folder has no `config.yaml` or no `run.json`.
        """
        place: Any = folder
        if is_shipped(folder):
            place = files("synthbench.generators") / "shipped" / str(folder)
        run = cls(Path(place))
        for name in ("config.yaml", "run.json"):
            if not (run.folder / name).is_file():
                raise RunError(
                    f"{folder}: no run folder ({name} is missing). Train one first: "
                    f"synthbench train GENERATOR --out {folder}"
                )
        return run

    @property
    def root(self) -> Path:
        """The folder that `--resume` continues."""
        return self.part_of or self.folder

    def part(self, name: str) -> Run:
        """Return a stage of this run, in a folder of its own."""
        return Run(self.folder / name, part_of=self.root)

    def refuse_content(self, advice: str) -> None:
        """Raise where the folder holds anything but what a run left that was killed at its start.

        `config.yaml` comes last, so without it nothing of a run is of use.

        Raises
        ------
        RunError
            There is something else. `advice` begins the end of the message.
        """
        early: set[str] = set()
        if not (self.folder / "config.yaml").is_file():
            early = {"atlas", "run.json"}
            if (self.folder / "run.json").is_file():  # alone, weights may be anybody's
                early.add(self.weights_file.name)
        if content_of(self.folder) - early:
            raise RunError(
                f"{self.folder}: already there and not empty. {advice} another folder with --out."
            )

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        try:
            loaded = yaml.safe_load((self.folder / "config.yaml").read_text())
        except yaml.YAMLError as error:
            raise RunError(f"{self.folder / 'config.yaml'}: not readable: {error}") from error
        return dict(loaded)

    @property
    def record(self) -> dict[str, Any]:
        """The fields of `run.json`."""
        try:
            return dict(json.loads((self.folder / "run.json").read_text()))
        except ValueError as error:
            raise RunError(f"{self.folder / 'run.json'}: not readable: {error}") from error

    @property
    def space(self) -> Space:
        """The grid of its training volumes, which is that of what it samples."""
        space = self.record["space"]
        return Space.of(space["shape"], np.array(space["affine"]).reshape(4, 4))

    @property
    def weights_file(self) -> Path:
        """Path of the weights."""
        return self.folder / "weights.safetensors"

    @property
    def weights_sha256(self) -> str | None:
        """The sha256 of the weights that `load_weights` returns; None where there are none."""
        if self.unfinished is not None:
            return self.unfinished.sha256
        known: str | None = self.record.get("weights_sha256")
        return known

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / "checkpoints"

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the resolved configuration."""
        text = yaml.safe_dump(dict(config), sort_keys=False)
        write_atomic(self.folder / "config.yaml", text.encode())

    def update(self, **fields: Any) -> None:
        """Merge fields into `run.json`."""
        old = self.record if (self.folder / "run.json").is_file() else {}
        text = json.dumps({**old, **fields}, indent=1)
        write_atomic(self.folder / "run.json", text.encode())

    def save_weights(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write `weights.safetensors`, complete or not at all, and its sha256 into the record."""
        with replacing(self.weights_file) as temporary:
            save_file(_contiguous(arrays), temporary)
        self.update(weights_sha256=sha256_file(self.weights_file))

    def load_weights(self) -> dict[str, np.ndarray]:
        """Return the arrays of `weights.safetensors`, or those of `unfinished`, by name.

        Raises
        ------
        RunError
            There are no weights yet, or their sha256 is not that of the record.
        """
        if self.unfinished is not None:
            return dict(self.unfinished.arrays)
        if not self.weights_file.is_file():
            raise RunError(
                f"{self.folder}: no weights.safetensors: training has not finished. "
                f"Continue it: synthbench train --resume --out {self.folder}"
            )
        expected = self.record.get("weights_sha256")
        actual = sha256_file(self.weights_file)
        if actual != expected:
            raise RunError(
                f"{self.weights_file}: its sha256 is {actual[:12]}..., run.json says "
                f"{str(expected)[:12]}.... The file was changed or is incomplete."
            )
        try:
            return dict(load_file(self.weights_file))
        except SafetensorError as error:
            raise RunError(f"{self.weights_file}: not readable: {error}") from error


def _contiguous(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(values) for name, values in arrays.items()}


def environment() -> dict[str, Any]:
    """Return the machine and the versions of the libraries, for the run's record."""
    import torch

    packages = ("torch", "monai", "diffusers", "accelerate", "numpy", "scipy", "nibabel")
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packages": {name: version(name) for name in ("synthbench", *packages)},
    }
