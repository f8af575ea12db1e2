"""The settings that a score depends on, and the context that it does not depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator

from synthbench.errors import UsageError, near_miss
from synthbench.metrics.metric import IntervalMethod
from synthbench.records.base import Record
from synthbench.records.protocol import BackgroundRecord, GridRecord, Protocol, SpaceRecord
from synthbench.runtime.callbacks import Log, Progress, no_progress, to_logger
from synthbench.scoring.cache.pairs import PairSums
from synthbench.scoring.cache.parts import AllParts
from synthbench.scoring.cache.store import Cache
from synthbench.volumes.grid import Space
from synthbench.volumes.intensity import Intensity

DEFAULT_EXTRACTOR = "medicalnet-resnet50-23dataset"
DEFAULT_METRICS = (
    "mmd2", "fid", "kid", "precision", "recall", "density", "coverage", "ms_ssim", "spectrum",
    "intensity", "memorization", "local_copying", "mmd_linear", "g4r_ssim",
)  # fmt: skip
"""The metrics of a scoring that names none.

A fixed list: an installed plugin does not change the protocol of those who have it. Each change of
it changes the hash of default protocols, and belongs into CHANGELOG.md under "Numbers".
"""
DEFAULT = "default"
"""Stands for all of them beside a plugin's metric: `--metric default --metric mine`."""


@dataclass(frozen=True)
class Context:
    """The resources and callbacks of some work: no number depends on any of them.

    Attributes
    ----------
    workers
        Threads that read and resample volumes ahead.
    batch_size
        Volumes that an extractor gets at once; None: one on a GPU, on a CPU one per thread.
    cache
        The cache of features and of sample data. The default is the user's, in the folder that
        the environment names when the context is made; None: no cache.
    progress
        Called with (what, done, total).
    log
        Called with one sentence for the user.
    networks
        The SHA-256 of network files (`net:`, `slices:`) that a benchmark may name.
    parts
        The features that other jobs computed, of all volumes; None: they are computed.
    pairs
        Where the sums over pairs of large sets are kept; None: nowhere.
    """

    workers: int = 2
    batch_size: int | None = None
    cache: Cache | None = field(default_factory=Cache)
    progress: Progress = no_progress
    log: Log = to_logger
    networks: frozenset[str] = frozenset()
    parts: AllParts | None = None
    pairs: PairSums | None = None


class ScoringSettings(Record):
    """All settings that a user chooses and a protocol freezes.

    `score`, `freeze` and `sensitivity` take the same settings.

    Attributes
    ----------
    extractors
        Names in the registry.
    metrics
        Names in the registry, where `default` stands for all of `DEFAULT_METRICS`; None: those.
    space
        The common grid: "same" (all volumes have one grid already), "real" or "synth" (the other
        cohorts are resampled to it, antialiased), or a grid.
    intensity
        The rule that brings volumes to [0, 1], from
        `synthbench.volumes.intensity.INTENSITY_RULES`.
    intervals
        One interval method for all metrics, or a method by metric; a metric that is not named
        has its default.
    scales
        Number of scales of `ms_ssim`, 1 to 5; None: its own, three.
    index
        True: an index finds the nearest images for precision, recall, density and coverage, where
        a set has more than `synthbench.metrics.blocked.index.INDEX_SET` images. It misses some.
    resamples, level, seed
        Of the bootstrap: number of resamples, nominal coverage in (0, 1), and seed.
    background
        The voxels outside the mask that extractors do not see: faint noise there would decide
        the distance of features (docs/numbers.md). None: they see all, the rule of older
        protocols.
    """

    extractors: tuple[str, ...] = (DEFAULT_EXTRACTOR,)
    metrics: tuple[str, ...] | None = None
    space: Literal["same", "real", "synth"] | Space = "same"
    intensity: Intensity = "percentile"
    intervals: IntervalMethod | dict[str, IntervalMethod] = Field(default_factory=dict)
    scales: int | None = Field(default=None, ge=1, le=5)
    index: bool = False
    resamples: int = 1000
    level: float = 0.95
    seed: int = 0
    background: BackgroundRecord | None = BackgroundRecord()

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> Self:
        """Return settings from values by name.

        Raises
        ------
        UsageError
            There is no setting of such a name (the message names the nearest), or the value is
            not allowed.
        """
        for name in values:
            if name not in cls.model_fields:
                raise UsageError(f"no setting '{name}': {near_miss(name, cls.model_fields)}")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            reason = first["msg"].removeprefix("Value error, ")
            raise UsageError(f"{first['loc'][0]}={first['input']!r}: {reason}.") from error

    @classmethod
    def of(cls, protocol: Protocol) -> Self:
        """Return the settings that a protocol was frozen with."""
        return cls(
            extractors=tuple(extractor.name for extractor in protocol.extractors),
            metrics=tuple(protocol.intervals),
            space=protocol.space.grid,
            intensity=protocol.space.intensity,
            intervals=protocol.intervals,
            scales=_scales(protocol),
            index=any(one.get("neighbours") == "index" for one in protocol.settings.values()),
            resamples=protocol.resamples,
            level=protocol.level,
            seed=protocol.seed,
            background=protocol.background,
        )

    @field_validator("extractors", "metrics", mode="before")
    @classmethod
    def _not_one_name(cls, names: Any) -> Any:
        # A string is a sequence too: each letter would be taken for a name.
        if isinstance(names, str):
            raise ValueError(f"a list of names is needed, such as [{names!r}]")
        return names

    @field_validator("space", mode="before")
    @classmethod
    def _grid_of_a_record(cls, space: Any) -> Any:
        # Files hold a grid alone, or with the intensity rule, which here is a separate setting.
        if not isinstance(space, Mapping):
            return space
        record = (SpaceRecord if "intensity" in space else GridRecord).model_validate(space)
        return Space(record.shape, record.affine)

    def interval_of(self, metric: str) -> IntervalMethod | None:
        """Return the interval method that was chosen for a metric; None: the metric's default."""
        return self.intervals.get(metric) if isinstance(self.intervals, dict) else self.intervals

    def grid(self, real: Space) -> Space:
        """Return the common grid where there are only real volumes, on the grid `real`.

        Raises
        ------
        UsageError
            The grid of synthetic volumes was chosen.
        """
        if self.space == "synth":
            raise UsageError("space='synth': there are no synthetic volumes here; name a grid.")
        return self.space if isinstance(self.space, Space) else real


def _scales(protocol: Protocol) -> int | None:
    """Return the number of scales that a protocol froze; None without MS-SSIM."""
    weights = protocol.settings.get("ms_ssim", {}).get("weights")
    return None if weights is None else len(weights)
