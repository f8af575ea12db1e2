"""The volumes of a cohort that a scorecard is about."""

from __future__ import annotations

from synthbench.cohorts.cohort import Cohort
from synthbench.records.cohort import CohortRecord
from synthbench.scoring.inputs import draw


def scored(cohort: Cohort, record: CohortRecord, role: str, seed: int) -> Cohort | None:
    """Return the volumes of a cohort that a scorecard is about; None where they are others.

    A benchmark scores n of more synthetic volumes by the protocol's seed.
    """
    if cohort.fingerprint == record.fingerprint:
        return cohort
    if role == "synth" and len(cohort) == record.available > record.n:
        chosen = cohort.subset(draw(len(cohort), record.n, seed))
        return chosen if chosen.fingerprint == record.fingerprint else None
    return None
