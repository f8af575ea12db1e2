"""Inference, written once for every statistic: intervals, floors, tests, comparisons.

This package exports the two functions that a metric of your own needs: the index of subjects, and
the variance of a mean.
"""

from synthbench.metrics.inference.pairs import variance_of_mean
from synthbench.metrics.subjects import subject_index

__all__ = ["subject_index", "variance_of_mean"]
