"""The record of one value, with its interval, its floor, or why it is missing."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from synthbench.errors import MetricError
from synthbench.metrics.metric import Direction, Role
from synthbench.records.base import Record
from synthbench.records.keys import JobKey
from synthbench.records.reasons import public_words, reason_of, words_of


class IntervalRecord(Record):
    """An interval, what it covers and how it was computed."""

    low: float
    high: float
    level: float
    method: str
    label: str
    conditional_on_n: bool = Field(
        default=False, description="for the expected value at this n: it excludes the metric's bias"
    )


class FloorRecord(Record):
    """The real-vs-real floor at n real subjects per side, and synth at the same n.

    One volume of each subject counts in a split.
    """

    n: int
    mean: float
    low: float = Field(description="2.5th percentile over random disjoint halves")
    high: float = Field(description="97.5th percentile")
    synth_mean: float = Field(description="mean of n real against n synth")
    synth_low: float | None = Field(
        default=None, description="2.5th percentile of n real against n synth; None: not recorded"
    )
    synth_high: float | None = Field(default=None, description="97.5th percentile of the same")
    source: Literal["halves", "hold-out"] = Field(
        default="halves", description="disjoint sides of the real set, or of it and the hold-out"
    )
    minimum_detectable_effect: float | None = Field(
        default=None,
        description="smallest excess over the mean that is shown with 80% power, if all synthetic "
        "volumes are shifted",
    )

    def distance(self, value: float) -> float:
        """Return how far a value lies from the mean: 1 or -1 at the edge on its side.

        >>> floor = FloorRecord(n=9, mean=1.0, low=0.5, high=3.0, synth_mean=2.0)
        >>> floor.distance(5.0), floor.distance(0.0)
        (2.0, -2.0)
        """
        edge = self.high if value > self.mean else self.low
        width = abs(edge - self.mean)
        return (value - self.mean) / width if width else math.copysign(math.inf, value - self.mean)


class EquivalentRecord(Record):
    """The dose of a corruption at which real volumes would score the same."""

    corruption: str
    sentence: str = Field(description="as far from real as real volumes ...")
    text: str = Field(description="the dose with its interval, as a table shows it")
    relation: str = Field(description="how the dose relates to the value, such as 'at least'")
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
    text: str = Field(description="the reason in words, or the command that fixes it")
    code: str | None = Field(
        default=None,
        description="a key of `synthbench.records.reasons.REASONS`; None: in older cards, and "
        "where the reason is another one",
    )
    numbers: dict[str, int | float] = Field(
        default_factory=dict, description="the numbers in the words"
    )

    @model_validator(mode="after")
    def _is_what_the_code_says(self) -> Self:
        if self.code is not None and self.text != words_of(self.code, self.numbers):
            raise ValueError("the text is not that of the code")
        return self

    @classmethod
    def of(cls, error: MetricError) -> Self:
        """Return why a metric has no value: the code and the numbers of the error."""
        return cls(reason="images", text=public_words(error), **reason_of(error))

    def __str__(self) -> str:
        """The reason as tables print it in place of a value."""
        return self.text if self.reason == "not scored" else f"missing: {self.text}"


class Value(Record):
    """One row: a metric, by one extractor where it uses features.

    The row holds what the metric declares of itself, so that a page can show rows of metrics that
    are not installed.
    """

    metric: str = Field(description='a metric ("ms_ssim"), or a part of one ("ms_ssim.synth")')
    label: str
    extractor: str | None = None
    direction: Direction
    role: Role = Field(default="ranked", description="what the value is used for")
    tabled: bool = Field(
        default=True, description="pages list it; other parts are shown only at the floor's n"
    )
    label_with_n: bool = Field(
        default=False, description="tables add the number of volumes to the label"
    )
    of_variety: bool = Field(
        default=False, description="above zero the synthetic volumes are too alike"
    )
    target: str | None = Field(
        default=None, description="expected value of real volumes: zero, or the floor"
    )
    value: float | None = None
    magnitude: float | None = Field(
        default=None, description="size of the terms that the value is a sum of, for `drift`"
    )
    interval: IntervalRecord | None = None
    floor: FloorRecord | None = None
    p: float | None = None
    effective_rank: float | None = None
    saturated: bool | None = Field(
        default=None, description="true where the value is near the kernel's ceiling"
    )
    equivalents: tuple[EquivalentRecord, ...] = ()
    missing: Missing | None = None

    @property
    def key(self) -> JobKey:
        """The metric, the part and the extractor."""
        return JobKey.parse(self.metric, self.extractor)

    def label_at(self, n_real: int, n_synth: int) -> str:
        """Return the label, with the numbers of volumes behind the value where the metric asks.

        Two numbers that differ are both named: such a value is at no single n.
        """
        if not self.label_with_n:
            return self.label
        if n_real == n_synth:
            return f"{self.label} (n={n_real})"
        return f"{self.label} ({n_real} real, {n_synth} synth)"
