"""
Fail a build when a metric drifts
=================================

Score the same kind of samples again after a change of code, and compare the two scorecards.
"""

import tempfile
from pathlib import Path

import synthbench
from synthbench.drift.drift import drift
from synthbench.simulation.cohort import atlas_cohort

work = Path(tempfile.mkdtemp())
atlas_cohort(16, work / "real", seed=1, shape=(24, 28, 24))
atlas_cohort(12, work / "synth", seed=2, shape=(24, 28, 24))
settings = {"extractors": ["random-resnet10"], "metrics": ["kid", "spectrum"], "resamples": 100}

# %%
# The same volumes twice: nothing may move.
before = synthbench.score(work / "real", work / "synth", **settings)
after = synthbench.score(work / "real", work / "synth", **settings)
found = drift(before, after)
print(found.outcome, "-", found.verdict)

# %%
# On the command line, `synthbench drift BASELINE CURRENT` exits with 1 where something drifted, and
# writes JUnit XML for a build's page.
found.to_frame()
