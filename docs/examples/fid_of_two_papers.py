"""
Why does my FID differ from the paper's?
========================================

FID is a distance in the features of one network, after one preparation of the images. The same two
sets of volumes have many FIDs.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import synthbench
from synthbench.simulation.cohort import atlas_cohort

work = Path(tempfile.mkdtemp())
atlas_cohort(16, work / "real", seed=1, shape=(24, 28, 24))
atlas_cohort(16, work / "synth", seed=2, shape=(24, 28, 24))
real = synthbench.read_cohort(work / "real")
synth = synthbench.read_cohort(work / "synth")


def found(extractor: str, images: int) -> float:
    card = synthbench.score(
        [entry.path for entry in real.entries[:images]],
        [entry.path for entry in synth.entries[:images]],
        extractors=[extractor],
        metrics=["fid"],
        resamples=100,
    )
    return card.row("fid").value


# %%
# Two extractors, two numbers of images. All four are right, and none can be compared with another.
results = {(e, n): found(e, n) for e in ("random-resnet10", "voxels") for n in (8, 16)}
for (extractor, n), value in results.items():
    print(f"{extractor:16s} n = {n:2d}   FID {value:8.3f}")

# %%
# So a benchmark freezes the network, its weights, the grid, the intensity rule, the mask and n. Two
# numbers can be compared where their protocol has the same hash.
fig, ax = plt.subplots(figsize=(6, 2.6), layout="constrained")
ax.barh([f"{e}, n = {n}" for e, n in results], list(results.values()), color="tab:blue")
ax.set(xlabel="FID of the same two populations", xscale="log")
