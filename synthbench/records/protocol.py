"""The record of a protocol: every setting that can change a number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

import numpy as np
from jaxtyping import Bool, Float32
from pydantic import Field

from synthbench.cohorts.cohort import BACKGROUND_MARGIN_MM, MASK_LEVEL, within_margin
from synthbench.metrics.metric import IntervalMethod
from synthbench.records.base import Record
from synthbench.volumes.grid import Space
from synthbench.volumes.intensity import Intensity, intensity_words


class GridRecord(Record):
    """A grid in RAS+ millimetres."""

    shape: tuple[int, int, int]
    affine: tuple[float, ...]


class ExtractorRecord(Record):
    """An extractor, identified to the byte."""

    name: str
    weights_sha256: str | None
    preprocessing: str
    layer: str
    dim: int
    grid: GridRecord | None = Field(default=None, description="its own; None: the common grid")

    @property
    def label(self) -> str:
        """Name and the first eight digits of the weights' sha256."""
        return f"{self.name}@{(self.weights_sha256 or 'no-weights')[:8]}"


class SpaceRecord(Record):
    """The grid and the intensity rule that all volumes were brought to."""

    shape: tuple[int, int, int]
    affine: tuple[float, ...]
    intensity: Intensity
    scaling: str = Field(description="the intensity rule in words")
    resampling: str = "Gaussian antialiasing, linear"

    @classmethod
    def of(cls, grid: Space, intensity: Intensity) -> Self:
        """Return the record of a grid and an intensity rule."""
        return cls(
            shape=grid.shape, affine=grid.affine, intensity=intensity,
            scaling=intensity_words(intensity),
        )  # fmt: skip

    @property
    def grid(self) -> Space:
        """The grid."""
        return Space(self.shape, self.affine)


class MaskRecord(Record):
    """The mask, frozen from the real cohort."""

    rule: str
    voxels: int
    sha256: str


class BackgroundRecord(Record):
    """The voxels outside the mask that are set to zero before any extractor.

    Networks that standardise over "voxels above zero" take faint noise in an empty background for
    tissue: a few specks of it decide the distance of features.
    """

    margin_mm: float = Field(
        default=BACKGROUND_MARGIN_MM, ge=0, description="farther from the mask, all are zero"
    )
    level: float = Field(
        default=MASK_LEVEL, ge=0, description="nearer, those up to this share of the scale are zero"
    )

    def threshold(
        self, mask: Bool[np.ndarray, "d h w"], space: Space
    ) -> Float32[np.ndarray, "d h w"]:
        """Return what a voxel must exceed to be seen: 0 in the mask, infinity beyond the margin."""
        near = within_margin(mask, space, self.margin_mm)
        return np.where(mask, 0, np.where(near, self.level, np.inf)).astype(np.float32)

    @staticmethod
    def threshold_of(
        rule: BackgroundRecord | None, mask: Bool[np.ndarray, "d h w"], space: Space
    ) -> Float32[np.ndarray, "d h w"] | None:
        """Return the threshold of a rule; None without one."""
        return None if rule is None else rule.threshold(mask, space)

    @property
    def words(self) -> str:
        """The rule in words."""
        return (
            f"for extractors, voxels outside the mask are zero up to {self.level:g}, and all that "
            f"are farther than {self.margin_mm:g} mm from it"
        )


class Protocol(Record):
    """Every setting that can change a number.

    `settings` holds the settings that each metric froze on the real cohort, by `JobKey`: a
    kernel's formula and bandwidth, the window and the scales of MS-SSIM.
    """

    space: SpaceRecord
    mask: MaskRecord
    extractors: tuple[ExtractorRecord, ...]
    settings: dict[str, dict[str, Any]]
    intervals: dict[str, IntervalMethod] = Field(description="method of each metric")
    level: float
    resamples: int
    floor_splits: int
    permutations: int
    seed: int
    n_real: int
    n_synth: int
    background: BackgroundRecord | None = Field(
        default=None,
        description="what extractors do not see; None: nothing, the rule of older protocols",
    )
    version: Literal[1] = 1

    @property
    def hash(self) -> str:
        """The first 12 hexadecimal digits of the sha256 of this protocol as sorted JSON."""
        fields = self.model_dump(mode="json")
        # Older protocols, which had neither of these, must keep their hash.
        if fields["background"] is None:
            del fields["background"]
        for extractor in fields["extractors"]:
            if extractor["grid"] is None:
                del extractor["grid"]
        return settings_hash(fields)

    def leaves(self) -> dict[tuple[str, ...], Any]:
        """Return every setting as a JSON value, by its path; extractors by their names."""
        fields = self.model_dump(mode="json")
        fields["extractors"] = {extractor["name"]: extractor for extractor in fields["extractors"]}
        return dict(_leaves(fields, ()))


ABSENT = "absent"
"""The value of a setting that one of two protocols does not have."""


def differing(first: Protocol, second: Protocol) -> dict[tuple[str, ...], tuple[Any, Any]]:
    """Return every setting in which two protocols differ, by its path: both values, or `ABSENT`."""
    one, other = first.leaves(), second.leaves()
    pairs = {
        path: (one.get(path, ABSENT), other.get(path, ABSENT))
        for path in dict.fromkeys([*one, *other])
    }
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    else:
        yield path, value


def settings_hash(fields: Mapping[str, Any]) -> str:
    """Return the first 12 hexadecimal digits of the sha256 of settings as sorted JSON."""
    text = json.dumps(fields, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
