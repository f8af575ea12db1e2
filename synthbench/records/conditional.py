"""The records of condition adherence and effect replication."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from synthbench.records.base import Record


class EstimateRecord(Record):
    """A value and its interval, None where it has none."""

    value: float
    low: float | None = None
    high: float | None = None


class ComparedRecord(Record):
    """One quantity of the synthetic volumes, compared with the same of real ones."""

    key: str
    label: str
    synth: EstimateRecord | None = None
    real: EstimateRecord | None = Field(default=None, description="the same of real volumes")
    difference: EstimateRecord | None = Field(default=None, description="synthetic minus real")


class CurvePoint(Record):
    """A group of at least five volumes with similar requests: means, and measured spread."""

    requested: float
    measured: float
    sd: float
    n: int


class ConditionRecord(Record):
    """The adherence of volumes to one condition: requested against measured."""

    name: str
    kind: Literal["numeric", "categorical"]
    measure: str = Field(description="how it was measured, in words")
    n: int = Field(description="synthetic volumes requested within the known range")
    n_real: int | None = Field(default=None, description="real volumes that the ceiling is from")
    statistics: tuple[ComparedRecord, ...] = ()
    n_extrapolated: int = 0
    extrapolated: tuple[ComparedRecord, ...] = Field(
        default=(), description="statistics of volumes requested beyond the known range"
    )
    curve: tuple[CurvePoint, ...] = ()
    real_curve: tuple[CurvePoint, ...] = ()
    missing: str | None = None


class LeakageRecord(Record):
    """The change in the measure of one condition when another is requested, all else fixed."""

    requested: str
    measured: str
    unit: str = Field(description="unit of the change, and the step of the request it is for")
    effect: ComparedRecord


class ParityRecord(Record):
    """The difference between a group's errors and those of the other volumes."""

    condition: str
    covariate: str
    group: str
    n: int
    statistics: tuple[ComparedRecord, ...]


class AdherenceRecord(Record):
    """Condition adherence: does the generator give what was requested?

    `real` in every part is the ceiling: the same measurement on real volumes with their true
    covariates.
    """

    source: str = Field(description="where the requested values come from")
    range: str = Field(description="what counts as extrapolation")
    conditions: tuple[ConditionRecord, ...]
    leakage: tuple[LeakageRecord, ...] = ()
    parity: tuple[ParityRecord, ...] = ()
    level: float
    resamples: int
    seed: int
    version: Literal[1] = 1


class EffectRecord(Record):
    """An effect in real and in synthetic volumes, and whether it is replicated."""

    effect: Literal["age slope", "sex difference", "correlation"]
    region: str
    unit: str
    compared: ComparedRecord
    requested: bool = Field(
        default=False, description="true where a region of it is itself a condition"
    )
    word: Literal["replicated", "weaker", "stronger", "reversed", "cannot tell"]


class ReplicationRecord(Record):
    """Effect replication: do findings on real volumes survive in the synthetic cohort?"""

    margins: str = Field(description="within which an effect counts as replicated")
    effects: tuple[EffectRecord, ...]
    n: int
    n_real: int
    level: float
    resamples: int
    seed: int
    notes: tuple[str, ...] = ()
    version: Literal[1] = 1
