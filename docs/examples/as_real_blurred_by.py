"""
As real brains, blurred by how many millimetres?
================================================

A distance has no unit that a person knows. So damage the real volumes by known amounts, score
them, and read the distance of the synthetic volumes back on that curve.
"""

import tempfile
from pathlib import Path

import synthbench
from synthbench.sensitivity.study import sensitivity
from synthbench.simulation.cohort import atlas_cohort

work = Path(tempfile.mkdtemp())
atlas_cohort(24, work / "real", seed=1, shape=(24, 28, 24))
settings = synthbench.ScoringSettings(
    extractors=("random-resnet10",), metrics=("kid", "spectrum"), resamples=100
)

# %%
# One half of the subjects against the other half, which is blurred more and more. At no blur the
# curve is the floor.
study = sensitivity(work / "real", settings, corruptions=["blur"])
frame = study.to_frame()
frame.loc[
    frame["metric"].isin(["kid", "spectrum"]),
    ["metric", "dose", "value", "floor_low", "floor_high"],
].round(3)

# %%
axes = study.plot()
