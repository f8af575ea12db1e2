"""
Does the generator copy its training images?
============================================

Two generators: one hands out its training images with a little noise, the other draws from a
Gaussian that was fitted to them. Only one of them copies.
"""

import tempfile
from pathlib import Path

import synthbench
from synthbench.simulation.cohort import atlas_cohort

work = Path(tempfile.mkdtemp())
atlas_cohort(24, work / "training", seed=1, shape=(24, 28, 24))
atlas_cohort(24, work / "real", seed=2, shape=(24, 28, 24))

# %%
# Name the training images with `train`. The real images must be of other people.
for name in ("memorizer", "pca-gaussian"):
    run = synthbench.train(name, real=work / "training", out=work / "runs" / name)
    synthbench.sample(run, 24, work / name)
    card = synthbench.score(
        work / "real",
        work / name,
        train=work / "training",
        extractors=["voxels"],
        metrics=["memorization"],
        resamples=200,
    )
    for found in card.memorization:
        print(f"{name:12s} {found.space}: {found.verdict}")

# %%
# "Nearer to training than to unseen images" is no accusation: every model that fits its training
# images better than other images has such a gap. "No copies found" is no proof of privacy.
