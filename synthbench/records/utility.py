"""The record of a verdict on downstream utility."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from synthbench.records.base import Record
from synthbench.records.cohort import CohortRecord


class Utility(Record):
    """The verdict of a study of downstream utility (`synthbench utility`)."""

    label: str
    task: Literal["classification", "regression", "segmentation"]
    model: str
    measure: str
    difference: float = Field(
        description="real + synthetic minus real; of an error, negative is better"
    )
    low: float
    high: float
    level: float
    p: float
    verdict: Literal["helped", "did not help", "hurt"]
    sentence: str
    arms: dict[str, float] = Field(description="the measure of each arm on the test subjects")
    n_real: int = Field(description="real training volumes")
    n_synth: int = Field(description="synthetic training volumes")
    n_test: int = Field(description="test subjects")
    cohorts: dict[str, CohortRecord] = Field(
        default_factory=dict,
        description="whole cohorts by role: real, synth, test, and transfer where it was tested",
    )
    settings_hash: str
    version: Literal[1] = 1
