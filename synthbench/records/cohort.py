"""The record of a cohort."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import Field

from synthbench.records.base import Record

if TYPE_CHECKING:
    from synthbench.cohorts.cohort import Cohort

_OWN_NAME = re.compile(r"(synth|sweep)-\d{1,9}(-\d{1,9})?\.nii(\.gz)?")


class FailedRecord(Record):
    """A synthetic volume that failed and was not scored."""

    file: str = Field(
        description="its name where synthbench gave it, such as synth-000001.nii.gz; else sha256: "
        "and 12 digits of the file's hash, as a name may be that of a person"
    )
    reason: str = Field(description="a key of `synthbench.cohorts.failures.REASONS`")


def public_name(name: str, digest: str) -> str:
    """Return a volume's name as `FailedRecord.file` has it."""
    last = Path(name).name
    return last if _OWN_NAME.fullmatch(last) else f"sha256:{digest[:12]}"


class CohortRecord(Record):
    """A cohort as records describe it: sizes and a fingerprint, no names of files."""

    n: int = Field(description="volumes that were scored")
    subjects: int
    fingerprint: str = Field(description="sha256 over the sorted hashes of all its volumes")
    available: int = Field(
        description="volumes in the cohort, failed ones included; more than n where m was frozen"
    )
    failed: tuple[FailedRecord, ...] | None = Field(
        default=None, description="volumes that failed, of those drawn; null: not counted"
    )

    @property
    def drawn(self) -> int:
        """The number of volumes that were to be scored: those that were, and those that failed."""
        return self.n + len(self.failed or ())

    @property
    def failed_share(self) -> float | None:
        """The share of these volumes that failed, in [0, 1]; None where it was not counted."""
        return None if self.failed is None else len(self.failed) / self.drawn

    @classmethod
    def of(cls, cohort: Cohort, available: int | None = None) -> Self:
        """Return the record of a cohort that was drawn from `available` volumes; None: from all."""
        n = len(cohort)
        failed = None if cohort.failed is None else tuple(
            FailedRecord(file=public_name(failure.name, failure.digest), reason=failure.reason)
            for failure in sorted(cohort.failed, key=lambda failure: failure.name)
        )  # fmt: skip
        return cls(
            n=n, subjects=len(set(cohort.subjects)), fingerprint=cohort.fingerprint,
            available=cohort.available if available is None else available, failed=failed,
        )  # fmt: skip
