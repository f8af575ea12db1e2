"""The volumes of a cohort that a scorecard is about."""

from __future__ import annotations

import numpy as np

from synthbench.cohort import Cohort
from synthbench.scorecard import CohortRecord


def scored(cohort: Cohort, record: CohortRecord, role: str, seed: int) -> Cohort | None:
    """Return the volumes of a cohort that a scorecard is about; None where they are others.

    A benchmark scores n of more synthetic volumes by the protocol's seed.
    """
    if cohort.fingerprint == record.fingerprint:
        return cohort
    if role == "synth" and len(cohort) == record.available > record.n:
        order = np.random.default_rng(seed).permutation(len(cohort))
        chosen = cohort.subset(np.sort(order[: record.n]))
        return chosen if chosen.fingerprint == record.fingerprint else None
    return None
