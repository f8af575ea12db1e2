from __future__ import annotations

from synthbench.cohorts.reading import read_cohort
from synthbench.records.cohort import CohortRecord
from synthbench.scoring.inputs import draw, scored_cohort


def test_a_benchmarks_draw_of_volumes_is_found_again(make_cohort):
    """Scoring takes n of more volumes by the protocol's seed; others are refused."""
    cohort = read_cohort(make_cohort("synth", n=6))
    drawn = cohort.subset(draw(len(cohort), 4, seed=3))
    record = CohortRecord(n=4, subjects=4, fingerprint=drawn.fingerprint, available=len(cohort))
    found = scored_cohort(cohort, record, "synth", seed=3)
    assert found is not None
    assert found.entries == drawn.entries
    assert scored_cohort(cohort, record, "synth", seed=4) is None
