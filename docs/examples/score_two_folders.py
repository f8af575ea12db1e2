"""
Score synthetic volumes against real ones
=========================================

This is what `synthbench score --real real --synth synth` does, from Python.
"""

import tempfile
from pathlib import Path

import synthbench
from synthbench.simulation.cohort import atlas_cohort

work = Path(tempfile.mkdtemp())
atlas_cohort(16, work / "training", seed=1, shape=(32, 40, 32))
atlas_cohort(16, work / "real", seed=2, shape=(32, 40, 32))

# %%
# A generator without training steps: a Gaussian in the space of the training volumes.
run = synthbench.train("pca-gaussian", real=work / "training", out=work / "run")
files = synthbench.sample(run, 16, work / "synth")
print(f"{len(files)} volumes")

# %%
# `random-resnet10` is a network with random weights: nothing is downloaded. The scorecard has the
# value of each metric, its interval, and the **floor**: what real volumes score against real ones.
card = synthbench.score(
    work / "real",
    work / "synth",
    extractors=["random-resnet10"],
    metrics=["mmd2", "fid", "kid", "coverage", "spectrum"],
    resamples=200,
)
card.to_frame()[["metric", "value", "low", "high", "floor", "floor_low", "floor_high"]].round(3)

# %%
# Each value beside its floor, in widths of the floor. What lies in the band cannot be told from
# real at this number of volumes.
axes = card.plot()
