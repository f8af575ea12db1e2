"""The record of a cohort."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field

from synthbench.records.base import Record

if TYPE_CHECKING:
    from synthbench.cohorts.cohort import Cohort


class CohortRecord(Record):
    """A cohort as records describe it: sizes and a fingerprint, no names of files."""

    n: int = Field(description="volumes that were scored")
    subjects: int
    fingerprint: str = Field(description="sha256 over the sorted hashes of all its volumes")
    available: int = Field(description="volumes in the cohort; more than n where m was frozen")

    @classmethod
    def of(cls, cohort: Cohort, available: int | None = None) -> Self:
        """Return the record of a cohort that was drawn from `available` volumes; None: from all."""
        n = len(cohort)
        return cls(
            n=n, subjects=len(set(cohort.subjects)), fingerprint=cohort.fingerprint,
            available=n if available is None else available,
        )  # fmt: skip
