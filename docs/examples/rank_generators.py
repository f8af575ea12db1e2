"""
Rank generators, and keep ties
==============================

All entries are scored on one real set, and share its error. So they are compared in pairs, and an
entry has an interval of ranks.
"""

import numpy as np

from synthbench.metrics.inference import comparison
from synthbench.metrics.mmd import KID

rng = np.random.default_rng(0)
real = rng.normal(size=(60, 32))
entries = {
    "A": rng.normal(size=(60, 32)),
    "B": rng.normal(size=(60, 32)),
    "C": rng.normal(0.25, 1, size=(60, 32)),
    "D": rng.normal(0.6, 1, size=(60, 32)),
}

# %%
# A and B are of the real population: that one has the lower value is chance.
prepared = {name: KID().prepare(real, features) for name, features in entries.items()}
ranking = comparison.rank(prepared, direction="lower", seed=0)
for entry in ranking.standings:
    print(f"{entry.name}  KID {entry.value:+.4f}   rank {entry.rank_low} to {entry.rank_high}")

# %%
# A pair by itself: the difference, its interval and p.
found = comparison.paired_difference(prepared["A"], prepared["C"], seed=0)
print(f"C - A: {found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}], p {found.p:.3f}")
