"""
Simulate a cohort, and look at it
=================================

synthbench can simulate brains from the MNI152 template. Their age, sex and volumes of tissue are
known. So everything can be tried without anyone's scans.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import synthbench
from synthbench.simulation.cohort import atlas_cohort

work = Path(tempfile.mkdtemp())
folder = atlas_cohort(12, work / "real", seed=1, shape=(32, 40, 32))

# %%
# The folder is a BIDS derivative: volumes, sidecars and a table of the participants. The same seed
# writes the same bytes.
table = pd.read_csv(folder / "participants.tsv", sep="\t")
print(table.head(4).round(2).to_string(index=False))

# %%
# `read_cohort` checks every file. The volumes are arrays (d, h, w) in [0, 1], whose axes go to the
# right, to the front and to the top.
cohort = synthbench.read_cohort(folder)
volumes = cohort.volumes()
print(cohort.grid.shape, cohort.grid.spacing, len(volumes))

# %%
# One plane of the youngest and of the oldest subject.
order = table["age"].argsort()
fig, axes = plt.subplots(1, 2, figsize=(6, 3.4), layout="constrained")
for ax, i in zip(axes, [order.iloc[0], order.iloc[-1]], strict=True):
    ax.imshow(volumes[int(i)][:, :, 16].T, origin="lower", cmap="gray", vmin=0, vmax=1)
    ax.set_title(f"{table['age'][i]:.0f} years")
    ax.set_axis_off()
