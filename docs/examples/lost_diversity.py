"""
Which metric sees lost diversity?
=================================

A generator that draws from half of the population, and one that draws everything too near to the
mean. What do the metrics say?
"""

import numpy as np
import pandas as pd

from synthbench.metrics import coverage, density, fid, kid, precision, recall

rng = np.random.default_rng(0)
scale = np.arange(1, 129) ** -0.7


def draw(n: int, mode: float = 0.0) -> np.ndarray:
    """Return images of two kinds, which differ in the first direction."""
    kind = np.where(rng.random(n) < 0.5, -1.0, 1.0) if mode == 0 else np.full(n, mode)
    features = rng.normal(size=(n, 128)) * scale
    features[:, 0] += 2 * kind
    return features


real = draw(86)
sets = {"as real": draw(86), "one kind only": draw(86, 1.0), "shrunk to 0.7": 0.7 * draw(86)}
metrics = [fid, kid, precision, recall, density, coverage]
pd.DataFrame(
    {name: {metric.__name__: metric(real, x) for metric in metrics} for name, x in sets.items()}
).round(3)

# %%
# Density and precision reward the shrunk set. Recall sees both faults. No metric is enough alone.
