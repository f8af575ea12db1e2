"""
A metric of your own, with an interval and a floor
==================================================

Write the formula for weighted images. Intervals, floors, comparisons and drift then need nothing
more: each of them is a choice of weights.
"""

import numpy as np

from synthbench.metrics.inference.intervals import interval
from synthbench.metrics.inference.resampling import estimate
from synthbench.metrics.metric import BaseMetric
from synthbench.testing import check_metric


class MeanShift(BaseMetric):
    name = "mean_shift"
    label = "Mean shift"
    formula = "|mean of real - mean of synth|"
    sees = "a difference between the means of the features"
    misses = "everything else: spread, shape, lost diversity"

    def value(self, real, synth, weights, **settings):
        w, v = weights["real"], weights["synth"]
        shift = w @ real / w.sum(axis=1)[:, None] - v @ synth / v.sum(axis=1)[:, None]
        return np.linalg.norm(shift, axis=1)


# %%
# The check tries what the formula must hold: the order of the images, their weights, one subject
# twice, and more. It raises where something is wrong.
check_metric(MeanShift())

# %%
# Use it as any other metric.
rng = np.random.default_rng(0)
real, synth = rng.normal(size=(40, 8)), rng.normal(0.3, 1, size=(40, 8))
statistic = MeanShift().prepare(real, synth)
found = interval(statistic, "jackknife", seed=0)
print(f"{estimate(statistic):.3f} [{found.low:.3f}, {found.high:.3f}]")
