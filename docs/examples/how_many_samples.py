"""
How many samples do I need for FID?
===================================

FID falls as the sets grow, even where both sets are from one population. So an FID has a meaning
only beside the FID of real against real at the same size: the **floor**.
"""

import matplotlib.pyplot as plt
import numpy as np

from synthbench.metrics import fid, kid

# %%
# Features of 512 dimensions whose variance lies in few directions, as that of brain MRI does. The
# two sets are of one population, so the distance of the populations is zero.
rng = np.random.default_rng(0)
scale = np.arange(1, 513) ** -1.0


def features(n: int) -> np.ndarray:
    return rng.normal(size=(n, 512)) * scale


sizes = [10, 20, 50, 100, 200, 500, 1000]
fids = {n: [fid(features(n), features(n)) for _ in range(5)] for n in sizes}
kids = {n: [kid(features(n), features(n)) for _ in range(5)] for n in sizes}
for n in sizes:
    print(f"n = {n:4d}   FID {np.mean(fids[n]):.3f}   KID {np.mean(kids[n]):+.5f}")

# %%
# Nothing is wrong with these sets, and FID is far from zero. At n = 86 it is mostly the size that
# one reads. KID has no such bias: it scatters around zero.
fig, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for ax, name, found in zip(axes, ["FID", "KID"], [fids, kids], strict=True):
    for n in sizes:
        ax.plot([n] * 5, found[n], "o", color="tab:blue", alpha=0.5)
    ax.axhline(0, color="black", linewidth=1)
    ax.set(xscale="log", xlabel="images in each set", title=name)

# %%
# So there is no number of samples that is enough. Report FID with n, with its floor at the same n,
# and with an interval. `synthbench score` prints all three.
