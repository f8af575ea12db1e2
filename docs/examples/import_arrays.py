"""
Volumes of another program: arrays from -1 to 1
===============================================

Many programs write arrays without geometry, scaled to [-1, 1]. In memory they can be scored at
once; folders are brought in by `synthbench import`.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch

import synthbench
from synthbench.simulation.cohort import atlas_cohort

work = Path(tempfile.mkdtemp())
atlas_cohort(16, work / "real", seed=1, shape=(24, 28, 24))
real = synthbench.read_cohort(work / "real")

# %%
# As a generator returns them: a tensor (n, 1, d, h, w) from -1 to 1.
generator = torch.Generator().manual_seed(0)
brains = torch.stack([torch.from_numpy(np.asarray(volume)) for volume in real.volumes()])
samples = (
    brains[:, None] * 2 - 1 + 0.1 * torch.randn(len(brains), 1, 24, 28, 24, generator=generator)
)

# %%
# Scale them to [0, 1], and say where they lie: on the grid of the real volumes.
card = synthbench.score(
    real,
    ((samples + 1) / 2).clamp(0, 1),
    assume_grid="real",
    accept=["identical"],
    name="noisy",
    extractors=["random-resnet10"],
    metrics=["kid", "spectrum", "intensity"],
    resamples=100,
)
card.to_frame()[["metric", "value", "floor"]].round(3)
