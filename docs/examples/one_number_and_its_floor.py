"""
What is a good value? The floor
===============================

Two sets of real images differ too. The floor says how much, at the same number of images. A value
beside its floor says something; a value alone says nothing.
"""

import matplotlib.pyplot as plt
import numpy as np

from synthbench.metrics import fid

rng = np.random.default_rng(0)
scale = np.arange(1, 257) ** -1.0
real = rng.normal(size=(80, 256)) * scale

# %%
# Three sets of 40 images: one as real, one moved by half a standard deviation, and one with less
# spread.
sets = {
    "as real": rng.normal(size=(40, 256)) * scale,
    "moved": (rng.normal(size=(40, 256)) + 0.5) * scale,
    "less spread": 0.8 * rng.normal(size=(40, 256)) * scale,
}

# %%
# The floor: the real images in two random halves of 40, again and again.
halves = [rng.permutation(80) for _ in range(200)]
floor = np.array([fid(real[order[:40]], real[order[40:]]) for order in halves])
low, high = np.percentile(floor, [2.5, 97.5])
print(f"floor {floor.mean():.3f} [{low:.3f}, {high:.3f}]")
for name, features in sets.items():
    values = [fid(real[order[:40]], features) for order in halves]
    print(f"{name:12s} {np.mean(values):.3f}")

# %%
# The moved set lies beyond the floor. The set of less spread lies inside it, or near: FID rewards
# lost spread. So a second metric that sees it, such as recall, belongs beside FID.
fig, ax = plt.subplots(figsize=(6, 2.6), layout="constrained")
ax.axvspan(low, high, color="0.85", label="floor, 95% of the splits")
for y, (name, features) in enumerate(sets.items()):
    ax.plot(np.mean([fid(real[order[:40]], features) for order in halves[:50]]), y, "o", label=name)
ax.set(xlabel="FID at n = 40", yticks=[])
ax.legend(loc="center right", fontsize=8)
ax.set_xlim(right=1.5)
