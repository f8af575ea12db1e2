"""
Several scans of one subject
============================

Scans of one person are alike. An interval that takes them for independent images is too narrow.
synthbench resamples subjects, with all scans of each.
"""

import numpy as np

from synthbench.metrics.inference.intervals import interval
from synthbench.metrics.inference.resampling import estimate
from synthbench.metrics.mmd import MMD2, median_bandwidth

# %%
# 20 people with 4 scans each; most of the variance lies between people.
rng = np.random.default_rng(0)


def scans(people: int, visits: int) -> np.ndarray:
    person = rng.normal(size=(people, 1, 16))
    return (person + 0.3 * rng.normal(size=(people, visits, 16))).reshape(-1, 16)


real, synth = scans(20, 4), scans(20, 4)
subjects = np.repeat(np.arange(20), 4)
bandwidth = median_bandwidth(real)

# %%
# Once with the subjects, once as if each scan were a person.
by_subject = MMD2().prepare(
    real, synth, bandwidth=bandwidth, subjects={"real": subjects, "synth": subjects}
)
by_scan = MMD2().prepare(real, synth, bandwidth=bandwidth)
for name, statistic in {"by subject": by_subject, "by scan": by_scan}.items():
    found = interval(statistic, "studentized", seed=0)
    print(f"{name:10s} {estimate(statistic):+.4f} [{found.low:+.4f}, {found.high:+.4f}]")

# %%
# Both sets are of one population. The value that takes scans for people is above zero, as scans of
# one person make each set look different from the other. In `synthbench score` the subjects come
# from the names of the files (BIDS), or from a column of the table.
