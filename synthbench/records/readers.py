"""The record of what readers saw of a set of synthetic volumes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from synthbench.records.base import Record

ReaderVerdict = Literal["told", "reversed", "equivalent", "unsure"]
"""told: the interval of the accuracy is above 0.5; reversed: it is below; equivalent: neither, and
two one-sided tests find it within the margin of 0.5; unsure: none of these."""


class Estimated(Record):
    """A value with its interval of 95% over new readers and new cases.

    The ends are None where there are too few answers for an interval.
    """

    value: float
    low: float | None
    high: float | None


class ReaderComparison(Record):
    """How often readers found the real one of two volumes."""

    readers: int = Field(description="who gave an answer")
    cases: int = Field(description="pairs that were answered")
    accuracy: Estimated = Field(description="share of right answers")
    equivalence_p: float | None = Field(description="two one-sided tests: within the margin of 0.5")
    margin: float
    verdict: ReaderVerdict


class ReaderRating(Record):
    """The ratings of one item; level 1 is the worst."""

    item: str
    question: str
    levels: tuple[str, ...]
    mean: Estimated = Field(description="mean level of these volumes")
    real: Estimated | None = Field(description="mean level of the real volumes")
    alpha: Estimated | None = Field(description="Krippendorff's alpha over all volumes, ordinal")
    ac2: Estimated | None = Field(description="Gwet's AC2, quadratic weights")


class ReaderResult(Record):
    """What the readers of one study saw of these volumes (`synthbench readers analyse`)."""

    study: str = Field(description="sha256 of the study's key: equal for results of one study")
    generator: str = Field(description="the name of the volumes in the study")
    readers: int = Field(description="readers who answered something")
    comparison: ReaderComparison | None = None
    controls: dict[str, Estimated] = Field(
        default_factory=dict,
        description="accuracy on controls: blurred (to be found), memorizer, real against real",
    )
    ratings: tuple[ReaderRating, ...] = ()
    real_fingerprint: str = Field(description="of the real volumes that readers saw")
    version: Literal[1] = 1


class ReaderCorrelation(Record):
    """Whether a metric orders generators as readers do: a rank correlation over generators."""

    metric: str
    label: str
    extractor: str | None = None
    seen: str = Field(description='"accuracy", or the key of a rated item')
    generators: int = Field(description="with a value of both; several trainings count once")
    rho: Estimated | None = Field(
        description="Spearman's, 1: the metric is worse where readers saw more; None: it cannot "
        "be told from so few, or all are equal. The interval is over new generators."
    )
