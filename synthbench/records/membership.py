"""The record of an attack that infers membership, in one extractor's features."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from synthbench.records.base import Record


class MembershipRecord(Record):
    """Whether training subjects are told from others by a ratio of densities."""

    extractor: str
    verdict: Literal["told", "not told", "cannot be told"]
    text: str = Field(description="the finding in words")
    auc: float = Field(description="training against hold-out subjects; 0.5 is chance")
    control: float = Field(description="training against other training subjects")
    control_low: float = Field(description="2.5th percentile of this over random halves")
    control_high: float
    difference: float = Field(description="AUC less control")
    low: float
    high: float
    level: float
    detectable: float = Field(description="smallest difference that is told with 80% power")
    tpr: float = Field(description="share of training subjects told at 5% false positives")
    n_train: int = Field(description="subjects")
    n_holdout: int
    n_reference: int
    dimensions: int
