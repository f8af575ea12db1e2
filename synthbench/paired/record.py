"""The typed record of a paired study: aggregates and hashes of whole cohorts only."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from synthbench.records.base import Record, RecordFile
from synthbench.records.cohort import CohortRecord


class PairedValue(Record):
    """One measure over all pairs: the mean over images, with an interval by subjects."""

    measure: Literal["psnr", "ssim", "mae"]
    label: str
    unit: str
    better: Literal["higher", "lower"]
    value: float
    low: float
    high: float
    level: float
    least: float = Field(description="of the pairs")
    most: float
    baseline: float | None = Field(default=None, description="the same of the baseline's images")
    difference: float | None = Field(default=None, description="images less baseline, paired")
    difference_low: float | None = None
    difference_high: float | None = None


class PairedRecord(RecordFile):
    """The record of images compared with their targets."""

    what: ClassVar[str] = "a record of paired measures"

    schema_version: Literal[1] = 1
    name: str
    created: str = Field(description="UTC, ISO 8601")
    target: CohortRecord
    image: CohortRecord
    baseline: CohortRecord | None = None
    pairs: int
    subjects: int
    rule: str = Field(description="how intensities were made comparable")
    mask: str
    clipped: float = Field(description="largest share of an image's voxels outside the range")
    values: tuple[PairedValue, ...]
    software: dict[str, str]

    @classmethod
    def remedy(cls, file: Path) -> str:
        """Return the sentence that names the command that writes one."""
        return "Write one with synthbench paired --out."
