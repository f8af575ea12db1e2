"""The record of a cohort."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field

from synthbench.records.base import Record

if TYPE_CHECKING:
    from synthbench.cohorts.cohort import Cohort


class CohortRecord(Record):
    """What a scorecard says of a cohort."""

    n: int = Field(description="volumes that were scored")
    subjects: int
    fingerprint: str = Field(description="sha256 over the sorted hashes of all its volumes")
    available: int = Field(description="volumes the cohort held; more than n where m was frozen")

    @classmethod
    def of(cls, cohort: Cohort, available: int | None = None) -> Self:
        """Describe a cohort; `available` where it was drawn from more volumes than it has."""
        n = len(cohort)
        return cls(
            n=n, subjects=len(set(cohort.subjects)), fingerprint=cohort.fingerprint,
            available=n if available is None else available,
        )  # fmt: skip
