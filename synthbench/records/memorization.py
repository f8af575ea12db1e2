"""The record of memorization in one space."""

from __future__ import annotations

from pydantic import Field

from synthbench.records.base import Record
from synthbench.records.values import IntervalRecord


class CopiesTest(Record):
    """The one-sided test for closeness to the training images, and its finding."""

    value: float = Field(description="mean log(d_holdout / d_train); above zero: nearer training")
    interval: IntervalRecord | None
    p: float
    level: float = Field(description="copies are detected where p is not above it")
    detectable_share: float | None = Field(
        description="smallest share of copies that would be found with 80% probability"
    )
    detected: bool = Field(description="the test rejects, or an image is an exact copy")
    text: str = Field(description="the finding in words")


class MemorizationRecord(Record):
    """Memorization in one space: an extractor's features, or the voxels inside the mask."""

    space: str
    n: int = Field(description="subjects per side: training and hold-out, equalised")
    exact_copies: int
    auth_pct: float = Field(description="percentage called authentic (Alaa et al.); no verdict")
    plain: CopiesTest
    flipped: CopiesTest | None = Field(description="the same, mirrored left to right")
