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
from typing import Any, TypeVar

import numpy as np
import yaml
from pydantic import BaseModel
from safetensors.numpy import save, save_file

from synthbench.errors import RunError
from synthbench.runs.record import ConfigFields, RunFields
from synthbench.runs.validation import by_names_of_today
from synthbench.runtime.arrays import read_safetensors
from synthbench.runtime.documents import check_fields, json_fields, yaml_fields
from synthbench.runtime.files import replacing, sha256_file, write_atomic
from synthbench.runtime.lock import content_of
from synthbench.volumes.grid import Space

Settings = TypeVar("Settings", bound=BaseModel)

FIX = "Copy the run folder again from where it was trained, or train it again."
"""What to do with a run folder that cannot be read."""

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
            The folder has no `config.yaml` or no `run.json`, or one of them cannot be read or
            lacks what each run has.
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
        record = run.record
        lacking = [name for name in RunFields.WHOLE if record.get(name) is None]
        if lacking:
            raise RunError(f"{run.folder / 'run.json'}: {lacking[0]} is missing. {FIX}")
        if run.config.get("generator") is None:
            raise RunError(f"{run.folder / 'config.yaml'}: generator is missing. {FIX}")
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
        """The resolved configuration.

        Raises
        ------
        RunError
            `config.yaml` cannot be read, or a field has a wrong value.
        """
        file = self.folder / "config.yaml"
        fields = yaml_fields(file, error=RunError, fix=FIX)
        check_fields(ConfigFields, fields, file, error=RunError, fix=FIX)
        return fields

    def settings(self, model: type[Settings]) -> Settings:
        """Return the part of the configuration that a model of settings knows.

        A run of an earlier version lacks newer settings; their defaults are what it did.

        Raises
        ------
        RunError
            `config.yaml` cannot be read, or a setting has a wrong value.
        """
        config = by_names_of_today(model, self.config)
        own = {name: config[name] for name in model.model_fields if name in config}
        return check_fields(model, own, self.folder / "config.yaml", error=RunError, fix=FIX)

    @property
    def record(self) -> dict[str, Any]:
        """The fields of `run.json`.

        Raises
        ------
        RunError
            It cannot be read, or a field has a wrong value.
        """
        file = self.folder / "run.json"
        fields = json_fields(file, error=RunError, fix=FIX)
        check_fields(RunFields, fields, file, error=RunError, fix=FIX)
        return fields

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

    def load_weights(self) -> Weights:
        """Return the arrays of `weights.safetensors`, or those of `unfinished`, by name.

        Raises
        ------
        RunError
            There are no weights yet, or their sha256 is not that of the record.
        """
        if self.unfinished is not None:
            return Weights(self.unfinished.arrays, self.checkpoints)
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
        return Weights(
            read_safetensors(self.weights_file, error=RunError, fix=FIX), self.weights_file
        )


class Weights(dict[str, np.ndarray]):
    """The arrays of a run by name; a RunError names one that is missing or has another form.

    Parameters
    ----------
    arrays
        The arrays.
    file
        The file that they come from, for messages.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], file: Path) -> None:
        super().__init__(arrays)
        self.file = file

    def __missing__(self, name: str) -> np.ndarray:
        raise RunError(f"{self.file}: the array '{name}' is missing. {FIX}")

    def array(self, name: str, *sides: int | None, kinds: str = "f") -> np.ndarray:
        """Return an array of finite numbers.

        Parameters
        ----------
        sides
            Its shape; None: any length but 0.
        kinds
            NumPy's letters for the kinds of its numbers.

        Raises
        ------
        RunError
            It is missing, has another shape or kind, or holds NaN or infinity.
        """
        found = self[name]
        fits = len(found.shape) == len(sides) and all(
            size == side or (side is None and size)
            for size, side in zip(found.shape, sides, strict=True)
        )
        if not fits or found.dtype.kind not in kinds or not np.isfinite(found).all():
            wanted = " x ".join("n" if side is None else str(side) for side in sides)
            raise RunError(
                f"{self.file}: the array '{name}' must hold {wanted} finite numbers; found "
                f"{found.dtype} of shape {found.shape}. {FIX}"
            )
        return found


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
