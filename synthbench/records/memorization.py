"""The record of memorization in one space."""

from __future__ import annotations

from pydantic import Field

from synthbench.metrics.nearest.near_copies import COPY_SIZE
from synthbench.metrics.nearest.verdict import CopyVerdict, gravest
from synthbench.records.base import Record
from synthbench.records.values import IntervalRecord


class CopiesTest(Record):
    """What was found of the volumes as they are, or of the nearer of two mirror images."""

    value: float = Field(
        description="the gap: mean log(d_holdout / d_train); above zero: nearer to training"
    )
    interval: IntervalRecord | None
    p: float = Field(description="of the gap, one-sided")
    level: float = Field(description="a test rejects where its p is not above it")
    detectable_share: float | None = Field(
        description="smallest share of copies that would be found with 80% probability"
    )
    detected: bool = Field(description="near copies are found, or an image is an exact copy")
    text: str = Field(description="the finding in words")
    verdict: CopyVerdict | None = Field(
        default=None, description="the finding; None in cards before there were three verdicts"
    )
    near_p: float | None = Field(
        default=None, description="of the test for near copies; None where it was not made"
    )
    close: int | None = Field(
        default=None, description="volumes as close to one training subject as a copy"
    )
    holdout_close: int | None = Field(
        default=None, description="volumes as close to one hold-out subject as a copy"
    )


class MemorizationRecord(Record):
    """Memorization in one space: an extractor's features, or the voxels inside the mask."""

    space: str
    n: int = Field(description="subjects per side: training and hold-out, equalised")
    exact_copies: int
    auth_pct: float = Field(description="percentage called authentic (Alaa et al.); no verdict")
    plain: CopiesTest
    flipped: CopiesTest | None = Field(description="the same, mirrored left to right")
    sides_p: float | None = Field(
        default=None, description="that training and hold-out are one population; None: not tested"
    )
    sampled: int | None = Field(
        default=None, description="random volumes of each set that has more; None: all volumes"
    )

    @property
    def verdict(self) -> CopyVerdict:
        """The gravest finding, of the volumes as they are and mirrored."""
        tests = (self.plain, self.flipped)
        return gravest(self.verdict_of(test) for test in tests if test is not None)

    def verdict_of(self, test: CopiesTest) -> CopyVerdict:
        """Return the finding of one of the two tests.

        Older cards have one test, of the gap: "detected" where it rejected or an image was an
        exact copy. A gap alone is no copy, unless its whole interval is of the size of copies.
        """
        if test.verdict is not None:
            return test.verdict
        exact = self.exact_copies > 0 or (test.detected and test.p > test.level)
        if exact or (test.interval is not None and test.interval.low > COPY_SIZE):
            return "copies"
        return "nearer" if test.p <= test.level else "none"
