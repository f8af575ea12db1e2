"""The scorecard: the typed, versioned record of one scoring.

It holds aggregates only: values, intervals, floors, the protocol, hashes of whole cohorts. It
contains no hash of a file, no path and no feature of a real volume, so it can be published where
the data cannot.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from synthbench.errors import ScorecardError
from synthbench.records.base import Record, RecordFile, Upgrade
from synthbench.records.cohort import CohortRecord
from synthbench.records.conditional import AdherenceRecord, ReplicationRecord
from synthbench.records.local_copying import LocalCopyingRecord
from synthbench.records.membership import MembershipRecord
from synthbench.records.memorization import MemorizationRecord
from synthbench.records.morphometry import MorphometryRecord
from synthbench.records.protocol import Protocol
from synthbench.records.readers import ReaderResult
from synthbench.records.schema import SCHEMA, UNTRAINED_BEFORE, UPGRADES
from synthbench.records.utility import Utility
from synthbench.records.values import Value
from synthbench.render.notebook import BAND, Shown, draw_row, name_rows, new_axes
from synthbench.runtime.text import in_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


class PreflightRecord(Record):
    """A finding of a rule of `synthbench.cohorts.preflight.check`, without the names of files."""

    rule: str
    role: str
    severity: Literal["error", "warning"]
    volumes: int = Field(description="number of volumes concerned; 0: the whole set")
    accepted: bool = Field(description="true for an error that --accept named")


BASELINES = frozenset({"local3d", "memorizer", "mixup", "noise", "pca-gaussian"})
"""Generators of synthbench that train no network."""


class Origin(Record):
    """The origin of the synthetic volumes, as their sidecars state it."""

    generator: str | None = None
    sampler: str | None = None
    steps: int | None = None
    guidance: float | None = Field(
        default=None, description="how strongly a conditional network followed the requests"
    )
    precision: str | None = Field(
        default=None, description="of the network while it sampled; None: fp32, or not known"
    )
    cleaned: str | None = Field(
        default=None, description="what was set to zero after sampling; None: nothing"
    )
    weights_sha256: str | None = None
    training_cohort: str | None = None
    training_seconds: float | None = None
    parameters: int | None = None
    seconds_a_volume: float | None = None
    training_seeds: int | None = Field(
        default=None, description="trained networks behind the volumes, counted by their weights"
    )
    training_energy_kwh: float | None = None
    method: str | None = Field(
        default=None, description="hash of all settings of the training but its seed"
    )
    training_seed: int | None = None
    random_fit: bool | None = Field(
        default=None, description="False: every training seed gives the same weights"
    )
    licence: str | None = Field(default=None, description="of the volumes, where they are shared")
    intensity: str | None = Field(default=None, description="the rule of a quantitative map")

    @property
    def drawing(self) -> str:
        """How the volumes were drawn, in words for a table; empty where it is not known.

        >>> Origin(sampler="dpm++", steps=12, guidance=2.0, precision="bf16").drawing
        'dpm++, 12 steps, guidance 2, bf16'
        """
        words = [
            self.sampler,
            None if self.steps is None else f"{self.steps} steps",
            None if self.guidance is None else f"guidance {self.guidance:g}",
            self.precision,
            "cleaned" if self.cleaned else None,
        ]
        return ", ".join(word for word in words if word)

    @property
    def fixed_fit(self) -> bool:
        """True where every training seed gives the same weights.

        Earlier sidecars do not say it; of the baselines in synthbench it is known.
        """
        if self.random_fit is None:
            return self.generator in BASELINES
        return not self.random_fit


class Scorecard(Shown, RecordFile):
    """The record of one scoring."""

    what: ClassVar[str] = "a scorecard"
    upgrades: ClassVar[Mapping[int, Upgrade]] = UPGRADES

    schema_version: Literal[2] = SCHEMA
    name: str = Field(description="name of the synthetic volumes in tables")
    created: str = Field(description="UTC, ISO 8601")
    real: CohortRecord
    synth: CohortRecord
    train: CohortRecord | None = None
    holdout: CohortRecord | None = None
    benchmark: str | None = None
    protocol: Protocol
    protocol_hash: str
    untrained: tuple[str, ...] | None = Field(
        default=None, description="extractors with random weights; None: not recorded then"
    )
    values: tuple[Value, ...]
    memorization: tuple[MemorizationRecord, ...] = ()
    not_assessed: str | None = Field(default=None, description="why memorization was not assessed")
    local_copying: LocalCopyingRecord | None = Field(
        default=None, description="where copied parts were looked for; no old scorecard has it"
    )
    membership: tuple[MembershipRecord, ...] = Field(
        default=(), description="attacks that infer membership; no old scorecard has one"
    )
    morphometry: tuple[MorphometryRecord, ...] = Field(
        default=(), description="the regions of the brain, each; no old scorecard has them"
    )
    preflight: tuple[PreflightRecord, ...] = ()
    adherence: AdherenceRecord | None = Field(
        default=None, description="where it is known what was requested of each synthetic volume"
    )
    replication: ReplicationRecord | None = None
    utility: Utility | None = None
    readers: ReaderResult | None = Field(
        default=None, description="what readers saw of the volumes; added where there is a study"
    )
    origin: Origin = Origin()
    notes: tuple[str, ...] = ()
    software: dict[str, str]

    def row(self, metric: str, extractor: str | None = None) -> Value | None:
        """Return the row of a metric, by the first extractor where None is named."""
        for value in self.values:
            if value.metric == metric and extractor in (None, value.extractor):
                return value
        return None

    @property
    def title(self) -> str:
        """The scorecard in one line."""
        missing = sum(value.value is None for value in self.values)
        without = f", {missing} without a value" if missing else ""
        return (
            f"{self.name}: {self.synth.n} synthetic against {self.real.n} real volumes, "
            f"{len(self.values)} rows{without}, protocol {self.protocol_hash}"
        )

    def to_frame(self) -> pd.DataFrame:
        """Return one row per value, with its interval, its floor and why it is missing.

        Returns
        -------
        Columns `metric`, `label`, `extractor`, `value`, `low` and `high` (of the interval),
        `synth_at_n`, `floor`, `floor_low`, `floor_high` and `floor_n` (real against real, and the
        synthetic volumes at the same n), `detectable` (the minimum detectable effect), `p`, one
        column per corruption that was read back, and `missing`. NaN or None: not known.
        """
        import pandas as pd

        rows = []
        for value in self.values:
            interval, floor = value.interval, value.floor
            rows.append({
                "metric": value.metric,
                "label": value.label,
                "extractor": value.extractor,
                "value": value.value,
                "low": interval and interval.low,
                "high": interval and interval.high,
                "synth_at_n": floor and floor.synth_mean,
                "floor": floor and floor.mean,
                "floor_low": floor and floor.low,
                "floor_high": floor and floor.high,
                "floor_n": floor and floor.n,
                "detectable": floor and floor.minimum_detectable_effect,
                "p": value.p,
                **{f"as {e.corruption}": e.text for e in value.equivalents},
                "missing": None if value.missing is None else str(value.missing),
            })  # fmt: skip
        return pd.DataFrame(rows)

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw where the values lie beside their floors, all on one scale; return the axes.

        Each row is a metric that ranks. Zero is the floor's mean, and the band is its central 95%:
        a mark at 3 is three times as far from the mean as the floor's edge on that side. Marks are
        of synthetic volumes at the floor's n, so that both can be compared.
        """
        rows = [v for v in self.values if v.floor and v.role == "ranked" and v.key.part is None]
        ax = new_axes(ax, len(rows))
        ax.axvspan(-1, 1, color=BAND, lw=0)
        for at, value in enumerate(rows):
            assert value.floor is not None
            distance = value.floor.distance(value.floor.synth_mean)
            if math.isfinite(distance):
                draw_row(ax, at, distance, None)
            else:
                ax.annotate("outside a floor of no width", (0, at), va="center", fontsize=8)
        several = len(self.protocol.extractors) > 1
        name_rows(ax, [f"{v.label} {v.extractor}" if several and v.extractor else v.label
                       for v in rows])  # fmt: skip
        ax.set_xscale("symlog", linthresh=2)
        low, high = ax.get_xlim()
        powers = [10.0**k for k in range(math.ceil(math.log10(max(-low, high, 1))) + 1)]
        ticks = [-power for power in reversed(powers)] + [0.0, *powers]
        ax.set_xticks([tick for tick in ticks if low <= tick <= high], minor=False)
        ax.set_xticks([], minor=True)
        ax.set_xlim(low, high)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_xlabel("distance from real vs real, in widths of the floor (grey)")
        ax.set_title(in_figure(self.name))
        return ax

    @property
    def scored_on_training(self) -> bool:
        """Return True where the sidecars name the real cohort as the one of the training."""
        return self.origin.training_cohort == self.real.fingerprint

    @property
    def untrained_extractors(self) -> list[str]:
        """Return the names of the protocol's extractors that have random weights."""
        known = UNTRAINED_BEFORE if self.untrained is None else self.untrained
        return [e.name for e in self.protocol.extractors if e.name in known]

    @classmethod
    def remedy(cls, file: Path) -> str:
        """Return the sentence that names the command that writes one."""
        return "Write one with synthbench score --out."

    def check(self, file: Path) -> None:
        """Raise a ScorecardError where the protocol does not have the hash that the file states."""
        if self.protocol.hash != self.protocol_hash:
            raise ScorecardError(
                f"{file}: the hash of its protocol is {self.protocol.hash}, but the file states "
                f"{self.protocol_hash}: it was edited. Score again."
            )


def software(*packages: str) -> dict[str, str]:
    """Return the versions of Python, of synthbench and of the named packages."""
    return {
        "python": platform.python_version(),
        **{p: version(p) for p in ("synthbench", *packages)},
    }
