"""What the reader of a cohort is told about how it was read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class CohortRemark:
    """A choice or a rule that decided what a cohort holds.

    Attributes
    ----------
    rule
        The name of the preflight rule that tells it: "files" or "participants".
    message
        What was done, with the first files or cells, and how to choose otherwise.
    summary
        The same in counts, without names of files or persons.
    severity
        A "warning" is kept in a scorecard as a finding; a "note" is printed.
    """

    rule: str
    message: str
    summary: str
    severity: Literal["warning", "note"] = "note"
