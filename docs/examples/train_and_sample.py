"""
Train a diffusion model for some steps
======================================

A run of `ddpm3d` on simulated brains is in the package. Training starts from it, so that some steps
on a CPU are enough to show brains. A real training takes an hour (docs/ddpm3d.md).
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import synthbench

work = Path(tempfile.mkdtemp())

# %%
# Volumes of the run that is in the package, without any training. Each depends on its seed alone.
files = synthbench.sample("atlas", 2, work / "synth")
volumes = synthbench.read_cohort(work / "synth").volumes()

fig, axes = plt.subplots(1, 2, figsize=(6, 3.4), layout="constrained")
for ax, volume, file in zip(axes, volumes, files, strict=True):
    ax.imshow(volume[:, :, volume.shape[2] // 2].T, origin="lower", cmap="gray", vmin=0, vmax=1)
    ax.set_title(file.name.split(".")[0])
    ax.set_axis_off()

# %%
# Beside each volume lies a sidecar, which says that it is synthetic and where it is from.
print(sorted(path.name for path in (work / "synth").iterdir())[:6])
