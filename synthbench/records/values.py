"""The record of one value, with its interval and floor."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from synthbench.metrics.metric import Direction, Role
from synthbench.records.base import Record
from synthbench.records.keys import JobKey


class IntervalRecord(Record):
    """An interval, what it covers and how it was made."""

    low: float
    high: float
    level: float
    method: str
    label: str
    conditional_on_n: bool = Field(
        default=False, description="for the expected value at this n: it excludes the metric's bias"
    )


class FloorRecord(Record):
    """What real against real gives, at n real volumes per side, and synth at the same n."""

    n: int
    mean: float
    low: float = Field(description="2.5th percentile over random disjoint halves")
    high: float = Field(description="97.5th percentile")
    synth_mean: float = Field(description="mean of n real against n synth")
    source: Literal["halves", "hold-out"] = Field(
        default="halves", description="disjoint sides of the real set, or of it and the hold-out"
    )
    minimum_detectable_effect: float | None = Field(
        default=None, description="smallest excess over the mean that n could have shown, at least"
    )


class EquivalentRecord(Record):
    """The dose of a corruption at which real volumes would score the same."""

    corruption: str
    sentence: str = Field(description="as far from real as real volumes ...")
    text: str = Field(description="the dose with its interval, for a table")
    relation: str
    dose: float
    low: float | None
    high: float | None
    unit: str


class Missing(Record):
    """Why a row has no value."""

    reason: Literal["weights", "images", "not scored"] = Field(
        description="the extractor's weights are not here; the metric cannot be computed of these "
        "images; the scoring left the metric out"
    )
    text: str = Field(description="the reason in words, or the command that helps")

    def __str__(self) -> str:
        """The reason as tables print it in place of a value."""
        return self.text if self.reason == "not scored" else f"missing: {self.text}"


class Value(Record):
    """One row: a metric, by one extractor where it uses features.

    What the metric declares of itself stands in the row, so that a page shows rows of metrics that
    are not installed.
    """

    metric: str = Field(description='a metric ("ms_ssim"), or a part of one ("ms_ssim.synth")')
    label: str
    extractor: str | None = None
    direction: Direction
    role: Role = Field(default="ranked", description="what the value is used for")
    tabled: bool = Field(
        default=True, description="pages list it; a part that they do not stands at the floor's n"
    )
    label_with_n: bool = Field(
        default=False, description="tables add the number of volumes to the label"
    )
    of_variety: bool = Field(
        default=False, description="above zero the synthetic volumes are too alike"
    )
    target: str | None = Field(default=None, description="zero, or the real-vs-real floor")
    value: float | None = None
    magnitude: float | None = Field(
        default=None, description="size of the terms that the value is made of, for `drift`"
    )
    interval: IntervalRecord | None = None
    floor: FloorRecord | None = None
    p: float | None = None
    effective_rank: float | None = None
    saturated: bool | None = Field(
        default=None, description="whether the value is near the kernel's ceiling: only 'far'"
    )
    equivalents: tuple[EquivalentRecord, ...] = ()
    missing: Missing | None = None

    @property
    def key(self) -> JobKey:
        """The metric, the part and the extractor."""
        return JobKey.parse(self.metric, self.extractor)

    def label_at(self, n: int) -> str:
        """Return the label, with the number of volumes where the metric asks for it."""
        return f"{self.label} (n={n})" if self.label_with_n else self.label
